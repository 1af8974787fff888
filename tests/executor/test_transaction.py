"""One mail over a real socket to a receiver that fails at every stage: what is reported is what the receiver holds."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import pytest

from resend.config import RelayConfig
from resend.executor.connect import Refused, SmtpConnector
from resend.executor.session import Session
from resend.executor.transaction import End, Ended, Mail, TooLate, transact
from resend.lab.behaviour import Behaviour, Fault, Pool
from resend.lab.mx import serve
from resend.lab.receipts import Receipt, read_receipts
from resend.model import Stage
from resend.policy.routes import Route

BODY = b"Message-ID: <m1@example.jp>\r\nSubject: x\r\n\r\n.leading\r\n..two\r\nend\r\n.\r\n"
MAIL = Mail(envelope_from="s@example.jp", rcpt="r@example.net", body=BODY)


@dataclass
class Played:
    """What came of it, on both sides."""

    ends: list[End] = field(default_factory=list)
    usable: list[bool] = field(default_factory=list)
    arms: int = 0
    receipts: list[Receipt] = field(default_factory=list)


def play(
    folder: Path,
    *faults: Fault,
    pool: Pool | None = None,
    mails: tuple[Mail, ...] = (MAIL,),
    refuse: str = "",
    late: str = "",
) -> Played:
    """Send `mails` one after the other over one session; `refuse` is the ledger's no to each arm, `late` its delay."""
    pool = pool or Pool(name="p", listen=("127.0.1.31:0",), faults=faults)
    played = Played()

    async def arm() -> str:
        played.arms += 1
        if late:
            raise TooLate(late)
        return refuse

    async def main() -> None:
        async with serve(Behaviour(pools=(pool,)), folder) as lab:
            session = await open_session(lab.address("p"))
            for mail in mails:
                played.ends.append(await asyncio.wait_for(transact(session, mail, arm), 10))
                played.usable.append(session.usable)
            await session.quit()

    asyncio.run(main())
    played.receipts = list(read_receipts(folder))
    return played


async def open_session(address: str) -> Session:
    host, _, port = address.rpartition(":")
    route = Route(host=host, port=int(port), relay=False, egress="direct")
    return await SmtpConnector(RelayConfig(), "client.example.jp").open(route, "example.net")


def test_accepted_the_bytes_are_the_ones_that_were_given(tmp_path: Path) -> None:
    played = play(tmp_path, mails=(MAIL, MAIL))
    assert [end.how for end in played.ends] == [Ended.ACCEPTED, Ended.ACCEPTED]
    assert played.arms == 2 and played.usable == [True, True]
    assert [r.sha256 for r in played.receipts] == [sha256(BODY).hexdigest()] * 2
    assert all((r.sender, r.rcpt, r.clean) == ("s@example.jp", "r@example.net", True) for r in played.receipts)


@pytest.mark.parametrize("stage", ["mail", "rcpt", "data", "body"])
def test_a_line_lost_before_the_dot_is_not_in_doubt(tmp_path: Path, stage: str) -> None:
    # a body that does not fit the socket's buffers, so that the loss is seen while it leaves
    body = BODY if stage != "body" else b"Subject: x\r\n\r\n" + b"x" * 70 + b"\r\n" + (b"y" * 70 + b"\r\n") * 400_000
    pool = Pool(
        name="p", listen=("127.0.1.31:0",), announce=("PIPELINING", "8BITMIME"), faults=(Fault(do="drop", at=stage),)
    )
    mail = Mail(envelope_from=MAIL.envelope_from, rcpt=MAIL.rcpt, body=body)
    played = play(tmp_path, pool=pool, mails=(mail,))
    assert played.ends[0].how is Ended.LOST and played.ends[0].stage is Stage(stage)
    assert not played.ends[0].armed and played.arms == 0
    assert played.usable == [False] and played.receipts == []


