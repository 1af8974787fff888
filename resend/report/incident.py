"""The customer report of an incident: one HTML file, no scripts, in Japanese or English, for a phone and for paper.

Facts come from the impact and the ledger; cause and apology stay marked blanks for a person. Its sums are the
preview's. Raises InputError where the file cannot be written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from pathlib import Path
from zoneinfo import ZoneInfo

import jinja2
from markupsafe import Markup

from resend.clock import from_text
from resend.errors import InputError
from resend.model import Bucket, CauseClass, Fate, State
from resend.report.charts import bars, columns
from resend.report.impact import Impact, ImpactRow
from resend.report.results import Results
from resend.report.words import BUCKETS, CATCH_UP_ENDS, CAUSES, WORDS
from resend.stores.home import private_opener

_SHOWN = 50  # releases and customers listed; the CSV of preview has all
_BARS = 12
_TURNING = dict.fromkeys((*range(0x202A, 0x202F), *range(0x2066, 0x206A)))  # Unicode's embeddings, overrides, isolates
_LEFT = (State.PLANNED, State.LEASED, State.SENDING, State.DEFERRED, State.IN_DOUBT, State.HELD, State.QUARANTINED)
_STATES = {
    "ja": {
        State.PLANNED: "未送信", State.LEASED: "送信準備中", State.SENDING: "送信中", State.ACCEPTED: "受付済み",
        State.DEFERRED: "再試行待ち", State.REJECTED: "受信側が拒否", State.IN_DOUBT: "確認できず",
        State.SUPPRESSED: "送信停止の対象", State.QUARANTINED: "本文の問題で保留", State.HELD: "保留",
        State.CLOSED: "終了", State.GAVE_UP: "再試行を断念",
    },
    "en": {state: state.value.replace("_", " ") for state in State},
}  # fmt: skip


def unfinished(found: Impact, results: Results) -> list[str]:
    """What keeps a report from being the last one, in words: more is to come."""
    waiting = found.count(Bucket.STILL_QUEUED) - found.ended.mails
    relayed = results.fates.get(Fate.UNSEEN, 0) + results.fates.get(Fate.QUEUED_AT_RELAY, 0)
    counts = {
        "to be resent and in no run yet": found.count(Bucket.RESEND),
        "of a plan not settled": sum(results.states.get(state, 0) for state in _LEFT),
        "at the relay": relayed,
        "still in the mail host's queue": waiting,
        "waiting for their time": found.count(Bucket.WAIT),
    }
    return [f"{number(count)} {what}" for what, count in counts.items() if count]


def render(found: Impact, results: Results, *, lang: str, zone: ZoneInfo, now: datetime, final: bool = False) -> str:
    """The report as HTML. `lang`: ja or en; times are shown in `zone`; `final`: it says that it is the last one."""
    words = WORDS[lang]
    releases = [row for row in found.tables["release"] if row.value != "-"]
    customers = [row for row in found.tables["customer"] if row.value != "-"]
    states = [(_STATES[lang][state], results.states[state]) for state in State if results.states.get(state)]
    hours = [row for row in found.tables["hour"] if row.failed]
    first = min((row.value for row in hours), default=found.about.first_at)
    last = found.about.last_at
    return template("incident.html.j2").render(
        lang=lang,
        w=words,
        id=found.about.id,
        name=found.about.name,
        made=local(now, zone),
        stage=words["final"] if final else "",
        first=local(first, zone),
        last=local(last, zone),
        affected=found.affected,
        mails=found.mails,
        no_evidence=found.no_evidence,
        missing=found.missing,
        release_count=len(releases),
        customer_count=len(customers),
        hour_chart=Markup(columns(by_hour(hours, zone), title=words["by_hour"])),
        provider_chart=Markup(bars(top(found.tables["provider"]), title=words["by_provider"])),
        cause_chart=Markup(bars(_causes(found.tables["cause"], lang), title=words["by_cause"])),
        buckets=_buckets(found, lang),
        planned=results.planned,
        accepted=results.accepted,
        queued=results.fates.get(Fate.UNSEEN, 0) + results.fates.get(Fate.QUEUED_AT_RELAY, 0),
        resent_first=local(results.first_at, zone),
        resent_last=local(results.last_at, zone),
        states=states,
        left=sum(results.states.get(state, 0) for state in _LEFT),
        caught_up=_caught_up(results, lang, zone),
        releases=[_release(row, results) for row in releases[:_SHOWN]],
        more_releases=max(0, len(releases) - _SHOWN),
        customers=customers[:_SHOWN],
        more_customers=max(0, len(customers) - _SHOWN),
        n=number,
        percent=percent,
    )


def write(
    found: Impact,
    results: Results,
    *,
    lang: str,
    zone: ZoneInfo,
    now: datetime,
    directory: Path,
    final: bool = False,
) -> Path:
    """Write `<incident>-<lang>.html`, `<incident>-final-<lang>.html` of the last one, into `directory`; its path."""
    name = f"{found.about.id}{'-final' if final else ''}-{lang}.html"
    return save(render(found, results, lang=lang, zone=zone, now=now, final=final), directory / name)


def save(html: str, path: Path) -> Path:
    """Write a page, for the owner's eyes only; its path."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "w", encoding="utf-8", opener=private_opener) as handle:
            handle.write(html)
    except OSError as error:
        raise InputError(
            f"cannot write: {error.strerror}", where=str(path), next_step="name another directory with --out"
        ) from None
    return path


