"""SPF's small print (RFC 7208 4.6, 5, 7, 12): what a term may be, names that lead back, and who the sender is."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from resend.policy.spf import Result, check
from tests.policy.test_spf import IP, IP6, dns, spf

BACK = {
    ("7.2.0.192.in-addr.arpa", "PTR"): ["other.example.net", "liar.example.jp", "Mail.Example.JP."],
    ("mail.example.jp", "A"): [IP],
    ("other.example.net", "A"): [IP],
    ("liar.example.jp", "A"): ["192.0.2.99"],
}


def judged(record: str, zone: dict[tuple[str, str], Sequence[str]], *, sender: str = "b@example.jp") -> Result:
    zone = {("example.jp", "TXT"): [record]} | zone
    return check(IP, "example.jp", sender=sender, helo="mail.example.jp", lookup=dns(zone)).result


@pytest.mark.parametrize(
    ("record", "address", "result"),
    [
        ("v=spf1 ip4:192.0.2.99/24 -all", IP, Result.PASS),  # bits behind the length do not matter
        ("v=spf1 ip6:2001:db8::99/64 -all", IP6, Result.PASS),
        ("v=spf1 ip4:0.0.0.0/0 -all", IP, Result.PASS),
        ("v=spf1 ip4:192.0.2.7/32 -all", IP, Result.PASS),
        ("v=spf1 ip4:192.0.2.7 -all", f"::ffff:{IP}", Result.PASS),
        ("v=spf1 a//64 -all", IP6, Result.FAIL),  # the domain has no AAAA
        ("v=spf1 A:mail.example.jp//126 -ALL", "2001:db8::6", Result.PASS),
        ("v=spf1 mx/31 -all", "192.0.2.0", Result.PASS),
        ("v=spf1 ?all", IP, Result.NEUTRAL),
        ("v=spf1  -all  ", IP, Result.FAIL),
        ("V=SPF1 -all", IP, Result.FAIL),
        ("v=spf1 moon=%{s} -all", IP, Result.FAIL),  # a modifier that nobody knows
    ],
)
def test_what_a_term_may_be(record: str, address: str, result: Result) -> None:
    assert spf(record, address) is result


@pytest.mark.parametrize(
    "term",
    [
        "ip4:192.0.2.0/33",
        "ip4:192.0.2.0/",
        "ip4:192.0.2.0/024",
        "ip4:192.0.2",
        "ip4/24",
        "ip4:2001:db8::7",
        "ip6:192.0.2.7",
        "ip6:2001:db8::/129",
        "ip6:fe80::1%eth0",
        "a/33",
        "a//129",
        "a:%{z}.jp",
        "a:",
        "mx:nodots",
        "allow",
        "all:example.jp",
        "ptr:",
        "ptr/24",
        "exists",
        "exists:",
        "include:%{d",
        "redirect=",
        "redirect=nodots",
        "redirect=a.jp redirect=b.jp",
        "exp=a.jp exp=b.jp",
        "moon=%{z}",
        "moon",
        "ö",
    ],
)
def test_a_record_with_a_term_that_cannot_be_lets_nothing_through(term: str) -> None:
    assert spf(f"v=spf1 ip4:{IP} {term} -all") is Result.PERMERROR


def test_two_records_are_none() -> None:
    zone = {("example.jp", "TXT"): ["v=spf1 +all", "v=spf1 -all"]}
    assert judged("", zone) is Result.PERMERROR


def test_a_redirect_to_nothing_is_a_fault() -> None:
    assert spf("v=spf1 redirect=none.example.net") is Result.PERMERROR
    assert spf("v=spf1 ip4:192.0.2.7 redirect=none.example.net") is Result.PASS


@pytest.mark.parametrize("name", ["localhost", "example..jp", "", f"{'a' * 64}.jp", "a." * 127 + "jp"])
def test_what_is_no_domain_is_not_asked_for(name: str) -> None:
    asked: list[str] = []
    found = check(IP, name, sender="b@example.jp", helo="h.example.jp", lookup=dns({}, asked))
    assert (found.result, asked) == (Result.NONE, []) and "no domain name" in found.why


def test_the_longest_names_are_asked_for() -> None:
    for name in (f"{'a' * 63}.jp", "a." * 125 + "jp", "a." * 125 + "jp."):
        asked: list[str] = []
        check(IP, name, sender="b@example.jp", helo="h.example.jp", lookup=dns({}, asked))
        assert len(asked) == 1


@pytest.mark.parametrize(
    ("record", "result"),
    [
        ("v=spf1 ptr -all", Result.PASS),
        ("v=spf1 ptr:example.net -all", Result.PASS),
        ("v=spf1 ptr:mail.example.jp -all", Result.PASS),
        ("v=spf1 ptr:liar.example.jp -all", Result.FAIL),  # its name does not lead back
        ("v=spf1 ptr:ple.jp -all", Result.FAIL),  # a name ends with it, and lies not below it
        ("v=spf1 exists:%{p}.ok.example.org -all", Result.PASS),  # the one below the domain is the best
    ],
)
def test_names_of_the_address_that_lead_back(record: str, result: Result) -> None:
    zone = BACK | {("mail.example.jp.ok.example.org", "A"): ["127.0.0.2"]}
    assert judged(record, zone) is result


def test_the_name_of_an_address_without_one_below_the_domain_and_without_any() -> None:
    other = {**BACK, ("7.2.0.192.in-addr.arpa", "PTR"): ["other.example.net"]}
    record = "v=spf1 exists:%{p}.ok.example.org -all"
    assert judged(record, other | {("other.example.net.ok.example.org", "A"): ["127.0.0.2"]}) is Result.PASS
    assert judged(record, {("unknown.ok.example.org", "A"): ["127.0.0.2"]}) is Result.PASS
    silent = {("7.2.0.192.in-addr.arpa", "PTR"): ["SILENT"], ("unknown.ok.example.org", "A"): ["127.0.0.2"]}
    assert judged(record, silent) is Result.PASS, "a name server that is silent gives no name"


@pytest.mark.parametrize(
    ("sender", "name"),
    [
        ("news@mail.example.jp", "news.mail.example.jp"),
        ("", "postmaster.example.jp"),
        ("mail.example.jp", "postmaster.mail.example.jp"),
        ("@mail.example.jp", "postmaster.mail.example.jp"),
    ],
)
def test_a_sender_without_a_local_part_is_the_postmaster(sender: str, name: str) -> None:
    zone = {(f"{name}.ok.example.org", "A"): ["127.0.0.2"]}
    assert judged("v=spf1 exists:%{l}.%{o}.ok.example.org -all", zone, sender=sender) is Result.PASS


def test_ten_mail_exchangers_are_looked_at_and_eleven_are_too_many() -> None:
    for count, result in ((10, Result.PASS), (11, Result.PERMERROR)):
        names = [f"mx{n}.example.jp" for n in range(count)]
        zone = {("example.jp", "MX"): names, ("mx9.example.jp", "A"): [IP]}
        assert judged("v=spf1 mx -all", zone) is result
