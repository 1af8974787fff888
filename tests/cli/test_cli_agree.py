"""Whatever happened to whatever mails: preview, plan, run and receipts speak of the same ones, to the mail.

Real commands from the log to the receiver. What an example held back between plan and run is the only difference.
"""

from __future__ import annotations

import csv
import itertools
import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from resend.lab.receipts import read_receipts
from resend.stores.home import Home
from resend.stores.plans import PlanFile

from .test_cli_whole import Shell

RELAYS = {"office365": "jp.mail.protection.outlook.com", "docomo": "mfsmax.docomo.ne.jp", "small": "mx1.small.example"}
DOMAINS = {"office365": "kaisha{}.example.jp", "docomo": "docomo.ne.jp", "small": "small.example"}
THROTTLED = "451 4.7.500 Server busy. Please try again later"
FATES = {
    "sent": [("sent", "250 2.6.0 queued")],
    "late": [("deferred", THROTTLED), ("sent", "250 2.6.0 queued")],
    "expired": [("deferred", THROTTLED), ("expired", "")],
    "full": [("deferred", "452 4.2.2 mailbox full"), ("expired", "")],
    "gone": [("bounced", "550 5.1.1 User unknown")],
    "refused": [("bounced", "550 5.7.606 Access denied, banned sending IP")],
    "queued": [("deferred", THROTTLED)],
    "lost": [],
}
TOML = """\
home = "home"
tz = "UTC"
[mx_map]
"*" = "{address}"
[dns]
enabled = false
[run]
wait = "1s"
recipient_gap = "0s"
{providers}
"""
MAIL = st.tuples(
    st.integers(0, 2),  # release
    st.integers(0, 11),  # recipient
    st.sampled_from(["expired", "expired", "expired", *FATES]),
)
NUMBER = itertools.count()


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The address of a receiver that takes everything, and the folder of its receipts."""
    folder = tmp_path_factory.mktemp("agree")
    (folder / "behaviour.json").write_text(json.dumps({"seed": 1, "pools": {"all": {"listen": ["127.0.1.66:0"]}}}))
    words = ["--behaviour", str(folder / "behaviour.json"), "--receipts", str(folder / "receipts")]
    lab = subprocess.Popen([sys.executable, "-m", "resend.lab.mx", *words], stdout=subprocess.PIPE, text=True)
    try:
        assert lab.stdout is not None
        yield json.loads(lab.stdout.readline())["pools"]["all"][0], folder / "receipts"
    finally:
        lab.send_signal(signal.SIGTERM)
        lab.wait(10)
        lab.stdout.close()  # type: ignore[union-attr]


@settings(max_examples=6, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(
    mails=st.lists(MAIL, min_size=4, max_size=40, unique_by=lambda mail: mail[:2]),
    suppressed=st.sets(st.integers(0, 11), max_size=3),
    held=st.sampled_from([None, 0, 1]),
    include=st.sampled_from([(), ("ask:sender_blocked",)]),
)
def test_preview_plan_and_run_agree_to_the_mail(
    tmp_path_factory: pytest.TempPathFactory,
    receiver: tuple[str, Path],
    mails: list[tuple[int, int, str]],
    suppressed: set[int],
    held: int | None,
    include: tuple[str, ...],
) -> None:
    address, receipts = receiver
    shell, tag = Shell(tmp_path_factory.mktemp("example")), f"x{next(NUMBER)}"
    write(shell.directory, tag, address, mails, suppressed)
    assert shell("collect", "mail.log", "--year", str(datetime.now(UTC).year)).exit == 0
    tables = [word for kind in ("releases", "recipients", "sendlog", "suppressions") for word in (f"--{kind}", kind)]
    assert shell("catalog", "load", *tables, "--content", "content").exit == 0
    wanted = {
        (release, person)
        for release, person, fate in mails
        if person not in suppressed and (fate in ("expired", "full") or (fate == "refused" and include))
    }
    affected = [mail for mail in mails if mail[2] not in ("sent", "lost")]
    opened = shell("incident", "open", "i")
    assert opened.exit == (0 if affected else 2), opened.err
    if not affected:
        return
    previewed = shell("preview", "i", "--json")
    assert sum(row["count"] for row in previewed.of("bucket")) == len(affected) == previewed.summary["affected"]
    includes = [word for one in include for word in ("--include", one)]
    made = shell("plan", "make", "i", "--identity", "same", *includes, "--reason", "test", "--json")
    if not wanted:
        assert made.exit == 2, made.out
        return
    assert made.exit == 0, made.err
    (plan,) = made.of("plan")
    resend = {row["value"]: row["resend"] for row in previewed.of("impact") if row["dimension"] == "provider"}
    if not include:
        assert plan["count"] == previewed.summary["buckets"]["resend"] == sum(resend.values())
    with PlanFile(Home(shell.directory / "home"), plan["id"]) as frozen:
        planned = [(row.release, row.rcpt) for row in frozen.rows()]
    assert Counter(planned) == Counter(keys(tag, *mail) for mail in wanted)
    assert plan["count"] == len(wanted)
    removed = {mail for mail in wanted if mail[0] == held}
    if held is not None:
        assert shell("hold", "--release", f"{tag}r{held}", "--reason", "corrected").exit == 0
    done = shell("run", plan["id"], "--confirm", str(plan["count"]), "--provider-not-recovered", "test", "--json")
    assert done.exit == (3 if removed else 0), done.out + done.err
    got = Counter(
        (f"{tag}r{receipt.message_id[len(tag) + 2]}", receipt.rcpt)
        for receipt in read_receipts(receipts)
        if receipt.message_id.startswith(f"<{tag}r")
    )
    assert got == Counter(keys(tag, *mail) for mail in wanted - removed)
    after = shell("preview", "i", "--json").summary["buckets"]
    assert after["already_resent"] >= len(wanted) - len(removed)
    assert shell("check").exit == 0


def keys(tag: str, release: int, person: int) -> tuple[str, str]:
    return f"{tag}r{release}", mailbox(person)


def provider(person: int) -> str:
    return sorted(RELAYS)[person % 3]


def mailbox(person: int) -> str:
    return f"u{person}@{DOMAINS[provider(person)].format(person % 4)}"


def write(folder: Path, tag: str, address: str, mails: list[tuple[int, int, str]], suppressed: set[int]) -> None:
    """Log, catalog, content and config of one example."""
    sent = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=12)
    profiles = "\n".join(
        f'[providers.{name}]\nmx = ["{relay}"]\nrate = "500/s"\nstart = "500/s"\ndwell = "100ms"\n'
        for name, relay in RELAYS.items()
    )
    (folder / "resend.toml").write_text(TOML.format(address=address, providers=profiles))
    (folder / "content").mkdir()
    lines: list[tuple[datetime, str]] = []
    for number, (release, person, fate) in enumerate(mails):
        if fate != "lost":
            lines += list(log(sent, f"4c{number:04X}{tag.upper().encode().hex()[:4]}", tag, release, person, fate))
    with (folder / "mail.log").open("w", encoding="utf-8") as handle:
        for at, text in sorted(lines, key=lambda line: line[0]):
            handle.write(f"{at:%b %d %H:%M:%S} mta1 postfix/{text}\n")
    zoned = sent.isoformat()
    table(folder / "releases", ["id", "customer", "title", "sender", "envelope_from", "sent_at"], (
        [f"{tag}r{n}", f"c{n % 2}", f"お知らせ {n}", "news@example.jp", "bounce@example.jp", zoned] for n in range(3)
    ))  # fmt: skip
    table(folder / "recipients", ["id", "address"], ([f"p{n}", mailbox(n)] for n in range(12)))
    table(folder / "suppressions", ["address", "reason"], ([mailbox(n), "unsubscribed"] for n in sorted(suppressed)))
    table(folder / "sendlog", ["release", "recipient", "message_id", "sent_at"], (
        [f"{tag}r{release}", f"p{person}", f"<{tag}r{release}.{person}@example.jp>", zoned]
        for release, person, _ in mails
    ))  # fmt: skip
    for release in range(3):
        (folder / "content" / f"{tag}r{release}.eml.j2").write_text("Subject: {{ title }}\n\n{{ rcpt }} 様\n")


def log(sent: datetime, qid: str, tag: str, release: int, person: int, fate: str) -> Iterator[tuple[datetime, str]]:
    """The lines of one mail."""
    relay = RELAYS[provider(person)]
    yield sent, f"cleanup[9]: {qid}: message-id=<{tag}r{release}.{person}@example.jp>"
    yield sent, f"qmgr[8]: {qid}: from=<bounce@example.jp>, size=900, nrcpt=1 (queue active)"
    for step, (status, reply) in enumerate(FATES[fate]):
        at = sent + timedelta(hours=2 * step, seconds=5)
        if status == "expired":
            yield at, f"qmgr[8]: {qid}: from=<bounce@example.jp>, status=expired, returned to sender"
            continue
        said = f"host {relay}[198.51.100.7] said: {reply} (in reply to RCPT TO command)" if status != "sent" else reply
        yield (
            at,
            (
                f"smtp[7]: {qid}: to=<{mailbox(person)}>, relay={relay}[198.51.100.7]:25, delay={5 + 7200 * step},"
                f" delays=1/1/1/2, dsn={reply.split()[1]}, status={status} ({said})"
            ),
        )
    if fate != "queued":
        yield sent + timedelta(hours=2 * len(FATES[fate]), seconds=6), f"qmgr[8]: {qid}: removed"


def table(path: Path, header: list[str], rows: Iterator[list[str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as handle:
        csv.writer(handle).writerows([header, *rows])
