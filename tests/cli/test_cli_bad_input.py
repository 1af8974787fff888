"""Bad input gives one clear line, with the next step and the documented exit code; never a traceback."""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import textwrap
import tomllib

import pytest

from resend.cli.options import Options
from resend.cli.screen import Screen

LOG = "Nov 24 08:00:00 mx1 postfix/smtp[1]: 4ABC: to=<a@example.jp>, relay=none, delay=1, status=deferred (x)\n"


def test_a_missing_file(cli, place):
    result = cli("collect", "nowhere.log")
    assert result.exit == 1
    assert "nowhere.log" in result.one_error()
    assert not (place / "home").exists(), "a mistyped path must not make a home"


def test_an_unknown_format(cli, place):
    (place / "mail.log").write_text(LOG)
    result = cli("collect", "mail.log", "--format", "exim-of-the-future")
    assert result.exit in (1, 2)
    assert "postfix" in result.one_error(), "the formats that are known are named"


def test_a_file_that_is_no_log(cli, place):
    (place / "photo.log").write_bytes(os.urandom(4096))
    result = cli("collect", "photo.log")
    assert result.exit == 1
    result.one_error()


def test_an_unknown_time_zone(cli, place):
    (place / "mail.log").write_text(LOG)
    assert "Asia/Tokyo" in cli("collect", "mail.log", "--tz", "Tokyo/Asia").one_error()


def test_a_broken_catalog_row_is_named_and_the_rest_loads(cli, place):
    (place / "r.csv").write_text(
        "id,customer,title,sender\nr1,c1,One,news@example.jp\nr2,,Two,news@example.jp\nr3,c1,Three,news@example.jp\n"
    )
    result = cli("catalog", "load", "--releases", "r.csv", "--json")
    assert result.exit == 3
    assert "r.csv:3" in result.err
    assert result.rows[-1]["loaded"] == {"releases": 2}
    assert result.rows[-1]["rejected"] == 1


def test_a_catalog_without_a_needed_column(cli, place):
    (place / "r.csv").write_text("id,title\nr1,One\n")
    result = cli("catalog", "load", "--releases", "r.csv")
    assert result.exit == 1
    assert "customer" in result.one_error()


@pytest.mark.parametrize(
    ("toml", "says"),
    [
        ("[run]\nconections = 3\n", "did you mean 'connections'?"),
        ("[run]\nconnections = 0\n", "run.connections"),
        ("[providers.office365]\nrate = 'fast'\n", "providers.office365.rate"),
        ("[run]\nwindow = '8 to 21'\n", "run.window"),
        ("[providers.office365]\nwindow = '08:00-25:00'\n", "providers.office365.window"),
        ("[providers.office365]\ntimetable = ['22:00-07:00']\n", "providers.office365.timetable"),
        ("[providers.office365]\ndaily_quota = 0\n", "providers.office365.daily_quota"),
        ("tz = 'Mars/Olympus'\n", "tz"),
        ("[run\n", "not valid TOML"),
    ],
)
def test_a_bad_key_or_value_in_the_configuration(cli, place, toml, says):
    (place / "resend.toml").write_text(toml)
    for argv in (["config", "show"], ["sources"], ["explain", "451 busy"]):
        result = cli(*argv)
        assert result.exit == 2
        assert says in result.one_error()
        assert "resend.toml" in result.one_error()


def test_a_bad_variable_is_named(cli, monkeypatch):
    monkeypatch.setenv("BULK_RESEND_RUN__CONNECTIONS", "many")
    result = cli("config", "show")
    assert result.exit == 2
    assert "BULK_RESEND_RUN__CONNECTIONS" in result.one_error()


@pytest.mark.parametrize(
    "argv",
    [
        ["sources"],
        ["outcomes"],
        ["status"],
        ["preview", "x"],
        ["plan", "list"],
        ["incident", "list"],
        ["check"],
        ["doubt", "list"],
        ["run", "abc", "--confirm", "1"],
        ["hold", "--release", "r1"],
        ["pause"],
        ["reconcile"],
        ["catch-up"],
        ["why", "a@example.jp"],
        ["report", "x", "--lang", "ja"],
    ],
)
def test_without_a_home_every_command_says_how_to_begin(cli, place, argv):
    result = cli(*argv)
    assert result.exit == 1
    assert "resend collect" in result.one_error()
    assert cli(*argv, "--json").rows[-1]["type"] == "error"
    assert not (place / "home").exists()


