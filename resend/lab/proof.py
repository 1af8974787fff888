"""The demo's proof: receipts of the receiving side against the truth and the exported ledger. Standard library only.

Shares nothing with what it judges: it reads three kinds of files and adds up. `python -m resend.lab.proof DIR` judges a
kept demo directory (truth.jsonl, ledger.jsonl, buckets.json, receipts/) and exits with 1 where the proof fails.
"""

import json
import sys
from collections import Counter
from pathlib import Path


def judge(directory: Path) -> tuple[list[str], dict[str, int]]:
    """(faults, sums) of a demo directory; no faults: the proof holds."""
    faults: list[str] = []
    truth = [json.loads(line) for line in (directory / "truth.jsonl").read_text(encoding="utf-8").splitlines()]
    mails = [row for row in truth if row.get("type") == "mail"]
    affected = [row for row in mails if row["bucket"] not in ("missing", "no_evidence")]
    buckets = json.loads((directory / "buckets.json").read_text(encoding="utf-8"))
    if sum(buckets.values()) != len(affected):
        faults.append(f"the buckets add up to {sum(buckets.values()):,}, affected are {len(affected):,}")
    for name, count in Counter(row["bucket"] for row in affected).items():
        if buckets.get(name, 0) != count:
            faults.append(f"bucket {name}: {buckets.get(name, 0):,}, in truth {count:,}")
    wanted = {(bare(row["message_id"]), row["recipient"]) for row in affected if row["bucket"] == "resend"}
    ledger = [json.loads(line) for line in (directory / "ledger.jsonl").read_text(encoding="utf-8").splitlines()]
    rows = {(bare(row["message_id"]), row["recipient"]): row for row in ledger}
    if len(rows) != len(ledger):
        faults.append("the ledger has a mail twice")
    faults += [f"not in the ledger: {key[0]} to one at {domain(key[1])}" for key in sorted(wanted - set(rows))[:5]]
    faults += [f"in the ledger, but not to be resent: {key[0]}" for key in sorted(set(rows) - wanted)[:5]]
    received: Counter[tuple[str, str]] = Counter()
    bodies: dict[tuple[str, str], str] = {}
    for path in sorted((directory / "receipts").glob("*.receipts.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            receipt = json.loads(line)
            key = (bare(receipt["message_id"]), receipt["rcpt"])
            received[key] += 1
            bodies[key] = receipt["sha256"]
    lost = duplicates = doubt = resent = 0
    for key, row in rows.items():
        count = received.get(key, 0)
        duplicates += max(0, count - 1)
        if row["state"] == "in_doubt":
            doubt += 1
            continue
        if row["state"] == "accepted":
            resent += 1
            if count == 0 and row["fate"] in ("", "delivered"):
                lost += 1
                faults.append(f"accepted and not received: {key[0]} to a recipient of {domain(key[1])}")
            elif count and not row["egress"].startswith("relay:") and bodies[key] != row["body_sha256"]:
                faults.append(f"other bytes than armed: {key[0]}")
        elif count:
            faults.append(f"received, but {row['state']} in the ledger: {key[0]}")
    if duplicates:
        faults.append(f"{duplicates:,} mails came twice")
    faults += [f"received, but in no plan: {key[0]}" for key in sorted(set(received) - set(rows))[:5]]
    sums = {
        "failed": len(affected),
        "resent": resent,
        "in_doubt": doubt,
        "receipts": sum(received.values()),
        "duplicates": duplicates,
        "lost": lost,
        "left": len(rows) - resent - doubt,
    }
    return faults, sums


def bare(message_id: str) -> str:
    return message_id.strip().strip("<>")


def domain(address: str) -> str:
    return address.rpartition("@")[2]


if __name__ == "__main__":
    found, totals = judge(Path(sys.argv[1]))
    print(json.dumps(totals))
    for fault in found:
        print(fault, file=sys.stderr)
    sys.exit(1 if found else 0)
