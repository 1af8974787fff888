"""The case folders of bounces, real bounces beside this repository, and a report as plain JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from resend.clock import to_text
from resend.collect.bounces.report import Report
from tests.collect.reading import CORPORA, REPOSITORY

CASES = sorted((REPOSITORY / "tests/cases/bounces").iterdir())


def told(report: Report) -> dict[str, Any]:
    """A report without what is absent, times as text."""
    found = _plain(dataclasses.asdict(report))
    found["headers"] = dict(report.headers)
    return {key: value for key, value in found.items() if value}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: plain for key, item in value.items() if (plain := _plain(item)) not in ("", None, 0, False, [])}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return to_text(value) if isinstance(value, datetime) else value


def real_mails() -> Iterator[Path]:
    """Bounces of other projects; none where the corpora are absent."""
    for pattern in ("sisimai/mails/*.eml", "bounce_email/tests/*/*.txt", "kumomta/crates/kumo-log-types/data/*/*.eml"):
        yield from sorted(CORPORA.glob(pattern))
