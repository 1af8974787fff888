"""How release and recipient stand in a Message-ID or an envelope address: `release.{release}.{recipient}@example.jp`.

An id is any text without controls, spaces, angle brackets and @; the first id ends at the first occurrence of what
stands between the two, so an id that is to stand first must not hold that text. Pure. Raises ValueError for a template
that cannot be read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_PLACE = re.compile(r"\{([^{}]*)\}")
_KNOWN = ("release", "recipient")
_ID = re.compile(r"[^\x00-\x20\x7f-\xa0<>@\u2028\u2029]{1,200}")  # at most what the catalog takes


@dataclass(frozen=True, slots=True)
class LinkTemplate:
    """The pieces around the ids, for SQL: text = prefix + parts[0] + infix + parts[1] + suffix (one part: no infix)."""

    prefix: str
    infix: str
    suffix: str
    parts: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> LinkTemplate:
        """Read a template; angle brackets around it are not part of it. {release} must stand in it once."""
        bare = text.strip().removeprefix("<").removesuffix(">")
        pieces = _PLACE.split(bare)
        parts, literals = tuple(pieces[1::2]), pieces[0::2]
        unknown = sorted(set(parts) - set(_KNOWN))
        if unknown:
            raise ValueError(f"{{{unknown[0]}}} is none of {{release}} and {{recipient}} in {text!r}")
        if any("{" in literal or "}" in literal for literal in literals):
            raise ValueError(f"a brace without its pair in {text!r}")
        if "release" not in parts or len(set(parts)) != len(parts):
            raise ValueError(f"{{release}} must stand once, {{recipient}} at most once in {text!r}")
        if any(not _ID.fullmatch(letter) and letter != "@" for literal in literals for letter in literal):
            raise ValueError(f"a space, a bracket or a control character in {text!r}")
        infix = literals[1] if len(parts) == 2 else ""
        if len(parts) == 2 and not infix:
            raise ValueError(f"something must stand between the two ids in {text!r}")
        return cls(literals[0], infix, literals[-1], parts)

    def match(self, text: str) -> tuple[str, str] | None:
        """(release, recipient) that a text with or without angle brackets names; recipient "" where there is none.

        >>> LinkTemplate.parse("release.{release}.{recipient}@example.jp").match("<release.R-1.n_2@example.jp>")
        ('R-1', 'n_2')
        """
        bare = text.strip().removeprefix("<").removesuffix(">")
        if len(bare) < len(self.prefix) + len(self.suffix):
            return None
        if not (bare.startswith(self.prefix) and bare.endswith(self.suffix)):
            return None
        inner = bare[len(self.prefix) : len(bare) - len(self.suffix)]
        first, found, second = inner.partition(self.infix) if self.infix else (inner, "", "")
        ids = [first, second] if len(self.parts) == 2 else [first]
        if (self.infix and not found) or not all(_ID.fullmatch(value) for value in ids):
            return None
        values = dict(zip(self.parts, ids, strict=True))
        return values["release"], values.get("recipient", "")

    def write(self, release: str, recipient: str) -> str:
        """The text that names these ids, without brackets. Raises ValueError where it would not be read back."""
        values = {"release": release, "recipient": recipient}
        text = self.prefix + self.infix.join(values[part] for part in self.parts) + self.suffix
        if self.match(text) != (release, recipient if "recipient" in self.parts else ""):
            raise ValueError(f"{release!r} and {recipient!r} do not fit the template")
        return text
