"""Which words any rule of causes looks for; all other words of a reply are left out before it is judged.

Replies of one kind differ in names and places that no rule knows, so that many wordings become one question. A word
left out leaves a gap: words that were not neighbours do not become neighbours. Pure; raises nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from resend.policy.replies import fold_word, without_command
from resend.policy.rules import Rule

_WORDS_MAX = 16_384  # remembered at once
_GAP = "_"
_HEAD = 3  # letters by which the starts of words are looked up


class Vocabulary:
    """The words of the literals of rules. With a rule that has a pattern no word may be left out."""

    def __init__(self, rules: Iterable[Rule], more: Iterable[str]) -> None:
        self._whole: set[str] = set()
        self._starts: set[str] = set()
        self._within: set[str] = set()
        self._all = False
        for rule in rules:
            self._all |= rule.pattern is not None
            for needle in (*rule.contains, *rule.also, *rule.unless):
                self._add(needle)
        for needle in more:
            self._add(needle)
        self._short = tuple(start for start in self._starts if len(start) < _HEAD)
        self._long: dict[str, tuple[str, ...]] = {}
        for start in self._starts:
            if len(start) >= _HEAD:
                self._long[start[:_HEAD]] = (*self._long.get(start[:_HEAD], ()), start)
        self._folded = _Folded(self)

    def reduced(self, text: str) -> str:
        """A text as rules.needles are looked for in it (replies.folded), with gaps."""
        return f" {' '.join(filter(None, map(self._folded.__getitem__, without_command(text).split())))} "

    def fold(self, word: str) -> str:
        folded = fold_word(word)
        if self._all or not folded:
            return folded
        return " ".join([part if self._knows(part) else _GAP for part in folded.split(" ")])

    def _add(self, needle: str) -> None:
        words = needle.split()
        if not needle.startswith(" "):
            self._within.update(words)
            return
        self._whole.update(words)
        if not needle.endswith(" "):
            self._starts.add(words[-1])

    def _knows(self, word: str) -> bool:
        if word in self._whole or word.startswith(self._short):
            return True
        if word.startswith(self._long.get(word[:_HEAD], ())):
            return True
        return not word.isascii() and any(part in word for part in self._within)


class _Folded(dict[str, str]):
    def __init__(self, vocabulary: Vocabulary) -> None:
        super().__init__()
        self._vocabulary = vocabulary

    def __missing__(self, word: str) -> str:
        folded = self._vocabulary.fold(word)
        if len(self) >= _WORDS_MAX:
            self.clear()
        self[word] = folded
        return folded
