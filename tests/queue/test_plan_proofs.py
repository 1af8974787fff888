"""`plan make` tells what will go wrong with signatures, identities and volume, and of unfit mail, before a run."""

from __future__ import annotations

import hashlib
import sqlite3
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import duckdb
import pytest

from resend.config import load
from resend.flows import proofs
from resend.flows.mails import Mails as Sent
from resend.policy.content import ContentError
from resend.policy.dkim import Signer, Standing, inspect
from resend.stores.home import Home
from resend.stores.incidents import Mails
from resend.stores.keyfile import load_signer
from resend.stores.ledger import open_ledger
from resend.stores.plans import PlanFile
from tests.cli.conftest import Cli, cli, place
from tests.ledger.world import World
from tests.queue.test_queue_and_plan import NOW, TOML, held, states, write
from tests.support.keys import rsa_key

__all__ = ["cli", "place"]
MESSAGE = "<release.R1.r1@mail.example.jp>"


def ready(cli: Cli, body: bytes = b"", toml: str = "") -> None:
    write(cli)
    Path("resend.toml").write_text(TOML + toml)
    if body:
        Path("content/kept").mkdir()
        Path(f"content/kept/{hashlib.sha256(MESSAGE.encode()).hexdigest()}.eml").write_bytes(body)
        assert cli("catalog", "load", "--content", "content").exit == 0
    assert held(cli, NOW) == 0


def original(*, age: timedelta = timedelta(hours=2)) -> bytes:
    pytest.importorskip("dkim")
    text = (
        f"From: pr@example.jp\r\nTo: u1@corp.jp\r\nSubject: News\r\nMessage-ID: {MESSAGE}\r\n"
        f"Date: {NOW - age:%a, %d %b %Y %H:%M:%S +0000}\r\n\r\nhello\r\n"
    )
    signer = Signer(domain="example.jp", selector="s1", key=rsa_key()[0])
    return signer.sign(text.encode(), int((NOW - age).timestamp()))


def said(cli: Cli, *argv: str) -> str:
    made = cli("plan", "make", "busy", "--json", *argv)
    assert made.exit == 0, made.err
    return "\n".join(row["text"] for row in made.of("warning"))


