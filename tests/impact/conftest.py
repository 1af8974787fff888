"""A home with an open ledger, and a catalog for the mails of these tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from resend.config import Config
from resend.stores.catalog_load import load_catalog
from resend.stores.home import Home
from resend.stores.ledger import Ledger, open_ledger

RELEASES = """\
id,customer,customer_name,title,sender,embargo_at,expires_at,withdrawn,urgency
R1,C1,株式会社あおぞら,新製品のお知らせ,pr@example.jp,,,0,5
R2,C1,株式会社あおぞら,Withdrawn,pr@example.jp,,,1,5
R3,C2,=cmd|' /C calc'!A0,Out of date,pr@example.jp,,2026-11-01T00:00:00Z,0,5
R4,C2,=cmd|' /C calc'!A0,Under embargo,pr@example.jp,2027-01-01T00:00:00Z,,0,5
R5,C3,No content,@SUM(1+1),pr@example.jp,,,0,5
"""
RECIPIENTS = """\
id,address,unsubscribed_at
r1,One@Example.jp,
r2,two@example.jp,
r3,gone@example.jp,2026-11-01T00:00:00Z
r4,stopped@example.jp,
"""
RECIPIENTS += "".join(f"f{number},fine.{number}@example.jp,\n" for number in range(20))
SUPPRESSIONS = "address,reason,scope\nSTOPPED@example.jp,complaint,\ntwo@example.jp,asked,customer:C2\n"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home with the catalog above and templates for all releases but R5."""
    base = tmp_path_factory.mktemp("impact")
    content = base / "content"
    content.mkdir()
    for release in ("R1", "R2", "R3", "R4"):
        (content / f"{release}.eml.j2").write_text("Subject: {{ title }}\n\nHello\n")
    files: dict[str, Path] = {}
    for kind, text in (("releases", RELEASES), ("recipients", RECIPIENTS), ("suppressions", SUPPRESSIONS)):
        files[kind] = base / f"{kind}.csv"
        files[kind].write_text(text, encoding="utf-8")
    home = Home(base / "home")
    summary = load_catalog(home, Config(), content=content, **files)
    assert summary.rejected == 0
    return home


@pytest.fixture(scope="module")
def ledger(home: Home) -> Iterator[Ledger]:
    with open_ledger("", home) as found:
        yield found
