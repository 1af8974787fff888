"""Scores on bounces that others labelled: who failed, which code, which cause. Skipped where the corpora are absent.

The rules of the grammar were written from one half of these mails (by hash of the file name); both halves are held.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from resend.collect.bounces.read import read_report
from resend.collect.bounces.report import Failed, ReportKind
from resend.policy.classify import Rules
from resend.policy.providers import ProviderTable
from tests.collect.reading import CORPORA

SISIMAI = CORPORA / "sisimai"
pytestmark = pytest.mark.skipif(not SISIMAI.is_dir(), reason="the corpora are not beside this repository")
NO_BOUNCE = ("feedback", "vacation", "delivered")


def labelled() -> list[tuple[Path, list[dict[str, Any]]]]:
    lines = (SISIMAI / "expected.jsonl").read_text(encoding="utf-8").splitlines()
    return [(SISIMAI / item["file"], item["expected"]) for item in map(json.loads, lines)]


def placeholder(status: str) -> bool:
    """A code that Sisimai made up: x.0.9yy."""
    parts = status.split(".")
    return not status or (parts[1] == "0" and parts[2].startswith("9") and len(parts[2]) == 3)


def test_who_failed_and_with_which_code() -> None:
    people = found = codes = same = 0
    for path, expected in labelled():
        report = read_report(path.read_bytes())
        people += len(expected)
        found += min(len(expected), len(report.recipients))
        assert len(report.recipients) <= len(expected), path.name
        for label, failed in zip(expected, report.recipients, strict=False):
            if not placeholder(label["status"]):
                codes += 1
                same += failed.status == label["status"]
    assert found / people >= 0.98
    assert same / codes >= 0.96


def test_why() -> None:
    meaning = json.loads((CORPORA / "class_map.json").read_text(encoding="utf-8"))["sisimai"]
    rules, table = Rules.load(), ProviderTable.load()

    def cause(failed: Failed) -> str:
        provider, _ = table.of(failed.remote_mta, failed.remote_ip, failed.recipient.rpartition("@")[2])
        return rules.classify(failed.reply, code=failed.code, enhanced=failed.status, provider=provider).cls.value

    total = fits = 0
    for path, expected in labelled():
        recipients = read_report(path.read_bytes()).recipients
        for label, failed in zip(expected, recipients, strict=False):
            if meaning[label["reason"]] is not None:
                total += 1
                fits += cause(failed) in meaning[label["reason"]]
    assert fits / total >= 0.85


def test_what_kind_of_mail() -> None:
    wrong = []
    for path, expected in labelled():
        kind = read_report(path.read_bytes()).kind
        bounce = expected[0]["reason"] not in NO_BOUNCE
        if bounce != (kind in (ReportKind.FAILURE, ReportKind.DELAY)):
            wrong.append((path.name, kind))
    for path in sorted((CORPORA / "bounce_email/tests").glob("*/*.txt")):
        kind = read_report(path.read_bytes()).kind
        if (path.parent.name == "bounces") != (kind in (ReportKind.FAILURE, ReportKind.DELAY, ReportKind.COMPLAINT)):
            wrong.append((path.name, kind))
    for path in sorted((CORPORA / "kumomta/crates/kumo-log-types/data").glob("*/*.eml")):
        kind = read_report(path.read_bytes()).kind
        if (path.parent.name == "rfc5965") != (kind is ReportKind.COMPLAINT):
            wrong.append((path.name, kind))
    assert len(wrong) <= 2, wrong
