"""Recipients who complained (ARF reports, services' complaint events): vetoes on their addresses, of every release.

Reads the evidence, changes nothing. A report that hides or garbles the address names nobody and is passed over. Raises
StoreError.
"""

from __future__ import annotations

from collections.abc import Iterator

from resend.model import VetoKind, VetoReason
from resend.policy.address import fold
from resend.stores import sql
from resend.stores.evidence import Evidence
from resend.stores.home import Home
from resend.stores.rows import Veto


def complaints(home: Home) -> Iterator[Veto]:
    """A veto for each address that complained."""
    with sql.connect(memory_limit="512MiB", threads=1) as con:
        Evidence(home).attach(con)
        rows = con.execute(sql.load("reconcile/complaint")).fetchall()
    for recipient, evidence in rows:
        try:
            subject = fold(recipient)
        except ValueError:
            continue
        yield Veto(
            kind=VetoKind.ADDRESS, subject=subject, reason=VetoReason.SUPPRESSED, evidence=f"complaint: {evidence}"
        )
