"""Mails out of files: an mbox with all its quoting, a Maildir, folders, and what cannot be read."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resend.collect.bounces import mailbox
from resend.collect.bounces.mailbox import looks_like_mail, looks_like_mbox, mails
from tests.collect.bounce_cases import CASES, real_mails
from tests.collect.reading import CORPORA, REPOSITORY

ENVELOPE = b"From MAILER-DAEMON Tue Feb 10 09:12:44 2026\n"
MAIL = b"From: a@example.jp\nSubject: one\nMessage-ID: <1@example.jp>\n\nbody\n"


def read(path: Path) -> tuple[list[tuple[int, bytes]], list[str]]:
    warn: list[str] = []
    return list(mails(path, warn)), warn


def test_mails_of_an_mbox_with_their_lines(tmp_path: Path) -> None:
    box = tmp_path / "bounces.mbox"
    quoted = MAIL + b">From the start it failed\n>>From here\nFrom a sentence\n\nFrom us, after a blank line\n"
    box.write_bytes(ENVELOPE + quoted + b"\n" + ENVELOPE + b"Content-Length: 999999\n" + MAIL + b"\n" + ENVELOPE + MAIL)
    found, warn = read(box)
    assert [line for line, _ in found] == [1, 13, 21]
    assert found[0][1].endswith(
        b"body\nFrom the start it failed\n>From here\nFrom a sentence\n\nFrom us, after a blank line\n"
    )
    assert found[1][1] == b"Content-Length: 999999\n" + MAIL
    assert found[2][1] == MAIL
    assert not warn


def test_an_mbox_with_crlf_and_gzip(tmp_path: Path) -> None:
    box = tmp_path / "bounces.mbox.gz"
    box.write_bytes(gzip.compress((ENVELOPE + MAIL + b"\n" + ENVELOPE + MAIL).replace(b"\n", b"\r\n")))
    found, warn = read(box)
    assert [mail.replace(b"\r\n", b"\n") for _, mail in found] == [MAIL, MAIL]
    assert not warn
    box.write_bytes(box.read_bytes()[:-30])
    _, warn = read(box)
    assert len(warn) == 1 and str(box) in warn[0]


@given(st.lists(st.lists(st.sampled_from([b"", b"x", b"From me", b">From me", b"From a b 1:00", b" y"])), max_size=4))
def test_what_is_put_into_an_mbox_comes_out(
    tmp_path_factory: pytest.TempPathFactory, bodies: list[list[bytes]]
) -> None:
    box = tmp_path_factory.getbasetemp() / "round.mbox"
    put = [b"Subject: x\nFrom: a@example.jp\n\n" + b"".join(line + b"\n" for line in lines) for lines in bodies]
    with box.open("wb") as handle:
        for mail in put:
            body = b"".join(
                b">" + line if line.lstrip(b">").startswith(b"From ") else line
                for line in mail.splitlines(keepends=True)
            )
            handle.write(ENVELOPE + body + b"\n")
    found, _ = read(box)
    assert [mail for _, mail in found] == put


def test_a_mail_that_is_too_long_is_cut_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailbox, "MAIL_MAX", 1 << 20)
    box = tmp_path / "box"
    box.write_bytes(ENVELOPE + MAIL + b"x" * 100 + b"\n" + b"y" * (3 << 20) + b"\n\n" + ENVELOPE + MAIL)
    found, warn = read(box)
    assert len(found) == 2 and found[1][1] == MAIL
    assert len(found[0][1]) <= 1 << 20
    assert warn == [f"{box}:1: this mail is longer than 1 MiB, cut there"]
    lone = tmp_path / "one.eml"
    lone.write_bytes(MAIL + b"z" * (2 << 20))
    found, warn = read(lone)
    assert len(found[0][1]) == 1 << 20 and str(lone) in warn[0]


def test_a_maildir_without_its_tmp_and_hidden_files(tmp_path: Path) -> None:
    for name in ("new", "cur", "tmp"):
        (tmp_path / name).mkdir()
    (tmp_path / "new/1707.M1.mx").write_bytes(MAIL)
    (tmp_path / "cur/1706.M2.mx:2,S").write_bytes(MAIL.replace(b"one", b"two"))
    (tmp_path / "tmp/1708.M3.mx").write_bytes(MAIL)
    (tmp_path / "cur/.hidden").write_bytes(MAIL)
    found, warn = read(tmp_path)
    assert [(place, b"two" in mail) for place, mail in found] == [(1, False), (2, True)]
    assert not warn


def test_a_folder_gives_its_mails_and_says_what_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.eml").write_bytes(MAIL)
    (tmp_path / "b.eml").write_bytes(b"")
    (tmp_path / "c.csv").write_bytes(b"address,reason\ntaro@example.jp,x\n")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/d.eml").write_bytes(MAIL)
    (tmp_path / "gone.eml").symlink_to(tmp_path / "nowhere")
    found, warn = read(tmp_path)
    assert [place for place, _ in found] == [1, 2]
    assert sorted(line.split(":")[0] for line in warn) == [str(tmp_path / "b.eml"), str(tmp_path / "c.csv")]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.eml").write_bytes(MAIL)
    (tmp_path / "a.eml").chmod(0)
    found, warn = read(tmp_path / "a.eml")
    assert not found and "Permission denied" in warn[0]


def test_a_file_that_vanished(tmp_path: Path) -> None:
    found, warn = read(tmp_path / "gone.eml")
    assert not found and "gone.eml" in warn[0] and "No such file" in warn[0]


OTHERS = [
    b"Feb 10 09:12:44 mx1 postfix/smtp[123]: 4hX2Yz0Lk1zQ: to=<taro@example.jp>, relay=none, status=deferred (x)\n" * 3,
    b"2026-02-10T09:12:44.123456+09:00 mx1 postfix/qmgr[5]: 4hX2: removed\n" * 3,
    b"<22>1 2026-02-10T09:12:44Z mx1 postfix/smtp 12 - - 4hX2: to=<a@b.jp>\n" * 3,
    b"2026-02-10 09:12:44 1wN9t2-00000002BQv-3hr9 => taro@example.jp R=dnslookup T=remote_smtp\n" * 3,
    b'{"type":"Delivery","from":"a@b.jp","to":"c@d.jp","subject":"x","date":"y"}\n' * 3,
    b'[\n {"event": "bounce", "email": "a@b.jp"},\n {"event": "x"}\n]\n',
    b"type,timeLogged,orig,rcpt,dsnAction\nd,2026-02-10 09:12:44+0900,a@b.jp,c@d.jp,relayed\n",
    b"from,to,subject,date,message-id\na@b.jp,c@d.jp,x,y,z\n",
    b"key: value\nother: value\n\nlist:\n  - a\n",
    b"Date: 2026-02-10\nName: table\n\nx\n",
    b"",
    b"\x00\x01\x02",
    b"\x1f\x8b\x08\x00",
]


@pytest.mark.parametrize("sample", OTHERS)
def test_logs_tables_and_json_are_no_mail(sample: bytes) -> None:
    assert not looks_like_mail(sample)
    assert not looks_like_mbox(sample)


def test_mails_are_known_for_mails() -> None:
    for path in [*(case / "mail.eml" for case in CASES), *real_mails()]:
        sample = path.read_bytes()[: mailbox.SAMPLE]
        assert looks_like_mail(sample) or looks_like_mbox(sample), path
        assert looks_like_mbox(sample) or looks_like_mbox(ENVELOPE + sample.lstrip()), path


@given(st.binary(max_size=400))
def test_detection_takes_any_bytes(sample: bytes) -> None:
    looks_like_mail(sample)
    looks_like_mbox(ENVELOPE + sample)


@pytest.mark.skipif(not CORPORA.is_dir(), reason="the corpora are not beside this repository")
def test_logs_of_other_projects_are_no_mail() -> None:
    logs = [
        path
        for name in ("postfix-grok", "postfix-parser", "sendmail-fluent", "anymail")
        for path in (CORPORA / name).rglob("*")
    ]
    logs += [case / "mail.log" for case in (REPOSITORY / "tests/cases/postfix").iterdir()]
    wrong = [
        path
        for path in logs
        if path.is_file() and path.suffix != ".eml" and looks_like_mail(path.read_bytes()[: mailbox.SAMPLE])
    ]
    assert not wrong
