"""A whole incident on the lab's logs: every affected mail in the bucket that its truth names, frozen, found again."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select

from resend.clock import from_text, to_text
from resend.collect.collect import collect
from resend.config import Config
from resend.errors import InputError, UsageError
from resend.flows.incident import open_, preview
from resend.flows.vetoes import project_evidence
from resend.flows.why import as_json, why
from resend.lab.incident import generate
from resend.linker.buckets import rebucket
from resend.linker.incident import find_incident
from resend.model import Bucket, Selector, VetoKind, VetoReason, delivery_key
from resend.policy.address import fold
from resend.stores.catalog_load import load_catalog
from resend.stores.home import Home
from resend.stores.incidents import parquet_path, surroundings
from resend.stores.ledger import Ledger, open_ledger
from resend.stores.registry import close_incident
from resend.stores.tables import delivery, plan, try_, veto

END = datetime(2026, 11, 24, 8, 0, tzinfo=UTC)
CONFIG = Config.model_validate(
    {
        "tz": "Asia/Tokyo",
        "link": {
            "message_id": "release.{release}.{recipient}@mail.example.jp",
            "verp": "bounce+{release}.{recipient}@example.jp",
        },
    }
)
Row = dict[str, Any]


@dataclass
class Told:
    home: Home
    ledger: Ledger
    truth: list[Row]
    summary: Row

    def rows(self, incident_id: str, **options: Any) -> list[Row]:
        with rebucket(self.home, self.ledger, incident_id, now=END, **options) as affected:
            return list(affected.rows())


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    """The lab's incident at its smallest, collected and loaded."""
    base = tmp_path_factory.mktemp("told")
    lab = generate(base / "lab", scale=0.002, seed=1, end=END)
    home = Home(base / "home")
    for logs in lab.logs:
        collect(home, CONFIG, sorted(logs.iterdir()))
    collect(home, CONFIG, [], queue=lab.queue, host=lab.queue_host)
    kinds = {kind: lab.catalog / f"{kind}.csv" for kind in ("releases", "recipients", "sendlog", "suppressions")}
    assert load_catalog(home, CONFIG, content=lab.content, **kinds).rejected == 0
    truth = [json.loads(line) for line in lab.truth.read_text(encoding="utf-8").splitlines()]
    with open_ledger("", home) as ledger:
        yield Told(home, ledger, truth[:-1], truth[-1])


def unquoted(address: str) -> str:
    return address.replace('"', "")


def place(row: Row) -> tuple[str, str]:
    return row["message_id"], unquoted(row["recipient"])


def test_every_affected_mail_is_where_its_truth_says(told: Told) -> None:
    info = open_(told.home, CONFIG, told.ledger, "all", Selector(), now=END)
    assert {bucket.value: n for bucket, n in info.buckets.items() if n} == told.summary["buckets"]
    assert info.about.affected == told.summary["affected"] == info.record.counts["affected"]
    assert (info.about.no_evidence, info.about.missing) == (told.summary["no_evidence"], told.summary["missing"])
    assert info.record.counts["mails"] == told.summary["mails"] - told.summary["lost_mails"]
    rows = {place(row): row for row in told.rows(info.record.id)}
    affected = [row for row in told.truth if row["bucket"] not in ("no_evidence", "missing")]
    assert len(rows) == len(affected)
    for true in affected:
        row = rows[place(true)]
        assert (row["bucket"], row["release"], row["recipient_id"]) == (
            true["bucket"],
            true["release"],
            true["recipient_id"],
        )
        assert row["provider"] == true["provider"] or true["provider"] == "other"
        if true["why"]:
            assert row["reason"].startswith(true["why"])
    assert sum(Counter(row["bucket"] for row in rows.values()).values()) == info.about.affected


def test_the_numbers_of_the_preview_are_those_of_the_opening(told: Told) -> None:
    info = open_(told.home, CONFIG, told.ledger, "numbers", Selector(), now=END)
    before = parquet_path(told.home, info.record.id).read_bytes()
    found = preview(told.home, told.ledger, "numbers", now=END)
    assert {row.name: row.count for row in found.buckets} == info.buckets
    assert {row.value: row.failed for row in found.tables["provider"] if row.value in told.summary["providers"]} == {
        name: count for name, count in told.summary["providers"].items() if name != "other"
    }
    for rows in found.tables.values():
        assert sum(row.failed for row in rows) == info.about.affected
        assert all(row.share is None or 0 < row.share <= 1 or row.dimension == "hour" for row in rows)
    assert parquet_path(told.home, info.record.id).read_bytes() == before


