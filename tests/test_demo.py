"""`resend demo` as a user runs it, and its proof: it holds, and each planted fault breaks it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from resend.cli.demo import Fault

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


@pytest.mark.parametrize("fault", list(Fault))
def test_the_demo_fails_where_its_proof_does(tmp_path: Path, fault: Fault) -> None:
    words = ("--json", "demo", "--scale", "0.002", "--keep", str(tmp_path / "kept"), "--plant", fault)
    done = subprocess.run([sys.executable, "-m", "resend.cli", *words], capture_output=True, text=True, timeout=300)
    assert done.returncode == 1, done.stdout[-3000:] + done.stderr[-3000:]
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary["exit"] == 1
    assert (summary["lost"], summary["duplicates"]) == {
        Fault.REMOVED: (1, 0), Fault.DOUBLED: (0, 1), Fault.ALTERED: (0, 0),
    }[fault]  # fmt: skip
    assert judged(tmp_path / "kept").returncode == 1


def test_the_proof_imports_the_standard_library_only() -> None:
    code = (Path(__file__).resolve().parent.parent / "resend/lab/proof.py").read_text(encoding="utf-8")
    names = {line.split()[1].split(".")[0] for line in code.splitlines() if line.startswith(("import ", "from "))}
    assert names <= set(sys.stdlib_module_names)