def test_a_receiver_that_does_not_hear_out_the_body_has_refused_it(tmp_path: Path) -> None:
    big = Mail(
        envelope_from=MAIL.envelope_from, rcpt=MAIL.rcpt, body=b"Subject: x\r\n\r\n" + (b"y" * 70 + b"\r\n") * 400_000
    )
    too_big = Fault(do="reply", at="body", reply="552 5.3.4 too big")
    pool = Pool(name="p", listen=("127.0.1.31:0",), announce=("8BITMIME",), faults=(too_big,))
    played = play(tmp_path, pool=pool, mails=(big,))
    end = played.ends[0]
    assert (end.how, end.stage, end.armed) == (Ended.REFUSED, Stage.BODY, False)
    assert end.reply is not None and end.reply.code == 552
    assert played.usable == [False] and played.arms == 0 and played.receipts == []


@pytest.mark.parametrize("do", ["drop", "garbage"])
@pytest.mark.parametrize("accepted", [True, False])
def test_no_word_after_the_dot_is_in_doubt_whatever_happened(tmp_path: Path, do: str, accepted: bool) -> None:
    played = play(tmp_path, Fault(do=do, at="dot", accepted=accepted))
    end = played.ends[0]
    assert (end.how, end.stage, end.armed) == (Ended.IN_DOUBT, Stage.DOT, True)
    assert end.cut is (do == "drop")
    assert played.usable == [False] and len(played.receipts) == accepted


@pytest.mark.parametrize("reply", ["354 go on", "250-2.0.0 Ok\r\n251 2.0.0 Ok\r\n", "250 Ok\r\n250 Ok\r\n"])
def test_odd_answers_to_the_dot_never_leave_a_usable_session(tmp_path: Path, reply: str) -> None:
    do = "garbage" if reply.endswith("\n") else "reply"
    played = play(tmp_path, Fault(do=do, at="dot", reply=reply))
    doubled = reply.startswith("250 Ok")  # the first of the two is the answer, the second nobody asked for
    assert played.ends[0].how is (Ended.ACCEPTED if doubled else Ended.IN_DOUBT)
    assert played.usable == [False]


@pytest.mark.parametrize(("code", "how"), [(250, Ended.ACCEPTED), (451, Ended.REFUSED), (554, Ended.REFUSED)])
def test_a_reply_of_a_hundred_kilobytes_to_the_dot_is_certain(tmp_path: Path, code: int, how: Ended) -> None:
    """Another session would take the mail for one in doubt, though the receiver said what became of it."""
    long = f"{code}-2.0.0 and so on\r\n" * 5_000 + f"{code} 2.0.0 queued as 4RYx2B1\r\n"
    end = play(tmp_path, Fault(do="garbage", at="dot", reply=long, accepted=code == 250)).ends[0]
    assert (end.how, end.stage) == (how, Stage.DOT) and end.reply is not None
    assert end.reply.code == code and end.reply.text.endswith("4RYx2B1") and len(end.reply.text) < 40_000


