"""Event rows as a test writes them, and the outcomes that sql/outcome reads from them: no log, no files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from resend.linker.outcomes import run
from resend.stores import sql
from resend.stores.evidence import EVENT_COLUMNS

SECOND = 1_000_000
HOUR = 3600 * SECOND
DAY = 24 * HOUR
START = 1_795_168_800 * SECOND
Row = dict[str, Any]


def event(at: float, qid: str, kind: str, *, host: str = "mta1", instance: str = "postfix", **values: Any) -> Row:
    """One event `at` seconds after START; times among `values` (delay) in seconds."""
    if "delay" in values:
        values["delay"] = int(values["delay"] * SECOND)
    row: Row = {name: "" if type_ == "VARCHAR" else None for name, type_ in EVENT_COLUMNS.items()}
    row |= {"at_us": START + int(at * SECOND), "host": host, "instance": instance, "qid": qid, "kind": kind, "code": 0}
    assert not values.keys() - row.keys()
    return row | values


def came(at: float, qid: str, message_id: str, *, sender: str = "news@example.jp", **values: Any) -> list[Row]:
    return [
        event(at, qid, "begin", **values),
        event(at, qid, "message", message_id=message_id, **values),
        event(at, qid, "queued", sender=sender, size=4000, nrcpt=1, **values),
    ]


def tried(at: float, qid: str, to: str, status: str, reply: str = "", **values: Any) -> Row:
    peer = {"relay": "mx.example.net", "relay_ip": "192.0.2.1", "relay_port": 25}
    return event(at, qid, "attempt", recipient=to, status=status, reply=reply, **(peer | {"delay": 1} | values))


def gone(at: float, qid: str, **values: Any) -> Row:
    return event(at, qid, "removed", **values)


def judge(
    rows: Iterable[Mapping[str, Any]],
    *,
    own: Sequence[tuple[str, int]] = (),
    snapshot: Sequence[Sequence[Any]] = (),
    losses: Sequence[tuple[str, int, int]] = (),
    relays: Sequence[str] = (),
    all_mail: bool = False,
    until: int | None = None,
) -> tuple[list[Row], list[Row]]:
    """(suspects, totals) of these events, in the order of their lines."""
    lines = [{**row, "line": number} for number, row in enumerate(rows, 1)]
    with sql.connect(threads=1) as con:
        sql.create_table(con, "events", dict(EVENT_COLUMNS), ([row[name] for name in EVENT_COLUMNS] for row in lines))
        con.execute("CREATE OR REPLACE TEMP TABLE events AS SELECT *, 'p1' AS part FROM events")
        sql.create_table(con, "part_order", {"part": "VARCHAR", "base": "BIGINT"}, [("p1", 0)])
        names = {"part": "VARCHAR", "path": "VARCHAR", "file": "VARCHAR", "first_line": "BIGINT"}
        sql.create_table(con, "part_source", names, [("p1", "/mail.log", "mail.log", 1)])
        queue = {"host": "VARCHAR", "qid": "VARCHAR", "sender": "VARCHAR", "recipient": "VARCHAR", "arrival": "BIGINT",
                 "queue_name": "VARCHAR", "reason": "VARCHAR", "taken_at": "BIGINT"}  # fmt: skip
        sql.create_table(con, "snapshot", queue, snapshot)
        sql.create_table(con, "loss_window", {"host": "VARCHAR", "from_at": "BIGINT", "to_at": "BIGINT"}, losses)
        hosts = {row["host"] for row in lines} | {"127.0.0.1", "::1", *relays}
        sql.create_table(con, "own_host", {"address": "VARCHAR"}, [[host] for host in sorted(hosts)])
        sql.create_table(con, "own_resend", {"qid": "VARCHAR", "at_us": "BIGINT"}, own)
        newest = max((row["at_us"] for row in lines), default=0)
        sql.set_params(con, {"late_after": HOUR, "queue_lifetime": 5 * DAY, "until_us": until or newest,
                             "all_mail": int(all_mail), "header": "x-release-id"})  # fmt: skip
        con.execute(f"CREATE TEMP TABLE stretch AS SELECT 0 AS from_us, {newest} AS to_us")
        run(con, "outcome/closure/within" if all_mail else "outcome/closure/suspect")
        con.execute(f"CREATE TEMP TABLE suspect AS {sql.load('outcome/90_suspect')}")
        found = []
        for query in ("SELECT * FROM suspect ORDER BY outcome_id", f"{sql.load('outcome/95_total')} ORDER BY ALL"):
            cursor = con.execute(query)
            columns = [column[0] for column in cursor.description or ()]
            found.append([dict(zip(columns, values, strict=True)) for values in cursor.fetchall()])
    return found[0], found[1]