@pytest.mark.parametrize("argv", [["status"], ["plan", "list"], ["check"], ["preview", "x"], ["pause"]])
def test_without_a_ledger(cli, place, argv):
    (place / "home").mkdir()
    result = cli(*argv)
    assert result.exit == 1
    assert "resend incident open" in result.one_error()
    assert not (place / "home/ledger.db").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_home_that_may_not_be_written(cli, place):
    (place / "mail.log").write_text(LOG)
    (place / "home").mkdir(mode=0o500)
    result = cli("collect", "mail.log")
    assert result.exit == 1
    assert "--home" in result.one_error()


def test_a_home_that_cannot_be_made(cli, place):
    (place / "mail.log").write_text(LOG)
    (place / "file").write_text("")
    result = cli("collect", "mail.log", home="file/home")
    assert result.exit == 1
    assert "--home" in result.one_error()


def test_a_ledger_that_is_no_database(cli, place):
    (place / "home").mkdir()
    (place / "home/ledger.db").write_text("this is no database" * 100)
    result = cli("status")
    assert result.exit == 1
    assert "not an SQLite database" in result.one_error()


def test_a_ledger_of_another_program(cli, place):
    (place / "home").mkdir()
    con = sqlite3.connect(place / "home/ledger.db")
    con.execute("CREATE TABLE songs (title TEXT)")
    con.commit()
    con.close()
    result = cli("status")
    assert result.exit == 1
    assert "another program" in result.one_error()


def test_evidence_in_use_by_a_live_process(cli, place):
    (place / "mail.log").write_text(LOG)
    (place / "home").mkdir()
    with (place / "home/evidence.lock").open("a+") as lock:
        lock.write("4711")
        lock.flush()
        holder = subprocess.Popen(
            [
                sys.executable,
                "-c",
                textwrap.dedent(
                    """
                    import fcntl, sys
                    handle = open(sys.argv[1], "a+")
                    fcntl.flock(handle, fcntl.LOCK_EX)
                    print("held", flush=True)
                    sys.stdin.read()
                    """
                ),
                str(place / "home/evidence.lock"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert holder.stdout is not None
        holder.stdout.readline()
        try:
            result = cli("collect", "mail.log")
        finally:
            holder.communicate()
    assert result.exit == 5
    assert "4711" in result.one_error()


def test_the_relay_that_cannot_be_reached_is_named_by_doctor(cli, place):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (place / "resend.toml").write_text(f'[relay]\nhost = "127.0.0.1"\nport = {port}\ntls = "none"\n')
    result = cli("doctor", "--json")
    assert result.exit == 1
    (relay,) = [row for row in result.of("doctor") if row["check"] == "relay"]
    assert relay["state"] == "fail"
    assert f"127.0.0.1:{port}" in relay["detail"]
    assert relay["next"]


def test_a_port_that_is_no_mail_server_is_said(cli, place):
    with socket.create_server(("127.0.0.1", 0)) as server:
        pid = os.fork()
        if not pid:
            connection, _ = server.accept()
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            os._exit(0)
        (place / "resend.toml").write_text(
            f'[relay]\nhost = "127.0.0.1"\nport = {server.getsockname()[1]}\ntls = "none"\n'
        )
        result = cli("doctor")
        os.waitpid(pid, 0)
    assert result.exit == 1
    assert "not 220" in result.out


def test_init_never_overwrites(cli, place):
    assert cli("init", "--no-input").exit == 0
    before = (place / "resend.toml").read_text()
    result = cli("init", "--no-input")
    assert result.exit == 1
    assert "never overwrites" in result.one_error()
    assert (place / "resend.toml").read_text() == before


def test_what_init_writes_is_read_again(cli, place):
    cli("init", "--no-input")
    result = cli("config", "show", "--json")
    assert result.exit == 0
    rows = {row["key"]: row for row in result.of("setting")}
    assert rows["run.connections"]["origin"].endswith("resend.toml")
    assert rows["catchup.max"]["origin"] == "default"


def test_what_config_show_prints_can_be_written_into_resend_toml(cli, place, monkeypatch):
    monkeypatch.setenv("BULK_RESEND_OUTCOME__LATE_AFTER", "90m")
    monkeypatch.setenv("BULK_RESEND_COLLECT__OWN_RELAYS", '["192.0.2.1", "192.0.2.2"]')
    monkeypatch.setenv("BULK_RESEND_PROVIDERS__OFFICE365__RATE", "30/min")
    first = {row["key"]: row["value"] for row in cli("config", "show", "--json").of("setting")}
    assert (first["outcome.late_after"], first["collect.queue_lifetime"]) == ("90m", "5d")
    text = [f"{key} = {value if _is_toml(value) else json.dumps(value)}" for key, value in first.items()]
    (place / "resend.toml").write_text("\n".join(text))
    for name in ("OUTCOME__LATE_AFTER", "COLLECT__OWN_RELAYS", "PROVIDERS__OFFICE365__RATE"):
        monkeypatch.delenv(f"BULK_RESEND_{name}")
    again = {row["key"]: row["value"] for row in cli("config", "show", "--json").of("setting")}
    assert again == first


def _is_toml(value: str) -> bool:
    try:
        tomllib.loads(f"x = {value}")
    except tomllib.TOMLDecodeError:
        return False
    return True


def test_config_show_tells_origins_and_hides_passwords(cli, place, monkeypatch):
    (place / "resend.toml").write_text('[ledger]\nurl = "postgresql+psycopg://me:s3cret@db/x"\n')
    monkeypatch.setenv("BULK_RESEND_RUN__CONNECTIONS", "7")
    monkeypatch.setenv("BULK_RESEND_RELAY_PASSWORD", "hunter2")
    result = cli("config", "show", "--json")
    rows = {row["key"]: row for row in result.of("setting")}
    assert rows["run.connections"] == {
        "type": "setting",
        "v": 1,
        "key": "run.connections",
        "value": "7",
        "origin": "BULK_RESEND_RUN__CONNECTIONS",
    }
    assert rows["home"]["origin"] == "--home"
    assert "s3cret" not in result.out + cli("config", "show").out
    assert "hunter2" not in result.out


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["rate", "office365=3"], "office365=5/s"),
        (["rate", "=3/s"], "names no provider"),
        (["hold"], "--release"),
        (["hold", "--release", "r", "--domain", "d"], "name one of"),
        (["plan", "make", "x", "--include", "everything", "--reason", "r"], "ask:CAUSE"),
        (["plan", "make", "x", "--include", "probable"], "--reason"),
        (["plan", "make", "x", "--again"], "--reason"),
        (["plan", "make", "x", "--recipient-gap", "soon"], "10m"),
        (["incident", "open", "x", "--cause", "bad weather"], "throttled"),
        (["incident", "open", "x", "--from", "yesterday"], "2026-11-24"),
        (["report", "x", "--lang", "de"], "--lang"),
        (["doubt", "close", "--confirm", "1", "--reason", "r"], "keys or a provider"),
        (["doubt", "close", "k", "--confirm", "0", "--reason", "r"], "--confirm"),
        (["doubt", "resend", "k", "--confirm", "1"], "--reason"),
        (["explain", " "], "empty"),
        (["explain"], "REPLY"),
        (["outcomes", "--status", "lost"], "delivered_late"),
        (["catalog", "load"], "--releases"),
    ],
)
def test_options_that_do_not_fit(cli, place, argv, says):
    (place / "home").mkdir()
    result = cli(*argv)
    assert result.exit == 2, result
    assert says in result.one_error()


