"""The last word on a mail: over attempts, reused queue ids, hops, expiries, bounces, gaps and the queue."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from resend.collect.collect import collect
from resend.config import Config
from resend.linker.outcomes import find, outcomes
from resend.stores import sql
from resend.stores.home import Home
from tests.outcome.conftest import Run

BUSY = (
    "host a-example.mail.protection.outlook.com[52.101.0.1] said: 451 4.7.500 Server busy. Please try again later from"
    " [203.0.113.1]. (S77719) (in reply to RCPT TO command)"
)


def line(at: str, what: str, host: str = "mta1") -> str:
    return f"Nov 20 {at} {host} postfix/{what}\n"


def arrives(at: str, qid: str, message_id: str, *, host: str = "mta1", sender: str = "news@example.jp") -> str:
    return (
        line(at, f"smtpd[10]: {qid}: client=app[10.0.0.1]", host)
        + line(at, f"cleanup[11]: {qid}: message-id=<{message_id}>", host)
        + line(at, f"qmgr[12]: {qid}: from=<{sender}>, size=4000, nrcpt=1 (queue active)", host)
    )


def tries(
    at: str,
    qid: str,
    to: str,
    status: str,
    reason: str,
    *,
    relay: str = "mx.example.net[192.0.2.1]:25",
    dsn: str = "4.7.500",
    host: str = "mta1",
    delay: float = 1,
) -> str:
    return line(
        at,
        f"smtp[20]: {qid}: to=<{to}>, relay={relay}, delay={delay}, delays=0/0/0/1, dsn={dsn},"
        f" status={status} ({reason})",
        host,
    )


def removed(at: str, qid: str, host: str = "mta1") -> str:
    return line(at, f"qmgr[12]: {qid}: removed", host)


def test_mail_delivered_in_time_is_counted_and_has_no_row(last_words: Run, home: Home) -> None:
    rows = last_words(
        arrives("10:00:00", "AAAA1", "m1@x")
        + tries("10:00:01", "AAAA1", "a@example.net", "sent", "250 ok", dsn="2.0.0")
        + removed("10:00:01", "AAAA1")
    )
    assert rows == []
    with sql.connect() as con:
        totals = outcomes(home, Config(tz="UTC")).totals
        assert con.execute(
            f"SELECT domain, sum(mails) FROM read_parquet({sql.quote(totals)}) GROUP BY 1"
        ).fetchall() == [("example.net", 1)]


def test_late_delivery_and_quick_recovery(last_words: Run) -> None:
    late, soon = last_words(
        arrives("10:00:00", "AAAA1", "m1@x")
        + tries("10:00:01", "AAAA1", "a@example.net", "deferred", BUSY)
        + tries("12:00:01", "AAAA1", "a@example.net", "sent", "250 ok", dsn="2.0.0", delay=7201)
        + removed("12:00:01", "AAAA1")
        + arrives("10:00:00", "AAAA2", "m2@x")
        + tries("10:00:01", "AAAA2", "b@example.net", "deferred", BUSY)
        + tries("10:10:01", "AAAA2", "b@example.net", "sent", "250 ok", dsn="2.0.0", delay=601)
        + removed("10:10:01", "AAAA2")
    )
    assert (late["status"], late["attempts"], late["code"], late["enhanced"]) == ("delivered_late", 2, 451, "4.7.500")
    assert late["delivered_at"] - late["arrived_at"] == 7201 * 1_000_000
    assert late["evidence"] == "mail.log:4"
    assert soon["status"] == "delivered"


def test_expiry_names_no_recipient_and_reaches_only_those_still_deferred(last_words: Run) -> None:
    rows = last_words(
        arrives("10:00:00", "AAAA1", "m1@x")
        + tries("10:00:01", "AAAA1", "a@example.net", "deferred", BUSY)
        + tries("10:00:01", "AAAA1", "b@example.net", "sent", "250 ok", dsn="2.0.0")
        + tries("10:00:01", "AAAA1", "c@example.net", "bounced", "host x said: 550 5.1.1 no such user", dsn="5.1.1")
        + line("15:00:00", "qmgr[12]: AAAA1: from=<news@example.jp>, status=expired, returned to sender")
        + line("15:00:00", "cleanup[11]: BBBB1: message-id=<notice@mta1>")
        + line("15:00:00", "bounce[13]: AAAA1: sender non-delivery notification: BBBB1")
        + line("15:00:00", "qmgr[12]: BBBB1: from=<>, size=6000, nrcpt=1 (queue active)")
        + tries("15:00:01", "BBBB1", "news@example.jp", "bounced", "host y said: 550 5.1.1 unknown", dsn="5.1.1")
        + removed("15:00:01", "AAAA1")
    )
    assert [(row["recipient"], row["status"]) for row in rows] == [
        ("a@example.net", "expired"),
        ("c@example.net", "bounced"),
    ]
    assert rows[0]["reply"].startswith("host a-example")  # the cause is the last deferral, not the expiry


def test_a_queue_id_used_again_is_another_mail(last_words: Run) -> None:
    rows = last_words(
        arrives("10:00:00", "AAAA1", "m1@x")
        + tries("10:00:01", "AAAA1", "a@example.net", "bounced", "host x said: 550 no", dsn="5.1.1")
        + removed("10:00:01", "AAAA1")
        + arrives("11:00:00", "AAAA1", "m2@x", sender="other@example.jp")
        + tries("11:00:01", "AAAA1", "a@example.net", "sent", "250 ok", dsn="2.0.0")
        + removed("11:00:01", "AAAA1")
        + arrives("12:00:00", "AAAA1", "m3@x")
        + tries("12:00:01", "AAAA1", "c@example.net", "deferred", BUSY)
    )
    assert [(row["message_id"], row["sender"], row["status"]) for row in rows] == [
        ("<m1@x>", "news@example.jp", "bounced"),
        ("<m3@x>", "news@example.jp", "still_queued"),
    ]


def test_a_filter_hop_and_a_relay_on_another_host_are_followed_to_the_end(last_words: Run) -> None:
    to_filter = "127.0.0.1[127.0.0.1]:10025"
    rows = last_words(
        {
            "a.log": arrives("10:00:00", "AAAA1", "m1@x")
            + arrives("10:00:01", "CCCC1", "m1@x")
            + tries(
                "10:00:01", "AAAA1", "a@example.net", "sent", "250 2.0.0 from MTA: 250 2.0.0 Ok: queued as CCCC1",
                relay=to_filter, dsn="2.0.0",
            )
            + removed("10:00:01", "AAAA1")
            + tries(
                "10:00:02", "CCCC1", "a@example.net", "sent", "250 2.0.0 Ok: queued as DDDD1",
                relay="mta2[10.0.0.2]:25", dsn="2.0.0",
            )
            + removed("10:00:02", "CCCC1"),
            "b.log": arrives("10:00:02", "DDDD1", "m1@x", host="mta2")
            + tries("10:00:03", "DDDD1", "a@example.net", "deferred", BUSY, host="mta2"),
        }
    )  # fmt: skip
    (row,) = rows
    assert (row["status"], row["qid"], row["last_qid"], row["last_host"]) == ("still_queued", "AAAA1", "DDDD1", "mta2")
    assert row["chain"] == "AAAA1>CCCC1>DDDD1"
    assert row["evidence"] == "b.log:4"


def test_a_requeued_mail_is_one_mail(last_words: Run) -> None:
    (row,) = last_words(
        arrives("10:00:00", "AAAA1", "m1@x")
        + tries("10:00:01", "AAAA1", "a@example.net", "deferred", BUSY)
        + line("13:00:00", "pickup[14]: BBBB1: uid=107 from=<news@example.jp> orig_id=AAAA1")
        + line("13:00:00", "cleanup[11]: BBBB1: message-id=<m1@x>")
        + line("13:00:00", "qmgr[12]: BBBB1: from=<news@example.jp>, size=4000, nrcpt=1 (queue active)")
        + tries("13:00:01", "BBBB1", "a@example.net", "sent", "250 ok", dsn="2.0.0", delay=10801)
        + removed("13:00:01", "BBBB1")
    )
    assert (row["status"], row["qid"], row["last_qid"]) == ("delivered_late", "AAAA1", "BBBB1")


def test_a_second_delivery_of_the_same_message_cancels_the_failure(last_words: Run) -> None:
    (row,) = last_words(
        arrives("10:00:00", "AAAA1", "m1@x")
        + tries("10:00:01", "AAAA1", "a@example.net", "bounced", "host x said: 550 5.7.1 later", dsn="5.7.1")
        + removed("10:00:01", "AAAA1")
        + arrives("10:20:00", "BBBB1", "m1@x")
        + tries("10:20:01", "BBBB1", "A@EXAMPLE.net", "sent", "250 ok", dsn="2.0.0")
        + removed("10:20:01", "BBBB1")
    )
    assert row["status"] == "delivered"


def test_silence_after_the_dot_is_maybe_delivered(last_words: Run) -> None:
    (row,) = last_words(
        arrives("10:00:00", "AAAA1", "m1@x")
        + tries(
            "10:10:01", "AAAA1", "a@example.net", "deferred",
            "lost connection with mx.example.net[192.0.2.1] while sending end of data"
            " -- message may be sent more than once",
            dsn="4.4.2",
        )
    )  # fmt: skip
    assert row["maybe_delivered"] is True


def test_a_suspended_delivery_is_a_copy_and_no_attempt(last_words: Run) -> None:
    (row,) = last_words(
        arrives("10:00:00", "AAAA1", "m1@x")
        + tries("10:00:01", "AAAA1", "a@example.net", "deferred", BUSY)
        + tries(
            "10:05:01", "AAAA1", "a@example.net", "deferred",
            "delivery temporarily suspended: connect to mx[192.0.2.1]:25: Connection timed out",
            relay="none", dsn="4.4.1",
        )
    )  # fmt: skip
    assert row["attempts"] == 1
    assert row["reply"].startswith("host a-example")


def test_still_queued_needs_the_queue_or_its_lifetime(last_words: Run) -> None:
    log = (
        arrives("10:00:00", "AAAA1", "m1@x")
        + tries("10:00:01", "AAAA1", "a@example.net", "deferred", BUSY)
        + arrives("10:00:00", "AAAA2", "m2@x")
        + tries("10:00:01", "AAAA2", "b@example.net", "deferred", BUSY)
    )
    assert [row["status"] for row in last_words(log)] == ["still_queued", "still_queued"]
    queued = {"queue_name": "deferred", "queue_id": "AAAA1", "arrival_time": 1795168800, "sender": "news@example.jp"}
    seen = [{**queued, "recipients": [{"address": "a@example.net", "delay_reason": BUSY}]}]
    assert [row["status"] for row in last_words(log, queue=seen)] == ["still_queued", "no_evidence"]
    old = log + line("10:00:00", "anvil[9]: statistics: max connection rate 1/60s").replace("Nov 20", "Nov 27")
    later = old + arrives("11:00:00", "AAAA9", "m9@x").replace("Nov 20", "Nov 27")
    assert {row["status"] for row in last_words({"mail.log": later}, collect={"queue_lifetime": "5d"})} >= {
        "no_evidence"
    }


def test_a_log_gap_takes_the_last_word_away_but_not_a_final_one(last_words: Run) -> None:
    gap = "Nov 20 10:30:00 mta1 systemd-journald[1]: Suppressed 8385 messages from postfix.service\n"
    deferred, bounced = last_words(
        arrives("10:00:00", "AAAA1", "m1@x")
        + tries("10:00:01", "AAAA1", "a@example.net", "deferred", BUSY)
        + arrives("10:00:00", "AAAA2", "m2@x")
        + tries("10:00:01", "AAAA2", "b@example.net", "bounced", "host x said: 550 no", dsn="5.1.1")
        + gap
    )
    assert deferred["status"] == "no_evidence"
    assert bounced["status"] == "bounced"


def test_find_reads_delivered_mail_too(last_words: Run, home: Home) -> None:
    last_words(
        arrives("10:00:00", "AAAA1", "m1@x")
        + tries("10:00:01", "AAAA1", "a@example.net", "sent", "250 ok", dsn="2.0.0")
        + removed("10:00:01", "AAAA1")
        + arrives("10:00:00", "AAAA2", "m2@x")
        + tries("10:00:01", "AAAA2", "b@example.net", "bounced", "host x said: 550 no", dsn="5.1.1")
    )
    config = Config(tz="UTC")
    assert [row["status"] for row in find(home, config, recipient="A@example.net")] == ["delivered"]
    assert [row["recipient"] for row in find(home, config, message_id="m2@x")] == ["b@example.net"]
    assert [row["status"] for row in find(home, config, status="bounced")] == ["bounced"]


@pytest.mark.parametrize("tries_at_once", [1, 1_000])
def test_find_without_a_filter_has_every_mail_once_the_failed_first(
    last_words: Run, home: Home, monkeypatch: pytest.MonkeyPatch, tries_at_once: int
) -> None:
    monkeypatch.setattr("resend.linker.outcomes._SLICE", tries_at_once)
    log = "".join(
        arrives(f"{hour}:59:59", f"AAAA{hour}", f"m{hour}@x")
        + tries(f"{hour + 1}:00:01", f"AAAA{hour}", f"u{hour}@example.net", "sent", "250 ok", dsn="2.0.0", delay=2)
        + removed(f"{hour + 1}:00:01", f"AAAA{hour}")
        for hour in range(10, 16)
    )
    failed = arrives("13:30:00", "BBBB1", "late@x") + tries("13:30:01", "BBBB1", "z@example.net", "deferred", BUSY)
    again = tries("14:10:01", "BBBB1", "z@example.net", "sent", "250 ok", dsn="2.0.0", delay=2401)
    last_words(log + failed + again + removed("14:10:01", "BBBB1"))
    rows = list(find(home, Config(tz="UTC")))
    assert [row["recipient"] for row in rows] == ["z@example.net", *(f"u{hour}@example.net" for hour in range(10, 16))]
    assert {row["status"] for row in rows} == {"delivered"}
    assert len(list(find(home, Config(tz="UTC"), status="delivered"))) == 7


def test_outcomes_are_computed_once_for_the_same_evidence(home: Home, tmp_path: Path) -> None:
    log = tmp_path / "mail.log"
    log.write_text(arrives("10:00:00", "AAAA1", "m1@x") + tries("10:00:01", "AAAA1", "a@example.net", "deferred", BUSY))
    config = Config(tz="UTC")
    collect(home, config, [log], year=2026)
    first = outcomes(home, config)
    assert outcomes(home, config) == first
    log.write_text(log.read_text() + tries("10:10:00", "AAAA1", "a@example.net", "deferred", BUSY))
    collect(home, config, [log], year=2026)
    assert outcomes(home, config).id != first.id
    assert not [path for path in home.derived.iterdir() if path.name.endswith(".tmp")]


def test_resends_that_no_log_names_yet_change_no_outcome(last_words: Run, home: Home) -> None:
    last_words(arrives("10:00:00", "AAAA1", "m1@x") + tries("10:00:01", "AAAA1", "a@example.net", "bounced", "550 no"))
    known = outcomes(home, Config()).id
    assert outcomes(home, Config(), own=[("ZZZZ1", 1_000_000)]).id == known
    assert outcomes(home, Config(), own=[("ZZZZ1", 1_000_000), ("AAAA1", 1_000_000)]).id != known


def test_json_rows_have_the_contract_fields(last_words: Run, home: Home) -> None:
    last_words(arrives("10:00:00", "AAAA1", "m1@x") + tries("10:00:01", "AAAA1", "a@example.net", "deferred", BUSY))
    (row,) = find(home, Config(tz="UTC"))
    first = {"message_id", "sender", "recipient", "status", "maybe_delivered", "at", "attempts", "provider"}
    assert set(row) == first | {"code", "enhanced", "reply", "queue_id", "host", "evidence"} | {
        "queue_ids",
        "original_recipient",
    }
    assert json.loads(json.dumps(row)) == row


def test_mail_under_the_queue_id_of_an_old_bounce_is_counted(last_words: Run, home: Home) -> None:
    last_words(
        line("10:00:00", "cleanup[11]: BBBB1: message-id=<notice@mta1>")
        + line("10:00:00", "qmgr[12]: BBBB1: from=<>, size=6000, nrcpt=1 (queue active)")
        + tries("10:00:01", "BBBB1", "news@example.jp", "sent", "250 ok", dsn="2.0.0")
        + removed("10:00:01", "BBBB1")
        + arrives("11:00:00", "BBBB1", "m2@x")
        + tries("11:00:01", "BBBB1", "a@example.net", "sent", "250 ok", dsn="2.0.0")
        + removed("11:00:01", "BBBB1")
    )
    with sql.connect() as con:
        totals = outcomes(home, Config(tz="UTC")).totals
        assert con.execute(f"SELECT domain, mails FROM read_parquet({sql.quote(totals)})").fetchall() == [
            ("example.net", 1)
        ]


def test_an_alias_is_told_by_where_it_leads_and_by_what_the_sender_wrote(last_words: Run, home: Home) -> None:
    rows = last_words(
        arrives("10:00:00", "AAAA1", "m1@x")
        + tries("10:00:01", "AAAA1", "info@example.jp", "sent", "forwarded as AAAA2", relay="local", dsn="2.0.0")
        + removed("10:00:01", "AAAA1")
        + arrives("10:00:01", "AAAA2", "m1@x")
        + tries("10:00:02", "AAAA2", "b@example.net>, orig_to=<info@example.jp", "bounced", "host x said: 550 no")
    )
    assert [(row["recipient"], row["mailbox"], row["domain"]) for row in rows] == [
        ("info@example.jp", "b@example.net", "example.net")
    ]
    (row,) = find(home, Config(tz="UTC"))
    assert (row["recipient"], row["queue_ids"]) == ("b@example.net", ["AAAA1", "AAAA2"])


def test_a_list_of_all_mail_has_failed_bounces_of_others_and_no_notice_of_ours(last_words: Run, home: Home) -> None:
    rows = last_words(
        arrives("10:00:00", "AAAA1", "m1@x", sender="")
        + tries("10:00:01", "AAAA1", "a@example.net", "bounced", "host x said: 550 no", dsn="5.1.1")
        + line("10:00:01", "bounce[13]: AAAA1: postmaster non-delivery notification: AAAA2")
        + line("10:00:01", "cleanup[11]: AAAA3: message-id=<n@mta1>")
        + line("10:00:01", "qmgr[12]: AAAA3: from=<double-bounce@mta1.example.jp>, size=6000, nrcpt=1 (queue active)")
        + tries("10:00:02", "AAAA3", "postmaster@example.jp", "bounced", "host x said: 550 no", dsn="5.1.1")
    )
    assert rows == []
    assert [(row["sender"], row["recipient"], row["status"]) for row in find(home, Config(tz="UTC"))] == [
        ("", "a@example.net", "bounced")
    ]


def test_a_mail_whose_queue_id_a_bounce_of_ours_has_at_once_again_is_no_bounce(last_words: Run) -> None:
    rows = last_words(
        arrives("10:00:00", "AAAA1", "m1@x")
        + tries("10:00:01", "AAAA1", "a@example.net", "bounced", "host x said: 550 no", dsn="5.1.1")
        + removed("10:00:01", "AAAA1")
        + line("10:00:04", "cleanup[11]: AAAA1: message-id=<n@mta1>")
        + line("10:00:04", "bounce[13]: AAAA2: sender non-delivery notification: AAAA1")
        + line("10:00:04", "qmgr[12]: AAAA1: from=<>, size=6000, nrcpt=1 (queue active)")
        + tries("10:00:05", "AAAA1", "news@example.jp", "sent", "250 ok", dsn="2.0.0")
        + removed("10:00:05", "AAAA1")
    )
    assert [(row["recipient"], row["status"]) for row in rows] == [("a@example.net", "bounced")]


@pytest.mark.parametrize("names", [" queued as BBBB2", " Ok"])
def test_a_filter_that_makes_two_mails_of_one_may_name_one_of_them_or_none(
    last_words: Run, home: Home, names: str
) -> None:
    inner = {"relay": "127.0.0.1[127.0.0.1]:10025", "dsn": "2.0.0"}
    last_words(
        arrives("10:00:00", "AAAA1", "m1@x")
        + arrives("10:00:01", "BBBB1", "m1@x")
        + tries("10:00:01", "BBBB1", "a@example.net", "bounced", "host x said: 550 no", dsn="5.1.1")
        + removed("10:00:01", "BBBB1")
        + arrives("10:00:01", "BBBB2", "m1@x")
        + tries("10:00:02", "AAAA1", "a@example.net", "sent", f"250 2.0.0{names}", **inner)
        + tries("10:00:02", "AAAA1", "b@example.net", "sent", f"250 2.0.0{names}", **inner)
        + removed("10:00:02", "AAAA1")
        + tries("10:00:03", "BBBB2", "b@example.net", "deferred", BUSY)
    )
    found = {row["recipient"]: (row["status"], row["queue_ids"]) for row in find(home, Config(tz="UTC"))}
    assert found == {
        "a@example.net": ("bounced", ["AAAA1", "BBBB1"]),
        "b@example.net": ("still_queued", ["AAAA1", "BBBB2"]),
    }