@pytest.mark.parametrize(
    ("selector", "matches"),
    [
        (Selector(provider="office365"), lambda row: row["provider"] == "office365"),
        (Selector(provider="office365", cause="mailbox_gone"), lambda row: row["turn"] in ("wave", "gone")),
        (
            Selector(from_at=END - timedelta(days=2)),
            lambda row: from_text(row["arrived_at"]) >= END - timedelta(days=2),
        ),
        (Selector(to_at=END - timedelta(days=2)), lambda row: from_text(row["arrived_at"]) < END - timedelta(days=2)),
    ],
)
def test_a_selector_takes_its_part(told: Told, selector: Selector, matches: Any) -> None:
    info = open_(told.home, CONFIG, told.ledger, f"part {selector}"[:99], selector, now=END)
    want = {place(row) for row in told.truth if row["bucket"] not in ("no_evidence", "missing") and matches(row)}
    if selector.cause:
        want = {p for p in want if p in {place(r) for r in told.truth if r["provider"] == "office365"}}
    assert {place(row) for row in told.rows(info.record.id)} == want
    assert sum(info.buckets.values()) == info.about.affected == len(want)


def test_release_and_customer_select_too(told: Told) -> None:
    true = next(row for row in told.truth if row["bucket"] == "resend")
    for selector in (Selector(release=true["release"]), Selector(customer=true["customer"])):
        info = open_(told.home, CONFIG, told.ledger, f"of {selector}"[:99], selector, now=END)
        rows = told.rows(info.record.id)
        assert place(true) in {place(row) for row in rows}
        assert {row["customer"] for row in rows} == {true["customer"]}


def test_a_name_is_taken_once_and_nothing_found_opens_nothing(told: Told, tmp_path: Path) -> None:
    first = open_(told.home, CONFIG, told.ledger, "once", Selector(provider="office365"), now=END)
    with pytest.raises(UsageError, match=r"already.*incident show once"):
        open_(told.home, CONFIG, told.ledger, "once", Selector(provider="docomo"), now=END)
    with pytest.raises(UsageError, match="no mail of this selection"):
        open_(told.home, CONFIG, told.ledger, "none", Selector(provider="nobody"), now=END)
    with pytest.raises(UsageError, match="printable name"):
        open_(told.home, CONFIG, told.ledger, "a\nb", Selector(), now=END)
    with pytest.raises(UsageError, match="there is no incident"):
        find_incident(told.ledger, "none")
    assert find_incident(told.ledger, "once").id == find_incident(told.ledger, first.record.id[:10]).id
    assert surroundings(told.home, first.record.id).selector == {"provider": "office365"}
    empty = Home(tmp_path / "empty")
    with open_ledger("", empty) as ledger, pytest.raises(InputError, match="no evidence"):
        open_(empty, CONFIG, ledger, "x", Selector(), now=END)


def resent(told: Told, row: Row, incident_id: str, *, state: str, remote_qid: str = "") -> str:
    """A plan's Delivery with a try, as a run would leave it; the key."""
    key = delivery_key(row["release"], row["rcpt_key"], 1)
    at = to_text(END)
    with told.ledger.write() as conn:
        if conn.execute(select(plan.c.id).where(plan.c.id == "p" + incident_id)).first() is None:
            conn.execute(
                insert(plan).values(
                    id="p" + incident_id, incident_id=incident_id, state="started", total=1, batches=1, params="{}",
                    eta_s=0.0, made_at=at,
                )
            )  # fmt: skip
        conn.execute(
            insert(delivery).values(
                key=key, release=row["release"], rcpt_key=row["rcpt_key"], generation=1, incident_id=incident_id,
                plan_id="p" + incident_id, batch_id="b", seq=0, recipient_id=row["recipient_id"], rcpt=row["rcpt"],
                folded=fold(row["rcpt"]), customer=row["customer"], domain=row["domain"], egress="direct",
                provider=row["provider"], envelope_from="b@example.jp", identity="same", message_id=row["message_id"],
                content_id="c", state=state, remote_qid=remote_qid,
            )
        )  # fmt: skip
        conn.execute(
            insert(try_).values(
                id="t" + key[:31], delivery_key=key, epoch=1, worker="w", egress="direct", provider=row["provider"],
                mail_at=to_text(END - timedelta(hours=1)), outcome="accepted", stage="dot", code=250, reply="Ok",
                remote_qid=remote_qid,
            )
        )  # fmt: skip
    return key