def test_a_slip_in_a_name_is_refused_and_the_name_that_is_near_it_is_said(cli, place):
    bounced = LOG.replace("4ABC", "4A1B2C3D4E").replace(
        "deferred (x)", "bounced (host mx said: 550 5.1.1 no such user)"
    )
    (place / "mail.log").write_text(bounced)
    assert cli("collect", "mail.log").exit == 0
    assert cli("incident", "open", "first").exit == 0
    for argv, says in (
        (["incident", "open", "x", "--provider", "offce365"], "did you mean 'office365'?"),
        (["pause", "offce365"], "did you mean 'office365'?"),
        (["rate", "offce365=1/s"], "did you mean 'office365'?"),
        (["explain", "451 busy", "--provider", "gogle"], "did you mean 'google'?"),
        (["hold", "--recipient", "taro"], "taro@example.jp"),
        (["plan", "mak", "x"], "did you mean 'make'? see 'resend plan --help'"),
    ):
        result = cli(*argv)
        assert result.exit == 2
        assert says in result.one_error()
    assert cli("pause", "example.jp").exit == 0, "a receiver that nobody knows is called by its domain"


@pytest.fixture
def obeying(place):
    """A command line that permissions hold for: where the tests run as root, without the right to pass over them."""
    caps = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    if caps and not shutil.which("setpriv"):
        pytest.skip("setpriv (util-linux) is not installed")

    def call(*argv: str) -> subprocess.CompletedProcess[str]:
        words = [*caps, sys.executable, "-m", "resend", "--home", "home", *argv]
        return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)

    return call


