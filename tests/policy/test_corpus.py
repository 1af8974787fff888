"""The score of the rules on replies that others labelled. Skipped where the corpora are absent.

The rules were written from providers' pages and common wordings; their first score on the example replies, before any
of them was looked at, was 81 %. Labels are opinions: 421 [TSS04] counts there as a rejection, 'Server busy' as a system
error.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from resend.model import CauseClass
from resend.policy.classify import Rules

CORPORA = Path(__file__).resolve().parents[2].parent / "shared" / "corpora"
REPLIES = CORPORA / "sisimai" / "provider_example_replies.jsonl"
FINAL = {CauseClass.MAILBOX_GONE, CauseClass.BAD_DOMAIN}

pytestmark = pytest.mark.skipif(not REPLIES.is_file(), reason="the corpora are not beside the project")


@pytest.mark.parametrize("named", [True, False], ids=["provider known", "provider not known"])
def test_score(named: bool) -> None:
    classes = json.loads((CORPORA / "class_map.json").read_text(encoding="utf-8"))["sisimai"]
    rows = [json.loads(line) for line in REPLIES.read_text(encoding="utf-8").splitlines()]
    rules = Rules.load()
    right, wrong_never, rates, rates_found, misses = 0, [], 0, 0, []
    for row in rows:
        wanted = classes[row["reason"]]
        found = rules.classify(row["text"], provider=row["provider"] if named else "").cls
        right += found in wanted
        if found in FINAL and not FINAL & set(wanted):
            wrong_never.append(row["text"])
        if {"throttled", "greylisted"} & set(wanted):
            rates += 1
            rates_found += found in wanted
        if found not in wanted:
            misses.append(f"{row['reason']} read as {found}: {row['text'][:90]}")
    print(f"\n{right} of {len(rows)} right ({right / len(rows):.1%}), throttled {rates_found} of {rates}")
    assert wrong_never == []
    assert right >= 0.85 * len(rows), misses
    assert rates_found >= 0.85 * rates, misses
