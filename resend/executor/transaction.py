"""One mail over an open session: MAIL, RCPT, DATA, the arm, the body and its dot, the word. A big body leaves ahead.

Nothing durable happens before the arm; nothing but the arm decides whether the dot leaves. It never tries another host.
What ended the transaction is a value, never an exception: one of a closed set. Where the receiver takes several
commands at once (RFC 2920) the three leave in one piece, and those of the next mail may leave behind the dot: that mail
is then `session.begun`, and its own transaction goes on from there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from resend.executor.session import DATA_S, DOT_S, MAIL_S, RCPT_S, Lost, Session, SessionError, stuff
from resend.model import Reply, Stage
from resend.policy.address import needs_smtputf8, validate_rcpt
from resend.policy.content import whole_lines
from resend.stores.failpoints import failpoint

QUICK_S = 0.05  # a MAIL behind a dot reaches the receiver when it has answered the dot: so long after its slot, at most
SMALL = 64 << 10  # octets of a body that leaves with its dot: one write and one wake-up of the receiver less
_STEPS = ((Stage.MAIL, MAIL_S, 2), (Stage.RCPT, RCPT_S, 2), (Stage.DATA, DATA_S, 3))


class Ended(StrEnum):
    """How a transaction ended."""

    ACCEPTED = "accepted"  # 2yz to the dot
    REFUSED = "refused"  # 4yz or 5yz, at `stage`; before the arm unless the stage is the dot
    LOST = "lost"  # the session ended before the dot left: certainly not sent
    IN_DOUBT = "in_doubt"  # silence or garbage after the dot
    NOT_ARMED = "not_armed"  # the ledger said no
    DISARMED = "disarmed"  # armed, and taken back by us before the dot: certainly not sent, and nobody's failure
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
    """How it ended, where, and what was said. `armed`: the arm was durable. `cut`: in doubt by a lost connection."""

    how: Ended
    stage: Stage
    reply: Reply | None = None
    why: str = ""
    armed: bool = False
    cut: bool = False


async def transact(
    session: Session, mail: Mail, arm: Callable[[], Awaitable[str]], following: Callable[[], Mail | None] | None = None
) -> End:
    """Send one mail. `arm` makes it durable that the dot may leave now and gives "", or the reason why it may not.

    `following`: asked when the dot is about to leave; a mail that it gives, whose slot has come, begins behind the dot.
    """
    begun = session.begun is mail
    assert begun or session.begun is None, "another mail was begun on this session"
    session.begun = None
    lines: tuple[bytes, ...] = ()
    if not begun:
        lines, unfit = envelope(session, mail)
        if unfit:
            return End(how=Ended.UNFIT, stage=Stage.MAIL, why=unfit)
        session.mails += 1
    at_once = begun or session.pipelining
    stage = Stage.MAIL
    armed = False
    try:
        if at_once and not begun:
            session.send(*lines)
        for place, (stage, seconds, wanted) in enumerate(_STEPS):
            reply = await (session.reply(seconds) if at_once else session.command(lines[place], seconds))
            if reply.code // 100 in (4, 5):
                await _reset(session, reply, _STEPS[place + 1 :] if at_once else ())
                return End(how=Ended.REFUSED, stage=stage, reply=reply)
            if reply.code // 100 != wanted:  # nobody knows what such a receiver would do with the next line
                session.abort()
                return End(how=Ended.LOST, stage=stage, why=f"an odd reply: {reply.code} {reply.text[:80]}")
        stage = Stage.BODY
        stuffed = stuff(mail.body)
        if len(stuffed) > SMALL:
            await session.body(stuffed)
            stuffed = b""
        failpoint("run.before_arm")
        why = await arm()
        if why:
            session.abort()  # the only way to take back a body without its dot
            return End(how=Ended.NOT_ARMED, stage=stage, why=why)
        armed = True
        failpoint("run.armed")
    except TooLate as error:
        session.abort()
        return End(how=Ended.DISARMED, stage=stage, why=str(error), armed=True)
    except SessionError as error:
        return _undotted(session, stage, str(error), armed=armed)
    if not session.usable:
        return _undotted(session, stage, "the session ended before the dot", armed=True)
    return await _dot(session, stuffed, following)


def _undotted(session: Session, stage: Stage, why: str, *, armed: bool) -> End:
    """The session ended before the dot. A receiver need not hear out a body that it does not want (too big)."""
    if stage is Stage.BODY and session.refusal is not None:
        return End(how=Ended.REFUSED, stage=stage, reply=session.refusal, armed=armed)
    return End(how=Ended.LOST, stage=stage, why=why, armed=armed)


async def _dot(session: Session, stuffed: bytes, following: Callable[[], Mail | None] | None) -> End:
    """What has not left of the body, the dot, and behind it the envelope of the mail that follows."""
    behind: tuple[bytes, ...] = ()
    if following is not None and session.pipelining and session.dot_s <= QUICK_S:
        mail = following()
        if mail is not None:
            behind, unfit = envelope(session, mail)
            if not unfit:
                session.begun = mail
                session.mails += 1
    try:
        session.send(b".", *behind, ahead=stuffed)
        left = session.now()
        reply = await session.reply(DOT_S)
    except SessionError as error:
        cut = isinstance(error, Lost)
        return End(how=Ended.IN_DOUBT, stage=Stage.DOT, why=str(error), armed=True, cut=cut)
    session.dot_s = session.now() - left
    failpoint("run.after_dot")
    if reply.code // 100 == 2:
        return End(how=Ended.ACCEPTED, stage=Stage.DOT, reply=reply, armed=True)
    if reply.code == 421:
        session.abort()
    if reply.code // 100 == 3:  # no answer to a dot by RFC 5321; who knows what was meant
        session.abort()
        return End(how=Ended.IN_DOUBT, stage=Stage.DOT, reply=reply, why="a 3yz reply to the dot", armed=True)
    return End(how=Ended.REFUSED, stage=Stage.DOT, reply=reply, armed=True)


def envelope(session: Session, mail: Mail) -> tuple[tuple[bytes, ...], str]:
    """The lines MAIL, RCPT and DATA for this receiver, and why the mail cannot be sent to it ("" where it can)."""
    parameters, unfit = _parameters(session, mail)
    if unfit:
        return (), unfit
    return (f"MAIL FROM:<{mail.envelope_from}>{parameters}".encode(), f"RCPT TO:<{mail.rcpt}>".encode(), b"DATA"), ""


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
            wrong = _wrong(path)
            if wrong:
                return "", f"the {what} {wrong}"
    body = mail.body
    if not whole_lines(body):
        return "", "the body has a bare CR, a bare LF, a NUL or no line end at its end"
    if not body.isascii() and "8BITMIME" in session.extensions:
        parameters += " BODY=8BITMIME"
    if "SIZE" in session.extensions:
        if session.size_limit and len(body) > session.size_limit:
            return "", f"larger than the receiver's limit of {session.size_limit:,} octets"
        parameters += f" SIZE={len(body)}"
    return parameters, ""


@lru_cache(maxsize=1024)  # the envelope sender comes again with every mail
def _wrong(path: str) -> str:
    """Why an ASCII path cannot stand in a command, "" where it can."""
    try:
        same = validate_rcpt(path) == path
    except ValueError as error:
        return f"cannot be written on the wire: {error}"
    return "" if same else "would not be the same on the wire"


async def _reset(session: Session, reply: Reply, still_due: tuple[tuple[Stage, float, int], ...]) -> None:
    """Back to the state after EHLO; 421 ends the session (RFC 5321 3.8).

    `still_due`: commands that left with the refused one. Where DATA is answered with 354 all the same, only hanging up
    keeps a mail without a recipient from being sent.
    """
    if reply.code == 421:
        session.abort()
        return
    try:
        for _, seconds, _ in still_due:
            answer = await session.reply(seconds)
            if answer.code // 100 == 3 or answer.code == 421:
                session.abort()
                return
        answer = await session.command(b"RSET", MAIL_S)
        if answer.code // 100 != 2:
            session.abort()
    except SessionError:
        session.abort()
