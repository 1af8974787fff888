"""The report of an incident for a receiver's postmaster: when, how many, what was answered, from which of our hosts.

Names no customer, release or recipient: it leaves the house. What we ask for stays a marked blank for a person. Raises
UsageError for a receiver that the incident has no mail of, InputError where the file cannot be written.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import duckdb

from resend.clock import from_micros
from resend.errors import UsageError
from resend.policy.classify import normalise
from resend.stores import sql
from resend.stores.incidents import Surroundings

_SHOWN = 20  # replies and pairs of hosts


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One wording of a receiver: its codes, a reply as it was logged, how many mails got it and when."""

    code: str
    sample: str
    mails: int
    first_at: int | None  # microseconds UTC
    last_at: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Postmaster:
    """What is told to one receiver."""

    about: Surroundings
    provider: str
    affected: int
    mails: int | None  # all mail to it in the window
    answers: tuple[Answer, ...]  # most frequent first
    pairs: tuple[tuple[str, str, int], ...]  # our host, theirs, mails
    hours: tuple[tuple[int, int], ...]  # begin (microseconds UTC), mails


def told(con: duckdb.DuckDBPyConnection, about: Surroundings, provider: str) -> Postmaster:
    """Sum up table `affected` for one receiver."""
    sql.set_params(con, {"provider": provider})
    found: dict[tuple[str, str], Answer] = {}
    for code, enhanced, reply, mails, first, last in con.execute(sql.load("postmaster/10_reply")).fetchall():
        codes = " ".join(str(part) for part in (code or "", enhanced or "") if part)
        key, new = (codes, normalise(reply or "")), _answer(codes, reply or "", mails, first, last)
        found[key] = _together(found[key], new) if key in found else new
    if not found:
        here = [name for (name,) in con.execute("SELECT DISTINCT provider FROM affected ORDER BY 1").fetchall()]
        raise UsageError(
            f"no mail to {provider!r} is in this incident",
            where=f"incident {about.name}",
            next_step=f"receivers here: {', '.join(here[:20])}",
        )
    total = next((m.mails for m in about.mails if m.dimension == "provider" and m.value == provider), None)
    return Postmaster(
        about=about,
        provider=provider,
        affected=sum(answer.mails for answer in found.values()),
        mails=total,
        answers=tuple(sorted(found.values(), key=lambda answer: (-answer.mails, answer.code, answer.sample))),
        pairs=tuple(con.execute(sql.load("postmaster/20_pair")).fetchall()),
        hours=tuple(con.execute(sql.load("postmaster/30_hour")).fetchall()),
    )


def _answer(code: str, sample: str, mails: int, first: int | None, last: int | None) -> Answer:
    return Answer(code=code, sample=sample, mails=mails, first_at=first, last_at=last)


def _together(one: Answer, two: Answer) -> Answer:
    firsts = [at for at in (one.first_at, two.first_at) if at is not None]
    lasts = [at for at in (one.last_at, two.last_at) if at is not None]
    sample = min(one.sample, two.sample)  # any; the same each time
    return _answer(one.code, sample, one.mails + two.mails, min(firsts, default=None), max(lasts, default=None))


def write(
    found: Postmaster, *, lang: str, zone: ZoneInfo, now: datetime, shown: Callable[[str], str], directory: Path
) -> Path:
    """Write `<incident>-<provider>-<lang>.html` into `directory`; its path. `shown` masks addresses."""
    from markupsafe import Markup

    from resend.report.charts import columns
    from resend.report.incident import local, number, percent, save, template  # Jinja2 takes its time to load
    from resend.report.words import WORDS

    def shown_at(micros: int | None) -> str:
        return "" if micros is None else local(from_micros(micros), zone)

    name = "".join(char if char.isalnum() or char in ".-_" else "_" for char in found.provider)
    hours = [(local(from_micros(hour), zone)[5:13] + "h", mails) for hour, mails in found.hours]
    html = template("postmaster.html.j2").render(
        lang=lang,
        w=WORDS[lang],
        id=found.about.id,
        provider=found.provider,
        made=local(now, zone),
        zone=str(zone),
        first=shown_at(min((one.first_at for one in found.answers if one.first_at), default=None)),
        last=shown_at(max((one.last_at for one in found.answers if one.last_at), default=None)),
        affected=found.affected,
        mails=found.mails,
        hour_chart=Markup(columns(hours, title=WORDS[lang]["by_hour"])),
        answers=[
            (one.code, shown(one.sample) or "-", one.mails, shown_at(one.first_at), shown_at(one.last_at))
            for one in found.answers[:_SHOWN]
        ],
        more=sum(one.mails for one in found.answers[_SHOWN:]),
        pairs=found.pairs[:_SHOWN],
        n=number,
        percent=percent,
    )
    return save(html, directory / f"{found.about.id}-{name}-{lang}.html")
