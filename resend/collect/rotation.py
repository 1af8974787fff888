"""How log files are rotated: which belong together, which is the oldest, and when it will be deleted.

Reads names, times and, where this machine has them, logrotate's rules; never a log. What the rules do not say is
estimated from the files, and said to be. Raises nothing: a file that cannot be looked at is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatch
from itertools import pairwise
from pathlib import Path

_SUFFIX = re.compile(
    r"(?:\.(?P<number>\d{1,3})|[-.](?P<date>\d{8})(?:[-T]?\d{2,10})?)(?:\.(?:gz|xz|bz2|zst|lz4|Z))?", re.ASCII
)
_PERIODS = {
    "hourly": timedelta(hours=1),
    "daily": timedelta(days=1),
    "weekly": timedelta(days=7),
    "monthly": timedelta(days=30),
    "yearly": timedelta(days=365),
}
_RULES = Path("/etc")
_BRACE = re.compile(r"(\{(?=\s|$)|(?:^|(?<=\s))\})")
_QUOTES = re.compile("[\"']")
_SCRIPTS = frozenset({"postrotate", "prerotate", "firstaction", "lastaction", "preremove"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """One log and its rotated copies. `leaves_at`: when the oldest is deleted, None where nothing tells."""

    base: Path
    files: tuple[Path, ...]  # newest first
    oldest: Path
    period: timedelta | None
    keep: int | None  # rotated copies that are kept; None all
    leaves_at: datetime | None
    rule: str  # where it is said; "" estimated from the files


def rotations(paths: Sequence[Path], *, rules: Path = _RULES) -> list[Rotation]:
    """The rotations that these files (or files in these folders) belong to, by name. Only those with rotated copies."""
    bases = sorted({base_of(path) for given in paths for path in _inside(given)})
    known = list(_rules(rules))
    found = (_rotation(base, known) for base in bases)
    return [one for one in found if one is not None]


def _inside(path: Path) -> Iterator[Path]:
    try:
        yield from (path.resolve().rglob("*") if path.is_dir() else [path.resolve()])
    except OSError:
        return


def base_of(path: Path) -> Path:
    """The name that the log has before it is rotated.

    >>> [base_of(Path(name)).name for name in ("/v/mail.log.4.gz", "/v/maillog-20261101", "/v/mail.log")]
    ['mail.log', 'maillog', 'mail.log']
    """
    match = next((m for m in _SUFFIX.finditer(path.name) if m.end() == len(path.name) and m.start()), None)
    return path.with_name(path.name[: match.start()]) if match else path


def _rotation(base: Path, known: Sequence[_Rule]) -> Rotation | None:
    copies: list[tuple[float, Path]] = []
    numbers: list[int] = []
    try:
        siblings = [path for path in base.parent.iterdir() if path.name.startswith(base.name)]
    except OSError:
        return None
    for path in siblings:
        match = _SUFFIX.fullmatch(path.name[len(base.name) :])
        if match is None:
            continue
        try:
            copies.append((path.stat().st_mtime, path))
        except OSError:
            continue
        numbers.append(int(match["number"] or 0))
    if not copies:
        return None
    copies.sort(reverse=True)
    times = [datetime.fromtimestamp(mtime, UTC) for mtime, _ in copies]
    rule = next((one for one in known if any(fnmatch(str(base), pattern) for pattern in one.patterns)), None)
    said = rule.said if rule else _Said()
    seen = _period(times)
    period = seen or said.period if said.by_size else said.period or seen
    keep = said.keep if said.keep is not None else max(max(numbers), len(copies))
    ends = [times[0] + period * (1 + max(0, keep - len(copies)))] if period and keep >= 0 else []
    if said.max_age is not None:
        ends.append(times[-1] + said.max_age)
    current = (base,) if base in siblings else ()
    return Rotation(
        base=base,
        files=(*current, *(path for _, path in copies)),
        oldest=copies[-1][1],
        period=period,
        keep=keep if keep >= 0 else None,
        leaves_at=min(ends, default=None),
        rule=rule.where if rule else "",
    )


def _period(times: Sequence[datetime]) -> timedelta | None:
    """The usual period that lies nearest to the files' own distances; None for a single copy."""
    steps = sorted(new - old for new, old in pairwise(times))
    if not steps:
        return None
    middle = steps[len(steps) // 2]
    return min(_PERIODS.values(), key=lambda usual: abs(usual - middle))


@dataclass(frozen=True, slots=True)
class _Said:
    """What directives say. by_size: rotated when it has grown to a size, so the files tell how often. keep -1: all."""

    period: timedelta | None = None
    keep: int | None = None
    by_size: bool = False
    max_age: timedelta | None = None


@dataclass(frozen=True, slots=True)
class _Rule:
    patterns: tuple[str, ...]
    said: _Said
    where: str


def _rules(root: Path) -> Iterator[_Rule]:
    """The blocks of logrotate.conf and logrotate.d, each with the defaults that stand before it."""
    folder = root / "logrotate.d"
    try:
        extra = sorted(folder.iterdir())
    except OSError:
        extra = []
    common = _Said()
    for path in (root / "logrotate.conf", *extra):
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        defaults = common
        for patterns, lines in _blocks(text):
            if patterns:
                yield _Rule(patterns, _said(lines, defaults), str(path))
            else:
                defaults = _said(lines, defaults)
        if path.parent == root:
            common = defaults


def _said(lines: Sequence[str], before: _Said) -> _Said:
    said = before
    for line in lines:
        word, _, value = line.replace("=", " ", 1).partition(" ")
        value = value.strip()
        if word in _PERIODS:
            said = replace(said, period=_PERIODS[word], by_size=False)
        elif word in ("size", "maxsize"):  # of a size and a period the one that is said last counts
            said = replace(said, by_size=True)
        elif word == "rotate" and value.removeprefix("-").isdecimal():
            said = replace(said, keep=max(-1, int(value)))
        elif word == "maxage" and value.isdecimal() and len(value) < 6:
            said = replace(said, max_age=timedelta(days=int(value)))
    return said


def _blocks(text: str) -> Iterator[tuple[tuple[str, ...], list[str]]]:
    """(patterns, lines) of each block in their order; without patterns: a line outside of any."""
    heads: list[str] = []
    inside: list[str] | None = None
    script = False
    for line in _lines(text):
        if script:
            script = line != "endscript"
        elif line.split()[0] in _SCRIPTS:
            script = True
        elif line == "{":
            inside = []
        elif line == "}" and inside is not None:
            yield tuple(_QUOTES.sub(" ", " ".join(heads)).split()), inside
            heads, inside = [], None
        elif inside is not None:
            inside.append(line)
        elif line.startswith(("/", '"', "'")):
            heads.append(line)
        else:
            yield (), [line]


def _lines(text: str) -> Iterator[str]:
    """Lines without comments and empty ones; a brace that begins or ends a block is a line of its own."""
    for raw in text.splitlines():
        yield from filter(None, (part.strip() for part in _BRACE.split(raw.split("#")[0])))
