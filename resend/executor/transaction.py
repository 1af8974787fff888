"""One mail over an open session: MAIL, RCPT, DATA, the body, the arm, the dot, the word.

Nothing durable happens before the arm; nothing but the arm decides whether the dot leaves. It never tries another host.
What ended the transaction is a value, never an exception: one of a closed set.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum

from resend.executor.session import DATA_S, DOT_S, MAIL_S, RCPT_S, Session, SessionError
from resend.model import Reply, Stage
from resend.policy.address import needs_smtputf8, validate_rcpt
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


class TooLate(Exception):
    """Raised by an arm that became durable too late for its lease: the dot must not leave any more."""


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
    session.mails += 1
    parameters, unfit = _parameters(session, mail)
    if unfit:
        return End(how=Ended.UNFIT, stage=Stage.MAIL, why=unfit)
    stage = Stage.MAIL
    armed = False
    try:
        for stage, line, seconds, wanted in (
            (Stage.MAIL, f"MAIL FROM:<{mail.envelope_from}>{parameters}".encode(), MAIL_S, 2),
            (Stage.RCPT, f"RCPT TO:<{mail.rcpt}>".encode(), RCPT_S, 2),
            (Stage.DATA, b"DATA", DATA_S, 3),
        ):
            reply = await session.command(line, seconds)
            if reply.code // 100 in (4, 5):
                await _reset(session, reply)
                return End(how=Ended.REFUSED, stage=stage, reply=reply)
            if reply.code // 100 != wanted:  # nobody knows what such a receiver would do with the next line
                session.abort()
                return End(how=Ended.LOST, stage=stage, why=f"an odd reply: {reply.code} {reply.text[:80]}")
        stage = Stage.BODY
        await session.body(mail.body)
        failpoint("run.before_arm")
        why = await arm()
        if why:
            session.abort()  # the only way to take back a body without its dot
            return End(how=Ended.NOT_ARMED, stage=stage, why=why)
        armed = True
        failpoint("run.armed")
    except TooLate as error:
        session.abort()
        return End(how=Ended.LOST, stage=stage, why=str(error), armed=True)
    except SessionError as error:
        return _undotted(session, stage, str(error), armed=armed)
    if not session.usable:
        return _undotted(session, stage, "the session ended before the dot", armed=True)
    return await _dot(session)


def _undotted(session: Session, stage: Stage, why: str, *, armed: bool) -> End:
    """The session ended before the dot. A receiver need not hear out a body that it does not want (too big)."""
    if stage is Stage.BODY and session.refusal is not None:
        return End(how=Ended.REFUSED, stage=stage, reply=session.refusal, armed=armed)
    return End(how=Ended.LOST, stage=stage, why=why, armed=armed)


async def _dot(session: Session) -> End:
    try:
        reply = await session.dot(DOT_S)
    except SessionError as error:
        return End(how=Ended.IN_DOUBT, stage=Stage.DOT, why=str(error), armed=True)
    failpoint("run.after_dot")
    if reply.code // 100 == 2:
        return End(how=Ended.ACCEPTED, stage=Stage.DOT, reply=reply, armed=True)
    if reply.code == 421:
        session.abort()
    if reply.code // 100 == 3:  # no answer to a dot by RFC 5321; who knows what was meant
        session.abort()
        return End(how=Ended.IN_DOUBT, stage=Stage.DOT, reply=reply, why="a 3yz reply to the dot", armed=True)
    return End(how=Ended.REFUSED, stage=Stage.DOT, reply=reply, armed=True)


def _parameters(session: Session, mail: Mail) -> tuple[str, str]:
    """MAIL parameters for this receiver, and why the mail cannot be sent to it as it is ("" where it can)."""
    parameters = ""
    for what, path in (("recipient", mail.rcpt), ("envelope sender", mail.envelope_from)):
        if needs_smtputf8(path):
            if "SMTPUTF8" not in session.extensions:
                return "", f"the {what} needs SMTPUTF8, which the receiver does not offer"
            if not path.isprintable() or any(letter in ' "<>,\\' for letter in path):
                return "", f"the {what} cannot be written on the wire"
            parameters = " SMTPUTF8"
        elif path or what == "recipient":
            try:
                same = validate_rcpt(path) == path
            except ValueError as error:
                return "", f"the {what} cannot be written on the wire: {error}"
            if not same:
                return "", f"the {what} would not be the same on the wire"
    body = mail.body
    lines = body.count(b"\r\n")
    if b"\0" in body or not body.endswith(b"\r\n") or not body.count(b"\r") == body.count(b"\n") == lines:
        return "", "the body has a bare CR, a bare LF, a NUL or no line end at its end"
    if not body.isascii() and "8BITMIME" in session.extensions:
        parameters += " BODY=8BITMIME"
    if "SIZE" in session.extensions:
        if session.size_limit and len(body) > session.size_limit:
            return "", f"larger than the receiver's limit of {session.size_limit:,} octets"
        parameters += f" SIZE={len(body)}"
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
