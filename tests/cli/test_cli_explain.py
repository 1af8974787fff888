"""What a reply means, on the screen in two languages and as JSON."""

from __future__ import annotations

import io

import pytest

from resend.cli import render
from resend.policy.advice import Advice
from resend.policy.classify import Rules

SAMPLES = sorted({rule.cls: rule.samples[0] for rule in Rules.load().all}.values())
SPECIAL = sorted(rule.samples[0] for rule in Rules.load().all if rule.id in Advice.load().rules())


@pytest.mark.parametrize(
    ("env", "argv", "japanese"),
    [
        ({"LANG": "ja_JP.UTF-8"}, [], True),
        ({"LANG": "ja_JP.UTF-8", "LC_ALL": "C"}, [], False),
        ({"LANG": "C", "LC_ALL": "ja_JP.eucJP"}, [], True),
        ({}, [], False),
        ({}, ["--lang", "ja"], True),
        ({"LANG": "ja_JP.UTF-8"}, ["--lang", "en"], False),
    ],
)
def test_the_screen_speaks_the_language_of_its_user(cli, monkeypatch, env, argv, japanese):
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    out = cli("explain", "451 4.7.500 Server busy", *argv).out
    assert ("原因" in out) is japanese and ("cause" in out) is not japanese


@pytest.mark.parametrize("lang", ["en", "ja"])
@pytest.mark.parametrize("reply", [*SAMPLES, *SPECIAL])
def test_every_answer_fits_80_columns(cli, lang, reply):
    result = cli("explain", "--lang", lang, reply)
    assert result.exit == 0
    lines = result.out.splitlines()
    assert len(lines) >= 5 and all(render.width(line) <= 80 for line in lines)
    assert not any(line.strip()[:1] in set("。、)」") for line in lines)


def test_json_has_both_languages_and_all_that_was_read(cli):
    (row,) = cli("explain", "--json", "--provider", "office365", "450 Greylisted, try again in 5 minutes").of("explain")
    assert (row["class"], row["action"], row["retry_after"], row["code"]) == ("greylisted", "wait", 300, 450)
    assert row["advice"].isascii() and row["meaning"].isascii() and "グレイリスト" in row["meaning_ja"]
    lost = "lost connection with mx[192.0.2.1] while sending end of data -- message may be sent more than once"
    (row,) = cli("explain", "--json", lost).of("explain")
    assert (row["stage"], row["maybe_delivered"], row["code"], row["enhanced"]) == ("dot", True, None, "")


def test_no_reply_on_standard_input_is_said(cli, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\n\n")))
    result = cli("explain", "-")
    assert (result.exit, result.out) == (0, "")
    assert "no line came" in result.err
