"""`collect --explain` and `sources` as people and programs see them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.cli.conftest import Result
from tests.collect.reading import mail

SAID = "Nov 20 10:10:00 mta1 systemd-journald[401]: Suppressed 8385 messages from /system.slice/postfix.service\n"


def test_a_line_in_words(place: Path, cli: Callable[..., Result]) -> None:
    (place / "mail.log").write_text(mail(1) + "garbage\n")
    shown = cli("collect", "--explain", "mail.log:4", "--year", "2026", "--tz", "Asia/Tokyo")
    assert shown.exit == 0
    assert all(len(line) <= 80 for line in shown.out.splitlines())
    for words in ("a try to deliver to one recipient", "2026-11-20", "recipient       user1@corp1.example.jp", "sent"):
        assert words in shown.out
    (row,) = cli("collect", "--explain", "mail.log:6", "--json").of("line")
    assert (row["verdict"], row["why"], row["text"]) == ("rejected", "no time stamp", "garbage")
    assert not (place / "home").exists()
    assert "--explain" in cli("collect", "mail.log", "--explain", "mail.log:6").one_error()
    assert "it has only 6 lines" in cli("collect", "--explain", "mail.log:7").one_error()


def test_sources_show_gaps_and_what_was_rejected(place: Path, cli: Callable[..., Result]) -> None:
    (place / "mail.log").write_text(mail(1) + "garbage\n" + SAID + mail(2, second=1200))
    assert cli("collect", "mail.log").exit == 3
    shown = cli("sources", "--rejected").out
    assert "Gaps" in shown
    assert "mail.log:6: no time stamp: garbage" in shown
    assert "garbage" not in cli("sources").out
    told = cli("sources", "--json")
    assert told.summary["rejected_lines"] == ["mail.log:6: no time stamp: garbage"]
    (gap,) = told.of("gap")
    assert (gap["host"], gap["from"] < gap["to"]) == ("mta1", True)