def test_a_signature_that_holds_is_kept_and_a_broken_one_is_asked_about(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = {"s1._domainkey.example.jp": rsa_key()[1]}
    monkeypatch.setattr(proofs, "dns_txt", lambda name, _: answers.get(name, ""))
    ready(cli, original())
    assert "DKIM" not in said(cli)
    answers.clear()
    refused = cli("plan", "make", "busy")
    assert refused.exit == 2
    assert all(word in refused.one_error() for word in ("R1", "not in DNS", "--identity new"))
    said(cli, "--identity", "new")


def test_a_bcc_of_kept_mail_is_warned_of_and_a_field_twice_is_trouble(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proofs, "dns_txt", lambda name, _: rsa_key()[1])
    ready(cli, original().replace(b"Subject:", b"bcc: archive@example.jp\r\nSubject:"))
    assert "release R1: Bcc stands in the header" in said(cli, "--identity", "new")
    Path("content/R1.eml.j2").write_text("To: {{ rcpt }}\nTo: {{ sender }}\n\nhello\n")
    assert cli("catalog", "load", "--content", "content").exit == 0
    made = cli("plan", "make", "busy", "--json", "--identity", "new")
    assert [(row["count"], "To stands twice" in row["what"]) for row in made.of("trouble")] == [(1, True)]


def test_kept_mail_leaves_under_a_new_identity(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its bytes are found by the old one."""
    monkeypatch.setattr(proofs, "dns_txt", lambda name, _: rsa_key()[1])
    ready(cli, original())
    plan = cli("plan", "make", "busy", "--json", "--identity", "new").of("plan")[0]["id"]
    home = Home(Path("home").absolute())
    with PlanFile(home, plan) as frozen:
        row = next(row for row in frozen.rows() if row.content_kind == "kept")
    mail = SimpleNamespace(key=row.key, plan_id=plan, batch_id=row.batch_id, date="")
    with open_ledger("", home) as ledger:
        wire, _ = Sent(home, ledger)(mail)  # type: ignore[arg-type]
    assert f"<resend.{row.key}@example.jp>".encode() in wire and wire.endswith(b"\r\n\r\nhello\r\n")
    assert MESSAGE.encode() not in wire
    cli("run", plan, "--confirm", "2", "--provider-not-recovered", "test", "--evidence-age", "9d")
    assert len(states()) == 2 and "quarantined" not in states()
    with sqlite3.connect("home/ledger.db") as ledger_file:
        known = ledger_file.execute("SELECT key, message_id FROM delivery").fetchall()
    assert known and all(message_id == f"<resend.{key}@example.jp>" for key, message_id in known)
    assert cli("check").exit == 0


def test_dns_that_is_silent_and_an_old_date_are_warned_of(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(name: str, dns: object) -> str:
        raise OSError("timed out")

    monkeypatch.setattr(proofs, "dns_txt", silent)
    ready(cli, original(age=timedelta(hours=80)))
    text = said(cli)
    assert "not verified" in text and "72 h" in text
    assert "72 h" not in said(cli, "--identity", "new")


def test_without_dkimpy_it_says_that_nothing_was_verified(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    ready(cli, original())
    monkeypatch.setattr("resend.policy.dkim.available", lambda: False)
    assert "not verified: the extra `dkim`" in said(cli)


def test_a_key_that_others_may_read_is_refused_and_ours_signs_each_try_alike(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("dkim")
    monkeypatch.setattr(proofs, "dns_txt", lambda name, _: rsa_key()[1])
    ready(cli, toml='[dkim]\nselector = "s1"\ndomain = "example.jp"\nkey_file = "key.pem"\n')
    Path("key.pem").write_bytes(rsa_key()[0])
    Path("key.pem").chmod(0o644)
    assert "chmod 600" in cli("plan", "make", "busy").one_error()
    Path("key.pem").chmod(0o600)
    assert said(cli) == ""
    config = load(directory=Path.cwd()).config
    home, signer = Home(Path("home").absolute()), load_signer(config)
    plan = cli("plan", "list", "--json").of("plan")[0]["id"]
    with PlanFile(home, plan) as frozen:
        row = next(frozen.rows())
    mail = SimpleNamespace(key=row.key, plan_id=plan, batch_id=row.batch_id, date="")
    with open_ledger("", home) as ledger:
        wire, _ = Sent(home, ledger, signer)(mail)  # type: ignore[arg-type]
        assert Sent(home, ledger, signer)(mail)[0] == wire  # type: ignore[arg-type]
        with pytest.raises(ContentError, match=r"s1\._domainkey\.example\.jp"):
            Sent(home, ledger)(mail)  # type: ignore[arg-type]
    found = inspect(wire, done_at=NOW, lookup=lambda name: rsa_key()[1])
    assert found.standing is Standing.GOOD


def test_a_changed_line_for_late_mail_makes_a_plan_stale(cli: Cli) -> None:
    late = '[message]\ndelayed_after = "1h"\ndelayed_line = {ja = "遅延", en = "late"}\n'
    ready(cli, toml=late)
    plan = cli("plan", "make", "busy", "--json").of("plan")[0]["id"]
    assert cli("plan", "diff", plan).exit == 0
    Path("resend.toml").write_text(TOML + late.replace("遅延", "おくれ"))
    assert cli("plan", "diff", plan).exit == 4


def test_a_template_that_fails_is_said_before_the_run(cli: Cli) -> None:
    write(cli)
    Path("content/R1.eml.j2").write_text("Subject: {{ title }} {{ 1 / 0 }}\n\nx\n")
    assert cli("catalog", "load", "--content", "content").exit == 0
    assert held(cli, NOW) == 0
    made = cli("plan", "make", "busy", "--json")
    assert sum(row["count"] for row in made.of("trouble")) == 2


def test_content_that_went_missing_ends_in_no_mail(cli: Cli) -> None:
    ready(cli)
    plan = cli("plan", "make", "busy", "--json").of("plan")[0]["id"]
    Path("home/content/R1.eml.j2").unlink()
    refused = cli("run", plan, "--confirm", "2", "--provider-not-recovered", "test", "--evidence-age", "9d")
    assert refused.exit in (1, 2, 4), refused.out + refused.err
    again = cli("plan", "make", "busy")
    assert again.exit == 2 and "nothing is to be resent" in again.one_error()


def test_a_plan_whose_file_was_altered_is_not_started(cli: Cli) -> None:
    ready(cli)
    plan = cli("plan", "make", "busy", "--json").of("plan")[0]["id"]
    path = Path(f"home/derived/plan-{plan}.parquet")
    argv = ("run", plan, "--confirm", "2", "--provider-not-recovered", "test", "--evidence-age", "9d")
    with duckdb.connect() as con:
        con.execute(f"CREATE TABLE plan AS SELECT * FROM read_parquet('{path}')")
        for query in (
            "SELECT * FROM plan LIMIT 1",
            "SELECT * FROM plan UNION ALL SELECT * FROM plan",
            "SELECT * REPLACE ('evil@corp.jp' AS rcpt) FROM plan",
            "SELECT * REPLACE (7 AS generation) FROM plan",
            "SELECT * REPLACE (batch_seq + 1 AS batch_seq) FROM plan",
            "SELECT * REPLACE (NULL AS provider) FROM plan",
        ):
            con.execute(f"COPY ({query}) TO '{path}' (FORMAT parquet)")
            refused = cli(*argv)
            assert refused.exit == 4 and "not what was planned" in refused.one_error(), query
            assert not states(), query


def test_hostile_addresses_and_titles_and_a_release_without_sender_stay_out(cli: Cli) -> None:
    hostile = ["a,b@corp.jp", 'a""b@corp.jp', "a\rb@corp.jp", "a\nb@corp.jp", "a\0b@corp.jp"]
    rows = "".join(f'r{number},"{address}"\n' for number, address in enumerate(hostile))
    Path("recipients.csv").write_bytes(f"id,address\n{rows}fine,u2@corp.jp\n".encode())
    releases = "R1,C1,News,\nR2,C1,A\u2028B,pr@example.jp\nR3,C1,C,pr@example.jp\n"
    Path("releases.csv").write_text(f"id,customer,title,sender\n{releases}", encoding="utf-8")
    loaded = cli("catalog", "load", "--recipients", "recipients.csv", "--releases", "releases.csv", "--json")
    assert loaded.exit == 3 and loaded.rows[-1]["loaded"]["recipients"] == 1, loaded.out
    assert loaded.rows[-1]["loaded"]["releases"] in (1, 2)  # a title with U+2028 may load: rendering refuses it
    assert "recipients.csv:2" in loaded.err and "releases.csv:2" in loaded.err


def test_gmail_asks_for_one_click(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = '[providers.google]\nmx = ["mx.corp.jp"]\n'
    monkeypatch.setattr("tests.queue.test_queue_and_plan.TOML", TOML + ours)  # an incident freezes its providers
    ready(cli, toml=ours)
    assert "one-click" in said(cli)
    Path("resend.toml").write_text(TOML + ours + '[message]\nlist_unsubscribe = "https://example.jp/u/{recipient}"\n')
    assert said(cli) == ""
    Path("resend.toml").write_text(TOML + '[message]\nlist_unsubscribe = "http://example.jp/u/{recipient}"\n')
    assert "message.list_unsubscribe" in cli("plan", "make", "busy").one_error()


def test_gmail_counts_original_and_resend_of_a_day() -> None:
    (row,) = World(None, count=1).rows()  # type: ignore[arg-type]
    hour = int(NOW.timestamp()) * 1_000_000 - 3_600_000_000
    seen = [
        Mails(dimension="provider", value="google", mails=2_500),
        Mails(dimension="hour", value=str(hour), mails=9_000),
        Mails(dimension="hour", value=str(hour - 48 * 3_600_000_000), mails=1_000),
    ]
    mails = [row._replace(provider="google")] * 3_000
    (text,) = proofs.crowded_gmail(mails, seen, NOW)
    assert "2,250" in text and "3,000" in text
    assert not list(proofs.crowded_gmail(mails[:100], seen, NOW))
