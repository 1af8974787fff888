"""The pages for people hold: each key of the configuration is explained, and the example of a catalog loads."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from resend.config import CatchupConfig, Config, EgressConfig, ProviderConfig

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
