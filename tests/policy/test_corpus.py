"""The score of the rules on replies that others labelled. Skipped where the corpora are absent.

Labels are opinions: 421 [TSS04] counts there as a rejection, 'Server busy' as a system error. docs/causes.md has the
scores of the first, blind run on each of these; here they must not fall.
"""

from __future__ import annotations

import email
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path

import pytest

from resend.model import CauseClass
from resend.policy.classify import Rules

CORPORA = Path(__file__).resolve().parents[2].parent / "shared" / "corpora"
SISIMAI = CORPORA / "sisimai"
FINAL = {CauseClass.MAILBOX_GONE, CauseClass.BAD_DOMAIN}
RATES = {CauseClass.THROTTLED, CauseClass.GREYLISTED}

pytestmark = pytest.mark.skipif(not SISIMAI.is_dir(), reason="the corpora are not beside the project")


@dataclass
class Score:
    right: int = 0
    total: int = 0
    rates: int = 0
    rates_found: int = 0
    wrong_never: list[str] = field(default_factory=list)
    misses: list[str] = field(default_factory=list)

    def add(self, text: str, reason: str, wanted: list[str] | None, found: CauseClass) -> None:
        if wanted is None:  # no failure
            return
        ok = found in wanted
        self.total += 1
        self.right += ok
        if RATES & set(wanted):
            self.rates += 1
            self.rates_found += ok
        if found in FINAL and not FINAL & set(wanted):
            self.wrong_never.append(text)
        if not ok:
            self.misses.append(f"{reason} read as {found}: {text[:90]}")


def classes(of: str) -> dict[str, list[str] | None]:
    return json.loads((CORPORA / "class_map.json").read_text(encoding="utf-8"))[of]  # type: ignore[no-any-return]


def lines(name: str) -> Iterator[dict[str, str]]:
    for line in (SISIMAI / name).read_text(encoding="utf-8").splitlines():
        yield json.loads(line)


@pytest.mark.parametrize("named", [True, False], ids=["provider known", "provider not known"])
def test_example_replies(named: bool) -> None:
    score, wanted, rules = Score(), classes("sisimai"), Rules.load()
    for row in lines("provider_example_replies.jsonl"):
        found = rules.classify(row["text"], provider=row["provider"] if named else "").cls
        score.add(row["text"], row["reason"], wanted[row["reason"]], found)
    assert score.wrong_never == []
    assert score.right >= 0.89 * score.total, score.misses
    assert score.rates_found >= 0.9 * score.rates, score.misses


def test_replies_in_delivery_reports() -> None:
    """The texts and statuses of all delivery reports, without what is known of the receiver."""
    score, wanted, rules = Score(), classes("sisimai"), Rules.load()
    for line in (SISIMAI / "expected.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        reports = list(_reports(email.message_from_bytes((SISIMAI / row["file"]).read_bytes())))
        if len(reports) != len(row["expected"]):
            continue
        for (text, status), told in zip(reports, row["expected"], strict=True):
            found = rules.classify(text, enhanced=status).cls
            score.add(text, told["reason"], wanted[told["reason"]], found)
    assert score.wrong_never == []
    assert score.right >= 0.9 * score.total, score.misses


def _reports(mail: Message) -> Iterator[tuple[str, str]]:
    for part in mail.walk():
        if part.get_content_type() not in ("message/delivery-status", "message/global-delivery-status"):
            continue
        for block in part.get_payload() if isinstance(part.get_payload(), list) else []:
            if isinstance(block, Message) and ("final-recipient" in block or "original-recipient" in block):
                status = re.match(r"[245]\.\d+\.\d+", str(block.get("status", "")).strip())
                yield " ".join(str(block.get("diagnostic-code", "")).split()), status.group() if status else ""
