"""The pages for people hold: each key is explained, each example is a command line, and that of a catalog loads."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import typer
from pydantic import BaseModel
from typer.exceptions import TyperException

from resend.cli.app import root
from resend.cli.options import take
from resend.config import CatchupConfig, Config, EgressConfig, ProviderConfig
from resend.errors import UsageError

from .test_cli_border import every_command

DOCS = Path(__file__).resolve().parents[2] / "docs"


def keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    """Last part of each key; tables by a name of the user's count as one key."""
    found = []
    for name, field in model.model_fields.items():
        inner: Any = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel) and name != "catalog":
            found += keys(inner, f"{prefix}{name}.")
        else:
            found.append(f"{prefix}{name}")
    return found


def test_every_key_of_the_configuration_is_explained():
    text = (DOCS / "config.md").read_text(encoding="utf-8")
    named = set(re.findall(r"[\w.]+", " ".join(re.findall(r"`[^`\n]+`", text))))
    heads = {"egress", "providers", "mx_map", "catalog", "collect.tables", "limits"}  # tables, explained as such
    wanted = [key for model in (Config, ProviderConfig, EgressConfig, CatchupConfig) for key in keys(model)]
    missing = [key for key in wanted if key not in heads and not {key, key.rpartition(".")[2]} & named]
    assert not missing
    assert all(f"[{head}" in text or f"`{head}." in text for head in heads), heads


def test_the_smallest_example_of_a_catalog_loads(cli, place):
    text = (DOCS / "catalog.md").read_text(encoding="utf-8")
    files = re.findall(r"^`([\w./]+)`\n\n((?:    .*\n|\n)+)", text, re.MULTILINE)
    assert [name for name, _ in files] == ["releases.csv", "recipients.csv", "sent.csv", "content/r1.eml.j2"]
    for name, block in files:
        path = place / name
        path.parent.mkdir(exist_ok=True)
        lines = [line.removeprefix("    ") for line in block.rstrip().splitlines()]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    (command,) = re.findall(r"^    resend (catalog load --rel.*)$", text, re.MULTILINE)
    result = cli(*command.split(), "--json")
    assert result.exit == 0, result.err
    assert result.rows[-1]["loaded"] == {"releases": 1, "recipients": 1, "sendlog": 1}
    assert result.rows[-1]["rejected"] == 0
    assert (place / "home/content/r1.eml.j2").is_file()


def test_the_index_names_every_page():
    text = (DOCS / "README.md").read_text(encoding="utf-8")
    assert not [path.name for path in DOCS.glob("*.md") if path.name != "README.md" and f"({path.name}" not in text]


def test_every_option_stands_under_its_command_in_the_docs(cli):
    text = (DOCS / "commands.md").read_text()
    sections = dict(re.findall(r"^### resend ([^\n]+)\n(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL))
    lacking = []
    for path in every_command():
        name = " ".join(path)
        options = set(re.findall(r"^ +(--[a-z-]+)", cli(*path, "--help").out, re.MULTILINE))
        lacking += [f"{name} {option}" for option in sorted(options) if option not in sections[name]]
    assert lacking == []


def examples() -> list[tuple[str, str]]:
    """(page, command line) of everything in the pages that is written as a command of ours."""
    found = []
    for path in [DOCS.parent / "README.md", *sorted(DOCS.rglob("*.md"))]:
        text = path.read_text(encoding="utf-8")
        codes = re.findall(r"^ {4}(resend .+)$|`(resend [^`]+)`", text, re.MULTILINE)
        found += [(path.name, " ".join("".join(code).split())) for code in codes]
    return found


def parsed(line: str) -> None:
    """Raise what the command line raises for a wrong one; do nothing of what it says."""
    shell = shlex.split(re.split(r" [<>|] ", line)[0], comments=True)[1:]
    words = take(["1" if word == "N" else word.partition("|")[0] for word in shell])[1]
    if not words or set(words) & {"..."}:
        return
    command: Any = typer.main.get_command(root)
    name = "resend"
    while hasattr(command, "commands"):
        with command.make_context(name, ["--help"], resilient_parsing=True) as ctx:
            name, command, words = command.resolve_command(ctx, words)
    command.make_context(name, words)


def test_every_example_in_the_pages_is_a_command_line_of_ours():
    lines = examples()
    assert len(lines) > 80
    wrong = []
    for page, line in lines:
        try:
            parsed(line)
        except (TyperException, UsageError) as error:
            if type(error).__name__ != "MissingParameter":  # a sentence names the command alone
                wrong.append(f"{page}: {line}: {error}")
    assert not wrong, "\n".join(wrong)
