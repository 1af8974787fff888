"""MX hosts of domains: asked of a real name server on loopback, kept with their date, never waited for too long."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resend.config import DnsConfig
from resend.stores import mx, mxdns
from resend.stores.home import Home
from resend.stores.mx import Answer, Word
from tests.support.nameserver import BROKEN, GARBAGE, SILENT, nameserver

NOW = datetime(2026, 11, 24, 8, 0, tzinfo=UTC)
ZONE = {
    "corp.test": ["20 backup.example.net.", "10 Corp-Test.Mail.Protection.Outlook.COM."],
    "nomail.test": ["0 ."],
    "old.test": [],
    "odd.test": ["5 .", "10 127.0.0.1.", r"15 a\010b.example.jp.", "20 localhost.", "30 mx.example.jp."],
    "many.test": [f"{n % 7} mx{n}.{'a' * 40}.example.jp." for n in range(300)],
    "broken.test": BROKEN,
    "garbage.test": GARBAGE,
    "silent.test": SILENT,
}


def config(address: str, **keys: object) -> DnsConfig:
    return DnsConfig.model_validate({"nameservers": [address], "timeout": "1s", **keys})


def test_every_kind_of_answer(home: Home) -> None:
    with nameserver(ZONE) as server:
        domains = [*ZONE, "absent.test", "例え.jp", "192.0.2.1", "localhost", "x.invalid", "", "a b.test"]
        found = mx.find(home, config(server.address), domains, now=NOW)
    assert found["corp.test"] == Answer(
        Word.HOSTS, ("corp-test.mail.protection.outlook.com", "backup.example.net"), NOW
    )
    assert found["odd.test"].hosts == ("mx.example.jp",)
    assert len(found["many.test"].hosts) == 10 and found["many.test"].hosts[0].startswith("mx0.")
    assert {domain: answer.word for domain, answer in found.items() if not answer.hosts} == {
        "nomail.test": Word.NULL,
        "old.test": Word.NONE,
        "absent.test": Word.GONE,
        "broken.test": Word.SILENT,
        "garbage.test": Word.SILENT,
        "silent.test": Word.SILENT,
    }
    assert set(server.asked) == {*ZONE, "absent.test"}


def test_answers_are_kept_with_their_date_until_they_are_too_old(home: Home) -> None:
    with nameserver(ZONE) as server:
        ask = config(server.address)
        mx.find(home, ask, ["corp.test", "absent.test", "broken.test"], now=NOW)
        server.asked.clear()
        later = NOW + timedelta(minutes=20)
        assert mx.find(home, ask, ["corp.test", "absent.test", "broken.test"], now=later)["corp.test"].at == NOW
        assert set(server.asked) == {"broken.test"}
        mx.find(home, ask, ["corp.test", "absent.test"], now=NOW + timedelta(days=2))
        assert set(server.asked) == {"broken.test", "absent.test"}
        assert mx.find(home, ask, ["corp.test"], now=NOW + timedelta(days=8))["corp.test"].at > NOW
        assert mx.find(home, ask, ["corp.test"], now=NOW, again=True)["corp.test"].at == NOW
    assert (home.derived / "mx.json").stat().st_mode & 0o077 == 0
    off = DnsConfig(enabled=False)
    assert set(mx.find(home, off, ["corp.test", "new.test"], now=NOW)) == {"corp.test"}


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"v":1,"answers":{"a.jp":["hosts"]}}', '{"v":1,"answers":7}', '{"v":9}']
)
def test_a_damaged_file_is_no_file(home: Home, text: str) -> None:
    (home.derived / "mx.json").write_text(text)
    with nameserver(ZONE) as server:
        assert mx.find(home, config(server.address), ["corp.test"], now=NOW)["corp.test"].hosts
    assert list(json.loads((home.derived / "mx.json").read_text())["answers"]) == ["corp.test"]


def test_a_dead_name_server_is_given_up_and_not_waited_for_twice(home: Home) -> None:
    domains = [f"d{number}.test" for number in range(3_000)]
    with nameserver(dict.fromkeys(domains, SILENT)) as server:
        started = time.monotonic()
        found = mx.find(home, config(server.address, timeout="500ms"), domains, now=NOW)
        assert time.monotonic() - started < 5
        assert len(server.asked) < 100 and {found[domain].word for domain in domains} == {Word.SILENT}
        asked = server.asked.total()
        mx.find(home, config(server.address), domains, now=NOW)
        assert server.asked.total() == asked
    assert mx.find(home, DnsConfig(), ["corp.test"], now=NOW)["corp.test"].word is Word.SILENT  # nobody to ask


def test_the_budget_ends_the_asking_and_the_rest_is_asked_next_time(home: Home) -> None:
    slow = [f"slow{number}.test" for number in range(500)]
    with nameserver({"corp.test": ZONE["corp.test"], **dict.fromkeys(slow, SILENT)}) as server:
        started = time.monotonic()
        ask = config(server.address, timeout="1s", budget="2s")
        found = mx.find(home, ask, ["corp.test", *slow], now=NOW)
        assert time.monotonic() - started < 6
        assert found["corp.test"].hosts and 60 <= len(found) < 200
        more = mx.find(home, ask, ["corp.test", *slow], now=NOW)
        assert len(more) > len(found)


def test_many_domains_at_once(home: Home) -> None:
    zone = {f"d{number}.test": [f"10 mx{number}.example.jp."] for number in range(300)}
    seen: list[tuple[int, int]] = []
    with nameserver(zone) as server:
        found = mx.find(
            home, config(server.address, timeout="10s"), zone, now=NOW, progress=lambda *at: seen.append(at)
        )
    assert {domain: answer.hosts for domain, answer in found.items()} == {
        domain: (f"mx{domain[1:-5]}.example.jp",) for domain in zone
    }
    assert seen == [(number, 300) for number in range(1, 301)]


@given(st.lists(st.tuples(st.integers(0, 65535), st.text(max_size=300)), max_size=30))
def test_no_answer_is_kept_that_is_no_host(records: list[tuple[int, str]]) -> None:
    word, hosts = mxdns.read(records)
    assert bool(hosts) == (word is Word.HOSTS) and len(hosts) <= 10
    assert all(mx.is_host(host) and host in {name for _, name in records} for host in hosts)


@given(st.text(max_size=300))
def test_only_names_are_asked_for(domain: str) -> None:
    if mx.in_dns(domain):
        assert domain.isascii() and len(domain) <= 253 and domain == domain.lower() and not domain[-1].isspace()
        assert all(0 < len(label) <= 63 for label in domain.split("."))