@pytest.mark.parametrize("line", ["250-2.0.0 and so on\r\n", "250-" + "x" * 100])
def test_a_reply_to_the_dot_that_does_not_end_is_in_doubt(tmp_path: Path, line: str) -> None:
    endless = line * (3_000_000 // len(line))
    played = play(tmp_path, Fault(do="garbage", at="dot", reply=endless, accepted=True))
    assert played.ends[0].how is Ended.IN_DOUBT and "does not end" in played.ends[0].why
    assert played.usable == [False]


def test_silence_after_the_dot_is_in_doubt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resend.executor.transaction.DOT_S", 0.2)
    played = play(tmp_path, Fault(do="silence", at="dot", accepted=True))
    assert played.ends[0].how is Ended.IN_DOUBT and not played.ends[0].cut and len(played.receipts) == 1


def test_421_in_mid_session_ends_the_session_and_is_no_loss(tmp_path: Path) -> None:
    from resend.lab.behaviour import Session as Limit

    pool = Pool(name="p", listen=("127.0.1.31:0",), session=Limit(mails=1))
    played = play(tmp_path, pool=pool, mails=(MAIL, MAIL))
    assert [end.how for end in played.ends] == [Ended.ACCEPTED, Ended.REFUSED]
    second = played.ends[1]
    assert second.stage is Stage.MAIL and second.reply is not None and second.reply.code == 421
    assert played.usable == [True, False] and played.arms == 1 and len(played.receipts) == 1


def test_5yz_to_rcpt_leaves_the_session_for_the_next_mail(tmp_path: Path) -> None:
    pool = Pool(name="p", listen=("127.0.1.31:0",), reject={"gone@example.net": "550 5.1.1 no such user"})
    gone = Mail(envelope_from="s@example.jp", rcpt="gone@example.net", body=BODY)
    played = play(tmp_path, pool=pool, mails=(gone, MAIL))
    first = played.ends[0]
    assert (first.how, first.stage, first.armed) == (Ended.REFUSED, Stage.RCPT, False)
    assert first.reply is not None and (first.reply.code, first.reply.enhanced) == (550, "5.1.1")
    assert played.ends[1].how is Ended.ACCEPTED
    assert played.arms == 1 and [r.rcpt for r in played.receipts] == ["r@example.net"]


@pytest.mark.parametrize(("reply", "usable"), [("451 4.3.0 later", True), ("421 4.3.2 closing", False)])
def test_4yz_to_the_dot_is_a_refusal(tmp_path: Path, reply: str, usable: bool) -> None:
    played = play(tmp_path, Fault(do="reply", at="dot", reply=reply))
    end = played.ends[0]
    assert (end.how, end.stage, end.armed) == (Ended.REFUSED, Stage.DOT, True)
    assert played.usable == [usable] and played.receipts == []


def test_without_the_arm_the_dot_never_leaves(tmp_path: Path) -> None:
    played = play(tmp_path, refuse="vetoed: unsubscribed")
    assert played.ends[0].how is Ended.NOT_ARMED and played.ends[0].why == "vetoed: unsubscribed"
    assert played.usable == [False] and played.receipts == []


def test_an_arm_that_came_too_late_is_taken_back_and_nobody_is_blamed(tmp_path: Path) -> None:
    played = play(tmp_path, late="the lease is over")
    end = played.ends[0]
    assert (end.how, end.armed, end.why) == (Ended.DISARMED, True, "the lease is over")
    assert played.usable == [False] and played.receipts == []


@pytest.mark.parametrize(
    ("mail", "announce"),
    [
        (Mail(envelope_from="s@example.jp", rcpt="\u5c71\u7530@example.net", body=BODY), ("8BITMIME",)),
        (Mail(envelope_from="s@example.jp", rcpt="r@example.net", body=b"x" * 200 + b"\r\n"), ("SIZE 100",)),
        (Mail(envelope_from="s@example.jp", rcpt="r@example.net>\r\nDATA", body=BODY), ("8BITMIME",)),
    ],
)
def test_a_mail_that_does_not_fit_is_not_tried(tmp_path: Path, mail: Mail, announce: tuple[str, ...]) -> None:
    played = play(tmp_path, pool=Pool(name="p", listen=("127.0.1.31:0",), announce=announce), mails=(mail,))
    assert played.ends[0].how is Ended.UNFIT and played.arms == 0 and played.receipts == []


def other(n: int) -> Mail:
    return Mail(envelope_from="s@example.jp", rcpt=f"r{n}@example.net", body=f"Subject: {n}\r\n\r\n{n}\r\n".encode())


def chain(folder: Path, count: int, *faults: Fault, **limits: object) -> Played:
    """Send mails over one session, each of them begun behind the dot of the one before, where it may be."""
    pool = Pool(name="p", listen=("127.0.1.31:0",), faults=faults, **limits)  # type: ignore[arg-type]
    mails = [other(n) for n in range(count)]
    played = Played()

    async def arm() -> str:
        played.arms += 1
        return ""

    async def main() -> None:
        async with serve(Behaviour(pools=(pool,)), folder) as lab:
            session = await open_session(lab.address("p"))
            session.dot_s = 0.0  # as if it had answered a dot at once
            for n, mail in enumerate(mails):
                later = iter(mails[n + 1 : n + 2])
                end = await asyncio.wait_for(transact(session, mail, arm, lambda later=later: next(later, None)), 10)
                played.ends.append(end)
                played.usable.append(session.usable)
                session.dot_s = 0.0
            await session.quit()

    asyncio.run(main())
    played.receipts = list(read_receipts(folder))
    return played


def test_a_mail_that_is_begun_behind_the_dot_is_a_mail_like_any_other(tmp_path: Path) -> None:
    played = chain(tmp_path, 5)
    assert [end.how for end in played.ends] == [Ended.ACCEPTED] * 5
    assert [(r.rcpt, r.sha256) for r in played.receipts] == [
        (other(n).rcpt, sha256(other(n).body).hexdigest()) for n in range(5)
    ]
    assert all(r.clean for r in played.receipts)


def test_a_refusal_of_a_mail_begun_behind_a_dot_is_its_own(tmp_path: Path) -> None:
    played = chain(tmp_path, 3, reject={"r1@example.net": "550 5.1.1 no such user"})
    assert [end.how for end in played.ends] == [Ended.ACCEPTED, Ended.REFUSED, Ended.ACCEPTED]
    refused = played.ends[1]
    assert (refused.stage, refused.armed) == (Stage.RCPT, False)
    assert [r.rcpt for r in played.receipts] == ["r0@example.net", "r2@example.net"]


def test_a_line_lost_at_the_dot_leaves_that_mail_in_doubt_and_the_next_untried(tmp_path: Path) -> None:
    played = chain(tmp_path, 2, Fault(do="drop", at="dot", accepted=True))
    first, second = played.ends
    assert (first.how, first.stage) == (Ended.IN_DOUBT, Stage.DOT)
    assert (second.how, second.stage, second.armed) == (Ended.LOST, Stage.MAIL, False)
    assert played.arms == 1 and len(played.receipts) == 1


def test_a_session_that_ends_with_its_last_mail_takes_none_back(tmp_path: Path) -> None:
    from resend.lab.behaviour import Session as Limit

    played = chain(tmp_path, 2, session=Limit(mails=1))
    assert [end.how for end in played.ends] == [Ended.ACCEPTED, Ended.REFUSED]
    assert played.ends[1].stage is Stage.MAIL and played.arms == 1 and not played.usable[1]


def test_a_354_for_a_refused_recipient_is_answered_by_hanging_up(tmp_path: Path) -> None:
    """Some receivers say 354 to DATA although there is no recipient: not even an empty mail may come of it."""
    heard: list[bytes] = []

    async def careless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        said = {b"EHLO": b"250-x\r\n250 PIPELINING", b"MAIL": b"250 Ok", b"RCPT": b"550 no", b"DATA": b"354 go on"}
        writer.write(b"220 x\r\n")
        while line := await reader.readline():
            heard.append(line.strip())
            writer.write(said.get(line[:4].upper(), b"250 Ok") + b"\r\n")
        writer.close()

    async def arm() -> str:
        raise AssertionError("armed without a recipient")

    async def main() -> End:
        server = await asyncio.start_server(careless, "127.0.1.31", 0)
        host, port = server.sockets[0].getsockname()
        session = await open_session(f"{host}:{port}")
        end = await asyncio.wait_for(transact(session, MAIL, arm), 10)
        assert not session.usable
        server.close()
        return end

    end = asyncio.run(main())
    assert (end.how, end.stage) == (Ended.REFUSED, Stage.RCPT) and end.reply is not None and end.reply.code == 550
    assert heard[-1] == b"DATA"


@pytest.mark.parametrize("stage", ["connect", "ehlo"])
def test_a_greeting_that_says_no_is_a_reply_to_judge(tmp_path: Path, stage: str) -> None:
    pool = Pool(
        name="p", listen=("127.0.1.31:0",), faults=(Fault(do="reply", at=stage, reply="554 5.7.1 not from you"),)
    )
    with pytest.raises(Refused) as caught:
        play(tmp_path, pool=pool)
    assert caught.value.reply.code == 554
