"""A sender as a process of its own: claims, arms, 'sends' (appends a receipt) and finishes until nothing is left.

Run as `python -m tests.ledger.sender URL HOME PLAN OWNER RECEIPTS [stall]`. A stalled sender stops after its first
claim, before it arms, until a line comes on its standard input: what wakes up then may be a zombie.
"""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from resend.stores import claims
from resend.stores.home import Home
from resend.stores.ledger import open_ledger
from resend.stores.rows import Delivery
from resend.stores.transitions import Armed, EndBatch
from resend.stores.writer import LedgerWriter
from tests.ledger.world import arm, end

LEASE_S = 2.0


def receipt(path: Path, key: str, owner: str) -> None:
    """One line, whole, as the receiver would keep it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, f"{key} {owner}\n".encode())
    os.close(descriptor)


async def send(writer: LedgerWriter, mail: Delivery, owner: str, receipts: Path) -> None:
    now = datetime.now(UTC)
    item = arm(mail, at=now)
    armed = await writer.submit(item)
    assert isinstance(armed, Armed)
    if not armed.ok:
        print(f"refused {armed.why}", flush=True)
        return
    receipt(receipts, mail.key, owner)
    await writer.submit(end(item, at=now))


async def main(url: str, home: str, plan_id: str, owner: str, receipts: str, *, stall: bool) -> None:
    with open_ledger("" if url == "-" else url, Home(Path(home)), create=False) as ledger:
        async with LedgerWriter(ledger) as writer:
            while True:
                held = await writer.call(
                    lambda conn: claims.claim_batch(
                        conn,
                        egress="direct",
                        provider="office365",
                        owner=owner,
                        now=datetime.now(UTC),
                        lease_s=LEASE_S,
                        plan_id=plan_id,
                    )
                )
                if held is None:
                    break
                print("claimed", flush=True)
                if stall:
                    sys.stdin.readline()  # the whole process stands, as by SIGSTOP
                    stall = False
                for at in range(0, len(held.rows), 4):
                    await asyncio.gather(
                        *(send(writer, mail, owner, Path(receipts)) for mail in held.rows[at : at + 4])
                    )
                await writer.submit(EndBatch(batch_id=held.id, epoch=held.epoch))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:6], stall="stall" in sys.argv[6:]))
