"""Content directories: what is taken over, what is refused and why, and what a mail is then made of."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

import pytest

from resend.config import Config
from resend.errors import InputError
from resend.stores.catalog_load import CatalogSummary, load_catalog
from resend.stores.content import Content, ContentStore
from resend.stores.home import Home

MAIL = (
    b"From: pr@example.jp\nTo: a@example.jp\nMessage-ID: <1@x.example.jp>\n"
    b"Date: Tue, 24 Nov 2026 09:00:00 +0900\n\nHello\n"
)
WIRE = MAIL.replace(b"\n", b"\r\n")


def name_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest() + ".eml"


@pytest.fixture
def put(tmp_path: Path) -> Path:
    (tmp_path / "content" / "kept").mkdir(parents=True)
    return tmp_path / "content"


def taken(home: Home, directory: Path) -> CatalogSummary:
    return load_catalog(home, Config(), content=directory)


def test_kept_bytes_win_over_a_template_and_a_template_over_a_mail(home: Home, put: Path) -> None:
    (put / "R1.eml").write_bytes(MAIL)
    (put / "R1.eml.j2").write_text("\ufeffSubject: {{ title }}\n\n{{ name }} 様\n", encoding="utf-8")
    (put / "R2.eml").write_bytes(MAIL)
    (put / "kept" / name_of("<1@x.example.jp>")).write_bytes(MAIL)
    assert taken(home, put).content == 4
    store = ContentStore(home)
    date = "2026-11-24T00:00:00.000000Z"
    sha = hashlib.sha256(WIRE).hexdigest()
    assert store.body("R1", "<1@x.example.jp>") == Content("kept", sha, "<1@x.example.jp>", date)
    assert store.kept("1@x.example.jp") == WIRE  # the log may have lost the brackets
    text = "Subject: {{ title }}\n\n{{ name }} 様\n"
    assert store.template("R1") == text
    assert store.body("R1", "<2@x.example.jp>") == Content("template", hashlib.sha256(text.encode()).hexdigest())
    assert store.body("R2", "") == Content("eml", sha, "<1@x.example.jp>", date)
    assert store.release_eml("R2") == WIRE
    assert store.body("R3", "<2@x.example.jp>") is None and not store.has("R3", "<2@x.example.jp>")
    for path in home.content.rglob("*.eml*"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_kept_bytes_named_by_the_bare_message_id_are_found_too(home: Home, put: Path) -> None:
    (put / "kept" / name_of("1@x.example.jp")).write_bytes(MAIL)
    assert taken(home, put).rejected == 0
    assert ContentStore(home).kept("<1@x.example.jp>") == WIRE


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("R1.eml.j2", b"Subject: {{ title }\n\n", "line 1"),
        ("R1.eml.j2", b"Subject: {% if x %}\n\nHello", "line"),
        ("R1.eml.j2", b"Subject: \xff\xfe\n\n", "not UTF-8"),
        ("R1.eml", b"From: a\0\n\nx\n", "NUL"),
        ("R1.eml", b"no header at all", "header"),
        ("R1.eml", b"From: a\r\n\r\nbare\nLF\r\n", "LF"),
        ("R1.eml", b"From: a\n\n" + b"x" * 1500 + b"\n", "998"),
        ("kept/notes.eml", MAIL, "not the sha256"),
        ("kept/" + "0" * 64 + ".eml", MAIL, "Message-ID"),
    ],
)
def test_bad_content_is_named_and_the_rest_is_taken(home: Home, put: Path, name: str, data: bytes, reason: str) -> None:
    (put / name).write_bytes(data)
    (put / "R2.eml").write_bytes(MAIL)
    found = taken(home, put)
    assert (found.rejected, found.content) == (1, 1)
    assert found.rejected_rows[0].startswith(f"{name}: ") and reason in found.rejected_rows[0]
    assert not (home.content / name).exists()


def test_what_is_no_content_is_said_and_a_link_out_of_the_directory_is_not_a_way_in(
    home: Home, put: Path, tmp_path: Path
) -> None:
    (put / "readme.txt").write_text("x")
    (put / ".hidden.eml").write_bytes(MAIL)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "R9.eml").write_bytes(MAIL)
    (put / "out").symlink_to(tmp_path / "elsewhere")
    found = taken(home, put)
    assert found.content == 0 and "readme.txt" in found.warnings[0]
    with pytest.raises(InputError, match="no such directory"):
        taken(home, tmp_path / "absent")


def test_the_catalog_may_name_a_file_that_several_releases_share(home: Home, put: Path, tmp_path: Path) -> None:
    (put / "news.eml.j2").write_text("Subject: {{ title }}\n\nHello\n")
    releases = tmp_path / "releases.csv"
    releases.write_text(
        "id,customer,title,sender,template\nR1,C1,One,pr@example.jp,news.eml.j2\n"
        "a/b,C1,Two,pr@example.jp,news.eml.j2\n../x,C1,Three,pr@example.jp,\n"
    )
    load_catalog(home, Config(), releases=releases, content=put)
    (home.path / "x.eml").write_bytes(MAIL)
    store = ContentStore(home)
    assert store.template("R1") == store.template("a/b") == "Subject: {{ title }}\n\nHello\n"
    assert store.release_eml("../x") is None


def test_loading_again_changes_nothing(home: Home, put: Path) -> None:
    (put / "R1.eml").write_bytes(MAIL)
    taken(home, put)
    os.utime(home.content / "R1.eml", (1, 1))
    assert taken(home, put).content == 1
    assert (home.content / "R1.eml").stat().st_mtime == 1
