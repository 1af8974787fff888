"""Opens an incident: links, names causes, judges and freezes the affected mails; lists, shows and closes incidents.

The frozen file is never changed; buckets of a later moment come from linker/buckets. Sends nothing. Raises UsageError
for a name that is taken or a selection that holds nothing, InputError without evidence, StoreError.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import duckdb

from resend.clock import from_micros, to_micros, to_text
from resend.config import Config
from resend.errors import InputError, StoreError, UsageError
from resend.linker import causes
from resend.linker.buckets import Affected, place
from resend.linker.copies import copies
from resend.linker.link import OWN_RULE, link
from resend.linker.outcomes import OutcomeFiles, outcomes
from resend.linker.verdicts import verdicts
from resend.model import Bucket, Selector
from resend.stores import incidents, mx, sql
from resend.stores.catalog import Catalog
from resend.stores.evidence import Evidence
from resend.stores.history import own_tries
from resend.stores.home import Home
from resend.stores.incidents import ACCEPTED, Mails, Surroundings
from resend.stores.ledger import Ledger
from resend.stores.registry import add_incident, selector_text, selector_values
from resend.stores.registry import incidents as incidents_of
from resend.stores.rows import IncidentRecord

Progress = Callable[..., None]
Step = Callable[..., None]  # without a word: the next step begins; with one: where this step stands
_PLAN_REF = 4  # letters of a plan's id, at least, that are taken for one
_STEPS = ("outcomes", "link", "receivers", "causes", "totals", "freeze")


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentInfo:
    """An incident as it was opened."""

    record: IncidentRecord
    about: Surroundings
    buckets: Mapping[Bucket, int]


def incident_id(name: str, evidence_id: str, selector: Selector) -> str:
    """Short and stable: the same name, evidence and selection give the same id."""
    digest = hashlib.sha256(f"{name}\n{evidence_id}\n{selector_text(selector)}".encode()).hexdigest()
    return f"inc-{digest[:12]}"


def open_incident(
    home: Home,
    config: Config,
    ledger: Ledger,
    name: str,
    selector: Selector,
    *,
    now: datetime,
    progress: Progress | None = None,
) -> IncidentInfo:
    """Freeze the affected mails of a selection under a name of the operator's. `now` is aware UTC."""
    if not name.strip() or not name.isprintable() or len(name) > 100:
        raise UsageError(
            "an incident needs a printable name of at most 100 characters", next_step="choose another name"
        )
    if any(name in (known.name, known.id) for known in _known(ledger)):
        raise UsageError(
            f"there is an incident {name!r} already",
            next_step=f"look at it with 'resend incident show {name}', or choose another name",
        )
    if selector.from_at is not None and selector.to_at is not None and selector.from_at >= selector.to_at:
        raise UsageError("--from is not before --to", next_step="name the window's begin and end; nothing was opened")
    if not Evidence(home).manifest().parts:
        raise InputError("there is no evidence yet", where=str(home.path), next_step="run 'resend collect PATH' first")
    step = _stepper(progress)
    step()
    files = outcomes(home, config, own=own_queue_ids(ledger))
    with sql.connect(memory_limit="768MiB", temp_dir=home.derived) as con:
        answers = gather(con, home, config, files, ledger, selector, now=now, step=step)
        affected = _count(con, "frozen")
        if not affected:
            _check_named(con, selector)
            raise UsageError(
                "no mail of this selection failed or came late",
                next_step="widen it, or look at 'resend outcomes'; nothing was opened",
            )
        about = _surroundings(con, home, files, name, selector, affected, answers, now, step)
        with ledger.read() as connection:
            place(con, home, connection, now=now)
        buckets = Affected(con, about).counts()
        if sum(buckets.values()) != affected:
            raise StoreError(
                f"the buckets add up to {sum(buckets.values()):,}, affected are {affected:,}",
                where=f"incident {name}",
                next_step="this is a defect; nothing was opened",
            )
        incidents.freeze(con, home, "affected", about)
    record = IncidentRecord(
        id=about.id,
        name=name,
        selector=selector,
        open=True,
        counts={
            "affected": affected,
            "mails": next((item.mails for item in about.mails if item.dimension == "total"), None),
            "buckets": {bucket.value: count for bucket, count in buckets.items() if count},
        },
        evidence_id=files.id,
        opened_at=now,
    )
    with ledger.write() as connection:
        add_incident(connection, record)
    return IncidentInfo(record=record, about=about, buckets=buckets)


def _check_named(con: duckdb.DuckDBPyConnection, selector: Selector) -> None:
    """Where nothing was found: a release or customer that the catalog has not may be a slip."""
    for what, column, value in (("release", "id", selector.release), ("customer", "customer", selector.customer)):
        known = [name for (name,) in con.execute(f"SELECT DISTINCT {column} FROM release").fetchall()] if value else []
        if value and value not in known:
            near = difflib.get_close_matches(value, known, n=1)
            raise UsageError(
                f"the catalog has no {what} {value!r}",
                next_step=f"did you mean {near[0]!r}?"
                if near
                else "load it with 'resend catalog load --releases FILE'",
            )


