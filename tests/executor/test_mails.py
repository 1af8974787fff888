"""A run makes the mails of a plan as the planner saw them: the same bytes, or a reason; rows are read in steps."""

from __future__ import annotations

import email
import json
from collections.abc import Callable, Iterator
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from resend.clock import from_text
from resend.flows import mails
from resend.flows.bodies import StoredBodies
from resend.flows.mails import Mails
from resend.model import Identity, delivery_key
from resend.policy import template
from resend.policy.content import ContentError, canonical, new_message_id, renew
from resend.policy.dkim import Signer
from resend.policy.dressing import FROZEN, dress
from resend.stores import frozen
from resend.stores.content import kept_name
from resend.stores.frozen import PlannedMails
from resend.stores.home import Home
from resend.stores.ledger import Ledger, open_ledger
from resend.stores.plans import PlanRow, write_plan
from resend.stores.rows import Delivery
from tests.support.keys import rsa_key

PLAN = "a" * 64
TEMPLATES = {
    "plain": "From: 広報 <pr@example.jp>\nTo: {{ name }} <{{ rcpt }}>\nSubject: {{ title }}\n"
    "Content-Type: text/plain; charset=ISO-2022-JP\n\n{{ name }} 様 ({{ attr.outlet }})\n.本文\n" + "あいうえお\n" * 90,
    "utf8": "Subject: 【速報】{{ title }}\n\n{{ name }} 様\n" + "本文です。" * 300 + "\n",
    "parts": 'Subject: {{ title }}\nContent-Type: multipart/alternative; boundary="b"\n\n--b\n\n{{ name }}\n--b\n'
    "Content-Type: text/html; charset=UTF-8\nContent-Transfer-Encoding: quoted-printable\n\n<p>{{ name }}</p>\n--b--\n",
    "blocks": "Subject: {{ title }}\n\n{% if name %}{{ name|upper }}{% endif %} & {{ attr.outlet }}\n",
}
NAMES = ["山田 太郎", "Hanako, PR (Tokyo)", "髙橋", "", "é <b>", "x\ny", "Zoë 🎉"]


def whole(message_id: str, text: str) -> bytes:
    head = (
        f"From: pr@example.jp\r\nTo: a@example.jp\r\nMessage-ID: {message_id}\r\nDate: Tue, 24 Nov 2026 08:00:00 +0900"
    )
    return f"{head}\r\nSubject: Hello\r\n\r\n{text}\r\n".encode()


@pytest.fixture
def ledger(home: Home) -> Iterator[Ledger]:
    with open_ledger("", home) as opened:
        yield opened


@pytest.fixture
def signer() -> Signer:
    pytest.importorskip("dkim")
    return Signer(domain="example.jp", selector="s1", key=rsa_key()[0])


def plan_rows(home: Home, signer: Signer | None) -> list[PlanRow]:
    """Mails of every kind of content and both identities, some signed by us, in batches of ten."""
    (home.content / "kept").mkdir(parents=True, exist_ok=True)
    for name, text in TEMPLATES.items():
        (home.content / f"{name}.eml.j2").write_text(text, encoding="utf-8")
    (home.content / "mail.eml").write_bytes(whole("<all@example.jp>", "to all of you"))
    bodies, made = StoredBodies(home), []
    for number in range(12 * len(NAMES)):
        release = [*TEMPLATES, "mail", "kept"][number % 6]
        message_id = f"<{release}.{number}@example.jp>"
        if release == "kept":
            (home.content / "kept" / kept_name(message_id)).write_bytes(whole(message_id, f"your own {number}"))
            bodies = StoredBodies(home)  # it looks for kept mails once
        new = number % 4 == 3
        variables: dict[str, Any] = {"recipient": f"p{number}", "name": NAMES[number % len(NAMES)]}
        variables["attr"] = {"outlet": "朝刊"}
        if number % 3 == 0:
            variables[FROZEN] = {"unsubscribe": f"https://example.jp/u/{number}"}
            if signer is not None:
                variables[FROZEN]["dkim"] = signer.name
        body = bodies.body(release, message_id)
        assert body is not None
        own = release == "kept" and not new
        row = PlanRow(
            key=delivery_key(release, f"u{number}@example.jp", 0),
            release=release,
            recipient_id=f"p{number}",
            rcpt_key=f"u{number}@example.jp",
            rcpt=f"u{number}@example.jp",
            generation=0,
            incident_id="inc-1",
            customer="c1",
            domain="example.jp",
            provider="office365",
            egress="direct",
            batch_id=f"b{number // 10}",
            batch_seq=number // 10,
            canary=False,
            seq=number % 10,
            rate=5.0,
            after_s=0,
            message_id=message_id if own or not new else "",
            identity=Identity.NEW if new else Identity.SAME,
            date="" if new else "2026-11-24T08:00:00.000000Z",
            content_id="",
            content_kind=body.kind,
            envelope_from="bounce@example.jp",
            sender="pr@example.jp",
            title="新製品のお知らせ" if number % 2 else "News & more",
            urgency=5,
            expires_at="",
            not_before="",
            variables=canonical(variables),
        )
        if release == "kept" and new:
            row = row._replace(message_id=message_id)
        made.append(row._replace(content_id=bodies.content_id(row, body, row.variables)))
    write_plan(home, PLAN, made)
    return made


