"""One mail over an open session: MAIL, RCPT, DATA, the body, the arm, the dot, the word.

Nothing durable happens before the arm; nothing but the arm decides whether the dot leaves. It never tries another host.
What ended the transaction is a value, never an exception: one of a closed set.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum

from resend.executor.session import DATA_S, DOT_S, MAIL_S, RCPT_S, Session, SessionError, Silent
from resend.model import Reply, Stage
from resend.stores.failpoints import failpoint


class Ended(StrEnum):
    """How a transaction ended."""

    ACCEPTED = "accepted"  # 2yz to the dot
    REFUSED = "refused"  # 4yz or 5yz, at `stage`; before the arm unless the stage is the dot
    LOST = "lost"  # the session ended before the dot left: certainly not sent
    IN_DOUBT = "in_doubt"  # silence or garbage after the dot
    NOT_ARMED = "not_armed"  # the ledger said no
    UNFIT = "unfit"  # this receiver cannot take this mail (SMTPUTF8, SIZE): quarantine


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """What goes on the wire. `body` ends in CRLF; `rcpt` is the RCPT argument, exactly."""

    envelope_from: str
    rcpt: str
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How it ended, where, and what was said. `armed`: the arm was durable."""

    how: Ended
    stage: Stage
    reply: Reply | None = None
    why: str = ""
    armed: bool = False


async def transact(session: Session, mail: Mail, arm: Callable[[], Awaitable[str]]) -> End:
    """Send one mail. `arm` makes it durable that the dot may leave now and gives "", or the reason why it may not."""
    parameters, unfit = _parameters(session, mail)
    if unfit:
        return End(how=Ended.UNFIT, stage=Stage.MAIL, why=unfit)
    rcpt = f"RCPT TO:<{mail.rcpt}>".encode()
    if rcpt[9:-1].decode() != mail.rcpt:
        return End(how=Ended.UNFIT, stage=Stage.RCPT, why="the recipient cannot be written on the wire")
    stage = Stage.MAIL
    armed = False
    try:
        for stage, line, seconds, wanted in (
            (Stage.MAIL, f"MAIL FROM:<{mail.envelope_from}>{parameters}".encode(), MAIL_S, 2),
            (Stage.RCPT, rcpt, RCPT_S, 2),
            (Stage.DATA, b"DATA", DATA_S, 3),
        ):
            reply = await session.command(line, seconds)
            if reply.code // 100 != wanted:
                await _reset(session, reply)
                return End(how=Ended.REFUSED, stage=stage, reply=reply)
        stage = Stage.BODY
        await session.body(mail.body)
        failpoint("run.before_arm")
        why = await arm()
        if why:
            session.abort()  # the only way to take back a body without its dot
            return End(how=Ended.NOT_ARMED, stage=stage, why=why)
        armed = True
        failpoint("run.armed")
    except SessionError as error:
        return End(how=Ended.LOST, stage=stage, why=str(error), armed=armed)
    except ValueError as error:
        return End(how=Ended.UNFIT, stage=stage, why=str(error))
    if not session.usable:
        return End(how=Ended.LOST, stage=Stage.BODY, why="the session ended before the dot", armed=True)
    return await _dot(session)


async def _dot(session: Session) -> End:
    try:
        reply = await session.dot(DOT_S)
    except Silent as error:
        return End(how=Ended.IN_DOUBT, stage=Stage.DOT, why=str(error), armed=True)
    except SessionError as error:
        return End(how=Ended.IN_DOUBT, stage=Stage.DOT, why=str(error), armed=True)
    failpoint("run.after_dot")
    session.sent += 1
    if reply.code // 100 == 2:
        return End(how=Ended.ACCEPTED, stage=Stage.DOT, reply=reply, armed=True)
    if reply.code == 421:
        session.abort()
    if reply.code // 100 == 3:  # no answer to a dot by RFC 5321; who knows what was meant
        session.abort()
        return End(how=Ended.IN_DOUBT, stage=Stage.DOT, reply=reply, why="a 3yz reply to the dot", armed=True)
    return End(how=Ended.REFUSED, stage=Stage.DOT, reply=reply, armed=True)


def _parameters(session: Session, mail: Mail) -> tuple[str, str]:
    """MAIL parameters for this receiver, and why the mail does not fit it ("" where it does)."""
    parameters = ""
    if not (mail.rcpt.isascii() and mail.envelope_from.isascii()):
        if "SMTPUTF8" not in session.extensions:
            return "", "the address needs SMTPUTF8, which the receiver does not offer"
        parameters += " SMTPUTF8"
    if not mail.body.isascii() and "8BITMIME" in session.extensions:
        parameters += " BODY=8BITMIME"
    if "SIZE" in session.extensions:
        if session.size_limit and len(mail.body) > session.size_limit:
            return "", f"larger than the receiver's limit of {session.size_limit:,} octets"
        parameters += f" SIZE={len(mail.body)}"
    return parameters, ""


async def _reset(session: Session, reply: Reply) -> None:
    """Back to the state after EHLO; 421 ends the session (RFC 5321 3.8)."""
    if reply.code == 421:
        session.abort()
        return
    try:
        answer = await session.command(b"RSET", MAIL_S)
        if answer.code // 100 != 2:
            session.abort()
    except SessionError:
        session.abort()
