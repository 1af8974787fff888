"""What must always be true of the files beside the ledger: frozen incidents and plans, evidence, catalog. Reads only.

One CheckResult for each; a file that is gone, damaged or altered is named. Hosts that share a ledger in PostgreSQL need
not have all files: there a missing one is said and is no fault.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import duckdb
from sqlalchemy import Connection, select

from resend.errors import ResendError
from resend.model import PlanState
from resend.policy.address import rcpt_key
from resend.stores import incidents, sql
from resend.stores.catalog import Catalog
from resend.stores.engine import is_sqlite
from resend.stores.evidence import Evidence
from resend.stores.frozen import PlannedMails
from resend.stores.home import Home
from resend.stores.plans import PlanFile, plan_path
from resend.stores.rows import CheckResult
from resend.stores.tables import delivery, incident, plan

_CHUNK = 10_000
_FIXED = ("release", "rcpt_key", "rcpt", "generation", "content_id", "envelope_from", "message_id", "identity")
_MARK = b"PAR1"  # begins and ends every Parquet file


def check_files(conn: Connection, home: Home) -> list[CheckResult]:
    """Every invariant of files, in a fixed order. `conn`: `Ledger.snapshot()`."""
    missing = Missing(fault=is_sqlite(conn))
    return [
        _result("every incident's frozen file is there and whole", _incidents(conn, home, missing), missing),
        _result("every plan's frozen file is what was confirmed", _plans(conn, home, missing), missing),
        _result("the mails of a started plan are those of its file", _mails(conn, home), missing),
        _result("every file of the evidence is there and whole", _evidence(home), missing),
        _result("every file of the catalog is there and whole", _catalog(home), missing),
    ]


class Missing:
    """Files that this host lacks: a fault where the ledger is its own, else only told."""

    def __init__(self, *, fault: bool) -> None:
        self.fault = fault
        self.names: list[str] = []

    def of(self, path: Path) -> Iterator[str]:
        if self.fault:
            yield f"{path.name} is gone"
        else:
            self.names.append(path.name)

    def told(self) -> str:
        names, self.names = self.names, []
        return f"not on this host: {_listed(names)}" if names else ""


def _result(invariant: str, faults: Iterator[str], missing: Missing) -> CheckResult:
    try:
        found = list(faults)
    except (ResendError, OSError, duckdb.Error) as error:
        found = [str(error).splitlines()[0]]
    return CheckResult(invariant=invariant, ok=not found, detail=_listed(found) or missing.told())


def _listed(found: list[str]) -> str:
    if not found:
        return ""
    return f"{len(found)}: {found[0]}" + (", ..." if len(found) > 1 else "")


def _whole(path: Path) -> bool:
    """Whether a file begins and ends as Parquet does; what is between is found by reading it."""
    with path.open("rb") as handle:
        if handle.read(4) != _MARK:
            return False
        handle.seek(-4, 2)
        return handle.read(4) == _MARK


def _incidents(conn: Connection, home: Home, missing: Missing) -> Iterator[str]:
    rows = conn.execute(select(incident.c.id, incident.c.name, incident.c.counts).order_by(incident.c.id)).all()
    for row in rows:
        path = incidents.parquet_path(home, row.id)
        if not path.is_file() or not incidents.json_path(home, row.id).is_file():
            yield from missing.of(path)
            continue
        about = incidents.surroundings(home, row.id)
        mails = _count(path)
        if mails != about.affected or mails != json.loads(row.counts).get("affected"):
            yield f"incident {row.name} has {mails:,} mails in its file, {about.affected:,} when it was opened"


def _count(path: Path) -> int:
    with sql.connect(memory_limit="256MiB", threads=1) as con:
        found = con.execute(f"SELECT count(*) FROM read_parquet({sql.quote(path)})").fetchone()
        assert found is not None
        return int(found[0])


def _plans(conn: Connection, home: Home, missing: Missing) -> Iterator[str]:
    query = select(plan.c.id, plan.c.total, plan.c.params).where(plan.c.state != PlanState.CLOSED)
    for row in conn.execute(query.order_by(plan.c.id)).all():
        path = plan_path(home, row.id)
        if not path.is_file():
            yield from missing.of(path)
            continue
        wrong = altered(home, row.id, row.params)
        if wrong:
            yield f"plan {row.id[:12]}: {wrong}"


def altered(home: Home, plan_id: str, params: str) -> str:
    """What does not fit between a plan's file and its id, which covers key, content and batch of each mail; "" nothing.

    Raises StoreError where the file is gone or damaged.
    """
    with closing(_Frozen(home, plan_id)) as frozen:
        other = next(frozen.others(), "")
        if other:
            return f"a mail was altered: {other[:12]}"
        lines = sorted(frozen.lines())
    if hashlib.sha256("\n".join([params, *lines]).encode()).hexdigest() != plan_id:
        return "its file or its parameters were altered"
    return ""


class _Frozen(PlanFile):
    """A plan as it is held against its id: two columns of text, because a run does it before it starts."""

    def lines(self) -> Iterator[str]:
        """What the plan's id is made of, as planner/draft writes it, in the file's order."""
        place = f"concat(egress, ' ', provider, ' ', batch_seq, ' ', {self._zone})"
        cursor = self._run(f"SELECT concat(key, ' ', content_id, ' ', rtrim({place})) FROM {self._source}", [])
        while chunk := cursor.fetchmany(_CHUNK):
            yield from (line for (line,) in chunk)

    def others(self) -> Iterator[str]:
        """Keys of mails that are not those of their release and recipient, or go elsewhere."""
        named = "sha256(concat(release, chr(10), rcpt_key, chr(10), generation))"
        yield from (key for (key,) in self._where(f"key IS DISTINCT FROM {named}", "key"))
        for key, rcpt, rcpt_key_ in self._where("rcpt IS DISTINCT FROM rcpt_key", "key, rcpt, rcpt_key"):
            if not _leads_to(rcpt, rcpt_key_):
                yield key

    def _where(self, condition: str, columns: str) -> Iterator[tuple[str, ...]]:
        cursor = self._run(f"SELECT {columns} FROM {self._source} WHERE {condition}", [])
        while chunk := cursor.fetchmany(_CHUNK):
            yield from chunk


def _leads_to(rcpt: str, key: str) -> bool:
    try:
        return rcpt_key(rcpt) == key
    except ValueError:
        return False


def _mails(conn: Connection, home: Home) -> Iterator[str]:
    """Mails of the ledger that are not in the plan's file, or otherwise; those that lack are in the ledger's totals."""
    started = select(plan.c.id).where(plan.c.started_at.is_not(None)).order_by(plan.c.id)
    columns = [delivery.c[name] for name in _FIXED]
    for plan_id in conn.scalars(started).all():
        if not plan_path(home, plan_id).is_file():
            continue  # told of by `_plans`
        with closing(PlannedMails(home, plan_id)) as frozen:
            known = {mail.key: tuple(getattr(mail, name) for name in _FIXED) for mail in frozen.mails()}
        query = select(delivery.c.key, *columns).where(delivery.c.plan_id == plan_id)
        for key, *values in conn.execute(query, execution_options={"yield_per": _CHUNK}):
            if known.get(key) != tuple(values):
                yield f"{key[:12]} of plan {plan_id[:12]}"


def _evidence(home: Home) -> Iterator[str]:
    evidence = Evidence(home)
    manifest = evidence.manifest()
    names = set(manifest.live(manifest.parts)) - manifest.packed().keys() | manifest.packs.keys()
    yield from _lacking(sorted(names), evidence.part_path)


def _catalog(home: Home) -> Iterator[str]:
    snapshots = Catalog(home).snapshots()
    yield from _lacking(sorted(item.file for item in snapshots.values()), lambda name: home.catalog / name)
    for kind, item in sorted(snapshots.items()):
        path = home.catalog / item.file
        if path.is_file() and _whole(path) and _count(path) != item.rows:
            yield f"{item.file} has not the {item.rows:,} {kind} that were loaded"


def _lacking(names: list[str], place: Callable[[str], Path]) -> Iterator[str]:
    for name in names:
        path = place(name)
        if not path.is_file():
            yield f"{path.name} is gone"
        elif not _whole(path):
            yield f"{path.name} is damaged"
