"""Reads a sender's own delivery table as blocks of JSON lines for the format `table` (sql/collect/table.sql).

`[collect.tables.NAME]` names a database and a query whose columns are called as that format calls them. Reads row by
row and keeps one block in memory. Never writes there; raises ConfigError and InputError (stores/database_query.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from math import isfinite

from resend.collect.files import BLOCK_BYTES
from resend.config import QueryConfig
from resend.errors import ConfigError

FORMAT = "table"
_NEEDED = ("at", "recipient")
_STATED = ("status", "code")  # one of them
_OWN = frozenset((*_NEEDED, *_STATED, "sender", "message_id", "enhanced", "reply", "host", "queue_id", "relay"))
_OWN |= {"relay_ip", "event_id", "delay", "subject"}  # known in any case: databases have their own


def table_blocks(name: str, config: QueryConfig, environ: Mapping[str, str]) -> Iterator[bytes]:
    """The rows of `[collect.tables.NAME]` in the order of its query, a JSON object a line, in blocks of about 16 MiB.

    A time without a zone stays without one: it is read in the zone of the collect. The query decides the order; one
    that is ordered by time gives the same blocks again when rows are only added.
    """
    from resend.stores.database_query import selected  # a collect of logs starts without SQLAlchemy

    where = f"[collect.tables.{name}]"
    with selected(config, environ, where=where) as found:
        names = [_named(column.strip()) for column in found.names]
        _check(names, where)
        block = bytearray()
        for row in found.rows:
            values = {key: _plain(value) for key, value in zip(names, row, strict=True) if value is not None}
            block += json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
            block += b"\n"
            if len(block) >= BLOCK_BYTES:
                yield bytes(block)
                block.clear()
        if block:
            yield bytes(block)


def _named(column: str) -> str:
    return column.lower() if column.lower() in _OWN else column


def _check(names: list[str], where: str) -> None:
    missing = [column for column in _NEEDED if column not in names]
    if not set(_STATED) & set(names):
        missing.append(" or ".join(_STATED))
    if missing:
        raise ConfigError(
            f"the query gives no column {', '.join(missing)}",
            where=where,
            next_step="name the columns with AS: at, recipient, status (and message_id, sender, code, enhanced, reply)",
        )


def _plain(value: object) -> object:
    """A database value as JSON has it. Seconds for an interval."""
    match value:
        case bool() | int() | str():
            return value
        case float():
            return value if isfinite(value) else str(value)  # JSON has no infinity and no NaN
        case Decimal():
            return float(value) if value.is_finite() else str(value)
        case datetime():
            return value.isoformat(sep="T")
        case date():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case bytes() | memoryview():
            return bytes(value).decode("utf-8", "replace")
        case list() | dict():
            return json.dumps(value, ensure_ascii=False, default=str)
        case _:
            return str(value)
