"""`status=sent` to ourselves is no delivery: the mail is followed to where it ends."""

from __future__ import annotations

from tests.outcome.events import HOUR, SECOND, START, Row, came, event, gone, judge, tried

BUSY = "host mx.example.net[192.0.2.1] said: 451 4.7.500 Server busy (in reply to RCPT TO command)"
FILTER = {"relay": "127.0.0.1", "relay_ip": "127.0.0.1", "relay_port": 10025}
PIPE = {"relay": "spamfilter", "relay_ip": "", "relay_port": None}


def words(rows: list[Row], *names: str) -> list[tuple[object, ...]]:
    return [tuple(row[name] for name in names) for row in rows]


def test_three_hops_over_two_hosts_the_message_id_logged_late() -> None:
    (row,), totals = judge(
        [
            *came(0, "A1", "<>"),
            *came(1, "B1", "<1@x>"),
            tried(1, "A1", "a@example.net", "sent", next_qid="B1", **FILTER),
            gone(1, "A1"),
            *came(2, "C1", "<1@x>", host="mta2"),
            tried(2, "B1", "a@example.net", "sent", next_qid="C1", relay="10.0.0.2", relay_ip="10.0.0.2"),
            gone(2, "B1"),
            tried(3, "C1", "a@example.net", "deferred", BUSY, host="mta2"),
        ]
    )
    assert words([row], "message_id", "qid", "last_qid", "last_host", "chain", "attempts", "status") == [
        ("<1@x>", "A1", "C1", "mta2", "A1>B1>C1", 1, "still_queued")
    ]
    assert row["arrived_at"] == START
    assert sum(total["mails"] for total in totals) == 1, "the relay turned out to be ours: one mail, not two"


def test_a_receiver_that_names_a_queue_id_of_its_own_is_no_hop() -> None:
    """By chance the id is one of ours, of another mail to somebody else."""
    suspects, _ = judge(
        [
            *came(0, "A1", "<1@x>"),
            tried(1, "A1", "a@example.net", "deferred", BUSY),
            *came(9, "B1", "<2@x>"),
            tried(10, "A1", "a@example.net", "sent", next_qid="B1", delay=10),
            gone(10, "A1"),
            tried(11, "B1", "b@example.net", "bounced", "no"),
        ]
    )
    assert words(suspects, "message_id", "recipient", "status", "chain") == [
        ("<1@x>", "a@example.net", "delivered", "A1"),
        ("<2@x>", "b@example.net", "bounced", "B1"),
    ]


def test_every_recipient_of_a_filtered_message_has_its_own_end() -> None:
    suspects, _ = judge(
        [
            *came(0, "A1", "<1@x>"),
            *came(1, "B1", "<1@x>"),
            *(tried(1, "A1", f"{name}@example.net", "sent", next_qid="B1", **FILTER) for name in "abc"),
            gone(1, "A1"),
            tried(2, "B1", "a@example.net", "sent"),
            tried(2, "B1", "b@example.net", "bounced", "no"),
        ]
    )
    # nothing is known of c yet, and nothing failed for it
    assert words(suspects, "recipient", "status") == [("b@example.net", "bounced")]
    everything, _ = judge(
        [
            *came(0, "A1", "<1@x>"),
            *came(1, "B1", "<1@x>"),
            *(tried(1, "A1", f"{name}@example.net", "sent", next_qid="B1", **FILTER) for name in "ac"),
            tried(2, "B1", "a@example.net", "sent"),
        ],
        all_mail=True,
    )
    assert words(everything, "recipient", "status", "last_qid") == [
        ("a@example.net", "delivered", "B1"),
        ("c@example.net", "still_queued", "B1"),
    ]


def test_a_filter_that_names_no_queue_id_is_followed_by_the_message_id() -> None:
    suspects, _ = judge(
        [
            *came(0, "A1", "<1@x>"),
            *came(1, "B1", "<1@x>"),
            tried(2, "A1", "a@example.net", "sent", **PIPE),
            gone(2, "A1"),
            tried(3, "B1", "a@example.net", "bounced", "no"),
            gone(3, "B1"),
        ]
    )
    assert words(suspects, "qid", "last_qid", "status") == [("A1", "B1", "bounced")]


def test_a_pipe_to_a_list_manager_is_a_delivery() -> None:
    """The list's own mails have the same message-id and other recipients."""
    suspects, _ = judge(
        [
            *came(0, "A1", "<1@x>"),
            tried(1, "A1", "list@example.jp", "deferred", "temporary failure", **PIPE),
            tried(90, "A1", "list@example.jp", "sent", delay=90, **PIPE),
            gone(90, "A1"),
            *came(91, "B1", "<1@x>"),
            tried(92, "B1", "a@example.net", "bounced", "no"),
        ]
    )
    assert words(suspects, "recipient", "chain", "status") == [
        ("list@example.jp", "A1", "delivered"),
        ("a@example.net", "B1", "bounced"),
    ]


