"""No literal of a rule is dead: for each one there is a reply in which its rule wins.

A literal that an earlier rule always takes is read by people as if it decided something.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import pytest

from resend.policy.classify import Rules
from resend.policy.rules import Rule

CODES = ("550", "450", "421", "501", "535", "452", "554", "")
RULES = Rules.load()


def replies(rule: Rule, literal: str) -> Iterator[str]:
    """Replies that hold a literal, as a phrase and as a code in brackets, under the codes that the rule is about."""
    literal = literal.strip()
    forms = (literal, literal.upper().replace(" ", "-"), f"https://example.com/?{literal.replace(' ', '=', 1)}")
    for code, form, beside in product(CODES, forms, rule.also or ("",)):
        enhanced = ["", "4.7.0" if code[:1] == "4" else "5.1.1"]
        enhanced += [
            f"{spec.severity or code[:1] or '5'}{spec.prefix}{spec.low}"
            for spec in rule.codes
            if spec.prefix and code[:1] in (spec.severity or code[:1], "")
        ]
        yield from (f"{code} {each} {form} {beside}".strip() for each in enhanced)


@pytest.mark.parametrize("rule", [rule for rule in RULES.all if rule.contains], ids=lambda rule: rule.id)
def test_every_literal_can_win(rule: Rule) -> None:
    provider = rule.providers[0] if rule.providers else ""
    dead = [
        literal
        for literal in rule.contains
        if all(RULES.classify(t, provider=provider, stage=rule.stage).rule != rule.id for t in replies(rule, literal))
    ]
    assert dead == []
