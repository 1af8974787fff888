"""Several mails of one release to one mailbox, and mails whose link names somebody else: who stands for whom."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from tests.cli.conftest import Cli, cli, place
from tests.link.small_log import BUSY, NOW, OVER, PEOPLE, REFUSED, SENT, Log, collect, log, opened

__all__ = ["cli", "log", "place"]


def bucket(cli: Cli, address: str) -> list[tuple[str, str]]:
    """(queue id, bucket) of each mail to an address."""
    found = cli("why", address, "--json")
    assert found.exit == 0, found.err
    return [(row["outcome"]["queue_id"], verdict["bucket"]) for row in found.of("why") for verdict in row["verdicts"]]


def test_which_mail_stands_for_which(cli: Cli, log: Log) -> None:
    """A release that was sent by hand once more while the incident went on, and a send log that is wrong about one."""
    log.mail("A0001", "first@x", PEOPLE["p1"], *OVER)
    log.mail("A0002", "second@x", PEOPLE["p1"], *SENT, minute=90)  # by hand, delivered at once: nothing of it failed
    log.mail("A0003", "third@x", PEOPLE["p2"], *OVER)
    log.mail("A0004", "fourth@x", PEOPLE["p2"], *REFUSED, minute=90)  # by hand, too, and in vain
    log.mail("A0005", "fifth@x", PEOPLE["p3"], *OVER)
    log.mail("A0006", "sixth@x", "former@corp.jp", ("deferred", "4.7.500", BUSY))  # p3's by the send log: ambiguous
    log.mail("A0007", "seventh@x", PEOPLE["p4"], ("deferred", "4.7.500", BUSY))
    people = {
        "first": "p1",
        "second": "p1",
        "third": "p2",
        "fourth": "p2",
        "fifth": "p3",
        "sixth": "p3",
        "seventh": "p4",
    }
    opened(cli, log, {f"{name}@x": who for name, who in people.items()})
    assert bucket(cli, PEOPLE["p1"]) == [("A0001", "folded")]
    assert bucket(cli, PEOPLE["p2"]) == [("A0003", "folded"), ("A0004", "never")], "what forbids one forbids both"
    assert bucket(cli, "former@corp.jp") == [("A0006", "still_queued")], "found by the address that the log has"
    assert cli("plan", "make", "one", "--json").summary["count"] == 1

    log.more("A0006", "former@corp.jp", *SENT, at=NOW - timedelta(hours=3))
    log.more("A0007", PEOPLE["p4"], *REFUSED, at=NOW - timedelta(hours=3))
    collect(cli, log)
    assert bucket(cli, PEOPLE["p3"]) == [("A0005", "resend")], "that another's mail arrived says nothing of his"
    (row,) = cli("why", "Four@日本語.JP", "--json").of("why")  # A-label in log and catalog
    assert row["outcome"]["status"] == "bounced"
    assert row["verdicts"][0]["reason"] == "queued when the incident was opened, bounced since"


def test_a_plan_that_was_closed_or_whose_file_broke_is_made_whole_again(cli: Cli, log: Log) -> None:
    log.mail("A0001", "first@x", PEOPLE["p1"], *OVER)
    opened(cli, log, {"first@x": "p1"})
    id_ = cli("plan", "make", "one", "--json").summary["id"]
    file = Path(f"home/derived/plan-{id_}.parquet")
    before = file.read_bytes()
    for harm in (b"", before[:-9], None):
        file.unlink() if harm is None else file.write_bytes(harm)
        assert "its file was written anew" in cli("plan", "make", "one").out
        assert file.read_bytes() == before
    assert cli("plan", "close", id_[:12], "--reason", "a slip").exit == 0
    again = cli("plan", "make", "one", "--json")
    assert [(row["id"], row["state"]) for row in again.of("plan")] == [(id_, "ready")]
    assert [row["state"] for row in cli("plan", "list", "--json").of("plan")] == ["ready"]

    for words, hint in (
        (("preview", "onn"), "did you mean 'one'?"),
        (("preview", id_[:12]), "that is a plan, of incident inc-"),
        (("plan", "show", "one"), f"'one' is an incident, no plan; its plans: {id_[:12]}"),
        (("incident", "open", "two", "--release", "R2"), "the catalog has no release 'R2'"),
        (("incident", "open", "two", "--from", "2026-02-01", "--to", "2026-01-01"), "--from is not before --to"),
    ):
        slip = cli(*words)
        assert slip.exit == 2 and hint in slip.err, words


def test_a_report_for_a_postmaster_names_nobody_and_the_last_report_waits(cli: Cli, log: Log) -> None:
    log.mail("A0001", "first@x", PEOPLE["p1"], *OVER)
    log.mail("A0002", "second@x", PEOPLE["p2"], *OVER)
    log.mail("A0003", "third@x", PEOPLE["p3"], *REFUSED)
    opened(cli, log, {"first@x": "p1", "second@x": "p2", "third@x": "p3"})
    written = cli("report", "one", "--lang", "ja", "--out", "out", "--for-provider", "corp.jp", "--json")
    assert written.summary["affected"] == 3
    page = Path(written.summary["path"]).read_text()
    assert page.count("451 4.7.500") == 2 and '<td class="n">2</td>' in page, "one wording, its code and its count"
    assert not any(word in page for word in ("one@", "two@", "three@", "News", "C1", "R1"))
    wrong = cli("report", "one", "--lang", "ja", "--for-provider", "nobody.jp")
    assert wrong.exit == 2 and "receivers here: corp.jp" in wrong.err

    early = cli("report", "one", "--lang", "en", "--out", "out", "--final")
    assert early.exit == 2 and "2 to be resent and in no run yet" in early.err
    assert cli("hold", "--release", "R1", "--reason", "over").exit == 0
    assert "2 waiting for their time" in cli("report", "one", "--lang", "en", "--final").err
    Path("releases.csv").write_text("id,customer,title,sender,withdrawn\nR1,C1,News,pr@example.jp,1\n")
    assert cli("catalog", "load", "--releases", "releases.csv").exit == 0
    last = cli("report", "one", "--lang", "en", "--out", "out", "--final", "--json")
    assert last.exit == 0 and last.summary["path"].endswith("-final-en.html")
    assert "<strong>final report</strong>" in Path(last.summary["path"]).read_text()
