"""What of an incident's queued mail bounced or expired since it was opened, as numbers and in words. Raises nothing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """Mails of the bucket still_queued. `taken`: of them, those in a later incident; `next`: a command, "" none."""

    bounced: int = 0
    expired: int = 0
    taken: int = 0
    next: str = ""

    @property
    def mails(self) -> int:
        return self.bounced + self.expired

    def text(self) -> str:
        """What happened, without the command; "" where none ended.

        >>> Ended(expired=1).text()[-48:]
        'e bounced (0) or expired (1); it stays out of it'
        """
        if not self.mails:
            return ""
        one = self.mails == 1
        what = "mail that was" if one else "mails that were"
        text = (
            f"{self.mails:,} {what} queued when this incident was opened {'has' if one else 'have'} meanwhile"
            f" bounced ({self.bounced:,}) or expired ({self.expired:,}); {'it stays' if one else 'they stay'} out of it"
        )
        return f"{text}; a later incident has {self.taken:,} of them" if self.taken else text

    def sentence(self) -> str:
        """`text` with the command, in one line."""
        text = self.text()
        return (
            f"{text}; take {'it' if self.mails - self.taken == 1 else 'them'} with: {self.next}" if self.next else text
        )


NOTHING = Ended()
