"""`resend demo` as a user runs it, and its proof: it holds, and each planted fault breaks it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from resend.flows.demo import FAULTS, _spoil

pytestmark = pytest.mark.xdist_group("demo")


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small demo, kept; it ended with exit code 0."""
    folder = tmp_path_factory.mktemp("demo") / "kept"
    done = subprocess.run(
        [sys.executable, "-m", "resend.cli", "--json", "demo", "--scale", "0.002", "--keep", str(folder)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary["type"] == "summary" and summary["exit"] == 0
    assert summary["failed"] == sum(summary["buckets"].values())
    assert summary["duplicates"] == summary["lost"] == 0
    assert summary["resent"] > 0
    return folder


def judged(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "resend.lab.proof", str(folder)], capture_output=True, text=True, timeout=60
    )


def test_the_proof_holds_and_the_reports_are_there(played: Path) -> None:
    assert judged(played).returncode == 0
    pages = sorted(path.name[-7:] for path in (played / "report").glob("*.html"))
    assert pages == ["en.html", "ja.html"]
    assert "【記入してください" in next((played / "report").glob("*-ja.html")).read_text(encoding="utf-8")


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_breaks_the_proof(played: Path, tmp_path: Path, fault: str) -> None:
    folder = tmp_path / "spoiled"
    shutil.copytree(played, folder, ignore=shutil.ignore_patterns("logs", "evidence", "relay-queue"))
    _spoil(folder, fault)
    done = judged(folder)
    assert done.returncode == 1
    assert done.stderr.strip()


def test_the_proof_imports_the_standard_library_only() -> None:
    code = (Path(__file__).resolve().parent.parent / "resend/lab/proof.py").read_text(encoding="utf-8")
    names = {line.split()[1].split(".")[0] for line in code.splitlines() if line.startswith(("import ", "from "))}
    assert names <= set(sys.stdlib_module_names)
