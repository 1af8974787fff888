"""Queue ids are used again, lines come in any order within a second, and some never come: whose line is it?"""

from __future__ import annotations

import random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.outcome.events import SECOND, START, Row, came, event, gone, judge, tried

BUSY = "host mx.example.net[192.0.2.1] said: 451 4.7.500 Server busy (in reply to RCPT TO command)"
WORDS = ("message_id", "sender", "recipient", "status")


def words(rows: list[Row], *names: str) -> list[tuple[object, ...]]:
    return [tuple(row[name] for name in names or WORDS) for row in rows]


def test_a_queue_id_used_again_belongs_to_another_mail() -> None:
    suspects, _ = judge(
        [
            *came(0, "A1", "<1@x>"),
            tried(1, "A1", "a@example.net", "bounced", "no such user"),
            gone(1, "A1"),
            *came(9, "A1", "<2@x>", sender="other@example.jp"),
            tried(10, "A1", "a@example.net", "sent"),
            gone(10, "A1"),
            *came(20, "A1", "<3@x>"),
            tried(21, "A1", "c@example.net", "deferred", BUSY),
        ]
    )
    assert words(suspects) == [
        ("<1@x>", "news@example.jp", "a@example.net", "bounced"),
        ("<3@x>", "news@example.jp", "c@example.net", "still_queued"),
    ]
    assert [row["epoch"] for row in suspects] == [1, 3]


def test_one_life_may_end_and_the_next_begin_within_a_second() -> None:
    suspects, _ = judge(
        [
            *came(0, "A1", "<1@x>"),
            tried(1, "A1", "a@example.net", "deferred", BUSY),
            tried(9, "A1", "a@example.net", "bounced", "no such user", delay=9),
            gone(9, "A1"),
            *came(9, "A1", "<2@x>"),
            tried(11, "A1", "b@example.net", "deferred", BUSY, delay=2),
        ]
    )
    assert words(suspects) == [
        ("<1@x>", "news@example.jp", "a@example.net", "bounced"),
        ("<2@x>", "news@example.jp", "b@example.net", "still_queued"),
    ]


def test_several_lives_within_one_second_are_told_by_the_order_of_their_lines() -> None:
    suspects, _ = judge(
        [
            *came(0, "A1", "<1@x>", sender="one@example.jp"),
            tried(0, "A1", "a@example.net", "bounced", "no such user", delay=0),
            gone(0, "A1"),
            *came(0, "A1", "<2@x>", sender="two@example.jp"),
            tried(0, "A1", "b@example.net", "bounced", "no such user", delay=0),
            gone(0, "A1"),
        ]
    )
    assert words(suspects) == [
        ("<1@x>", "one@example.jp", "a@example.net", "bounced"),
        ("<2@x>", "two@example.jp", "b@example.net", "bounced"),
    ]


def test_two_message_ids_of_one_mail() -> None:
    resent = event(0, "A1", "message", message_id="<a@x>", status="resent")
    again = event(0, "B1", "message", message_id="<2b@x>")
    first = came(0, "B1", "<2@x>")
    suspects, _ = judge(
        [
            *came(0, "A1", "<1@x>"),
            resent,
            tried(1, "A1", "a@example.net", "bounced", "no such user"),
            *first[:2],
            again,
            first[2],
            tried(1, "B1", "b@example.net", "bounced", "no such user"),
        ]
    )
    assert words(suspects, "message_id", "sender", "epoch") == [
        ("<1@x>", "news@example.jp", 1),
        ("<2b@x>", "news@example.jp", 1),
    ]


def test_a_bounce_mail_of_another_host_is_a_mail_but_none_to_send_again() -> None:
    rows = [*came(0, "A1", "<dsn@x>", sender=""), tried(1, "A1", "a@example.net", "bounced", "no such user")]
    assert judge(rows)[0] == []
    (row,), _ = judge(rows, all_mail=True)
    assert (row["message_id"], row["sender"], row["status"]) == ("<dsn@x>", "", "bounced")


def test_a_log_that_begins_in_the_middle_of_a_mail() -> None:
    (row,), _ = judge([tried(100, "A1", "a@example.net", "deferred", BUSY, delay=90), *came(200, "B1", "<2@x>")])
    assert (row["message_id"], row["sender"], row["status"]) == ("", "", "still_queued")
    assert row["arrived_at"] == START + 10 * SECOND


def test_a_log_without_the_lines_of_arrival() -> None:
    """Only qmgr and smtp are logged: `removed` ends a life, and so does another sender."""
    suspects, _ = judge(
        [
            event(0, "A1", "queued", sender="a@example.jp", size=1),
            tried(1, "A1", "x@example.net", "bounced", "no"),
            gone(1, "A1"),
            event(50, "A1", "queued", sender="a@example.jp", size=1),
            tried(51, "A1", "y@example.net", "deferred", BUSY),
            event(99, "A1", "queued", sender="c@example.jp", size=3),
            tried(100, "A1", "z@example.net", "deferred", BUSY),
        ]
    )
    assert words(suspects, "sender", "recipient", "status") == [
        ("a@example.jp", "x@example.net", "bounced"),
        ("a@example.jp", "y@example.net", "still_queued"),
        ("c@example.jp", "z@example.net", "still_queued"),
    ]


def test_a_log_of_delivery_lines_only() -> None:
    suspects, _ = judge(
        [
            tried(10, "A1", "x@example.net", "deferred", BUSY, delay=10),
            tried(400, "A1", "x@example.net", "sent", delay=400),
            tried(9000, "A1", "x@example.net", "bounced", "no", delay=2),
        ]
    )
    assert words(suspects, "recipient", "status", "attempts") == [
        ("x@example.net", "delivered", 2),
        ("x@example.net", "bounced", 1),
    ]


