"""A home, and `collect` into it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from resend.collect.collect import CollectSummary, collect
from resend.config import Config
from resend.stores.home import Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def gather(home: Home) -> Callable[..., CollectSummary]:
    """`collect` into `home`."""

    def run(paths: Path | Sequence[Path], **options: Any) -> CollectSummary:
        found = [paths] if isinstance(paths, Path) else list(paths)
        return collect(home, Config(tz="Asia/Tokyo"), found, **options)

    return run