def delivery(row: PlanRow, batch_id: str = "", date: str = "2026-11-25T01:02:03.000000Z") -> Delivery:
    values = {name: getattr(row, name, None) for name in Delivery._fields}
    return Delivery(**{**values, "plan_id": PLAN, "batch_id": batch_id or row.batch_id, "date": date})  # type: ignore[arg-type]


def one_by_one(home: Home, rows: list[PlanRow], signer: Signer | None) -> Callable[[Delivery], tuple[bytes, str]]:
    """What a mail is by its row and the files of its content alone: nothing remembered, all by Jinja2."""
    of = {row.key: row for row in rows}

    def made(mail: Delivery) -> tuple[bytes, str]:
        row, variables = of[mail.key], json.loads(of[mail.key].variables)
        new, date = row.identity == Identity.NEW, mail.date or row.date
        message_id = new_message_id(row.key, "example.jp") if new else row.message_id
        if row.content_kind == "template":
            data = template.render(
                (home.content / f"{row.release}.eml.j2").read_text(encoding="utf-8"),
                variables,
                key=row.key,
                message_id=message_id,
                date=date,
                sender=row.sender,
                envelope_from=row.envelope_from,
                rcpt=row.rcpt,
                title=row.title,
            )
        else:
            name = f"{row.release}.eml" if row.content_kind == "eml" else f"kept/{kept_name(row.message_id)}"
            data = (home.content / name).read_bytes()
            if not new:
                return data, date
            data = renew(data, message_id=message_id, date=format_datetime(from_text(date)))
        return dress(data, variables, signer, date=date), date

    return made


def said(make: Any, mail: Delivery) -> object:
    try:
        return make(mail)
    except ContentError as error:
        return str(error)


def test_the_ledger_knows_each_mail_by_the_message_id_that_leaves(home: Home, ledger: Ledger) -> None:
    rows = {row.key: row for row in plan_rows(home, None)}
    make, looked_at = Mails(home, ledger, None), set()
    for mail in PlannedMails(home, PLAN).mails():
        made = said(make, delivery(rows[mail.key]))
        if isinstance(made, tuple):
            head = email.message_from_bytes(made[0])
            assert head["Message-ID"] == mail.message_id or rows[mail.key].content_kind == "eml"  # one for all of them
            looked_at.add((mail.identity, rows[mail.key].content_kind))
    assert {(Identity.NEW, "template"), (Identity.NEW, "kept"), (Identity.SAME, "kept")} <= looked_at


@pytest.mark.parametrize("signed", [False, True])
def test_a_run_makes_each_mail_of_what_was_planned(home: Home, ledger: Ledger, signer: Signer, signed: bool) -> None:
    by = signer if signed else None
    rows = plan_rows(home, by)
    before, now = one_by_one(home, rows, by), Mails(home, ledger, by)
    found = [said(now, delivery(row)) for row in rows]
    assert found == [said(before, delivery(row)) for row in rows]
    assert sum(isinstance(one, tuple) for one in found) > len(rows) * 2 // 3  # what is made, not only what is refused
    assert [said(now, delivery(row)) for row in reversed(rows)] == found[::-1]  # and again: each try alike


