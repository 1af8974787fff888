"""A log that is read in another zone than before is told: its times move by hours, and nothing else says so."""

from __future__ import annotations

PLAIN = "Nov 24 08:00:00 mx1 postfix/smtp[1]: 4ABC12DEF0: to=<a@example.jp>, relay=none, delay=1, status=deferred (x)\n"
ZONED = PLAIN.replace("Nov 24 08:00:00", "2026-11-24T08:00:00.000000+09:00")
MOVED = "mail.log: its times were read in Asia/Tokyo before, and in UTC now"
NEXT_TIME = 'write tz = "Asia/Tokyo" into resend.toml'


def test_times_that_move_are_told(cli, place):
    (place / "mail.log").write_text(PLAIN)
    (place / "zoned.log").write_text(ZONED)  # its times are the same in any zone
    assert NEXT_TIME in cli("collect", "mail.log", "zoned.log", "--tz", "Asia/Tokyo").err
    assert cli("incident", "open", "x").exit == 0  # reconcile needs a ledger
    assert MOVED in cli("reconcile", "mail.log").err
    cli("collect", "mail.log", "--tz", "Asia/Tokyo")
    assert MOVED in cli("collect", "mail.log", "zoned.log").err
    (place / "resend.toml").write_text('tz = "Asia/Tokyo"\n')
    assert NEXT_TIME not in cli("collect", "mail.log", "--tz", "Asia/Tokyo").err
    assert cli("collect", "mail.log").err == ""


def test_standard_input_is_no_log(cli):
    result = cli("collect", "-")
    assert result.exit == 2
    assert "write standard input to a file" in result.one_error()
