"""The structure holds: imports go one way, pure code stays pure, the command line starts light."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "resend"
ORDER = [
    {"__main__"},
    {"cli"},
    {"flows"},
    {"collect", "linker", "planner", "executor", "report"},
    {"stores"},
    {"policy"},
    {"config"},
    {"sections"},
    {"errors", "clock", "model"},
]
LEVEL = {name: level for level, names in enumerate(ORDER) for name in names}
PURE = ["policy", "planner", "executor/pacer.py", "executor/guard.py", "executor/replies.py", "model.py"]
IMPURE = {"time", "socket", "random", "secrets", "subprocess", "asyncio", "threading", "tempfile", "urllib"}
CLOCKS = {"now", "today", "utcnow", "monotonic", "urandom"}


@cache
def modules() -> tuple[tuple[str, Path, ast.Module], ...]:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        relative = path.relative_to(PACKAGE)
        part = relative.parts[0].removesuffix(".py")
        if "migrations" not in relative.parts:
            found.append((part, path, ast.parse(path.read_text(encoding="utf-8"))))
    return tuple(found)


def imports(tree: ast.Module) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((name.name, node.lineno) for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, node.lineno
            yield from ((f"{node.module}.{name.name}", node.lineno) for name in node.names)


def test_imports_go_one_way_and_stages_never_import_each_other() -> None:
    wrong = []
    for part, path, tree in modules():
        if part in ("__init__", "lab"):
            continue
        for name, line in imports(tree):
            if not name.startswith("resend."):
                continue
            target = name.split(".")[1]
            if target == "lab":
                if part != "cli" and path.name != "demo.py" and "demo" not in path.parts:
                    wrong.append(f"{path}:{line} imports the lab")
            elif target in LEVEL and target != part and LEVEL[target] <= LEVEL[part]:
                wrong.append(f"{path}:{line}: {part} imports {target}")
    assert not wrong, "\n".join(wrong)


def test_the_lab_shares_nothing_with_what_it_tests() -> None:
    wrong = [
        f"{path}:{line} imports {name}"
        for part, path, tree in modules()
        if part == "lab"
        for name, line in imports(tree)
        if name.startswith("resend.") and name.split(".")[1] not in ("lab", "errors")
    ]
    assert not wrong, "\n".join(wrong)


def test_pure_code_reads_no_clock_file_socket_or_random_source() -> None:
    wrong = []
    for _, path, tree in modules():
        inside = path.relative_to(PACKAGE).as_posix()
        if not any(inside == pure or inside.startswith(f"{pure}/") for pure in PURE):
            continue
        wrong += [f"{path}:{line} imports {name}" for name, line in imports(tree) if name.split(".")[0] in IMPURE]
        wrong += [
            f"{path}:{node.lineno} calls {node.func.attr}()"
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CLOCKS
        ]
        wrong += [
            f"{path}:{node.lineno} opens a file"
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and _opens(node)
        ]
    assert not wrong, "\n".join(wrong)


def _opens(call: ast.Call) -> bool:
    """Whether it opens a file; what the package brings along is part of the code."""
    match call.func:
        case ast.Name(id="open"):
            return True
        case ast.Attribute(attr="open" | "read_text" | "read_bytes" | "write_text" | "write_bytes", value=value):
            return not any(isinstance(node, ast.Name) and node.id == "files" for node in ast.walk(value))
    return False


def test_what_opens_a_file_is_known() -> None:
    calls = ["open(x)", "Path(x).read_text()", "path.open('rb')", "files('resend.policy').joinpath(x).read_bytes()"]
    found = [_opens(node) for text in calls if isinstance(node := ast.parse(text, mode="eval").body, ast.Call)]
    assert found == [True, True, True, False]


def test_help_imports_nothing_heavy() -> None:
    heavy = {"duckdb", "sqlalchemy", "pydantic", "alembic", "jinja2", "aiosmtplib", "asyncio"}
    assert _loads("cli.app", heavy) == ""


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("collect.collect", {"sqlalchemy", "jinja2", "multiprocessing", "resend.collect.bounces.read"}),
        ("flows.incident", {"jinja2", "alembic", "aiosmtplib", "resend.policy.template"}),
        ("flows.why", {"jinja2", "alembic", "aiosmtplib", "resend.policy.template"}),
        ("stores.status", {"jinja2", "alembic", "aiosmtplib"}),
    ],
)
def test_a_small_command_loads_only_what_it_uses(module: str, heavy: set[str]) -> None:
    assert _loads(module, heavy) == ""


def _loads(module: str, names: set[str]) -> str:
    """Those of `names` that a new interpreter has loaded with a module."""
    code = f"import sys, resend.{module}; print(*sorted(set(sys.modules) & {names!r}))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_a_module_has_one_job() -> None:
    long = [f"{path}: {len(path.read_text().splitlines())} lines" for _, path, _ in modules()]
    assert not [item for item in long if int(item.split(": ")[1].split()[0]) > 400]
    missing = [str(path) for _, path, tree in modules() if not ast.get_docstring(tree) and path.stat().st_size]
    assert not missing, missing
