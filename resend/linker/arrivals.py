"""Originals that arrived after their incident was frozen: what a resend of them must be stopped for.

Compares frozen incidents with the outcomes of today; changes nothing. Raises StoreError.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from resend.linker.buckets import Readable, standing
from resend.linker.outcomes import OutcomeFiles
from resend.model import VetoKind, VetoReason, delivery_key
from resend.stores import incidents, sql
from resend.stores.home import Home
from resend.stores.rows import IncidentRecord, Veto


def arrivals(home: Home, ledger: Readable, files: OutcomeFiles, known: Sequence[IncidentRecord]) -> Iterator[Veto]:
    """Vetoes on deliveries, planned or not yet, whose original arrived; of open incidents with older evidence."""
    for record in known:
        if not record.open or record.evidence_id == files.id:
            continue
        with sql.connect(memory_limit="1GiB", temp_dir=home.derived) as con:
            incidents.attach(con, home, record.id)
            con.execute(
                f"CREATE OR REPLACE TEMP VIEW suspect AS SELECT * FROM read_parquet({sql.quote(files.suspects)})"
            )
            con.execute(f"CREATE OR REPLACE TEMP TABLE arrived AS {sql.load('link/freeze/arrived')}")
            with ledger.read() as connection:
                standing(con, connection)
            rows = con.execute(
                "SELECT release, rcpt_key, generation, evidence"
                " FROM arrived JOIN standing USING (outcome_id, release, rcpt_key)"
                " WHERE state <> 'accepted'"  # what arrived may be our own resend: nothing is left to stop
            ).fetchall()
        for release, rcpt_key, generation, evidence in rows:
            for number in {max(generation, 1), generation + 1}:
                yield Veto(
                    kind=VetoKind.DELIVERY,
                    subject=delivery_key(release, rcpt_key, number),
                    reason=VetoReason.DELIVERED,
                    evidence=evidence,
                )
