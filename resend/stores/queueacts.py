"""What was done to mail that waits in mail queues: results of the guarded script, and releases that were handed out.

Each is a small file under `evidence/queue/<incident>/`, kept as it came and never changed; the latest word on a mail
counts. A mail is out of the queue once a result says that it was put on hold or deleted, and back in it as soon as a
script that releases it was printed: from then on nobody knows when it leaves. Raises InputError for what is no result.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path

import duckdb

from resend.clock import from_text, to_micros, to_text
from resend.errors import InputError
from resend.stores import sql
from resend.stores.home import Home, exclusive, replace_file

_FORMAT = "1"
_BYTES_MAX = 256 << 20
_NAME = re.compile(r"[0-9A-Za-z._-]+", re.ASCII)
_NEXT = "give the whole file that the script wrote on the mail host"


class QueueAct(StrEnum):
    HOLD = "hold"
    RELEASE = "release"
    DELETE = "delete"


class RowState(StrEnum):
    """What became of one mail. `refused`: the queue holds something else; `left`: not touched, try again."""

    HELD = "held"
    RELEASED = "released"
    DELETED = "deleted"
    REFUSED = "refused"
    LEFT = "left"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class QueueResult:
    """One run of the script, or a release that was printed (`host` ""). `at` is aware UTC, by the mail host's clock."""

    incident: str
    act: QueueAct
    host: str
    at: datetime
    rows: tuple[tuple[int, RowState], ...]  # (outcome_id, state)

    def text(self) -> str:
        head = ("resend-queue", _FORMAT, self.incident, self.act, self.host or "-", to_text(self.at))
        lines = ["\t".join(head), *(f"{row}\t{state}\t" for row, state in self.rows), f"end\t{len(self.rows)}"]
        return "\n".join(lines) + "\n"


def read_result(path: Path, *, incident: str) -> QueueResult:
    """A result file of this incident, whole."""
    try:
        if path.stat().st_size > _BYTES_MAX:
            raise InputError("too big for a result of the script", where=str(path), next_step=_NEXT)
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputError(f"cannot read: {error.strerror}", where=str(path), next_step=_NEXT) from None
    found = parse_result(text, where=str(path))
    if found.incident != incident:
        raise InputError(
            f"this is a result of incident {found.incident}, not of {incident}",
            where=str(path),
            next_step=f"run 'resend queue {found.incident} --confirm {path}'",
        )
    return found


def parse_result(text: str, *, where: str) -> QueueResult:
    """The text of a result file. A line that is cut or changed makes the whole no result: nothing is guessed."""
    lines = text.split("\n")
    head = lines[0].split("\t")
    if len(head) != 6 or head[0] != "resend-queue" or not _NAME.fullmatch(head[2]):
        raise InputError("not a result of 'resend queue'", where=f"{where}:1", next_step=_NEXT)
    if head[1] != _FORMAT:
        raise InputError(
            f"a result of another version ({head[1]})",
            where=f"{where}:1",
            next_step="print the script again and run it",
        )
    rows: list[tuple[int, RowState]] = []
    place = f"{where}:1"
    try:
        act, at = QueueAct(head[3]), from_text(head[5])
        if lines[-1] or lines[-2].split("\t")[0] != "end":
            raise InputError("the result is cut short", where=where, next_step=_NEXT)
        for number, line in enumerate(lines[1:-2], 2):
            place = f"{where}:{number}"
            words = line.split("\t")
            if len(words) != 3 or not words[0].isascii() or not words[0].isdecimal() or len(words[0]) > 18:
                raise ValueError(line)
            rows.append((int(words[0]), RowState(words[1])))
        place = f"{where}:{len(lines) - 1}"
        if int(lines[-2].split("\t")[1]) != len(rows):
            raise InputError("the result is cut short: its last line counts other rows", where=where, next_step=_NEXT)
    except (ValueError, IndexError):
        raise InputError("not a line of a result", where=place, next_step=_NEXT) from None
    return QueueResult(head[2], act, "" if head[4] == "-" else head[4], at, tuple(rows))


def keep(home: Home, result: QueueResult, *, now: datetime) -> Path:
    """Keep a result; `now` (aware UTC) orders it after those that are there."""
    home.create()
    folder = _folder(home, result.incident)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with exclusive(home.evidence_lock, what="the evidence", wait=True):
        newest = max((int(path.name.split("-")[0]) for path in folder.glob("*.tsv")), default=0)
        path = folder / f"{max(to_micros(now), newest + 1):020d}-{result.act}.tsv"
        replace_file(path, result.text().encode())
    return path


def results(home: Home, incident: str) -> list[QueueResult]:
    """Everything that was kept of an incident, in order."""
    paths = sorted(_folder(home, incident).glob("*.tsv"))
    return [parse_result(path.read_text(encoding="utf-8"), where=str(path)) for path in paths]


def standing(known: Iterable[QueueResult]) -> Mapping[int, RowState]:
    """The latest word on each mail: held or deleted mail is out of the queue, all else in it or gone by itself."""
    found: dict[int, RowState] = {}
    for result in known:
        for row, state in result.rows:
            if found.get(row) is RowState.DELETED:
                continue
            match state:
                case RowState.HELD | RowState.DELETED | RowState.RELEASED:
                    found[row] = state
                case RowState.REFUSED | RowState.LEFT | RowState.GONE:
                    pass
    return found


def attach(con: duckdb.DuckDBPyConnection, home: Home, incident: str) -> None:
    """Make temp table `left_queue`(outcome_id) of mails that a confirmed hold or deletion took out of the queue.

    Empty without an incident: one that is just being opened.
    """
    found = standing(results(home, incident)) if incident else {}
    out = (RowState.HELD, RowState.DELETED)
    sql.create_table(
        con, "left_queue", {"outcome_id": "BIGINT"}, ([row] for row, state in found.items() if state in out)
    )


def rows_of(results_: Sequence[QueueResult], act: QueueAct, *, since: datetime) -> set[int]:
    """Mails in results of one act that are not older than `since`."""
    return {row for result in results_ if result.act is act and result.at >= since for row, _ in result.rows}


def _folder(home: Home, incident: str) -> Path:
    if not _NAME.fullmatch(incident) or incident.startswith("."):
        raise ValueError(f"not an incident id: {incident!r}")
    return home.evidence / "queue" / incident
