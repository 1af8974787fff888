"""What an incident did, in numbers: one object that preview, report, JSON and CSV all show.

Runs sql/impact over the affected mails and checks that everything adds up. Decides and changes nothing. Raises
StoreError where the buckets do not add up to the frozen count, InputError for a directory that cannot be written.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from resend.clock import from_micros, to_text
from resend.errors import InputError, StoreError
from resend.model import Bucket
from resend.report.ended import NOTHING, Ended
from resend.report.unlinked import Unlinked
from resend.stores import sql
from resend.stores.home import private_opener
from resend.stores.incidents import Surroundings

DIMENSIONS = ("total", "provider", "domain", "release", "customer", "cause", "hour")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")  # a spreadsheet runs a cell that begins with one of these
_UNLINKED = ("evidence", "arrived_at", "recipient", "sender", "message_id", "rule", "nearest", "doubt")
_HEADERS = ("value", "label", "mails", "failed", "share", "resend")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImpactRow:
    """One value of a dimension. `mails`: all mail of it, None unknown; `share`: failed / mails, 0 to 1."""

    dimension: str
    value: str  # of the hour: its begin as RFC 3339 text
    label: str  # a release's title, a customer's name, else the value
    mails: int | None
    failed: int
    share: float | None
    resend: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketRow:
    """One bucket with its reasons, most frequent first."""

    name: Bucket
    count: int
    reasons: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Impact:
    """Everything a view of an incident shows. The buckets add up to `affected`."""

    about: Surroundings
    mails: int | None  # all mail of the window
    affected: int
    no_evidence: int  # beside the sum
    missing: int  # beside the sum
    buckets: tuple[BucketRow, ...]  # all of them, in the order of decision, also the empty ones
    tables: Mapping[str, tuple[ImpactRow, ...]]  # by dimension
    links: tuple[tuple[str, str, int], ...]  # rule ("" none), confidence, mails
    provider_ways: Mapping[str, int]  # relay | mx | domain -> mails
    most: Mapping[str, int]  # provider -> most mails to be resent to one mailbox
    unlinked: tuple[Unlinked, ...]  # the first 20,000
    ended: Ended = NOTHING  # of the bucket still_queued

    def count(self, bucket: Bucket) -> int:
        return next(row.count for row in self.buckets if row.name is bucket)


def impact(con: duckdb.DuckDBPyConnection, about: Surroundings) -> Impact:
    """Sum up temp table `affected`, against temp table `mails`."""
    rows: dict[str, tuple[ImpactRow, ...]] = {}
    found: dict[str, list[tuple[object, ...]]] = {}
    for name in sql.names("impact"):
        result = con.execute(sql.load(name)).fetchall()
        dimension = Path(name).name.split("_", 1)[1]
        if dimension in DIMENSIONS:
            rows[dimension] = tuple(_row(values) for values in result)
        else:
            found[dimension] = result
    buckets = _buckets(found["bucket"])
    total = sum(row.count for row in buckets)
    if total != about.affected:
        raise StoreError(
            f"the buckets add up to {total:,}, affected are {about.affected:,}",
            where=f"incident {about.name}",
            next_step="this is a defect; keep derived/ and report it",
        )
    return Impact(
        about=about,
        mails=rows["total"][0].mails,
        affected=total,
        no_evidence=about.no_evidence,
        missing=about.missing,
        buckets=buckets,
        tables=rows,
        links=tuple((str(rule), str(confidence), _int(mails)) for rule, confidence, mails in found["link"]),
        provider_ways={str(way): _int(mails) for way, mails in found["provider_way"]},
        most={str(provider): _int(mails) for provider, mails in found["mailbox"]},
        unlinked=tuple(
            Unlinked(**dict(zip(_UNLINKED, row, strict=True)))  # type: ignore[arg-type]
            for row in found["unlinked"]
        ),
    )


def _row(values: Sequence[object]) -> ImpactRow:
    dimension, value, label, mails, failed, share, resend = values
    text = str(value)
    if dimension == "hour":
        text = to_text(from_micros(int(text)))
    return ImpactRow(
        dimension=str(dimension),
        value=text,
        label=text if dimension == "hour" else str(label or text),
        mails=None if mails is None else _int(mails),
        failed=_int(failed),
        share=None if share is None else float(str(share)),
        resend=_int(resend),
    )


def _buckets(rows: Iterable[Sequence[object]]) -> tuple[BucketRow, ...]:
    reasons: dict[Bucket, dict[str, int]] = {bucket: {} for bucket in Bucket}
    for name, reason, mails in rows:
        reasons[Bucket(str(name))][str(reason)] = _int(mails)
    return tuple(BucketRow(name=name, count=sum(found.values()), reasons=found) for name, found in reasons.items())


def _int(value: object) -> int:
    return int(str(value))


def write_csv(found: Impact, directory: Path, *, shown: Callable[[str], str] = str) -> list[Path]:
    """One file per table, in UTF-8 with a BOM (Excel in Japan takes a file without one for Shift_JIS); the paths.

    `shown` masks the addresses in a text, where they are to be masked.
    """
    files: dict[str, tuple[Sequence[str], list[Sequence[object]]]] = {
        dimension: (_HEADERS, [[getattr(row, name) for name in _HEADERS] for row in rows])
        for dimension, rows in found.tables.items()
    }
    files["bucket"] = (
        ("bucket", "reason", "mails"),
        [(row.name.value, reason, mails) for row in found.buckets for reason, mails in row.reasons.items()],
    )
    files["unlinked"] = (
        (*_UNLINKED, "needed"),
        [
            [
                mail.evidence,
                "" if mail.arrived_at is None else to_text(from_micros(mail.arrived_at)),
                *(shown(text) for text in (mail.recipient, mail.sender, mail.message_id)),
                mail.rule,
                shown(mail.nearest),
                mail.doubt,
                mail.needed,
            ]
            for mail in found.unlinked
        ],
    )
    written = []
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, (header, rows) in files.items():
            path = directory / f"{name}.csv"
            with open(path, "w", encoding="utf-8-sig", newline="", opener=private_opener) as handle:
                writer = csv.writer(handle)
                writer.writerow(header)
                writer.writerows([cell(value) for value in row] for row in rows)
            written.append(path)
    except OSError as error:
        raise InputError(
            f"cannot write: {error.strerror}", where=str(directory), next_step="name another one"
        ) from None
    return written


def cell(value: object) -> object:
    """A value for a CSV cell: text that a spreadsheet would run as a formula gets an apostrophe before it.

    >>> cell("=HYPERLINK(1)"), cell("plain"), cell(-5), cell(None)
    ("'=HYPERLINK(1)", 'plain', -5, '')
    """
    if value is None:
        return ""
    if isinstance(value, str) and value.lstrip(" ").startswith(_FORMULA):
        return "'" + value
    return value
