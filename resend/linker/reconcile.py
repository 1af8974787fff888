"""What a relay's log says of our own tries: their fate, and for those in doubt whether the relay has them.

`settle` reads collected evidence; `FateTracker` is fed with events of a log that is followed live. Both only find; the
ledger is written by the caller. A try is met by the queue id that the relay named, in the life of that id that began
about when we sent; a try without an answer by its Message-ID and recipient. Silence proves nothing until the relay's
own log goes on for 15 minutes without a gap. Raises StoreError, ConfigError.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resend.config import Config
from resend.linker.outcomes import prepare, run
from resend.model import Fate
from resend.policy.routes import relay_log, routes
from resend.stores import sql
from resend.stores.evidence import Evidence
from resend.stores.home import Home
from resend.stores.manifest import Manifest
from resend.stores.unsettled import Unsettled

_RECENT = 50_000  # events kept for a try whose 250 comes in after the relay has logged it
_SKEW_US = 60_000_000  # a relay's clock and ours


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


def settle(home: Home, config: Config, tries: Iterable[Unsettled]) -> Iterator[Fated | Absent]:
    """Findings for `tries` in all evidence of the home; a try that the evidence does not tell of gives none."""
    evidence = Evidence(home)
    with sql.connect(memory_limit="1GiB", temp_dir=home.derived) as con:
        prepare(con, evidence, config, all_mail=True)
        count = sql.create_table(
            con,
            "own_try",
            {
                "try_id": "VARCHAR", "key": "VARCHAR", "egress": "VARCHAR", "remote_qid": "VARCHAR",
                "message_id": "VARCHAR", "recipient": "VARCHAR", "armed_us": "BIGINT", "ended_us": "BIGINT",
            },
            (
                (t.try_id, t.key, t.egress, t.remote_qid, t.message_id, t.recipient, t.armed_us, t.ended_us)
                for t in tries
            ),
        )  # fmt: skip
        if not count:
            return
        sql.create_table(
            con, "relay_log", {"egress": "VARCHAR", "host": "VARCHAR"}, _relay_hosts(evidence.manifest(), config)
        )
        run(con, "reconcile/where")
        con.execute(f"CREATE OR REPLACE TEMP TABLE found AS {sql.load('reconcile/fate')}")
        for try_id, key, answered, qid, fate, at_us, reply in con.execute(
            "SELECT try_id, key, answered, qid, fate, at_us, reply FROM found ORDER BY try_id"
        ).fetchall():
            yield Fated(
                try_id=try_id, key=key, qid=qid, fate=Fate(fate), at_us=at_us, reply=reply, settles=not answered
            )
        for try_id, key, checked_to in con.execute(f"{sql.load('reconcile/absent')} ORDER BY 1").fetchall():
            yield Absent(try_id=try_id, key=key, checked_to=checked_to)


def _relay_hosts(manifest: Manifest, config: Config) -> Iterator[tuple[str, str]]:
    """Hosts that a relay's log is of, where the config names it for that relay alone."""
    known = routes(config)
    for path, egresses in known.logs(relay_log(config)).items():
        relays = egresses & known.relays()
        if len(relays) != 1:
            continue
        log = path.resolve()
        parts = {
            part
            for source in manifest.sources.values()
            if not source.former and Path(source.path).resolve() == log
            for part, _ in source.blocks
        }
        for host in sorted({host for part in parts for host in manifest.parts[part].hosts}):
            yield next(iter(relays)), host


