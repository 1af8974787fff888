"""A log is read again in the zone in which it was read before: else its times would move by hours."""

from __future__ import annotations

PLAIN = "Nov 24 08:00:00 mx1 postfix/smtp[1]: 4ABC12DEF0: to=<a@example.jp>, relay=none, delay=1, status=deferred (x)\n"
KEPT = "mail.log: times are read in Asia/Tokyo, as before, and not in UTC; to change that: --tz UTC"
OTHERS = 'write tz = "Asia/Tokyo" into resend.toml'


def first_at(cli):
    (row,) = cli("sources", "--json").of("source")
    return row["first_at"]


def test_a_zone_that_was_given_once_is_kept_and_told(cli, place):
    (place / "mail.log").write_text(PLAIN)
    assert OTHERS in cli("collect", "mail.log", "--tz", "Asia/Tokyo").err
    first = first_at(cli)
    assert cli("incident", "open", "x").exit == 0  # reconcile needs a ledger
    for command in ("reconcile", "triage", "collect"):
        assert KEPT in cli(command, "mail.log").err
    assert first_at(cli) == first
    assert KEPT not in cli("collect", "mail.log", "--tz", "UTC").err
    assert first_at(cli) != first
    (place / "resend.toml").write_text('tz = "Asia/Tokyo"\n')
    assert OTHERS not in cli("collect", "mail.log", "--tz", "Asia/Tokyo").err
    assert cli("collect", "mail.log").err == ""


def test_a_host_that_was_given_once_is_kept_and_told(cli, place):
    (place / "mail.log").write_text(PLAIN)
    assert cli("collect", "mail.log", "--host", "mx7").exit == 0
    (place / "mail.log").write_text(PLAIN * 2)
    told = cli("collect", "mail.log").err
    assert "mail.log: a log of mx7, as before; to change that: --host NAME" in told
    assert {row["host"] for row in cli("sources", "--json").of("source")} == {"mx7"}
    assert cli("collect", "mail.log", "--host", "mx8").err == ""
    assert {row["host"] for row in cli("sources", "--json").of("source")} == {"mx8"}


def test_standard_input_is_no_log(cli):
    result = cli("collect", "-")
    assert result.exit == 2
    assert "write standard input to a file" in result.one_error()
