"""Live mail in a followed log: its rate, whose mail it is, and whether its deferrals rise."""

from __future__ import annotations

from resend.linker.live import LiveTraffic

SECOND = 1_000_000
NOW = 10_000 * SECOND


def event(ago_s: float, status: str = "sent", qid: str = "A1", relay_ip: str = "192.0.2.1") -> dict[str, object]:
    return {
        "kind": "attempt",
        "at_us": NOW - int(ago_s * SECOND),
        "qid": qid,
        "status": status,
        "relay": "mx.example.com",
        "relay_ip": relay_ip,
        "recipient": "a@example.net",
    }


def live(hold_s: int = 0) -> LiveTraffic:
    return LiveTraffic(lambda relay, ip, domain: ("p", "relay"), frozenset({"127.0.0.1"}), hold_us=hold_s * SECOND)


def test_the_rate_is_that_of_the_last_minute_without_hops_and_what_is_ours() -> None:
    one = live()
    one.feed([event(n / 2) for n in range(200)], NOW)
    one.feed([event(n, qid="OURS") for n in range(50)], NOW)
    one.feed([event(n, relay_ip="127.0.0.1") for n in range(50)], NOW)
    assert one.now(NOW, lambda qid: qid == "OURS") == {"p": (2.0, "")}
    assert one.now(NOW + 3600 * SECOND, lambda qid: False) == {}


def test_an_attempt_is_held_until_it_is_known_whose_it_is() -> None:
    one, ours = live(hold_s=10), set[str]()
    one.feed([event(0, qid="B")], NOW)
    assert one.now(NOW, ours.__contains__) == {}
    ours.add("B")  # the ledger's row of our try came after the log's line
    assert one.now(NOW + 11 * SECOND, ours.__contains__) == {}


def test_deferrals_rise_against_the_half_hour_before() -> None:
    one = live()
    one.feed([event(n, "deferred" if n % 2 else "sent") for n in range(100)], NOW)
    assert "50 of 100 deferred" in one.now(NOW, lambda qid: False)["p"][1]
    one.feed([event(400 + n, "deferred" if n % 2 else "sent") for n in range(100)], NOW)
    assert one.now(NOW, lambda qid: False)["p"][1] == ""  # as many as before
