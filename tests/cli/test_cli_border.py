"""How a command ends: one line, the documented exit code, the last JSON line; and what it costs to ask for help."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from resend.cli import app as cli_app
from resend.cli.app import COMMANDS, root
from resend.cli.options import take
from resend.errors import UsageError

ROOT = Path(__file__).parents[2]


def every_command() -> list[tuple[str, ...]]:
    """All command paths of the typer application: ("run",), ("plan", "make"), ..."""
    found: list[tuple[str, ...]] = []

    def walk(command: object, path: tuple[str, ...]) -> None:
        commands = getattr(command, "commands", None)
        if commands is None:
            found.append(path)
            return
        for name, inner in commands.items():
            walk(inner, (*path, name))

    group = typer.main.get_command(root)
    with group.make_context("resend", ["--help"], resilient_parsing=True) as ctx:
        for name in group.list_commands(ctx):
            walk(group.get_command(ctx, name), (name,))
    return found


def test_every_command_has_help_and_is_in_the_docs(cli):
    text = (ROOT / "README.md").read_text() + (ROOT / "docs/commands.md").read_text()
    for path in every_command():
        result = cli(*path, "--help")
        assert result.exit == 0, path
        assert len(result.out.splitlines()) > 3, path
        assert f"resend {' '.join(path)}" in text, f"resend {' '.join(path)} is not in README or docs/commands.md"


def test_help_names_every_command(cli):
    out = cli("--help").out
    for name, (_, what) in COMMANDS.items():
        assert f"  {name}" in out
        assert what[:40] in out


@pytest.mark.parametrize("argv", [[], ["--help"], ["status", "-h"], ["plan", "make", "--help"]])
def test_help_in_json_is_json(cli, argv):
    help_, summary = cli(*argv, "--json", home="").rows
    assert help_["type"] == "help" and help_["text"].startswith("Usage: resend")
    assert summary["type"] == "summary" and summary["exit"] == 0


def test_no_arguments_is_help(cli):
    assert cli(home="").out == cli("--help").out


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from resend.cli.border import run; code = run(['--help']);"
        "heavy = {'duckdb', 'sqlalchemy', 'pydantic', 'jinja2', 'alembic', 'rich', 'dns'} & set(sys.modules);"
        "sys.exit(code or (str(heavy) if heavy else 0))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("argv", "home", "rest"),
    [
        (["run", "P", "--home", "h", "--confirm", "3", "--json"], "h", ["run", "P", "--confirm", "3"]),
        (["--home=h", "why", "a@b.jp"], "h", ["why", "a@b.jp"]),
        (["explain", "--", "--json"], "", ["explain", "--", "--json"]),
    ],
)
def test_global_options_stand_anywhere(argv, home, rest):
    options, left = take(argv)
    assert (options.home, left) == (home, rest)
    assert options.json == (argv[-1] == "--json" and "--" not in argv)


@pytest.mark.parametrize("argv", [["--home"], ["--home="], ["--home", "--json"]])
def test_home_needs_a_directory(argv):
    with pytest.raises(UsageError):
        take(argv)


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["statu"], "did you mean 'resend status'?"),
        (["purge", "--older-than", "1d"], "not built yet"),
        (["collect", "x", "--engine", "spark"], "'resend collect --engine' is not built yet"),
        (["collect", "x", "--engine=spark"], "not built yet"),
        (["--nonsense"], "run 'resend --help'"),
        (["plan"], "run 'resend plan --help'"),
        (["plan", "mak"], "no such command"),
        (["run"], "run 'resend run --help'"),
        (["run", "x", "--confirm", "many"], "--confirm"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_exit_2(cli, argv, says):
    result = cli(*argv)
    assert result.exit == 2
    assert says in result.one_error()
    row = cli(*argv, "--json").rows[-1]
    assert (row["type"], row["v"], row["code"]) == ("error", 1, 2)
    assert row["next"]


@pytest.mark.parametrize(
    ("argv", "where"),
    [
        (["collect"], "resend collect"),
        (["incident", "show", "nowhere"], "resend incident show"),
        (["incident", "open", "x", "--from", "yesterday"], "--from"),
        (["collect", "mail.log", "--tz", "Mars/Olympus"], "--tz"),
        (["collect", "mail.log", "--year", "99999"], "--year"),
        (["collect", "mail.log", "--format", "of-the-future"], "--format"),
        (["why", "nobody"], "resend why"),
        (["plan", "mak"], "resend plan"),
        (["nonsense"], "resend"),
        (["--home"], "--home"),
        (["hold", "--release", ""], "--release"),
        (["hold", "--release=", "--reason", "x"], "--release"),
        (["plan", "close", "abc", "--reason", " "], "--reason"),
        (["outcomes", "--recipient", ""], "--recipient"),
        (["plan", "show", ""], "resend"),
        (["hold", "--domain", "two words"], "--domain"),
    ],
)
def test_a_wrong_command_line_says_what_where_and_what_next(cli, place, argv, where):
    (place / "mail.log").write_text("Nov 24 08:00:00 mx1 postfix/qmgr[1]: 4ABC: removed\n")
    (place / "home").mkdir()
    sqlite_of(cli)
    row = cli(*argv, "--json").rows[-1]
    assert (row["type"], row["code"], row["where"]) == ("error", 2, where)
    assert row["what"] and row["next"]
    assert cli(*argv).one_error().startswith(f"error: {where}: ")


def sqlite_of(cli) -> None:
    """A ledger without an incident, so that commands get as far as looking at what they were given."""
    from resend.stores.home import Home
    from resend.stores.ledger import open_ledger

    open_ledger("", Home(Path("home")), create=True).close()


NO_UTF8 = os.fsdecode(b"x\xff")


@pytest.mark.parametrize(
    "argv",
    [
        ["hold", "--release", NO_UTF8],
        ["unhold", f"--release={NO_UTF8}"],
        ["outcomes", "--message-id", NO_UTF8],
        ["incident", "open", "x", "--release", NO_UTF8],
        ["plan", "make", "x", "--reason", NO_UTF8],
        ["collect", "mail.log", "--host", NO_UTF8],
        ["why", NO_UTF8],
    ],
)
def test_text_that_no_store_could_keep_is_refused(cli, place, argv):
    (place / "home").mkdir()
    sqlite_of(cli)
    result = cli(*argv)
    assert result.exit == 2 and "the value is not UTF-8" in result.one_error()


def test_a_file_may_have_any_name(cli, place):
    (place / NO_UTF8).write_text("id,customer,title,sender\nr1,c1,One,news@example.jp\n")
    assert cli("catalog", "load", "--releases", NO_UTF8).exit == 0
    assert cli("catalog", "load", "--recipients", NO_UTF8 + ".csv").exit == 2


def test_the_package_is_the_command_line(process):
    done = subprocess.run([sys.executable, "-m", "resend", "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, process("--version").out)


def test_a_defect_is_one_line_and_keeps_its_traceback(cli, place, monkeypatch):
    (place / "home").mkdir()
    monkeypatch.setitem(cli_app.COMMANDS, "doctor", ("no_such_module", ""))
    result = cli("doctor")
    assert result.exit == 1
    line = result.one_error()
    (saved,) = (place / "home").glob("traceback-*.txt")
    assert str(saved.name) in line
    assert "ModuleNotFoundError" in saved.read_text()
    assert saved.stat().st_mode & 0o777 == 0o600
    assert "Traceback" in cli("doctor", "--verbose").err


def test_a_reader_that_goes_away_is_no_error(place):
    code = "from resend.cli.border import run; import sys; sys.exit(run(['--help']))"
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-c", code], stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert done.stderr == ""


def test_version(process):
    from resend import __version__

    assert process("--version").out == f"resend {__version__}\n"
    assert process("status", "--version", "--json").rows == [
        {"type": "version", "v": 1, "version": __version__},
        {"type": "summary", "v": 1, "exit": 0},
    ]


def test_what_is_not_built_is_offered_nowhere(cli):
    assert not set(cli_app._LATER) & set(COMMANDS)
    for command, option in cli_app.LATER_OPTIONS:
        assert option not in cli(command, "--help").out
