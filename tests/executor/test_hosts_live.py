"""Live mail in several hosts' logs: the resend of all hosts and the live mail together stay below the ceiling."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, update

from resend.lab.receipts import read_receipts
from resend.model import ControlKind
from resend.stores import control
from resend.stores.tables import provider_rate
from tests.executor.test_hosts import RATE, Lab, lab
from tests.executor.test_hosts import _pace_held as pace_held

__all__ = ["lab"]
pytestmark = [pytest.mark.postgres, pytest.mark.xdist_group("hosts")]
MINUTE = 60


def line(number: int, at: datetime) -> str:
    return (
        f"{at.isoformat(timespec='microseconds')} mta1 postfix/smtp[7]: 4C{number:08X}: to=<u@corp.example>,"
        " relay=corp.mail.protection.outlook.com[52.1.1.1]:25, delay=1, delays=0/0/0/1, dsn=2.0.0, status=sent"
        " (250 2.0.0 Ok)\n"
    )


@contextmanager
def live(logs: dict[Path, float]) -> Iterator[None]:
    """Logs that tell of so many mails per second, since a minute ago and until the end."""
    ended = threading.Event()

    def write() -> None:
        written = dict.fromkeys(logs, 0)
        began = datetime.now(UTC) - timedelta(seconds=MINUTE)
        while True:
            for path, rate in logs.items():
                upto = int((datetime.now(UTC) - began).total_seconds() * rate)
                with path.open("a") as out:
                    for number in range(written[path], upto):
                        out.write(line(number, began + timedelta(seconds=number / rate)))
                written[path] = upto
            if ended.wait(0.2):
                return

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield
    finally:
        ended.set()
        writer.join()


@pytest.mark.parametrize(
    "follows", [{"a": "a.log", "b": "b.log"}, {"a": "a.log", "b": ""}, {"a": "a.log", "b": "a.log"}],
    ids=["each its own", "one follows", "both the same"],
)  # fmt: skip
def test_what_all_logs_tell_is_left_to_live_mail(lab: Lab, follows: dict[str, str]) -> None:
    told = 40.0
    lab.world.count = 300
    lab.world.start()
    with lab.ledger.write() as conn:
        control.ensure_rate(conn, egress="direct", provider="office365", start=RATE, ceiling=RATE)
        conn.execute(update(provider_rate).values(paused=1, canary_done=1))
    paths = {lab.folder / name for name in follows.values() if name}
    with live(dict.fromkeys(paths, told / len(paths))):
        time.sleep(0.5)
        for name, log in follows.items():
            words = lab.run_words() if name == "a" else ("worker",)
            lab.start(lab.host(name), *words, *(("--follow", str(lab.folder / log)) if log else ()))
        end = time.monotonic() + 60
        seen = 0.0
        while not 0.8 * told <= seen <= 1.1 * told:  # a change below a twentieth of the ceiling is no decision
            assert time.monotonic() < end, (seen, lab.said())
            time.sleep(0.1)
            with lab.ledger.read() as conn:
                seen = conn.execute(select(provider_rate.c.live)).scalar_one()
        lab.post(ControlKind.RESUME)
        lab.until(300, 60)
    at = [receipt.mail_at for receipt in read_receipts(lab.folder / "receipts")]
    left = RATE - 0.8 * told
    pace_held(at, left)
    assert len(at) == 300
    assert 300 / ((max(at) - min(at)) / 1e9) > 0.6 * (RATE - told), "nor is live mail counted twice"