@cache
def template(name: str) -> jinja2.Template:
    """A page of ours; every text in it is escaped, an unknown name raises."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        finalize=_plain,
    )
    return environment.get_template(name)


def _plain(value: object) -> object:
    """Text without the characters that turn what follows around: a title must not make the page read otherwise."""
    return value if isinstance(value, Markup) or not isinstance(value, str) else value.translate(_TURNING)


def _buckets(found: Impact, lang: str) -> list[tuple[str, int]]:
    """(label, mails), which add up to the affected; what ended in the queue since is on its way no more."""
    rows = []
    for row in found.buckets:
        over = found.ended.mails if row.name is Bucket.STILL_QUEUED else 0
        rows += [(BUCKETS[lang][row.name], row.count - over), (WORDS[lang]["ended"], over)]
    return [row for row in rows if row[1]]


def _release(row: ImpactRow, results: Results) -> Mapping[str, object]:
    planned, accepted = results.by_release.get(row.value, (0, 0))
    return {"label": row.label, "failed": row.failed, "planned": planned or row.resend, "accepted": accepted}


def _caught_up(results: Results, lang: str, zone: ZoneInfo) -> list[tuple[str, str]]:
    """(label, value) of what the last catch-up did for this incident; empty where none did."""
    done, words = results.catch_up, WORDS[lang]
    if done is None:
        return []
    began = local(done.of.began_at, zone)
    ended = local(done.of.ended_at, zone)
    left = sum(results.states.get(state, 0) for state in _LEFT)
    rows = [
        ("ran", f"{began} – {ended}" if ended else words["catchup_open"].format(began=began)),
        ("took", words["catchup_took_text"].format(due=number(done.due), new=number(done.new))),
        ("sent", words["catchup_mails"].format(n=number(done.accepted))),
        ("left", words["catchup_mails"].format(n=number(left))),
        ("next", local(done.next_due, zone) or words["catchup_none"]),
    ]
    if done.of.ending is not None:
        rows.insert(4, ("ended", CATCH_UP_ENDS[lang][done.of.ending]))
    return [(words[f"catchup_{name}"], value) for name, value in rows]


def top(rows: Sequence[ImpactRow]) -> list[tuple[str, int]]:
    """(label, failed) of the largest, and the rest together."""
    shown = [(row.label, row.failed) for row in rows[:_BARS]]
    rest = sum(row.failed for row in rows[_BARS:])
    return [*shown, ("…", rest)] if rest else shown


def _causes(rows: Sequence[ImpactRow], lang: str) -> list[tuple[str, int]]:
    known = {cause.value: text for cause, text in CAUSES[lang].items()}
    return [(known.get(row.value, row.value), row.failed) for row in rows if row.value in set(CauseClass) or row.failed]


def by_hour(rows: Sequence[ImpactRow], zone: ZoneInfo) -> list[tuple[str, int]]:
    """(hour in `zone`, failed)."""
    return [(from_text(row.value).astimezone(zone).strftime("%m-%d %Hh"), row.failed) for row in rows]


def local(at: datetime | str | None, zone: ZoneInfo) -> str:
    """A time in `zone` to the minute, "" for none."""
    if not at:
        return ""
    return (from_text(at) if isinstance(at, str) else at).astimezone(zone).strftime("%Y-%m-%d %H:%M")


def number(value: int | None) -> str:
    """With separators; a dash where it is not known."""
    return "–" if value is None else f"{value:,}"


def percent(part: int, whole: int | None) -> str:
    """A share with two decimals; a dash where it is not known."""
    return "–" if not whole else f"{100 * part / whole:.2f} %"