def test_a_hand_over_whose_end_is_not_in_the_log_is_no_evidence() -> None:
    suspects, _ = judge(
        [
            *came(0, "A1", "<1@x>"),
            tried(1, "A1", "a@example.net", "deferred", "connect to 127.0.0.1[127.0.0.1]:10025: refused", relay="none",
                  relay_ip=""),
            tried(99, "A1", "a@example.net", "sent", next_qid="B1", delay=99, **FILTER),
            gone(99, "A1"),
        ]
    )  # fmt: skip
    assert words(suspects, "status", "relay", "relay_ip") == [("no_evidence", "", "")]


def test_an_alias_makes_several_mails_each_with_its_end() -> None:
    suspects, _ = judge(
        [
            *came(0, "A1", "<1@x>"),
            tried(1, "A1", "team@example.jp", "sent", next_qid="B1", relay="local", relay_ip="", relay_port=None),
            event(1, "B1", "message", message_id="<1@x>"),
            event(1, "B1", "queued", sender="news@example.jp", size=4100, nrcpt=2),
            gone(1, "A1"),
            tried(2, "B1", "a@example.net", "bounced", "no", orig_to="team@example.jp"),
            tried(2, "B1", "b@example.net", "deferred", BUSY, orig_to="team@example.jp"),
        ]
    )
    assert words(suspects, "recipient", "mailbox", "status", "qid") == [
        ("team@example.jp", "a@example.net", "bounced", "A1"),
        ("team@example.jp", "b@example.net", "still_queued", "A1"),
    ]


def test_a_requeued_message_goes_on_with_those_it_did_not_reach() -> None:
    suspects, _ = judge(
        [
            *came(0, "A1", "<1@x>"),
            tried(1, "A1", "a@example.net", "deferred", BUSY),
            tried(1, "A1", "b@example.net", "bounced", "no"),
            event(8000, "B1", "requeue", next_qid="A1"),
            event(8000, "B1", "message", message_id="<1@x>"),
            event(8000, "B1", "queued", sender="news@example.jp", size=4000, nrcpt=1),
            gone(8000, "A1"),
            tried(8001, "B1", "a@example.net", "sent", delay=8001),
            gone(8001, "B1"),
        ]
    )
    assert words(suspects, "recipient", "status", "qid", "last_qid") == [
        ("a@example.net", "delivered_late", "A1", "B1"),
        ("b@example.net", "bounced", "A1", "A1"),
    ]


def test_any_delivery_of_a_message_to_a_mailbox_counts_but_not_a_months_later_one() -> None:
    suspects, _ = judge(
        [
            *came(0, "A1", "<1@x>"),
            tried(1, "A1", "a@example.net", "bounced", "550 later"),
            gone(1, "A1"),
            *came(600, "B1", "<1@x>"),
            tried(601, "B1", "A@EXAMPLE.NET", "sent"),
            gone(601, "B1"),
            *came(3_000_000, "C1", "<1@x>"),
            tried(3_000_001, "C1", "a@example.net", "bounced", "no"),
            gone(3_000_001, "C1"),
        ]
    )
    assert words(suspects, "qid", "status") == [("A1", "delivered"), ("C1", "bounced")]


def test_a_resend_of_ours_says_nothing_of_the_original() -> None:
    rows = [
        *came(0, "A1", "<1@x>"),
        tried(1, "A1", "a@example.net", "bounced", "550 later"),
        gone(1, "A1"),
        *came(90_000, "B1", "<1@x>"),
        tried(90_001, "B1", "a@example.net", "sent"),
        gone(90_001, "B1"),
    ]
    own = [("B1", START + 90_000 * SECOND)]
    suspects, totals = judge(rows, own=own)
    assert words(suspects, "qid", "status") == [("A1", "bounced")]
    assert sum(row["mails"] for row in totals) == 1
    assert words(judge(rows, own=own, all_mail=True)[0], "qid", "status") == [("A1", "bounced"), ("B1", "delivered")]
    assert words(judge(rows)[0], "qid", "status") == [("A1", "delivered_late")]