def test_instances_on_one_host_have_queue_ids_of_their_own() -> None:
    suspects, _ = judge(
        [
            *came(0, "A1", "<1@x>"),
            *came(0, "A1", "<2@x>", instance="postfix-out"),
            tried(1, "A1", "a@example.net", "deferred", BUSY),
            tried(1, "A1", "b@example.net", "bounced", "no", instance="postfix-out"),
        ]
    )
    assert sorted(words(suspects, "instance", "message_id", "status")) == [
        ("postfix", "<1@x>", "still_queued"),
        ("postfix-out", "<2@x>", "bounced"),
    ]


def test_a_bounce_mail_is_no_original_even_without_its_sender_line() -> None:
    suspects, totals = judge(
        [
            *came(0, "A1", "<1@x>"),
            tried(1, "A1", "a@example.net", "bounced", "no"),
            event(1, "B1", "message", message_id="<notice@mta1>"),
            event(1, "A1", "hop", next_qid="B1"),
            gone(1, "A1"),
            tried(2, "B1", "news@example.jp", "bounced", "user unknown"),
        ]
    )
    assert words(suspects, "message_id") == [("<1@x>",)]
    assert sum(row["mails"] for row in totals) == 1


def test_probes_are_no_deliveries() -> None:
    rows = [
        *came(0, "A1", "<probe@x>", sender="double-bounce@example.jp"),
        tried(1, "A1", "a@example.net", "undeliverable", "no such user"),
        gone(1, "A1"),
    ]
    assert judge(rows) == ([], [])


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Row], list[tuple[str, str, str]]]:
    """Events of some mails over few queue ids, and what must be found: (message-id, recipient, status)."""
    rows: list[Row] = []
    expected: list[tuple[str, str, str]] = []
    free_at = dict.fromkeys(("A1", "B2"), 0)
    for number in range(draw(st.integers(1, 5))):
        qid = draw(st.sampled_from(sorted(free_at)))
        at = free_at[qid] + draw(st.integers(2, 4000))
        message_id = f"<{number}@x>"
        rows += came(at, qid, message_id, sender=f"s{number}@example.jp")
        names = [f"r{number}.{index}@example.net" for index in range(draw(st.integers(1, 3)))]
        clock = at
        open_ = set(names)
        failed: set[str] = set()
        ends = {name: draw(st.sampled_from(["sent", "bounced", "later"])) for name in names}
        for _ in range(draw(st.integers(1, 3))):
            clock += draw(st.integers(0, 5000))
            for name in sorted(open_):
                last = ends[name] != "later" and draw(st.booleans())
                status = ends[name] if last else "deferred"
                rows.append(tried(clock, qid, name, status, "" if status == "sent" else BUSY, delay=clock - at))
                if status != "sent":
                    failed.add(name)
                if last:
                    open_.discard(name)
                    late = clock - at > 3600
                    word = "bounced" if status == "bounced" else "delivered_late" if late else "delivered"
                    if word != "delivered" or name in failed:
                        expected.append((message_id, name, word))
        if not open_:
            rows.append(gone(clock, qid))
        elif draw(st.booleans()):
            rows += [event(clock + 1, qid, "expired", sender=f"s{number}@example.jp", status="expired")]
            rows += [gone(clock + 1, qid)]
            expected += [(message_id, name, "expired") for name in open_]
            clock += 1
        else:  # stays in the queue for good: its queue id is taken
            expected += [(message_id, name, "still_queued") for name in open_]
            del free_at[qid]
            if not free_at:
                break
            continue
        free_at[qid] = clock
    return rows, sorted(expected)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(histories(), st.randoms(use_true_random=False))
def test_every_mail_has_one_last_word_in_whatever_order_a_second_is_logged(
    history: tuple[list[Row], list[tuple[str, str, str]]], shuffler: random.Random
) -> None:
    rows, expected = history
    suspects, totals = judge(rows, until=max(row["at_us"] for row in rows) + SECOND)
    assert sorted(words(suspects, "message_id", "recipient", "status")) == expected
    everything, _ = judge(rows, all_mail=True)
    assert sum(row["mails"] for row in totals) == len(everything), "mail in time and failed mail add up to all mail"
    shuffled = rows[:]
    shuffler.shuffle(shuffled)
    shuffled.sort(key=lambda row: row["at_us"])
    again, totals_again = judge(shuffled, until=max(row["at_us"] for row in rows) + SECOND)
    assert [{**row, "evidence": ""} for row in again] == [{**row, "evidence": ""} for row in suspects]
    assert totals_again == totals


def test_a_message_id_may_be_logged_after_the_mail_was_queued() -> None:
    """Programs write at once, and what they write may be stamped a second apart in the other order."""
    begun = [event(0, "A1", "begin"), event(0, "A1", "queued", sender="news@example.jp", size=4000, nrcpt=1)]
    end = [tried(2, "A1", "a@example.net", "bounced", "no such user"), gone(2, "A1")]
    late = event(1, "A1", "message", message_id="<1@x>")
    assert words(judge([*begun, late, *end])[0]) == [("<1@x>", "news@example.jp", "a@example.net", "bounced")]
    another = event(3600, "A1", "message", message_id="<2@x>")
    later = tried(3601, "A1", "b@example.net", "bounced", "no such user")
    assert words(judge([*begun, another, later])[0]) == [("<2@x>", "", "b@example.net", "bounced")]
