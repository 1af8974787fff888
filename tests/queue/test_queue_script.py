"""The guarded script against queues that no Postfix of ours can show: hostile replies, odd addresses, ids used again.

`postqueue` and `postsuper` are stand-ins with a file for a queue; test_queue_postfix.py has the real ones.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resend.errors import InputError
from resend.report.queue import QueuedCopy, Script, script
from resend.stores.queueacts import QueueAct, QueueResult, RowState, parse_result, standing

NOW = datetime(2026, 11, 24, tzinfo=UTC)
AT = 1_795_000_000
POSTSUPER = """\
#!/bin/sh
# stand-in: moves mails between the queues of $QUEUE as postsuper -h|-H|-d - QUEUE does
ids=$(cat)
for id in $ids; do
    case $1 in
    -h) sed -i "s/\\"queue_name\\": \\"$3\\", \\"queue_id\\": \\"$id\\"/\\"queue_name\\": \\"hold\\", \\"queue_id\\": \\"$id\\"/" "$QUEUE" ;;
    -H) sed -i "s/\\"queue_name\\": \\"hold\\", \\"queue_id\\": \\"$id\\"/\\"queue_name\\": \\"deferred\\", \\"queue_id\\": \\"$id\\"/" "$QUEUE" ;;
    -d) sed -i "/\\"queue_name\\": \\"$3\\", \\"queue_id\\": \\"$id\\"/d" "$QUEUE" ;;
    esac
    [ -z "${AFTER:-}" ] || sh -c "$AFTER"
done
"""  # noqa: E501


class Host:
    """A mail host of files: a queue, and the two commands."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.queue = folder, folder / "queue.json"
        for name, text in (
            ("postqueue", '#!/bin/sh\ncat "$QUEUE"\n'),
            ("postsuper", POSTSUPER),
            ("postconf", "#!/bin/sh\necho mta1.example.jp\n"),
            ("id", "#!/bin/sh\necho 0\n"),
        ):
            path = folder / "bin" / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
            path.chmod(0o755)

    def run(self, made: Script, *items: dict[str, Any] | str, yes: bool = True, after: str = "") -> dict[int, str]:
        """Run the script over a queue; what became of each row."""
        text = "".join(
            (item if isinstance(item, str) else json.dumps(item, ensure_ascii=False)) + "\n" for item in items
        )
        self.queue.write_bytes(text.encode("utf-8", "surrogateescape"))
        path, result = self.folder / "act.sh", self.folder / "result"
        path.write_text(made.text, encoding="utf-8")
        result.unlink(missing_ok=True)
        done = subprocess.run(
            ["sh", str(path), "--result", str(result), "--verbose", *(["--yes"] if yes else [])],
            env={"PATH": f"{self.folder}/bin:{os.environ['PATH']}", "QUEUE": str(self.queue), "AFTER": after},
            capture_output=True,
            check=False,
            timeout=60,
        )
        assert done.returncode in (0, 3) and not done.stderr, done.stderr
        if not yes:
            assert not result.exists()
            return {}
        found = parse_result(result.read_text(), where="result")
        assert len(found.rows) == len(made.rows), done.stdout
        return {row: state.value for row, state in found.rows}


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def copy(row: int, qid: str = "", rcpt: str = "", *, at: int = AT, sender: str = "b@example.jp") -> QueuedCopy:
    return QueuedCopy(row, "mta1", qid or f"A{row:04d}", at * 1_000_000, sender, rcpt or f"u{row}@corp.jp")


def queued(
    qid: str, *rcpts: str, at: int = AT, queue: str = "deferred", sender: str = "b@example.jp", **more: Any
) -> dict[str, Any]:
    reason = more.pop("reason", "busy")
    return {
        "queue_name": queue, "queue_id": qid, "arrival_time": at, "message_size": 1, "forced_expire": False,
        "sender": sender, "recipients": [{"address": rcpt, "delay_reason": reason} for rcpt in rcpts],
    }  # fmt: skip


def made(*copies: QueuedCopy, action: str = "hold") -> Script:
    return script(copies, incident="inc-1", action=action, now=NOW)


SMUGGLED = '451 busy", "recipients": [{"address": "evil@x"}], "queue_id": "A0002", "sender": "'