def test_what_may_not_be_read_is_said_and_is_no_wrong_usage(place, obeying):
    for name in ("mail.log", "queue.json", "r.csv"):
        (place / name).write_text(LOG)
        (place / name).chmod(0)
    (place / "content").mkdir(mode=0)
    for argv, name in (
        (["collect", "mail.log"], "mail.log"),
        (["triage", "mail.log"], "mail.log"),
        (["collect", "--queue", "queue.json"], "queue.json"),
        (["catalog", "load", "--releases", "r.csv"], "r.csv"),
        (["catalog", "load", "--content", "content"], "content"),
    ):
        done = obeying(*argv)
        assert done.returncode == 1, argv
        assert f"error: {name}: cannot read: Permission denied" in done.stderr, done.stderr
    (place / "content").chmod(0o700)


@pytest.mark.parametrize(
    ("files", "owner", "says"),
    [
        (0o400, "us", "; check owner, mode and mount"),
        (0o444, "nobody", "cannot be read where nothing may be written.*; run the same command as nobody"),
        (0o400, "nobody", "ledger.db: cannot read: Permission denied; run the same command as nobody"),
        (0o600, "lock", "ledger.write: cannot lock: Permission denied; run the same command as nobody"),
    ],
)
def test_a_ledger_that_may_not_be_written_is_not_called_broken(place, obeying, files, owner, says):
    from resend.stores.home import Home
    from resend.stores.ledger import open_ledger

    home = Home(place / "home")
    open_ledger("", home, create=True).close()
    if owner != "us":
        if os.geteuid() != 0:
            pytest.skip("root alone gives files away")
        for path in (home.ledger_write,) if owner == "lock" else (home.ledger_db, home.path):
            os.chown(path, pwd.getpwnam("nobody").pw_uid, -1)
    home.ledger_db.chmod(files)
    home.path.chmod(0o700 if owner == "lock" else 0o555)
    done = obeying("status")
    home.path.chmod(0o700)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert re.search(says, line) and "backup" not in line and "readonly" not in line, line


def test_doctor_looks_on_where_it_may_not_enter_the_home(place, obeying):
    (place / "home").mkdir(mode=0)
    done = obeying("doctor")
    (place / "home").chmod(0o700)
    assert done.returncode == 1
    assert [line.split()[1] for line in done.stdout.splitlines() if line.startswith("FAIL")] == [
        "home",
        "ledger",
        "evidence",
    ]


def test_a_suppression_list_with_bad_rows_is_said_where_a_person_decides(cli, place):
    (place / "mail.log").write_text(
        LOG.replace("4ABC", "4A1B2C3D4E").replace(
            "deferred (x)", "bounced (host mx said: 550 5.7.1 Access denied, banned sending IP)"
        )
    )
    (place / "s.csv").write_text("address,reason\n<a@example.jp>,complaint\nb@example.jp,complaint\n")
    assert cli("collect", "mail.log").exit == 0
    loaded = cli("catalog", "load", "--suppressions", "s.csv")
    assert loaded.exit == 3 and "rejected: s.csv:2: address: '<' in the local part" in loaded.err
    assert cli("incident", "open", "first").exit == 0
    assert "1 row of the suppression list rejected" in cli("preview", "first").out
    (known,) = [row for row in cli("preview", "first", "--json").of("known") if row["source"] == "catalog"]
    assert known["rejected"] == 1


def test_a_lone_at_sign_in_a_reason_is_no_address():
    screen = Screen(Options())
    said = "no @ in the address: 'a'; '@' in the local part: 'b@c@example.jp', <d@example.jp>"
    assert (
        screen.masked(said) == "no @ in the address: 'a'; '@' in the local part: 'b***@example.jp', <d***@example.jp>"
    )


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("TZ", "Mars/Olympus", "not a time zone"),
        ("HOME__X", "1", "home: must be"),
        ("RUN__WAIT__X", "1", "run.wait"),
        ("HOME__", "1", "home: must be"),
        ("__X", "1", "no key"),
        ("RUN_CONNECTIONS", "3", "BULK_RESEND_RUN__CONNECTIONS"),
        ("RELAY_PASSWORD_ENV", "X", "BULK_RESEND_RELAY__PASSWORD_ENV"),
        ("COLLECT__OWN_RELAYS", "10.0.0.1", "not a list"),
        ("COLLECT__OWN_RELAYS", "[1", "not a TOML list"),
        ("DNS__ENABLED", "maybe", "neither true nor false"),
        ("RUN__IN_DOUBT", "perhaps", "must be 'hold' or 'resend'"),
        ("CATCHUP__MAX", "-5", "greater than or equal to 0"),
        ("CATCHUP__AGE_FROM", "50h", "not before age_to"),
        ("PROVIDERS__OFFICE365__PARK", '["x"]', "providers.office365.park: not a park rule"),
        ("PROVIDERS__OFFICE365__PARK", "[1]", "providers.office365.park.0"),
        ("PROVIDERS__OFFICE365__START", "9/s", "providers.office365.start: start is above rate"),
        ("PROVIDERS__OFFICE365__FLOOR", "9/s", "providers.office365.floor: floor is above rate"),
        ("PROVIDERS__OFFICE365__REACTIONS", '[{on = "x"}]', "providers.office365.reactions: a reaction has on"),
        ("PROVIDERS__OFFICE365__WINDOW", "25:00", "providers.office365.window"),
        ("PROVIDERS__DEFAULT__RATE", "1/s", "providers.default: this name is taken"),
        ("RUN__WINDOW", "8 to 21", "run.window"),
        ("EGRESS__A__HOST", "mx.example.jp:25", "holds a port"),
        ("MESSAGE__LIST_UNSUBSCRIBE", "x", "message.list_unsubscribe"),
        ("LINK__MESSAGE_ID", "{foo}", "{release}"),
        ("LINK__VERP", "a{release", "brace"),
    ],
)
def test_a_variable_that_does_not_fit_is_named(cli, monkeypatch, name, value, says):
    monkeypatch.setenv(f"BULK_RESEND_{name}", value)
    for argv in (["config", "show"], ["explain", "451 busy"]):
        result = cli(*argv)
        assert result.exit == 2
        assert says in result.one_error()
    row = cli("config", "show", "--json").rows[-1]
    assert row["where"] == f"BULK_RESEND_{name}" and row["next"]
    assert "config show" not in row["next"], "it ends with the same error"