class FateTracker:
    """Follows watched tries through the events of one relay's log, hops to `ours` included. Not thread-safe.

    A queue id is followed until the relay removes it, since it may then become another mail's. A watched try without
    a queue id is in doubt: it is met by its Message-ID and recipient.
    """

    def __init__(self, ours: Iterable[str] = ()) -> None:
        self._ours = frozenset({"127.0.0.1", "::1", *ours})
        self._watched: dict[str, Unsettled] = {}  # by queue id
        self._doubts: dict[str, list[Unsettled]] = {}  # by Message-ID
        self._maybe: dict[str, list[Unsettled]] = {}  # by queue id, until a line names the recipient
        self._open: Counter[str] = Counter()  # by try id: watched queue ids
        self._ever: set[str] = set()  # queue ids
        self._done: set[str] = set()  # try ids of which every queue id is gone
        self._recent: deque[Mapping[str, Any]] = deque(maxlen=_RECENT)

    def watch(self, tries: Sequence[Unsettled]) -> list[Fated]:
        """Follow these tries too; what the log has already said of them."""
        new = {
            item.remote_qid: item
            for item in tries
            if item.remote_qid and item.remote_qid not in self._watched and item.try_id not in self._done
        }
        doubts = [item for item in tries if not item.remote_qid and item.try_id not in self._done]
        doubts = [item for item in doubts if item not in self._doubts.get(item.message_id, ())]
        for item in doubts:
            self._doubts.setdefault(item.message_id, []).append(item)
        if not new and not doubts:
            return []
        for item in new.values():
            self._follow(item.remote_qid, item)
        ids = {item.message_id for item in doubts}
        told = {event["qid"] for event in self._recent if event["kind"] == "message" and event["message_id"] in ids}
        return [
            found
            for event in list(self._recent)
            if event["qid"] in told
            or (event["qid"] in new and event["at_us"] >= new[str(event["qid"])].armed_us - _SKEW_US)
            for found in self._judge(event)
        ]

    def feed(self, events: Iterable[Mapping[str, Any]]) -> list[Fated]:
        """Findings that these events add, in their order."""
        found: list[Fated] = []
        for event in events:
            if event["qid"]:
                found += self._judge(event)
                self._recent.append(event)
        return found

    def followed(self, qid: str) -> bool:
        """Whether this queue id is, or was, that of a watched try."""
        return qid in self._ever

    def _follow(self, qid: str, item: Unsettled) -> None:
        self._ever.add(qid)
        if qid not in self._watched:
            self._open[item.try_id] += 1
        self._watched[qid] = item

    def _judge(self, event: Mapping[str, Any]) -> list[Fated]:
        qid, kind = str(event["qid"]), event["kind"]
        if kind == "message":
            doubts = [
                item
                for item in self._doubts.get(str(event["message_id"]), ())
                if int(event["at_us"]) >= item.armed_us - _SKEW_US
            ]
            if doubts:
                self._maybe[qid] = doubts
            return []
        item, settles = self._watched.get(qid), False
        if item is None and kind == "attempt":
            item = next((doubt for doubt in self._maybe.get(qid, ()) if _names(event, doubt)), None)
            settles = item is not None
            if item is not None:
                self._follow(qid, item)
                self._doubts[item.message_id].remove(item)
        if kind == "removed":
            self._maybe.pop(qid, None)
            return self._removed(qid, event)
        if item is None:
            return []
        if kind == "queued":
            return [_fated(item, event, Fate.QUEUED_AT_RELAY)]
        if kind == "expired":
            return [_fated(item, event, Fate.RETURNED)]
        if kind != "attempt" or not _names(event, item):
            return []
        match event["status"]:
            case "deliverable" | "undeliverable":
                return []
            case "sent" if event["next_qid"] and (event["relay_ip"] in self._ours or event["relay"] in self._ours):
                self._follow(str(event["next_qid"]), item)
                return [_fated(item, event, Fate.QUEUED_AT_RELAY, settles=True)] if settles else []
            case "sent":
                return [_fated(item, event, Fate.DELIVERED, settles=settles)]
            case "bounced" | "expired":
                return [_fated(item, event, Fate.RETURNED, settles=settles)]
            case _:
                return [_fated(item, event, Fate.QUEUED_AT_RELAY, settles=settles)]

    def _removed(self, qid: str, event: Mapping[str, Any]) -> list[Fated]:
        """The queue id is free again; deleted by a person, the mail came back to nobody but is not there any more."""
        item = self._watched.pop(qid, None)
        if item is None:
            return []
        self._open[item.try_id] -= 1
        if not self._open[item.try_id]:
            del self._open[item.try_id]
            self._done.add(item.try_id)
        return [_fated(item, event, Fate.RETURNED)] if event["status"] == "deleted" else []


def _names(event: Mapping[str, Any], item: Unsettled) -> bool:
    """Whether a delivery line is about the recipient of this try, perhaps quoted, or before an alias."""
    wanted = item.recipient.replace('"', "").lower()
    return wanted in (str(event[name] or "").replace('"', "").lower() for name in ("recipient", "orig_to"))


def _fated(item: Unsettled, event: Mapping[str, Any], fate: Fate, *, settles: bool = False) -> Fated:
    return Fated(
        try_id=item.try_id,
        key=item.key,
        qid=str(event["qid"]),
        fate=fate,
        at_us=int(event["at_us"]),
        reply="" if fate is Fate.DELIVERED else str(event["reply"] or ""),
        settles=settles,
    )
