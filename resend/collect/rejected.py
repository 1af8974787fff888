"""The lines that look like mail and were not understood, each with its place. Reads evidence; raises StoreError."""

from __future__ import annotations

from collections.abc import Iterable

from resend.stores import sql
from resend.stores.evidence import Evidence

_TEXT = 160  # characters of a line that are shown


def rejected(evidence: Evidence, most: int, paths: Iterable[str] | None = None) -> list[str]:
    """The first of these sources, else of all: `mail.log:12: reason: text`."""
    with sql.connect(memory_limit="512MiB") as con:
        manifest = evidence.attach(con)
        names = list(manifest.sources if paths is None else paths)
        # A file name that is no UTF-8 has surrogates: DuckDB takes none, and the evidence shows it with `?`.
        known = [name.encode("utf-8", "replace").decode() for name in names]
        rows = con.execute(sql.load("collect/rejected"), [known, most]).fetchall()
    return [f"{file}:{line}: {reason}: {text[:_TEXT]}" for file, line, reason, text in rows]
