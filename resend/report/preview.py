"""The preview as one HTML page for operators: the numbers of `resend preview`, no scripts. Decides and changes nothing.

Raises InputError where the file cannot be written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from markupsafe import Markup

from resend.errors import InputError
from resend.model import Bucket
from resend.report.charts import bars, columns
from resend.report.impact import Impact
from resend.report.incident import by_hour, local, number, percent, template, top
from resend.report.unlinked import grouped
from resend.stores.home import private_opener

_SHOWN = 50  # rows of a table; --csv gives all
_TABLES = (
    ("provider", "By receiving system"),
    ("release", "By release"),
    ("customer", "By customer"),
    ("domain", "By domain"),
)


def page(
    found: Impact, *, etas: Mapping[str, str], span: str, zone: ZoneInfo, now: datetime, shown: Callable[[str], str]
) -> str:
    """The page. `etas`: how long each provider takes, in words, `span` all together; `shown` masks addresses."""
    about = found.about
    return template("preview.html.j2").render(
        id=about.id,
        name=about.name,
        made=local(now, zone),
        first=local(about.first_at, zone),
        last=local(about.last_at, zone),
        catalog=local(about.catalog_loaded_at, zone),
        warnings=about.warnings,
        affected=found.affected,
        mails=found.mails,
        resend=found.count(Bucket.RESEND),
        no_evidence=found.no_evidence,
        missing=found.missing,
        ended=found.ended,
        ways=[
            (f"MX (asked {local(about.mx_last, zone)})" if way == "mx" else way, mails)
            for way, mails in found.provider_ways.items()
        ],
        etas=etas,
        span=span,
        hour_chart=Markup(columns(by_hour(found.tables["hour"], zone), title="by hour of arrival")),
        provider_chart=Markup(bars(top(found.tables["provider"]), title="by receiving system")),
        cause_chart=Markup(bars(top(found.tables["cause"]), title="by cause")),
        buckets=found.buckets,
        tables=[(head, found.tables[name], name) for name, head in _TABLES],
        links=found.links,
        unlinked=[
            (doubt, needed, count, shown(first.nearest or first.evidence))
            for doubt, needed, count, first in grouped(found.unlinked)
        ],
        shown=_SHOWN,
        n=number,
        percent=percent,
    )


def write(path: Path, html: str) -> None:
    """Write the page, for the owner's eyes only."""
    try:
        with open(path, "w", encoding="utf-8", opener=private_opener) as handle:
            handle.write(html)
    except OSError as error:
        raise InputError(
            f"cannot write: {error.strerror}", where=str(path), next_step="name another file with --html"
        ) from None