def test_what_a_copied_failure_names_stands_for_the_relay_and_the_cause() -> None:
    (row,), _ = judge(
        [
            *came(0, "A1", "<1@x>"),
            tried(
                1, "A1", "a@example.net", "deferred",
                "delivery temporarily suspended: host mx7.example.net[192.0.2.7] refused to talk to me: 421 too many",
                relay="none", relay_ip="",
            ),
        ]
    )  # fmt: skip
    assert words([row], "attempts", "relay", "relay_ip", "stage") == [(0, "mx7.example.net", "192.0.2.7", "connect")]


def test_the_last_real_failure_tells_the_cause_the_last_named_receiver_the_relay() -> None:
    (row,), _ = judge(
        [
            *came(0, "A1", "<1@x>"),
            tried(1, "A1", "a@example.net", "deferred", BUSY, enhanced="4.7.500", code=451),
            tried(400, "A1", "a@example.net", "deferred", "Host or domain name not found", relay="none", relay_ip=""),
            tried(900, "A1", "a@example.net", "deferred", f"delivery temporarily suspended: {BUSY}", relay="none",
                  relay_ip=""),
        ]
    )  # fmt: skip
    assert words([row], "reply", "attempts", "relay") == [("Host or domain name not found", 2, "mx.example.net")]


def test_deleted_from_the_queue_is_gone() -> None:
    suspects, _ = judge(
        [
            *came(0, "A1", "<1@x>"),
            tried(1, "A1", "a@example.net", "deferred", BUSY),
            event(900, "A1", "removed", status="deleted"),
            *came(0, "B1", "<2@x>"),
            tried(1, "B1", "b@example.net", "deferred", BUSY),
            gone(900, "B1"),  # its last line is not in the log
        ]
    )
    assert words(suspects, "recipient", "status") == [("a@example.net", "expired"), ("b@example.net", "no_evidence")]


def test_an_expiry_reaches_who_was_still_deferred() -> None:
    suspects, _ = judge(
        [
            *came(0, "A1", "<1@x>"),
            tried(1, "A1", "a@example.net", "deferred", BUSY),
            tried(1, "A1", "b@example.net", "sent"),
            tried(1, "A1", "c@example.net", "softbounce", "550 no"),
            event(9000, "A1", "expired", sender="news@example.jp", status="force-expired"),
            gone(9000, "A1"),
        ]
    )
    assert words(suspects, "recipient", "status", "reply") == [
        ("a@example.net", "expired", BUSY),
        ("c@example.net", "expired", "550 no"),
    ]


def test_the_queue_the_gap_and_the_age_decide_on_what_has_no_end() -> None:
    rows = [
        row
        for number, qid in enumerate(("A1", "B1", "C1"))
        for row in (*came(number, qid, f"<{number}@x>"), tried(9, qid, f"{number}@example.net", "deferred", BUSY))
    ]
    until = START + 6 * HOUR

    def found(**more: object) -> list[str]:
        return [row["status"] for row in judge(rows, **{"until": until, **more})[0]]  # type: ignore[arg-type]

    assert found() == ["still_queued"] * 3
    shot = [
        ("mta1", "", "", "", None, "", "", until),
        ("mta1", "A1", "news@example.jp", "0@example.net", START, "deferred", BUSY, until),
        ("mta1", "B1", "x@example.jp", "1@example.net", START + 5 * HOUR, "deferred", BUSY, until),  # another mail
        ("mta1", "C1", "news@example.jp", "other@example.net", START + 2 * SECOND, "deferred", BUSY, until),
    ]
    assert found(snapshot=shot) == ["still_queued", "no_evidence", "no_evidence"]
    gap = [("mta1", START + HOUR, START + 2 * HOUR)]
    assert found(losses=gap) == ["no_evidence"] * 3
    assert found(losses=gap, snapshot=shot[:2])[0] == "still_queued", "the queue was looked at after the gap"
    assert found(losses=[("mta2", START, until)]) == ["still_queued"] * 3
    assert found(until=START + 200 * HOUR) == ["no_evidence"] * 3
    old = [(*row[:-1], START + HOUR) for row in shot[:2]]
    assert found(until=START + 200 * HOUR, snapshot=old)[0] == "no_evidence", "seen queued, but long ago"


def test_the_logged_header_is_the_one_that_links() -> None:
    (row,), _ = judge(
        [
            *came(0, "A1", "<1@x>"),
            event(0, "A1", "header", text="header Subject: news from Oslo"),
            event(0, "A1", "header", text="header X-Release-Id: R 7"),
            tried(1, "A1", "a@example.net", "bounced", "no"),
        ]
    )
    assert (row["header_value"], row["subject"]) == ("X-Release-Id: R 7", "Subject: news from Oslo")


