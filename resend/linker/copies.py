"""Mail that failed, and whose copy arrived: the send log names another mail of the same release to the same mailbox,
under another Message-ID, and the evidence shows that one as delivered.

That is what sending by hand during an incident leaves behind. Such a copy may have been delivered at once, and is no
suspect then: its lines are looked at here, and only where the send log names one. Raises StoreError, ConfigError.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb

from resend.config import Config
from resend.linker.link import keys
from resend.linker.outcomes import Own, prepare, run
from resend.stores import sql
from resend.stores.evidence import Evidence
from resend.stores.home import Home

_COLUMNS = {"release": "VARCHAR", "rcpt_key": "VARCHAR", "bare_id": "VARCHAR"}


def copies(con: duckdb.DuckDBPyConnection, home: Home, config: Config, own: Own) -> None:
    """Make temp table `copy_arrived`(release, rcpt_key, late) from `outcome`, `link` and the catalog's views.

    `own` resends are no copies: the ledger knows of them.
    """
    named = con.execute(sql.load("link/freeze/copy_named")).fetchall()
    found = _delivered(home, config, own, named) if named else []
    sql.create_table(con, "copy_arrived", {"release": "VARCHAR", "rcpt_key": "VARCHAR", "late": "INTEGER"}, found)


def _delivered(
    home: Home, config: Config, own: Own, named: Sequence[tuple[str, str, str]]
) -> list[tuple[str, str, int]]:
    with (
        TemporaryDirectory(prefix="resend-") as spill,
        sql.connect(memory_limit="768MiB", temp_dir=Path(spill)) as con,
    ):
        prepare(con, Evidence(home), config, all_mail=True, own=own)
        sql.create_table(con, "named", _COLUMNS, named)
        run(con, "link/freeze/copy_near")
        con.execute(f"CREATE OR REPLACE TEMP TABLE suspect AS {sql.load('outcome/90_suspect')}")
        keys(con)
        return con.execute(sql.load("link/freeze/copy_arrived")).fetchall()