@pytest.mark.parametrize(
    ("item", "state"),
    [
        (queued("A0001", "u1@corp.jp"), "held"),
        (queued("A0001", "u1@CORP.jp", sender="b@EXAMPLE.JP"), "held"),
        (queued("A0001", "U1@corp.jp"), "refused"),  # another local part is another mailbox
        (queued("A0001", "u1@corp.jp", at=AT + 29), "held"),
        (queued("A0001", "u1@corp.jp", at=AT + 31), "refused"),
        (queued("A0001", "u1@corp.jp", sender=""), "refused"),
        (queued("A0001", "u1@corp.jp", queue="active"), "left"),
        (queued("A0001", "u1@corp.jp", queue="incoming"), "left"),
        (queued("A0001", "u1@corp.jp", queue="corrupt"), "left"),
        (queued("A0001", "u1@corp.jp", queue="hold"), "held"),
        (queued("A0001", "other@corp.jp", "u1@corp.jp"), "refused"),
        (queued("A0001", "other@corp.jp"), "refused"),
        (queued("A0001"), "refused"),
        (queued("a0001", "u1@corp.jp"), "gone"),
        (queued("A0001", "u1@corp.jp", reason=SMUGGLED), "held"),
        (queued("A0001", "u1@corp.jp", reason="back\\slash \\\" 例え \x01\n\t/"), "held"),
        (queued("A0001", '"u1"@corp.jp'), "held"),
        (json.dumps(queued("A0001", "u1@corp.jp"))[:-1], "refused"),
        (json.dumps(queued("A0001", "u1@corp.jp")) + "}", "refused"),
        (json.dumps(queued("A0001", "u1@corp.jp")).replace('"sender":', '"sender": "x", "sender":'), "refused"),
        (json.dumps(queued("A0001", "u1@corp.jp")).replace('"recipients":', '"recipients": [{"address": "x@y"}], "recipients":'), "refused"),  # noqa: E501
        (json.dumps(queued("A0001", "u1@corp.jp")).replace('"address"', '"addres"'), "refused"),
        (json.dumps(queued("A0001", "u1@corp.jp")).replace("u1@", "\\u0075\\u0031@"), "held"),
        (json.dumps(queued("A0001", "u1@corp.jp")).replace("u1@", "u1\\u3042@"), "refused"),
        (json.dumps(queued("A0001", "u1@corp.jp", queue="hold")).replace(" ", ""), "held"),
        ("not json", "gone"),
    ],
)  # fmt: skip
def test_one_mail_is_touched_only_if_everything_fits(host: Host, item: dict[str, Any] | str, state: str) -> None:
    assert host.run(made(copy(1)), item)[1] == state
    assert host.run(made(copy(1)), item, yes=False) == {}


def test_recipients_that_left_by_themselves_are_told_apart(host: Host) -> None:
    rows = made(copy(1, "A1" + "AAA", "a@corp.jp"), copy(2, "A1" + "AAA", "b@corp.jp"))
    assert host.run(rows, queued("A1AAA", "b@corp.jp")) == {1: "gone", 2: "held"}
    assert host.run(rows) == {1: "gone", 2: "gone"}


def test_an_id_that_two_mails_of_the_incident_had_is_the_one_that_waits(host: Host) -> None:
    rows = made(copy(1, "AAAA"), copy(2, "AAAA", "u1@corp.jp", at=AT + 7200))
    assert host.run(rows, queued("AAAA", "u1@corp.jp", at=AT + 7200)) == {1: "gone", 2: "held"}


def test_deletion_takes_only_what_was_seen_on_hold(host: Host) -> None:
    rows = made(copy(1), copy(2), copy(3), action="delete")
    items = [
        queued("A0001", "u1@corp.jp"),
        queued("A0002", "u2@corp.jp", queue="hold"),
        queued("A0003", "u3@corp.jp", queue="active"),
    ]
    assert host.run(rows, *items) == {1: "deleted", 2: "deleted", 3: "left"}
    assert "A0003" in host.queue.read_text() and "A0001" not in host.queue.read_text()
    # between the first look and the hold another mail got the id: it is put back and stays
    changed = f"sed -i s/u1@corp.jp/someone@else.jp/ {host.queue}"
    assert host.run(rows, items[0], after=changed) == {1: "refused", 2: "gone", 3: "gone"}
    assert '"deferred", "queue_id": "A0001"' in host.queue.read_text()


def test_release_moves_what_is_on_hold_only(host: Host) -> None:
    rows = made(copy(1), copy(2), copy(3), action="release")
    items = [
        queued("A0001", "u1@corp.jp", queue="hold"),
        queued("A0002", "x@y.jp", queue="hold"),
        queued("A0003", "u3@corp.jp", queue="active"),
    ]
    assert host.run(rows, *items) == {1: "released", 2: "refused", 3: "released"}
    assert host.queue.read_text().count('"hold"') == 1


@pytest.mark.parametrize(
    "bad",
    [
        QueuedCopy(1, "mta1", "A1\nrm", AT * 10**6, "b@example.jp", "a@b.jp"),
        QueuedCopy(1, "mta1", "../../x", AT * 10**6, "b@example.jp", "a@b.jp"),
        QueuedCopy(1, "mta1\t", "A0001", AT * 10**6, "b@example.jp", "a@b.jp"),
        QueuedCopy(1, "-rf", "A0001", AT * 10**6, "b@example.jp", "a@b.jp"),
        QueuedCopy(1, "mta1", "A0001", AT * 10**6, "b@example.jp", "a@b.jp\n@END@\nreboot"),
        QueuedCopy(1, "mta1", "A0001", AT * 10**6, "b@example.jp\tx", "a@b.jp"),
        QueuedCopy(1, "mta1", "A0001", AT * 10**6, "", "a@b.jp"),
        QueuedCopy(1, "mta1", "A0001", 0, "b@example.jp", "a@b.jp"),
    ],
)
def test_what_cannot_be_named_safely_is_left_out(bad: QueuedCopy) -> None:
    found = made(bad, copy(2))
    assert (found.left_out, found.rows) == (1, (2,)) and "reboot" not in found.text


