"""Outcome tests write a small real log, collect it, and read the outcomes back."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from resend.collect.collect import collect
from resend.config import Config
from resend.linker.outcomes import outcomes
from resend.stores import sql
from resend.stores.home import Home

Run = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home").create()


@pytest.fixture
def last_words(home: Home, tmp_path: Path) -> Run:
    """`last_words(log text or {file: text}, queue=[...], **config sections)` -> outcome rows by recipient order."""

    def run(
        logs: str | dict[str, str], *, queue: Sequence[dict[str, object]] | None = None, **sections: object
    ) -> list[dict[str, Any]]:
        folder = tmp_path / "logs"
        folder.mkdir(exist_ok=True)
        for name, text in (logs if isinstance(logs, dict) else {"mail.log": logs}).items():
            (folder / name).write_text(text)
        snapshot = None
        if queue is not None:
            snapshot = tmp_path / "queue.json"
            snapshot.write_text("".join(json.dumps(item) + "\n" for item in queue))
        config = Config.model_validate({"tz": "UTC", **sections})
        collect(home, config, [folder], year=2026, queue=snapshot, host="")
        files = outcomes(home, config)
        with sql.connect() as con:
            cursor = con.execute(
                f"SELECT * FROM read_parquet({sql.quote(files.suspects)}) ORDER BY recipient, arrived_at"
            )
            names = [column[0] for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    return run
