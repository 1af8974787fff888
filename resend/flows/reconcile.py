"""Settles doubt and fate from logs: what became of the mails that a relay of ours took, or may have taken.

Collects the logs first, then compares all evidence with the ledger; originals that arrived after all become vetoes.
Sends nothing. Raises what collect, linker and the stores raise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import assert_never

from resend.clock import from_micros, to_text
from resend.collect.collect import CollectSummary, collect
from resend.config import Config
from resend.flows.vetoes import project_evidence
from resend.linker.reconcile import Absent, Fated, settle
from resend.model import Fate
from resend.policy.routes import relay_log, routes
from resend.stores import doubt, fates
from resend.stores.home import Home
from resend.stores.ledger import Ledger
from resend.stores.transitions import FateChange
from resend.stores.unsettled import Left, left, unsettled

Progress = Callable[[int, int], None]
_GROUP = 1_000  # findings written in one transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciled:
    """What one reconcile did. `collected` is None where no log was read anew."""

    collected: CollectSummary | None
    accepted: int  # were in doubt; the relay's log has them
    released: int  # were in doubt; the relay's log, whole, does not have them: planned again
    fates: dict[Fate, int]  # accepted mails that moved on
    vetoed: int  # mails whose original arrived after all
    left: Left


def reconcile(
    home: Home,
    config: Config,
    ledger: Ledger,
    paths: Sequence[Path],
    *,
    now: datetime,
    progress: Progress | None = None,
) -> Reconciled:
    """Read `paths` (none: the logs of all relays), then settle what the evidence tells. `now` is aware UTC."""
    logs = list(paths) or list(routes(config).logs(relay_log(config)))
    collected = collect(home, config, logs, progress=progress) if logs else None
    with ledger.read() as conn:
        tries = list(unsettled(conn))
    moved: Counter[Fate] = Counter()
    accepted = released = 0
    found = list(settle(home, config, tries)) if tries else []
    for start in range(0, len(found), _GROUP):
        with ledger.write() as conn:
            for item in found[start : start + _GROUP]:
                match item:
                    case Absent():
                        proof = f"the relay's log, whole to {to_text(from_micros(item.checked_to))}, does not have it"
                        released += doubt.settle_not_accepted(conn, item.key, evidence=proof, now=now)
                    case Fated(settles=True):
                        proof = f"the relay's log has it as {item.qid}"
                        accepted += doubt.settle_accepted(conn, item.key, evidence=proof, now=now, remote_qid=item.qid)
                        fates.change(conn, _change(item))
                    case Fated():
                        moved[item.fate] += fates.change(conn, _change(item)).count
                    case _:
                        assert_never(item)
    vetoed = project_evidence(home, config, ledger, now)
    with ledger.read() as conn:
        rest = left(conn)
    return Reconciled(
        collected=collected,
        accepted=accepted,
        released=released,
        fates={fate: count for fate, count in moved.items() if count},
        vetoed=vetoed,
        left=rest,
    )


def _change(item: Fated) -> FateChange:
    return FateChange(key=item.key, fate=item.fate, at=from_micros(item.at_us), reply=item.reply)