def test_a_variable_of_an_egress_is_named(cli, monkeypatch):
    monkeypatch.setenv("BULK_RESEND_EGRESS__A__HOST", "mx.example.jp")
    monkeypatch.setenv("BULK_RESEND_EGRESS__A__LIMITS__OFFICE365__START", "9/s")
    assert "BULK_RESEND_EGRESS__A__LIMITS__OFFICE365__START" in cli("config", "show").one_error()


def test_an_error_of_two_values_names_both_places(cli, place, monkeypatch):
    (place / "resend.toml").write_text("[catchup]\nage_to = '2h'\n")
    monkeypatch.setenv("BULK_RESEND_CATCHUP__AGE_FROM", "3h")
    where = cli("config", "show", "--json").rows[-1]["where"]
    assert where == f"{place / 'resend.toml'}, BULK_RESEND_CATCHUP__AGE_FROM"


def test_keys_without_a_section_and_variables_of_others(cli, monkeypatch):
    monkeypatch.setenv("BULK_RESEND_TZ", "Asia/Tokyo")
    monkeypatch.setenv("BULK_RESEND_MY_OWN_THING", "x")
    rows = {row["key"]: row for row in cli("config", "show", "--json").of("setting")}
    assert (rows["tz"]["value"], rows["tz"]["origin"]) == ("Asia/Tokyo", "BULK_RESEND_TZ")


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ('[relay]\nhost = "mail.example.jp"\ntls = "none"\n', "for this machine only"),
        ('[relay]\nhost = "192.0.2.1"\ntls = "none"\n', "for this machine only"),
        ('[egress.a]\nhost = "mail.example.jp"\ntls = "none"\n', "for this machine only"),
        ('[relay]\nhost = "mail.example.jp:25"\n', "holds a port"),
    ],
)
def test_mail_never_leaves_the_machine_to_a_relay_without_tls(cli, place, table, says):
    (place / "resend.toml").write_text(table)
    result = cli("config", "show")
    assert result.exit == 2 and says in result.one_error()
    for host in ("127.0.0.1", "127.0.1.9", "::1", "localhost"):
        (place / "resend.toml").write_text(f'[relay]\nhost = "{host}"\ntls = "none"\n')
        assert cli("config", "show").exit == 0


def test_a_configuration_with_a_byte_order_mark_is_read(cli, place):
    (place / "resend.toml").write_bytes(b'\xef\xbb\xbfhome = "b"\r\ntz = "Asia/Tokyo"\r\n')
    rows = {row["key"]: row["value"] for row in cli("config", "show", "--json", home="").of("setting")}
    assert (rows["home"], rows["tz"]) == (str(place / "b"), "Asia/Tokyo")


@pytest.mark.parametrize(("said", "known"), [("@EXAMPLE.JP", "example.jp"), ("例え.jp", "xn--r8jz45g.jp")])
def test_a_domain_is_held_as_mails_to_it_know_it(cli, place, said, known):
    from resend.stores.home import Home
    from resend.stores.ledger import open_ledger

    open_ledger("", Home(place / "home"), create=True).close()
    assert cli("hold", "--domain", said, "--json").summary["subject"] == known
