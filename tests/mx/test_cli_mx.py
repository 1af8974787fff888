"""The DNS names receivers where the log does not: triage, incident, preview and explain say how many by which way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from resend.lab.pools import config as lab_config
from tests.cli.conftest import Cli, cli, place
from tests.support.nameserver import SILENT, NameServer, nameserver

__all__ = ["cli", "place"]
LOST = "Host or domain name not found. Name service error for name=corp.test type=MX: Host not found, try again"
BUSY = "host mx[192.0.2.1] said: 451 4.7.500 Server busy. Please try again later from [192.0.2.8]"
OFFICE = "x.mail.protection.outlook.com[192.0.2.1]:25"
MAILS = (  # domain, relay, reply, mails
    ("named.test", OFFICE, BUSY, 5),
    ("corp.test", "none", LOST, 3),
    ("silent.test", "none", LOST, 2),
    ("absent.test", "none", LOST, 1),
)


@pytest.fixture
def server() -> Iterator[NameServer]:
    zone = {"corp.test": ["10 corp-test.mail.protection.outlook.com."], "silent.test": SILENT}
    with nameserver(zone | {"named.test": ["10 aspmx.l.google.com."]}) as found:
        yield found


@pytest.fixture
def asks(place: Path, server: NameServer, monkeypatch: pytest.MonkeyPatch) -> NameServer:
    """A log of mail that failed, and a config that asks the server."""
    monkeypatch.delenv("BULK_RESEND_DNS__ENABLED", raising=False)
    (place / "resend.toml").write_text(f'[dns]\nnameservers = ["{server.address}"]\ntimeout = "2s"\n')
    lines = []
    for domain, relay, reply, mails in MAILS:
        for number in range(mails):
            qid, at = f"{len(lines):08X}", f"2026-11-20T08:{len(lines) % 60:02d}:00+00:00 mta1 postfix"
            lines += [
                f"{at}/cleanup[1]: {qid}: message-id=<{qid}@example.jp>",
                f"{at}/qmgr[1]: {qid}: from=<b@example.jp>, size=900, nrcpt=1 (queue active)",
                f"{at}/smtp[1]: {qid}: to=<u{number}@{domain}>, relay={relay}, delay=1, delays=0/0/1/0, dsn=4.4.1,"
                f" status=deferred ({reply})",
                f"{at}/qmgr[1]: {qid}: from=<b@example.jp>, status=expired, returned to sender",
            ]
    (place / "mail.log").write_text("\n".join(lines) + "\n")
    return server


def test_the_preview_says_how_many_by_which_way(cli: Cli, place: Path, asks: NameServer) -> None:
    assert cli("collect", "mail.log").exit == 0
    assert cli("incident", "open", "all").exit == 0
    assert set(asks.asked) == {"corp.test", "silent.test", "absent.test"}
    asks.asked.clear()
    found = cli("preview", "all", "--json").summary
    assert found["provider_ways"] == {"relay": 5, "mx": 3, "domain": 3} and found["mx_silent"] == 2
    shown = " ".join(cli("preview", "all").out.split())
    assert "known 5 by the relay in the log, 3 by MX (asked 20" in shown
    assert "3 by the domain (2 without an answer of the DNS)" in shown
    by_name = {row["value"]: row["failed"] for row in cli("preview", "all", "--json").of("impact")}
    assert (by_name["office365"], by_name["silent.test"], by_name["absent.test"]) == (8, 2, 1)
    told = {row["recipient"].partition("@")[2]: row["provider"] for row in cli("outcomes", "--json").of("outcome")}
    assert told["corp.test"] == "office365" and told["silent.test"] == "silent.test"
    assert cli("incident", "open", "again", "--provider", "office365").exit == 0
    assert not asks.asked  # a preview asks nobody, and answers are kept
    assert cli("preview", "all", "--html", "p.html").exit == 0 and "3 by MX (asked" in Path("p.html").read_text()


def test_triage_names_by_mx_too(cli: Cli, asks: NameServer) -> None:
    rows = [row for row in cli("triage", "mail.log", "--json").of("triage") if row["kind"] == "way"]
    assert {row["way"]: row["mails"] for row in rows} == {"relay": 5, "mx": 3, "domain": 3}
    assert [bool(row["asked"]) for row in rows if row["way"] == "mx"] == [True]
    assert "3 by MX (asked" in cli("triage").out


def test_nobody_is_asked_without_the_dns(cli: Cli, place: Path, asks: NameServer) -> None:
    (place / "resend.toml").write_text(f'[dns]\nenabled = false\nnameservers = ["{asks.address}"]\n')
    assert cli("collect", "mail.log").exit == 0
    assert cli("incident", "open", "all").exit == 0
    found = cli("preview", "all", "--json").summary
    assert found["provider_ways"] == {"domain": 6, "relay": 5} and found["mx_silent"] == 6
    assert "[dns] enabled = false" in cli("providers", "explain", "corp.test").out
    assert not asks.asked
    assert lab_config(
        dict.fromkeys(("office365", "google", "yahoo_jp", "docomo", "au", "softbank"), "127.0.1.1:25")
        | {"other": "127.0.1.9:25"}
    )["dns"] == {"enabled": False}


def test_explain_says_where_the_name_came_from_and_when(cli: Cli, asks: NameServer) -> None:
    assert cli("collect", "mail.log").exit == 0
    (row,) = cli("providers", "explain", "u@Corp.TEST", "--json").of("provider")
    assert (row["provider"], row["way"], row["dns"]) == ("office365", "mx", "hosts") and row["asked"]
    assert "asked now" not in cli("providers", "explain", "corp.test").out and asks.asked["corp.test"] == 1
    assert "asked now" in cli("providers", "explain", "corp.test", "--again").out and asks.asked["corp.test"] == 2
    assert "no such domain" in cli("providers", "explain", "absent.test").out
    assert cli("providers", "explain", "x.mail.protection.outlook.com").exit == 0
    assert set(asks.asked) == {"corp.test", "absent.test"}
