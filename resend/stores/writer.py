"""The one writer of a run: everything that is queued goes into one transaction, one fsync for all connections.

`submit` gives an awaitable that is done when the transition is durable. LedgerWriter works in a thread of its own;
InlineWriter works in the caller's, for simulation and small tools. Contention is tried again; a disk error is not: after
one, everything fails with StoreError until the ledger is opened anew. Nothing here knows what a transition means.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection, select
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, SQLAlchemyError
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from resend.errors import StoreError
from resend.stores.engine import store_error
from resend.stores.ledger import Ledger
from resend.stores.tables import try_
from resend.stores.transitions import Applied, Arm, Finish, Refuse, Result, Transition

T = TypeVar("T")
_CHECKPOINT_BYTES = 16 * 1024 * 1024
_IDLE_S = 1.0  # idle this long: a checkpoint, so that the log does not stay big
_CONTENTION_S = 30.0
_Call = Callable[[Connection], Any]


class Writer(Protocol):
    """What the executor is given."""

    def submit(self, transition: Transition) -> asyncio.Future[Result]: ...
    def submit_many(self, transitions: Sequence[Transition]) -> asyncio.Future[list[Result]]: ...
    def call(self, function: Callable[[Connection], T]) -> asyncio.Future[T]: ...
