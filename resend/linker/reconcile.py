"""What a relay's log says of our own tries: their fate, and for those in doubt whether the relay has them.

`settle` reads collected evidence; `FateTracker` is fed with events of a log that is followed live. Both only find; the
ledger is written by the caller. A try is met by the queue id that the relay named, in the life of that id that began
about when we sent; a try without an answer by its Message-ID and recipient. Silence proves nothing until the log goes
on for 15 minutes without a gap.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from resend.config import Config
from resend.linker.outcomes import prepare, run
from resend.model import Fate
from resend.stores import sql
from resend.stores.evidence import Evidence
from resend.stores.home import Home

_RECENT = 50_000  # events kept for a try whose 250 comes in after the relay has logged it


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayTry:
    """A try through a relay of ours. `remote_qid` is "" for one in doubt. Times in microseconds UTC."""

    try_id: str
    key: str
    remote_qid: str
    message_id: str
    recipient: str
    armed_us: int
    ended_us: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fated:
    """The relay has (or had) the mail of this try. `settles`: the try was in doubt, and is accepted as `qid`."""

    try_id: str
    key: str
    qid: str
    fate: Fate
    at_us: int
    reply: str
    settles: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Absent:
    """The log, read without a gap up to `checked_to`, proves that the relay never took the mail of this try."""

    try_id: str
    key: str
    checked_to: int


def settle(home: Home, config: Config, tries: Iterable[RelayTry]) -> Iterator[Fated | Absent]:
    """Findings for `tries` in all evidence of the home; a try that the evidence does not tell of gives none."""
    with sql.connect(memory_limit="1GiB", temp_dir=home.derived) as con:
        prepare(con, Evidence(home), config, all_mail=True)
        count = sql.create_table(
            con,
            "own_try",
            {
                "try_id": "VARCHAR", "key": "VARCHAR", "remote_qid": "VARCHAR", "message_id": "VARCHAR",
                "recipient": "VARCHAR", "armed_us": "BIGINT", "ended_us": "BIGINT",
            },
            (
                (t.try_id, t.key, t.remote_qid, t.message_id, t.recipient, t.armed_us, t.ended_us)
                for t in tries
            ),
        )  # fmt: skip
        if not count:
            return
        run(con, suspects="reconcile/where")
        for try_id, key, answered, qid, fate, at_us, reply, _ in con.execute(sql.load("reconcile/fate")).fetchall():
            yield Fated(
                try_id=try_id, key=key, qid=qid, fate=Fate(fate), at_us=at_us, reply=reply, settles=not answered
            )
        for try_id, key, checked_to in con.execute(sql.load("reconcile/absent")).fetchall():
            yield Absent(try_id=try_id, key=key, checked_to=checked_to)


class FateTracker:
    """Follows watched tries through the events of one relay's log, hops to `ours` included. Not thread-safe."""

    def __init__(self, ours: Iterable[str] = ()) -> None:
        self._ours = frozenset({"127.0.0.1", "::1", *ours})
        self._watched: dict[str, RelayTry] = {}
        self._recent: deque[Mapping[str, Any]] = deque(maxlen=_RECENT)

    def watch(self, tries: Sequence[RelayTry]) -> list[Fated]:
        """Follow these accepted tries too; what the log has already said of them."""
        new = {item.remote_qid: item for item in tries if item.remote_qid and item.remote_qid not in self._watched}
        if not new:
            return []
        self._watched.update(new)
        early = [
            event
            for event in self._recent
            if event["qid"] in new and event["at_us"] >= new[event["qid"]].armed_us - 60_000_000
        ]
        return [found for event in early for found in self._judge(event)]

    def feed(self, events: Iterable[Mapping[str, Any]]) -> list[Fated]:
        """Findings that these events add, in their order."""
        found: list[Fated] = []
        for event in events:
            if event["qid"] in self._watched:
                found += self._judge(event)
            elif event["qid"]:
                self._recent.append(event)
        return found

    def _judge(self, event: Mapping[str, Any]) -> list[Fated]:
        item = self._watched.get(str(event["qid"]))
        if item is None:
            return []
        kind, status = event["kind"], event["status"]
        if kind == "queued":
            return [self._fated(item, event, Fate.QUEUED_AT_RELAY)]
        if kind == "expired":
            return [self._fated(item, event, Fate.RETURNED)]
        if kind != "attempt" or str(event["recipient"]).lower() != item.recipient.lower():
            return []
        if status == "sent":
            if event["next_qid"] and (event["relay_ip"] in self._ours or event["relay"] in self._ours):
                self._watched[str(event["next_qid"])] = item
                return []
            return [self._fated(item, event, Fate.DELIVERED)]
        return [self._fated(item, event, Fate.RETURNED if status == "bounced" else Fate.QUEUED_AT_RELAY)]

    @staticmethod
    def _fated(item: RelayTry, event: Mapping[str, Any], fate: Fate) -> Fated:
        return Fated(
            try_id=item.try_id,
            key=item.key,
            qid=str(event["qid"]),
            fate=fate,
            at_us=int(event["at_us"]),
            reply="" if fate is Fate.DELIVERED else str(event["reply"]),
            settles=False,
        )
