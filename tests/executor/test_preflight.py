"""Before mail leaves from an address of ours: what DNS and the ledger say of it, shown, and what stops a plan."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from resend.errors import Exit
from resend.lab.receipts import read_receipts
from tests.cli.conftest import Cli, cli, place
from tests.cli.test_cli_standing import POLICY, ready
from tests.executor.test_egress import incident, receiver, words
from tests.support.nameserver import NameServer, nameserver

__all__ = ["cli", "place", "ready"]
MAILS = 12
REVERSE = "7.2.0.192.in-addr.arpa"
GOOD = {
    f"{REVERSE} PTR": ["mail1.example.jp."],
    "mail1.example.jp A": ["192.0.2.7"],
    "example.jp TXT": ['"v=spf1 include:_spf.example.jp -all"'],
    "_spf.example.jp TXT": ['"v=spf1 ip4:192.0.2.0/28 -all"'],
}


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BULK_RESEND_DNS__ENABLED", "true")  # the name server of each test is asked, no other


def tree(address: str, names: NameServer) -> dict[str, Any]:
    egress = {"source": "127.0.2.7", "public": "192.0.2.7", "ehlo": "mail1.example.jp"}
    dns = {"nameservers": [names.address], "timeout": "300ms", "budget": "2s"}
    return {"mx_map": {"*": address}, "egress": {"m": egress}, "dns": dns}


def standings(cli: Cli, *more: str) -> tuple[str, dict[str, str], str]:
    """The plan, what was found by check, and all of it in words."""
    made = cli("plan", "make", "busy", "--json", *more)
    assert made.exit == 0, made.err
    rows = made.of("preflight")
    assert {row["egress"] for row in rows} == {"direct:m"}
    return made.summary["id"], {row["check"]: row["standing"] for row in rows}, "\n".join(row["text"] for row in rows)


def test_an_address_in_order_is_new_at_first_and_has_a_history_then(cli: Cli) -> None:
    with nameserver(GOOD) as names, receiver() as address:
        incident(cli, tree(address, names), MAILS)
        plan, found, text = standings(cli)
        assert found == {"ptr": "ok", "ehlo": "ok", "spf": "ok", "history": "warns"}
        assert "office365" in text and "begins at 40/s" in text
        done = cli(*words(plan, MAILS))
        assert done.exit == Exit.DONE, done.err
        assert "this address is new" in done.err and "refuses" not in done.err
        plan, found, text = standings(cli, "--again", "--reason", "a test", "--rate", "office365=30/s")
        assert found["history"] == "ok" and f"to office365: {MAILS} mails on 1 day of ours" in text
        assert cli(*words(plan, MAILS)).exit == Exit.DONE
        (row,) = cli("status", "--json").of("provider")
        assert (row["egress"], row["ceiling"], row["rate"]) == ("direct:m", 30.0, 30.0)
    assert {receipt.peer.rpartition(":")[0] for receipt in read_receipts(Path("receipts"))} == {"127.0.2.7"}


@pytest.mark.parametrize(
    ("zone", "check", "word"),
    [
        ({f"{REVERSE} PTR": []}, "ptr", "has no name"),
        ({f"{REVERSE} PTR": ["mail2.example.jp."], "mail2.example.jp A": ["192.0.2.9"]}, "ptr", "does not lead back"),
        ({"_spf.example.jp TXT": ['"v=spf1 ip4:192.0.2.8/29 -all"']}, "spf", "fail (-all of example.jp)"),
    ],
)
def test_what_receivers_refuse_stops_the_start_unless_a_person_says_why(
    cli: Cli, zone: dict[str, list[str]], check: str, word: str
) -> None:
    with nameserver(GOOD | zone) as names, receiver() as address:
        incident(cli, tree(address, names), MAILS)
        plan, found, text = standings(cli)
        assert found[check] == "fails" and word in text
        refused = cli(*words(plan, MAILS))
        assert refused.exit == Exit.USAGE and "--egress-not-ready" in refused.rows[-1]["next"]
        assert word in refused.rows[-1]["what"] and not list(read_receipts(Path("receipts")))
        done = cli(*words(plan, MAILS), "--egress-not-ready", "the record is on its way")
        assert done.exit == Exit.DONE, done.err
        said = [row for row in cli("status", "--json").of("decision") if row["what"] == "egress_not_ready"]
        assert [row["reason"] for row in said] == ["the record is on its way"] and word in said[0]["value"]


def test_what_its_mail_host_delivered_by_the_log_is_its_history(cli: Cli) -> None:
    with nameserver(GOOD) as names, receiver() as address:
        incident(cli, tree(address, names), MAILS)
        now = datetime.now(UTC)
        lines = []
        for hours in (2, 3, 30):
            at = (now - timedelta(hours=hours)).isoformat(timespec="seconds")
            lines.append(
                f"{at} mail1 postfix/smtp[4]: 4C{hours:08X}: to=<x@corp.example>,"
                " relay=corp.mail.protection.outlook.com[52.1.1.1]:25, delay=1, delays=1/0/0/0, dsn=2.0.0,"
                " status=sent (250 2.6.0 Queued mail for delivery)"
            )
        Path("mail1.log").write_text("\n".join(lines) + "\n")
        assert cli("collect", "mail1.log").exit == 0
        _, found, text = standings(cli)
        days = len({(now - timedelta(hours=hours)).date() for hours in (2, 3, 30)})
        assert found["history"] == "ok" and f"3 mails on {days} days of its mail host, by the log" in text


def test_the_standing_policy_leaves_it_to_a_person(cli: Cli, ready: Callable[[str], None]) -> None:
    with nameserver(GOOD | {f"{REVERSE} PTR": []}) as names:
        egress = '[egress.m]\nsource = "127.0.2.7"\npublic = "192.0.2.7"\nehlo = "mail1.example.jp"\n'
        ready(f'{POLICY}{egress}[dns]\nnameservers = ["{names.address}"]\n')
        done = cli("catch-up", "--json")
    (row,) = done.of("standing")
    assert done.exit == Exit.USAGE and "has no name" in row["passed_over"] and not row["plan"]
    assert cli("plan", "list", "--json").of("plan") == []


@pytest.mark.parametrize("how", ["silent", "broken", "garbage"])
def test_what_dns_does_not_tell_is_said_and_stops_nothing(cli: Cli, how: str) -> None:
    zone = dict.fromkeys((REVERSE, "mail1.example.jp", "example.jp"), how)
    with nameserver(zone) as names, receiver() as address:
        incident(cli, tree(address, names), MAILS)
        plan, found, _ = standings(cli)
        assert found == {"ptr": "unknown", "ehlo": "unknown", "spf": "unknown", "history": "warns"}
        assert cli(*words(plan, MAILS)).exit == Exit.DONE