def test_a_shell_runs_nothing_of_the_list(host: Host) -> None:
    rcpt = "$(touch${IFS}pwned)`touch pwned`'\"\\@corp.jp"
    assert host.run(made(copy(1, rcpt=rcpt)), queued("A0001", rcpt)) == {1: "held"}
    assert not (host.folder / "pwned").exists() and not Path("pwned").exists()


words = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="@"), min_size=1, max_size=12)
local = st.one_of(st.sampled_from(["a", "b", "A", "c..d", "x\\y", 'q"q', "例え"]), words)
addresses = st.builds(
    lambda name, domain: f"{name}@{domain}", local, st.sampled_from(["corp.jp", "CORP.jp", "other.jp"])
)
mails = st.fixed_dictionaries(
    {
        "listed": st.lists(addresses, min_size=1, max_size=4, unique=True),
        "queued": st.lists(addresses, min_size=1, max_size=4, unique=True),
        "same": st.booleans(),
        "shift": st.sampled_from([0, 0, 5, -30, 31, 86_400]),
        "queue": st.sampled_from(["deferred", "hold", "active"]),
        # Postfix never logs a NUL; awk ends a line there, and the script then refuses what it could not read whole.
        "reason": st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60),
    }
)


def norm(address: str) -> str:
    name, _, domain = address.rpartition("@")
    if len(name) > 1 and name[0] == name[-1] == '"':
        name = name[1:-1].replace("\\", "")
    return f"{name}@{''.join(c.lower() if c.isascii() else c for c in domain)}"


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(mails, min_size=1, max_size=25))
def test_any_queue_is_read_as_it_is(host: Host, given_: list[dict[str, Any]]) -> None:
    copies, items, expected = [], [], {}
    for number, mail in enumerate(given_):
        qid = f"Q{number:04d}"
        there = mail["listed"] if mail["same"] else mail["queued"]
        items.append(queued(qid, *there, at=AT + mail["shift"], queue=mail["queue"], reason=mail["reason"]))
        known, present = {norm(rcpt) for rcpt in mail["listed"]}, {norm(rcpt) for rcpt in there}
        for place, rcpt in enumerate(mail["listed"]):
            row = number * 10 + place
            copies.append(copy(row, qid, rcpt))
            if abs(mail["shift"]) > 30 or present - known:
                expected[row] = "refused"
            elif norm(rcpt) not in present:
                expected[row] = "gone"
            else:
                expected[row] = "left" if mail["queue"] == "active" else "held"
    rows = made(*copies)
    assert rows.left_out == 0
    assert host.run(rows, *items) == expected


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="shellcheck is not installed")
@pytest.mark.parametrize("action", list(QueueAct))
def test_shellcheck_has_nothing_to_say(tmp_path: Path, action: QueueAct) -> None:
    path = tmp_path / "act.sh"
    path.write_text(made(copy(1), action=action).text)
    done = subprocess.run(["shellcheck", str(path)], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout


def test_results_are_read_whole_or_not_at_all() -> None:
    whole = QueueResult("inc-1", QueueAct.HOLD, "mta1", NOW, ((1, RowState.HELD), (2, RowState.REFUSED))).text()
    assert parse_result(whole, where="r").rows == ((1, RowState.HELD), (2, RowState.REFUSED))
    lines = whole.splitlines(keepends=True)
    broken = [whole[:end] for end in range(len(whole))] + [
        "".join(lines[:1] + lines[2:]),
        whole.replace("held", "well"),
    ]
    broken += [
        whole + "x",
        whole.replace("\t1\tinc", "\t2\tinc"),
        whole.replace("hold", "hug"),
        whole.replace("1\theld", "-1\theld"),
    ]
    for text in broken:
        with pytest.raises(InputError):
            parse_result(text, where="r")


@given(st.text())
def test_any_text_is_a_result_or_an_error(text: str) -> None:
    with pytest.raises(InputError):
        parse_result(text, where="r")


def test_the_latest_word_counts_and_deleted_is_deleted() -> None:
    def word(act: QueueAct, *rows: tuple[int, RowState]) -> QueueResult:
        return QueueResult("inc-1", act, "mta1", NOW, rows)

    held = word(QueueAct.HOLD, (1, RowState.HELD), (2, RowState.HELD), (3, RowState.LEFT))
    freed = word(QueueAct.RELEASE, (1, RowState.RELEASED))
    gone = word(QueueAct.DELETE, (2, RowState.DELETED))
    late = word(QueueAct.HOLD, (2, RowState.HELD), (1, RowState.GONE))
    found = standing([held, freed, gone, late])
    assert found == {1: RowState.RELEASED, 2: RowState.DELETED}
    assert Counter(standing([held]).values()) == {RowState.HELD: 2}
