"""`scripts/bench causes`: the causes of an incident's distinct replies, on one core.

192,080 replies, no two alike, made from the samples of all rules: as Postfix logs them, with other hosts, addresses,
ids and times in each. A second run says a word in each that occurs nowhere else, so that no two wordings are alike
either. The measure is CPU time against the 5 s that the design allows. Growth is the time of a reply at 4 and 16 times
the number, against once: 1 is linear.
"""

from __future__ import annotations

import random
import re
import time
from typing import Any

from resend.policy.classify import Rules

REPLIES, QUICK_REPLIES = 192_080, 19_208
ALLOWED_S, GOAL = 5.0, 2.5
_HOST = re.compile(r"192\.0\.2\.\d+")


def run(*, quick: bool) -> list[dict[str, Any]]:
    """Measure both kinds of replies."""
    count = QUICK_REPLIES if quick else REPLIES
    return [_measured("causes", count, odd=False), _measured("causes of distinct wordings", count, odd=True)]


def _measured(part: str, count: int, *, odd: bool) -> dict[str, Any]:
    _seconds(_replies(count // 16, odd=odd, seed=0))  # the interpreter is warm, what the replies hold is new
    once, four, sixteen = (_seconds(_replies(count // parts, odd=odd, seed=parts)) * parts for parts in (16, 4, 1))
    allowed = ALLOWED_S * count / REPLIES
    return {
        "part": part,
        "replies": count,
        "ours_s": round(sixteen, 2),
        "theirs_s": round(allowed, 2),
        "theirs": "as fast as the design demands",
        "ratio": round(allowed / sixteen, 2),
        "must": 1.0,
        "goal": GOAL,
        "us_each": round(sixteen / count * 1e6, 1),
        "growth_4x": round(four / once, 2),
        "growth_16x": round(sixteen / once, 2),
    }


def _seconds(replies: list[tuple[str, str]]) -> float:
    """CPU time to judge replies with rules that have seen none before."""
    rules = Rules.load().fresh()
    start = time.process_time()
    for text, provider in replies:
        rules.classify(text, provider=provider)
    return time.process_time() - start


def _replies(count: int, *, odd: bool, seed: int) -> list[tuple[str, str]]:
    """Texts and their providers, the same in every run."""
    rnd = random.Random(seed)
    samples = [
        (text, rule.providers[0] if rule.providers else "") for rule in Rules.load().all for text in rule.samples
    ]
    made = []
    for number in range(count):
        sample, provider = samples[number % len(samples)]
        ours = f"{rnd.randrange(1, 224)}.{rnd.randrange(256)}.{rnd.randrange(256)}.{rnd.randrange(256)}"
        host = f"mx{number % 37}-{rnd.randrange(1_000)}.mail.example{rnd.randrange(500)}.jp[{ours}]"
        text = _HOST.sub(ours, sample).replace("taro@", f"user{number}-{seed}@")
        word = "".join(rnd.choices("bdfgjkpqvwz", k=9)) if odd else ""
        tail = f"[{rnd.getrandbits(44):011X}] <u{number}.{seed}@example{number % 97}.jp> (in reply to RCPT TO command)"
        made.append((f"host {host} said: {text} {word} {tail}", provider))
    return made