def test_content_that_changed_and_a_key_that_is_gone_are_found_at_every_mail(
    home: Home, ledger: Ledger, signer: Signer
) -> None:
    rows = plan_rows(home, signer)
    of = {row.release: row for row in rows if row.identity == Identity.SAME}
    (home.content / "utf8.eml.j2").write_text("Subject: other\n\n{{ name }}\n")
    (home.content / "mail.eml").write_bytes(whole("<all@example.jp>", "something else"))
    (home.content / "kept" / kept_name(of["kept"].message_id)).unlink()
    (home.content / "blocks.eml.j2").unlink()
    run = Mails(home, ledger, None)
    assert (
        said(run, delivery(of["utf8"]))
        == said(run, delivery(of["mail"]))
        == ("the content has changed since it was planned")
    )
    for gone in ("kept", "blocks"):
        assert said(run, delivery(of[gone])) == "the content is not what was planned"
    asked = next(row for row in rows if row.release == "plain" and "dkim" in json.loads(row.variables).get(FROZEN, {}))
    assert "names another one or none" in str(said(run, delivery(asked)))
    assert said(run, delivery(rows[0])._replace(key="0" * 64)) == "the mail is not in its plan's file"


def test_rows_are_read_in_steps_and_those_of_a_batch_of_due_mails_at_once(
    home: Home, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = plan_rows(home, None)
    monkeypatch.setattr(frozen, "_STEP", 30)
    reads: list[str] = []
    read = frozen.FrozenMails._read

    def seen(self: frozen.FrozenMails, condition: str, values: list[object]) -> None:
        reads.append(condition.split()[0])
        read(self, condition, values)

    monkeypatch.setattr(frozen.FrozenMails, "_read", seen)
    plan = frozen.FrozenMails(home, PLAN, lambda batch: [row.key for row in rows[5:25]] if batch == "again" else [])
    for row in rows:
        found = plan.row(row.key, row.batch_id)
        assert found is not None and found[:-1] == tuple(getattr(row, name) for name in found._fields[:-1])
    assert reads == ["file_row_number"] * 3  # 84 rows
    assert all(plan.row(row.key, "again") is not None for row in rows[5:25])
    assert reads[3:] == ["key"]
    assert plan.row("0" * 64, "b1") is None


@pytest.mark.parametrize("bytes_", [0, 2_000, 1 << 30])
def test_mails_made_ahead_are_those_that_are_asked_for(
    home: Home, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, bytes_: int
) -> None:
    """Also where some of a batch are never asked for, and where one asks for another Date than the plan's."""
    monkeypatch.setattr(mails, "_WAITING_BYTES", bytes_)
    monkeypatch.setattr(mails, "_AHEAD_S", 10.0)
    rows = plan_rows(home, None)
    made: list[str] = []
    make = Mails._made

    def seen(self: Mails, row: frozen.FrozenRow, date: str) -> bytes:
        data = make(self, row, date)
        made.append(row.key)
        return data

    monkeypatch.setattr(Mails, "_made", seen)
    alone, run = one_by_one(home, rows, None), Mails(home, ledger)
    asked = [row for number, row in enumerate(rows) if number % 7]
    for row in asked:
        mail = delivery(row, date=row.date or "2026-11-25T01:02:03.000000Z")
        assert said(run, mail) == said(alone, mail)
    assert run._waiting == sum(len(one.data) for one in run._ready.values()) <= bytes_
    assert (len(made) == len(set(made))) is (bytes_ > 2_000)
    other = delivery(
        next(row for row in rows if row.date and row.content_kind == "template"), date="2026-12-01T00:00:00Z"
    )
    assert said(run, other) == said(alone, other)


def test_a_plan_without_a_catalog_or_content_is_refused_mail_by_mail(
    home: Home, ledger: Ledger, tmp_path: Path
) -> None:
    rows = plan_rows(home, None)
    other = Home(tmp_path / "other").create()
    other.derived.mkdir(exist_ok=True)
    (other.derived / f"plan-{PLAN}.parquet").write_bytes((home.derived / f"plan-{PLAN}.parquet").read_bytes())
    run = Mails(other, ledger, None)
    assert {said(run, delivery(row)) for row in rows} == {"the content is not what was planned"}