def taken(
    home: Home,
    config: Config,
    ledger: Ledger,
    selector: Selector,
    wanted: Callable[[Mapping[str, Any]], bool],
    *,
    now: datetime,
) -> int:
    """How many mails of a selection are `wanted`, as things stand at `now`; opens nothing and writes nothing."""
    files = outcomes(home, config, own=own_queue_ids(ledger))
    with sql.connect(memory_limit="768MiB", temp_dir=home.derived) as con:
        gather(con, home, config, files, ledger, selector, now=now)
        with ledger.read() as connection:
            place(con, home, connection, now=now)
        cursor = con.cursor().execute("SELECT * FROM affected")
        names = [column[0] for column in cursor.description or []]
        count = 0
        while chunk := cursor.fetchmany(2_048):
            count += sum(wanted(dict(zip(names, row, strict=True))) for row in chunk)
        return count


def own_queue_ids(ledger: Ledger) -> list[tuple[str, int]]:
    """Queue ids that relays gave to our own resends, and when; what an original's outcome must not count."""
    with ledger.read() as connection:
        return sorted((item.remote_qid, item.at_us) for item in own_tries(connection) if item.remote_qid)


def _stepper(progress: Progress | None) -> Step:
    names = iter(enumerate(_STEPS))
    number = 0

    def step(detail: str = "") -> None:
        nonlocal number
        if progress is None:
            return
        if not detail:
            number, detail = next(names)
        progress(number, len(_STEPS), detail)

    return step


def gather(
    con: duckdb.DuckDBPyConnection,
    home: Home,
    config: Config,
    files: OutcomeFiles,
    ledger: Ledger,
    selector: Selector,
    *,
    now: datetime,
    step: Step = lambda detail="": None,
) -> mx.Answers:
    """Make temp table `frozen` (buckets still empty) and the tables that it came from: suspect, link, provider_of.

    What the DNS said of domains whose mail names no receiver.
    """
    con.execute(f"CREATE OR REPLACE TEMP TABLE suspect AS SELECT * FROM read_parquet({sql.quote(files.suspects)})")
    Catalog(home).attach(con)
    step()
    with ledger.read() as connection:
        link(con, config.link, own_tries(connection))
    step()
    con.execute(f"CREATE OR REPLACE TEMP TABLE total AS SELECT * FROM read_parquet({sql.quote(files.totals)})")
    answers = mx.find(
        home,
        config.dns,
        causes.unnamed(con, config, "suspect", "total"),
        now=now,
        progress=lambda done, count: step(f"MX of {done:,} of {count:,} domains"),
    )
    hosts = {domain: answer.hosts for domain, answer in answers.items()}
    step()
    causes.providers(con, config, hosts)
    causes.causes(con)
    _params(con, selector, {})
    _totals(con, config, files, hosts)
    copies(con, home, config, own_queue_ids(ledger))
    con.execute(f"CREATE OR REPLACE TEMP TABLE candidate_mail AS {sql.load('link/freeze/affected')}")
    verdicts(con)
    con.execute(f"CREATE OR REPLACE TEMP TABLE frozen AS {sql.load('link/freeze/frozen')}")
    return answers


def _params(con: duckdb.DuckDBPyConnection, selector: Selector, more: Mapping[str, object]) -> None:
    times = {
        "from_us": None if selector.from_at is None else to_micros(selector.from_at),
        "to_us": None if selector.to_at is None else to_micros(selector.to_at),
    }
    names = ("provider", "cause", "release", "customer")
    sql.set_params(con, times | {name: getattr(selector, name) for name in names} | dict(more))


def _surroundings(
    con: duckdb.DuckDBPyConnection,
    home: Home,
    files: OutcomeFiles,
    name: str,
    selector: Selector,
    affected: int,
    answers: mx.Answers,
    now: datetime,
    step: Step,
) -> Surroundings:
    """Totals beside the rows: all mail by dimension, what is missing, how old everything is."""
    step()
    parts = Evidence(home).manifest().parts.values()
    first = min((part.first_at for part in parts if part.first_at is not None), default=None)
    last = max((part.last_at for part in parts if part.last_at is not None), default=None)
    _params(con, selector, {"first_us": first, "last_us": last})
    mails = con.execute("SELECT dimension, value, mails FROM mails").fetchall()
    missing = _missing(con, home)
    step()
    catalog = Catalog(home)
    loaded_at = catalog.loaded_at()
    return Surroundings(
        id=incident_id(name, files.id, selector),
        name=name,
        selector=selector_values(selector),
        evidence_id=files.id,
        catalog_id=catalog.id(),
        opened_at=to_text(now),
        affected=affected,
        no_evidence=_no_evidence(con),
        missing=missing,
        own_resends=_count(con, f"link WHERE rule = {sql.quote(OWN_RULE)}"),
        first_at="" if first is None else to_text(from_micros(first)),
        last_at="" if last is None else to_text(from_micros(last)),
        catalog_loaded_at="" if loaded_at is None else to_text(loaded_at),
        mails=tuple(Mails(dimension=d, value=value, mails=int(count)) for d, value, count in mails),
        warnings=tuple(_warnings(catalog)),
        **_asked(con, answers),
    )