def test_a_second_incident_over_the_same_mail_resends_nothing_twice(told: Told) -> None:
    first = open_(told.home, CONFIG, told.ledger, "first", Selector(), now=END)
    mails = [row for row in told.rows(first.record.id) if row["bucket"] == "resend"][:3]
    for row, state in zip(mails, ("accepted", "in_doubt", "gave_up"), strict=True):
        resent(told, row, first.record.id, state=state)
    second = open_(told.home, CONFIG, told.ledger, "second", Selector(), now=END)
    for incident in (first, second):  # also the first one, as things stand now
        now = {row["outcome_id"]: row for row in told.rows(incident.record.id)}
        places = [now[row["outcome_id"]] for row in mails]
        assert [row["bucket"] for row in places] == ["already_resent", "already_resent", "resend"]
        assert [row["generation"] for row in places] == [2, 2, 2]
    again = {row["outcome_id"]: row["bucket"] for row in told.rows(second.record.id, again=True)}
    assert [again[row["outcome_id"]] for row in mails] == ["resend", "already_resent", "resend"]
    found = why(told.home, CONFIG, told.ledger, unquoted(mails[0]["recipient"]), incident="second", now=END)
    mine = next(mail for mail in found if mail.outcome["message_id"] == mails[0]["message_id"])
    assert mine.outcome["evidence"] == mails[0]["evidence"]
    assert mine.link is not None and mine.link.release == mails[0]["release"]
    assert [verdict.bucket for verdict in mine.verdicts] == ["already_resent"]
    assert [(item.state, [t.outcome for t in item.tries]) for item in mine.deliveries] == [("accepted", ["accepted"])]
    assert json.dumps(as_json(mine), default=str)


def test_why_finds_an_address_that_the_log_writes_with_quotes(told: Told) -> None:
    true = next(row for row in told.truth if ".." in row["recipient"] and row["status"] in ("bounced", "expired"))
    found = why(told.home, CONFIG, told.ledger, true["recipient"], now=END)
    assert true["message_id"] in {mail.outcome["message_id"] for mail in found}
    with pytest.raises(UsageError, match="not an address"):
        why(told.home, CONFIG, told.ledger, "nobody", now=END)
    assert why(told.home, CONFIG, told.ledger, "nobody@example.jp", now=END) == []


def test_includes_are_what_a_person_decided(told: Told) -> None:
    info = open_(told.home, CONFIG, told.ledger, "includes", Selector(), now=END)
    plain = Counter(row["bucket"] for row in told.rows(info.record.id))
    assert plain["maybe_delivered"] and plain["ask"]
    more = told.rows(info.record.id, includes=["maybe_delivered", "ask:mailbox_gone"])
    buckets = Counter(row["bucket"] for row in more)
    assert buckets["maybe_delivered"] == 0 and buckets["resend"] > plain["resend"]
    assert not [row for row in more if row["bucket"] == "ask" and row["cause"] == "mailbox_gone"]
    assert sum(buckets.values()) == sum(plain.values())


def test_time_moves_mails_between_buckets_but_not_the_frozen_file(told: Told) -> None:
    info = open_(told.home, CONFIG, told.ledger, "time", Selector(), now=END)
    later = preview(told.home, told.ledger, info.record.id, now=END + timedelta(days=3650))
    assert later.count(Bucket.WAIT) == 0 < info.buckets[Bucket.WAIT]
    assert later.affected == info.about.affected


def test_an_original_that_arrives_later_stops_its_resend(told: Told, tmp_path: Path) -> None:
    info = open_(told.home, CONFIG, told.ledger, "later", Selector(), now=END)
    queued = next(row for row in told.rows(info.record.id) if row["bucket"] == "still_queued" and row["recipient_id"])
    log = tmp_path / "mail.log"
    at = (END + timedelta(minutes=5)).strftime("%Y-%m-%dT%H:%M:%S+00:00")
    log.write_text(
        f"{at} {queued['last_host']} postfix/smtp[1]: {queued['last_qid']}: to=<{queued['recipient']}>,"
        " relay=x.mail.protection.outlook.com[192.0.2.9]:25, delay=99, delays=1/1/1/1, dsn=2.0.0,"
        " status=sent (250 Ok)\n"
        f"{at} {queued['last_host']} postfix/qmgr[1]: {queued['last_qid']}: removed\n"
    )
    collect(told.home, CONFIG, [log])
    assert project_evidence(told.home, CONFIG, told.ledger, END + timedelta(minutes=6)) >= 1
    key = delivery_key(queued["release"], queued["rcpt_key"], 1)
    with told.ledger.read() as conn:
        reasons = conn.execute(select(veto.c.reason).where(veto.c.kind == VetoKind.DELIVERY, veto.c.subject == key))
        assert [reason for (reason,) in reasons] == [VetoReason.DELIVERED]
    now = {row["outcome_id"]: row for row in told.rows(info.record.id)}
    assert now[queued["outcome_id"]]["bucket"] == "delivered_late"
    with told.ledger.write() as conn:
        close_incident(conn, info.record.id, now=END)
    assert find_incident(told.ledger, "later").open is False
