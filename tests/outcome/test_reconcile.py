"""What a relay's log proves of our own tries, collected or followed live."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from resend.collect.collect import collect
from resend.config import Config
from resend.linker.reconcile import Absent, Fated, FateTracker, settle
from resend.model import Fate
from resend.stores.home import Home
from resend.stores.unsettled import Unsettled
from tests.outcome.events import SECOND, START, came, event, gone, tried
from tests.outcome.test_outcomes import BUSY, arrives, line, removed, tries

EGRESS = "relay:127.0.0.1:2525"
ARMED = START + 7200 * SECOND  # Nov 20 12:00:00 UTC
GAP = "Nov 20 12:05:00 mta1 systemd-journald[1]: Suppressed 8385 messages from postfix.service\n"
LATER = arrives("12:30:00", "FFFF1", "later@x") + removed("12:30:01", "FFFF1")
BEFORE = arrives("11:00:00", "EEEE1", "before@x") + removed("11:00:01", "EEEE1")
MINE = Unsettled(
    try_id="t1", key="k1", remote_qid="AAAA1", message_id="<m1@x>", recipient="a@example.net", armed_us=ARMED,
    ended_us=ARMED + SECOND, egress=EGRESS,
)  # fmt: skip
DOUBT = replace(
    MINE, try_id="t2", key="k2", remote_qid="", message_id="<m2@x>", recipient="b@example.net", ended_us=None
)


@pytest.fixture
def told(tmp_path: Path) -> Any:
    def run(log: str, *own: Unsettled, relay_log: bool = False) -> list[Fated | Absent]:
        folder = Path(tempfile.mkdtemp(dir=tmp_path))
        path = folder / "mail.log"
        path.write_text(log)
        home = Home(folder / "home").create()
        config = Config.model_validate(
            {
                "tz": "UTC",
                "mx_map": {"*": "127.0.0.1:2525"},
                "relay": {"log": str(path) if relay_log else ""},
            }
        )
        collect(home, config, [path], year=2026)
        return list(settle(home, config, own))

    return run


def took(at: str, qid: str, message_id: str, to: str, status: str = "", reason: str = "") -> str:
    return arrives(at, qid, message_id) + (tries(at, qid, to, status, reason) if status else "")


@pytest.mark.parametrize(
    ("status", "reason", "fate"),
    [
        ("sent", "250 ok", Fate.DELIVERED),
        ("bounced", "host x said: 550 no", Fate.RETURNED),
        ("deferred", BUSY, Fate.QUEUED_AT_RELAY),
        ("", "", Fate.QUEUED_AT_RELAY),
    ],
)
def test_an_accepted_try_has_the_fate_of_its_queue_id(told: Any, status: str, reason: str, fate: Fate) -> None:
    older = took("11:00:00", "AAAA1", "other@x", "a@example.net", "bounced", "550 another mail") + removed(
        "11:00:01", "AAAA1"
    )
    (found,) = told(older + took("12:00:00", "AAAA1", "m1@x", "a@example.net", status, reason), MINE)
    assert (found.key, found.fate, found.settles) == ("k1", fate, False)
    assert found.reply == ("" if fate is Fate.DELIVERED else reason)


def test_a_mail_that_expires_or_is_deleted_at_the_relay_came_back(told: Any) -> None:
    log = took("12:00:00", "AAAA1", "m1@x", "a@example.net", "deferred", BUSY)
    expired = line("13:00:00", "qmgr[12]: AAAA1: from=<news@example.jp>, status=expired, returned to sender")
    assert [item.fate for item in told(log + expired, MINE)] == [Fate.RETURNED]
    assert [item.fate for item in told(log + line("13:00:00", "postsuper[9]: AAAA1: removed"), MINE)] == [Fate.RETURNED]


def test_doubt_is_settled_by_message_id_and_recipient_after_the_arm(told: Any) -> None:
    (found,) = told(took("12:00:00", "BBBB1", "m2@x", "b@example.net", "sent", "250 ok"), DOUBT)
    assert (found.qid, found.fate, found.settles) == ("BBBB1", Fate.DELIVERED, True)


def test_the_original_of_the_same_message_id_settles_nothing(told: Any) -> None:
    log = took("11:00:00", "BBBB1", "m2@x", "b@example.net", "bounced", "550 no") + removed("11:00:01", "BBBB1")
    assert told(log, DOUBT) == []


def test_another_recipient_of_the_same_message_id_settles_nothing(told: Any) -> None:
    """A Message-ID that a release shares: the queued mail may be the other one's, and no line names ours."""
    assert told(BEFORE + arrives("12:00:00", "BBBB1", "m2@x") + LATER, DOUBT, relay_log=True) == []
    ours = replace(DOUBT, message_id="<resend.k2@x>")
    (found,) = told(BEFORE + arrives("12:00:00", "BBBB1", "resend.k2@x") + LATER, ours, relay_log=True)
    assert isinstance(found, Fated)
    assert found.settles