def _asked(con: duckdb.DuckDBPyConnection, answers: mx.Answers) -> dict[str, Any]:
    """When the DNS was asked for what it named, and of how many mails named by their domain it said nothing."""
    rows = con.execute("SELECT provider_way, domain, count(*) FROM frozen GROUP BY ALL").fetchall()
    times = sorted(to_text(answers[domain].at) for way, domain, _ in rows if way == "mx")
    silent = (
        mails
        for way, domain, mails in rows
        if way == "domain" and mx.in_dns(domain) and (domain not in answers or answers[domain].word is mx.Word.SILENT)
    )
    return (
        {"mx_first": times[0], "mx_last": times[-1], "mx_silent": sum(silent)} if times else {"mx_silent": sum(silent)}
    )


def _totals(
    con: duckdb.DuckDBPyConnection, config: Config, files: OutcomeFiles, hosts: Mapping[str, Sequence[str]]
) -> None:
    con.execute(
        f"CREATE OR REPLACE TEMP TABLE release_total AS SELECT * FROM read_parquet({sql.quote(files.release_totals)})"
    )
    causes.providers(con, config, hosts, source="total", table="provider_of_total")
    con.execute(f"CREATE OR REPLACE TEMP TABLE provider_of_domain AS {sql.load('link/freeze/provider_of_domain')}")
    con.execute(f"CREATE OR REPLACE TEMP TABLE mails AS {sql.load('link/freeze/mails')}")
    con.execute(f"INSERT INTO mails SELECT {sql.quote(ACCEPTED)}, * FROM ({sql.load('link/freeze/accepted')})")


def _missing(con: duckdb.DuckDBPyConnection, home: Home) -> int:
    if not _count(con, "sendlog"):
        return 0
    Evidence(home).attach(con)
    con.execute("CREATE OR REPLACE TEMP VIEW seen AS SELECT message_id, qid FROM events")
    row = con.execute(sql.load("link/freeze/missing")).fetchone()
    assert row is not None
    return int(row[0])


def _no_evidence(con: duckdb.DuckDBPyConnection) -> int:
    row = con.execute(sql.load("link/freeze/no_evidence")).fetchone()
    assert row is not None
    return int(row[0])


def _warnings(catalog: Catalog) -> Iterator[str]:
    loaded = catalog.snapshots()
    for kind in ("releases", "recipients"):
        if kind not in loaded:
            yield f"no {kind} are loaded: nothing can be linked without them"


def _count(con: duckdb.DuckDBPyConnection, table: str) -> int:
    row = con.execute(f"SELECT count(*) FROM {table}").fetchone()
    assert row is not None
    return int(row[0])


def _known(ledger: Ledger) -> Sequence[IncidentRecord]:
    with ledger.read() as connection:
        return incidents_of(connection)


def find_incident(ledger: Ledger, ref: str) -> IncidentRecord:
    """An incident by its id, its name, or an unambiguous beginning of its id."""
    known = _known(ledger)
    exact = [record for record in known if ref in (record.id, record.name)]
    begun = exact or [record for record in known if ref and record.id.startswith(ref)]
    if len(begun) == 1:
        return begun[0]
    if begun:
        raise UsageError(
            f"{ref!r} fits {len(begun)} incidents", next_step="write more of the id; see 'resend incident list'"
        )
    raise UsageError(f"there is no incident {ref!r}", next_step=_instead(ledger, ref, known))


def _instead(ledger: Ledger, ref: str, known: Sequence[IncidentRecord]) -> str:
    """What may have been meant by a name that no incident has."""
    if not known:
        return "none was opened yet: resend incident open NAME"
    plan = next((plan for plan in ledger.plans() if len(ref) >= _PLAN_REF and plan.id.startswith(ref)), None)
    if plan is not None:
        return f"that is a plan, of incident {plan.incident_id}"
    names = [name for record in known for name in (record.name, record.id)]
    near = [name for name in names if ref and ref.lower() in name.lower()] or difflib.get_close_matches(ref, names, n=1)
    return f"did you mean {near[0]!r}? see 'resend incident list'" if near else "see 'resend incident list'"
