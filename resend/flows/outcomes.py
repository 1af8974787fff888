"""Single outcomes for people: what the evidence says of a mail, with our own resends apart from their originals.

Changes nothing. Raises StoreError.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from resend.config import Config
from resend.flows.vetoes import has_ledger
from resend.linker.incident import own_queue_ids
from resend.linker.outcomes import find
from resend.stores.home import Home
from resend.stores.ledger import open_ledger


def outcomes(
    home: Home, config: Config, *, recipient: str = "", message_id: str = "", status: str = ""
) -> Iterator[dict[str, Any]]:
    """JSON rows of `resend outcomes`: all mail, or that of an address, a Message-ID or a status; failed mail first."""
    own: list[tuple[str, int]] = []
    if has_ledger(home, config):
        with open_ledger(config.ledger.url, home, create=False) as ledger:
            own = own_queue_ids(ledger)
    return find(home, config, recipient=recipient, message_id=message_id, status=status, own=own)
