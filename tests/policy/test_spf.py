"""SPF as a receiver finds it: what a record lets through, its limits, and that no record is too odd to be judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resend.policy.spf import Lookup, Result, check

IP, IP6 = "192.0.2.7", "2001:db8::7"


def dns(zone: Mapping[tuple[str, str], Sequence[str]], asked: list[str] | None = None) -> Lookup:
    def lookup(name: str, kind: str) -> Sequence[str]:
        if asked is not None:
            asked.append(f"{name} {kind}")
        found = zone.get((name, kind), ())
        if "SILENT" in found:
            raise OSError("timed out")
        return found

    return lookup


def spf(record: str, address: str = IP, **more: Sequence[str]) -> Result:
    """`more`: TXT records of labels below example.net."""
    zone: dict[tuple[str, str], Sequence[str]] = {
        ("example.jp", "TXT"): ["google-verification=x", record],
        ("mail.example.jp", "A"): ["192.0.2.7"],
        ("mail.example.jp", "AAAA"): ["2001:db8::7"],
        ("example.jp", "A"): ["192.0.2.80"],
        ("example.jp", "MX"): ["mx1.example.jp", "mail.example.jp"],
        ("mx1.example.jp", "A"): ["192.0.2.1"],
        ("7.2.0.192.ok.example.net", "A"): ["127.0.0.2"],
        **{(f"{name}.example.net", "TXT"): texts for name, texts in more.items()},
    }
    return check(address, "example.jp", sender="bounce@example.jp", helo="mail.example.jp", lookup=dns(zone)).result


@pytest.mark.parametrize(
    ("record", "address", "result"),
    [
        ("v=spf1 ip4:192.0.2.0/28 -all", IP, Result.PASS),
        ("v=spf1 ip4:192.0.2.8/29 -all", IP, Result.FAIL),
        ("v=spf1 ip6:2001:db8::/32 ~all", IP6, Result.PASS),
        ("v=spf1 ip6:2001:db8::/32 ~all", IP, Result.SOFTFAIL),
        ("v=spf1 a -all", IP, Result.FAIL),
        ("v=spf1 a/24//64 -all", IP, Result.PASS),
        ("v=spf1 a:mail.example.jp -all", IP6, Result.PASS),
        ("v=spf1 mx -all", IP, Result.PASS),
        ("v=spf1 exists:%{ir}.ok.example.net -all", IP, Result.PASS),
        ("v=spf1 mx:nowhere.example.net", IP, Result.NEUTRAL),
        ("v=spf10 +all", IP, Result.NONE),
        ("v=spf1 ipv4:192.0.2.7 -all", IP, Result.PERMERROR),
        ("v=spf1 ip4:192.0.2.7 include:-all", IP, Result.PERMERROR),  # also behind what matches
    ],
)
def test_a_record_lets_through_what_it_names(record: str, address: str, result: Result) -> None:
    assert spf(record, address) is result


def test_an_include_only_lets_through_and_a_redirect_takes_its_place() -> None:
    assert spf("v=spf1 include:a.example.net ~all", a=["v=spf1 -all"]) is Result.SOFTFAIL
    assert spf("v=spf1 include:a.example.net -all", a=["v=spf1 ip4:192.0.2.7 -all"]) is Result.PASS
    assert spf("v=spf1 include:none.example.net -all") is Result.PERMERROR
    assert spf("v=spf1 redirect=a.example.net", a=["v=spf1 -all"]) is Result.FAIL
    assert spf("v=spf1 include:a.example.net -all", a=["SILENT"]) is Result.TEMPERROR


def test_ten_terms_that_ask_and_two_that_lead_nowhere_are_the_limit() -> None:
    ten = " ".join(f"include:i{n}.example.net" for n in range(10))
    empty = {f"i{n}": ["v=spf1 ?all"] for n in range(11)}
    assert spf(f"v=spf1 {ten} ip4:{IP} -all", **empty) is Result.PASS
    assert spf(f"v=spf1 {ten} include:i10.example.net ip4:{IP} -all", **empty) is Result.PERMERROR
    assert spf("v=spf1 include:a.example.net", a=["v=spf1 include:a.example.net"]) is Result.PERMERROR
    assert spf(f"v=spf1 a:x.example.net a:y.example.net ip4:{IP} -all") is Result.PASS
    assert spf(f"v=spf1 a:x.example.net a:y.example.net a:z.example.net ip4:{IP} -all") is Result.PERMERROR


WORDS = st.sampled_from(
    [
        "v=spf1",
        "a",
        "mx",
        "ptr",
        "-all",
        "include:",
        "exists:%{l1r-}",
        "%{d}.jp",
        "redirect=",
        "/24",
        "//64",
        "ip4:",
        IP,
    ]
)


@given(st.lists(WORDS | st.text(max_size=12), max_size=12).map("".join) | st.lists(WORDS, max_size=12).map(" ".join))
def test_no_record_is_too_odd(record: str) -> None:
    asked: list[str] = []
    zone = {("example.jp", "TXT"): [f"v=spf1 {record}"]}
    found = check(IP, "example.jp", sender="a@example.jp", helo="h.example.jp", lookup=dns(zone, asked))
    assert found.result in Result and len(asked) <= 15 and found.why
