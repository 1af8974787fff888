"""Bounds of pure rules that other tests only pass by: octets of an address, ends of a window, what makes a wave."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from resend.model import CauseClass
from resend.policy.address import domain_of, fold, rcpt_key, validate_rcpt
from resend.policy.verdict import Burst, waves
from resend.policy.windows import Windows

BERLIN = "Europe/Berlin"


def domain(octets: int) -> str:
    """A mail domain of so many octets."""
    labels, left = [], octets - len(".jp")
    while left > 63:
        labels.append("a" * 62)
        left -= 63
    return ".".join([*labels, "b" * left, "jp"])


@pytest.mark.parametrize(("local", "octets", "fits"), [(64, 189, True), (64, 190, False), (1, 252, True)])
def test_an_address_has_254_octets_at_most(local: int, octets: int, fits: bool) -> None:
    address = f"{'u' * local}@{domain(octets)}"
    assert len(domain(octets)) == octets
    if fits:
        assert validate_rcpt(address) == address
    else:
        with pytest.raises(ValueError, match="longer than 254"):
            validate_rcpt(address)


@pytest.mark.parametrize("local", ["u" * 65, "ü" * 33, "日" * 22])
def test_a_local_part_has_64_octets_at_most_in_any_letters(local: str) -> None:
    for look in (rcpt_key, fold, validate_rcpt, domain_of):
        with pytest.raises(ValueError, match="64 octets"):
            look(f"{local}@example.jp")
    assert rcpt_key(f"{local[:-1]}@example.jp") == f"{local[:-1]}@example.jp"


def test_a_domain_leaves_room_for_a_local_part() -> None:
    assert domain_of(f"u@{domain(252)}") == domain(252)
    with pytest.raises(ValueError, match="not a mail domain"):
        domain_of(f"u@{domain(253)}")


@pytest.mark.parametrize(("shown", "text"), [("x" * 79 + "@", "x" * 79 + "@"), ("x" * 81 + "@", "x" * 80 + "…")])
def test_a_message_shows_the_beginning_of_a_long_text(shown: str, text: str) -> None:
    with pytest.raises(ValueError, match="after the @") as error:
        validate_rcpt(shown)
    assert str(error.value).endswith(f": {text!r}")


def test_a_window_from_a_time_to_the_same_is_a_whole_day() -> None:
    window = Windows.parse("mon 08:00-08:00")
    monday = datetime(2026, 11, 23, 8, tzinfo=UTC)
    assert window.is_open(monday, "UTC") and window.is_open(monday + timedelta(hours=23, minutes=59), "UTC")
    assert not window.is_open(monday + timedelta(days=1), "UTC")
    assert window.opens(monday - timedelta(minutes=1), "UTC") == monday


def test_an_hour_that_comes_twice_opens_the_first_time() -> None:
    window = Windows.parse("sun 02:30-02:40")  # on 25 October 2026 the clock of Berlin goes from 03:00 to 02:00
    first, second = (datetime(2026, 10, 25, hour, 30, tzinfo=UTC) for hour in (0, 1))
    assert window.opens(first - timedelta(days=1), BERLIN) == first
    assert window.opens(first + timedelta(minutes=10), BERLIN) == second
    assert window.opens(second + timedelta(minutes=10), BERLIN) == second + timedelta(days=7)


def test_it_opens_at_a_whole_minute() -> None:
    window = Windows.parse("08:00-21:00")
    at = datetime(2026, 11, 24, 7, 59, 30, 5, tzinfo=UTC)
    assert window.opens(at, "UTC") == datetime(2026, 11, 24, 8, tzinfo=UTC)
    assert window.opens(at + timedelta(seconds=30), "UTC") == at + timedelta(seconds=30), "open already: now"


def burst(wording: str, recipients: int, peak: int, mails: int = 0, peak_us: int = 0) -> Burst:
    return Burst(
        provider="p",
        wording=wording,
        cause=CauseClass.MAILBOX_GONE,
        recipients=recipients,
        peak=peak,
        mails=mails,
        peak_us=peak_us,
    )


def test_wordings_of_few_are_one_and_those_of_many_stand_for_themselves() -> None:
    few = [burst(f"w{n}", 10, 10) for n in range(2)]  # 20 at once, together
    many = burst("many", 400, 9)  # a slow stream of dead addresses
    assert waves([*few, many]) == {("p", "w0"), ("p", "w1")}
    assert waves([many]) == set()


def test_a_peak_of_some_is_no_peak_of_all() -> None:
    """Few together are a wave by their peak alone; with wordings of many only their share of all mails counts."""
    slow = [burst("a", 30, 5, 1_000, 1), burst("b", 12, 12, 1_000, 2)]
    assert waves(slow) == set()
    share = [burst("a", 150, 5, 1_000, 1), burst("b", 120, 5, 1_000, 2)]
    assert waves(share) == {("p", "a"), ("p", "b")}