def test_silence_after_the_dot_stays_in_doubt_until_a_delivery() -> None:
    lost = "lost connection with mx[192.0.2.1] while sending end of data -- message may be sent more than once"
    rows = [
        *came(0, "A1", "<1@x>"),
        tried(1, "A1", "a@example.net", "deferred", lost),
        tried(900, "A1", "a@example.net", "bounced", "550 no"),
    ]
    assert words(judge(rows)[0], "maybe_delivered", "status") == [(True, "bounced")]
    rows[-1] = tried(900, "A1", "a@example.net", "sent")
    assert words(judge(rows)[0], "maybe_delivered", "status") == [(False, "delivered")]


def test_mail_that_was_put_back_before_its_first_try_is_one_mail() -> None:
    """MailScanner scans held mail and queues it anew: only the first queue id tells the message-id and the arrival."""
    suspects, _ = judge(
        [
            event(0, "A1", "begin"),
            event(0, "A1", "message", message_id="<1@x>"),
            event(0, "A1", "header", text="header X-Release-Id: 7"),
            event(5000, "B1", "requeue", next_qid="A1"),
            event(5000, "B1", "queued", sender="news@example.jp", size=4000, nrcpt=1),
            tried(5001, "B1", "a@example.net", "sent", delay=5001),
            gone(5001, "B1"),
            *came(6000, "A1", "<2@x>", sender="others@example.jp"),
            tried(6001, "A1", "b@example.net", "bounced", "no"),
        ]
    )
    assert words(suspects, "message_id", "sender", "chain", "status", "header_value") == [
        ("<1@x>", "news@example.jp", "A1>B1", "delivered_late", "X-Release-Id: 7"),
        ("<2@x>", "others@example.jp", "A1", "bounced", ""),
    ]
    assert suspects[0]["arrived_at"] == START


def test_a_sender_counts_with_the_domain_that_a_later_hop_adds() -> None:
    suspects, _ = judge(
        [
            *came(0, "A1", "<1@x>", sender="app"),
            tried(1, "A1", "a@example.net", "sent", next_qid="B1", **FILTER),
            gone(1, "A1"),
            *came(1, "B1", "<1@x>", sender="app@web1.example.jp"),
            tried(2, "B1", "a@example.net", "bounced", "no"),
        ]
    )
    assert words(suspects, "sender", "chain") == [("app@web1.example.jp", "A1>B1")]


def test_a_user_who_keeps_a_copy_of_what_is_forwarded() -> None:
    local: Row = {"relay": "local", "relay_ip": "", "relay_port": None}
    rows, _ = judge(
        [
            *came(0, "A1", "<1@x>"),
            tried(1, "A1", "bob@example.jp", "sent", **local),
            tried(1, "A1", "bob@example.jp", "sent", next_qid="B1", **local),
            event(1, "B1", "message", message_id="<1@x>"),
            event(1, "B1", "queued", sender="news@example.jp", size=4100, nrcpt=1),
            gone(1, "A1"),
            tried(2, "B1", "bob@example.net", "bounced", BUSY, orig_to="bob@example.jp"),
            gone(2, "B1"),
        ],
        all_mail=True,
    )
    assert sorted(words(rows, "mailbox", "status", "chain")) == [
        ("bob@example.jp", "delivered", "A1"),
        ("bob@example.net", "bounced", "A1>B1"),
    ]


def test_an_old_mail_that_was_tried_a_moment_ago_is_still_queued() -> None:
    """A server may keep mail for longer than the lifetime that is configured here."""
    rows = [
        *came(0, "A1", "<1@x>"),
        tried(1, "A1", "a@example.net", "deferred", BUSY),
        tried(150 * 3600, "A1", "a@example.net", "deferred", BUSY),
    ]
    (tried_now,), _ = judge(rows, until=START + 151 * HOUR)
    (long_ago,), _ = judge(rows, until=START + 155 * HOUR)
    assert (tried_now["status"], long_ago["status"]) == ("still_queued", "no_evidence")


def test_two_filters_in_a_row_of_which_the_first_names_no_queue_id() -> None:
    rows = [
        *came(0, "A1", "<1@x>"),
        *came(1, "B1", "<1@x>"),
        tried(1, "A1", "a@example.net", "sent", **FILTER),
        *came(1, "C1", "<1@x>"),
        tried(1, "B1", "a@example.net", "sent", next_qid="C1", **FILTER),
        tried(2, "C1", "a@example.net", "bounced", BUSY),
    ]
    (row,), _ = judge(rows)
    assert (row["status"], row["chain"]) == ("bounced", "A1>B1>C1")