def test_absence_is_proved_by_the_relays_own_whole_log_only(told: Any) -> None:
    whole = BEFORE + LATER
    (found,) = told(whole, DOUBT, relay_log=True)
    assert isinstance(found, Absent)
    assert found.key == "k2"
    assert told(whole, DOUBT) == [], "nobody says that this is the relay's log"
    assert told(LATER, DOUBT, relay_log=True) == [], "the log begins after the arm"
    assert told(BEFORE + took("12:10:00", "FFFF1", "x@x", "c@example.net"), DOUBT, relay_log=True) == [], "too early"
    assert told(BEFORE + GAP + LATER, DOUBT, relay_log=True) == [], "lines were lost"


def test_mail_that_the_relay_took_says_whose_log_it_is(told: Any) -> None:
    accepted = took("12:00:00", "AAAA1", "m1@x", "a@example.net", "sent", "250 ok")
    found = told(BEFORE + accepted + LATER, MINE, DOUBT)
    assert [type(item) for item in found] == [Fated, Absent]
    missing = replace(MINE, try_id="t3", key="k3", remote_qid="DDDD1", message_id="<m3@x>")
    found = told(BEFORE + accepted + LATER, MINE, DOUBT, missing)
    assert [type(item) for item in found] == [Fated], "it took mail that this log lacks"
    elsewhere = replace(DOUBT, egress="relay:10.0.0.9:25")
    assert [type(item) for item in told(BEFORE + accepted + LATER, MINE, elsewhere)] == [Fated]


def fates(found: list[Fated]) -> list[tuple[str, Fate, bool]]:
    return [(item.key, item.fate, item.settles) for item in found]


def test_a_followed_try_moves_on_hop_by_hop_until_its_queue_id_is_free() -> None:
    tracker = FateTracker()
    mine = replace(MINE, armed_us=START, remote_qid="A1")
    assert tracker.feed(came(0, "A1", "<m1@x>")) == []
    assert fates(tracker.watch([mine])) == [("k1", Fate.QUEUED_AT_RELAY, False)]
    assert tracker.watch([mine]) == []
    hop = tried(1, "A1", "a@example.net", "sent", next_qid="B1", relay="127.0.0.1", relay_ip="127.0.0.1")
    assert fates(tracker.feed([*came(1, "B1", "<m1@x>"), hop, gone(1, "A1")])) == []
    later = tracker.feed([tried(2, "B1", "a@example.net", "deferred", BUSY)])
    assert fates(later) == [("k1", Fate.QUEUED_AT_RELAY, False)]
    assert fates(tracker.feed([tried(9, "B1", "a@example.net", "sent"), gone(9, "B1")])) == [
        ("k1", Fate.DELIVERED, False)
    ]
    again = [*came(90, "A1", "<9@x>"), tried(91, "A1", "a@example.net", "bounced", "550 no")]
    assert tracker.feed(again) == []
    assert tracker.watch([mine]) == []


def test_a_followed_doubt_is_settled_once_the_recipient_is_named() -> None:
    tracker = FateTracker()
    doubt = replace(DOUBT, armed_us=START)
    tracker.feed([*came(-900, "B0", "<m2@x>"), tried(-899, "B0", "b@example.net", "bounced", "550 the original")])
    assert tracker.watch([doubt]) == []
    tracker.feed(came(1, "B1", "<m2@x>"))
    assert tracker.feed([tried(2, "B1", "c@example.net", "sent")]) == []
    assert tracker.feed(came(3, "B2", "<m2@x>")) == []
    assert fates(tracker.feed([tried(4, "B2", "b@example.net", "deferred", BUSY)])) == [
        ("k2", Fate.QUEUED_AT_RELAY, True)
    ]
    assert fates(tracker.feed([tried(5, "B2", "b@example.net", "sent"), gone(5, "B2")])) == [
        ("k2", Fate.DELIVERED, False)
    ]


def test_a_followed_mail_that_expires_or_is_deleted_came_back() -> None:
    for end in (event(9, "A1", "expired", status="expired"), event(9, "A1", "removed", status="deleted")):
        tracker = FateTracker()
        tracker.watch([replace(MINE, armed_us=START, remote_qid="A1")])
        tracker.feed([*came(0, "A1", "<m1@x>"), tried(1, "A1", '"a"@example.net', "deferred", BUSY)])
        assert fates(tracker.feed([end])) == [("k1", Fate.RETURNED, False)]
