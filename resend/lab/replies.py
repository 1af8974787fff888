"""What the receivers of the made-up incident say, in the words that Postfix logs. Data and formatting only.

`{mx}` is the receiver as `host[address]`, `{ip}` our address as it sees us, `{rcpt}` the recipient, `{tag}` a hex tag,
`{stamp}` a time and `{n}` a number that Microsoft puts into its replies.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from resend.lab.world import Net

_EOP = " [TYCJPN01FT0{n}.eop-JPN01.prod.protection.outlook.com {stamp} {tag}]"


@dataclass(frozen=True, slots=True)
class Said:
    """One failing attempt: `dsn`, and the reason that stands in the parentheses; `connected` False logs relay=none."""

    dsn: str
    reason: str
    connected: bool = True


# Weights by position: the first is the usual one.
BUSY = (
    Said(
        "4.7.500",
        "host {mx} said: 451 4.7.500 Server busy. Please try again later from [{ip}]. (S77719)"
        + _EOP
        + " (in reply to MAIL FROM command)",
    ),
    Said(
        "4.7.500",
        "host {mx} said: 451 4.7.500 Server busy. Please try again later from [{ip}]. (AS761)"
        + _EOP
        + " (in reply to RCPT TO command)",
    ),
    Said(
        "4.7.500",
        "host {mx} said: 451 4.7.500 Server busy. Please try again later from [{ip}]. (AS77719)"
        + _EOP
        + " (in reply to end of DATA command)",
    ),
    Said(
        "4.7.650",
        "host {mx} said: 451 4.7.650 The mail server [{ip}] has been temporarily rate limited due to IP reputation."
        " For e-mail delivery information, see https://postmaster.live.com (S775)"
        + _EOP
        + " (in reply to MAIL FROM command)",
    ),
    Said(
        "4.0.0",
        "host {mx} refused to talk to me: 421 Connection refused from [{ip}] due to exceed max concurrent connections."
        " IB007",
    ),
    Said(
        "4.7.500",
        "delivery temporarily suspended: host {mx} said: 451 4.7.500 Server busy. Please try again later from [{ip}]."
        " (S77719)" + _EOP + " (in reply to MAIL FROM command)",
        connected=False,
    ),
)
LOST_AT_DOT = Said("4.4.2", "lost connection with {mx} while sending end of data -- message may be sent more than once")
YAHOO_BUSY = Said(
    "4.7.0",
    "host {mx} said: 421 4.7.0 [TSS04] Messages from {ip} temporarily deferred due to unexpected volume or user"
    " complaints - 4.16.55.1; see https://postmaster.yahooinc.com/error-codes (in reply to MAIL FROM command)",
)
TIMED_OUT = Said("4.4.1", "connect to {mx}:25: Connection timed out", connected=False)
GREYLISTED = Said(
    "4.2.0",
    "host {mx} said: 450 4.2.0 <{rcpt}>: Recipient address rejected: Greylisted, see"
    " http://postgrey.schweikert.ch/help/example.html (in reply to RCPT TO command)",
)
FALSE_GONE = Said(
    "5.4.1",
    "host {mx} said: 550 5.4.1 Recipient address rejected: Access denied. AS(201806281)"
    + _EOP
    + " (in reply to RCPT TO command)",
)
REFUSED = {
    Net.GOOGLE: Said(
        "5.7.1",
        "host {mx} said: 550-5.7.1 [{ip}      12] Our system has detected that this message is 550-5.7.1 likely"
        " unsolicited mail. To reduce the amount of spam sent to Gmail, 550-5.7.1 this message has been blocked. For"
        " more information, go to 550 5.7.1  https://support.google.com/mail/?p=UnsolicitedMessageError {tag} - gsmtp"
        " (in reply to end of DATA command)",
    ),
    Net.OTHER: Said(
        "5.7.1",
        "host {mx} said: 554 5.7.1 Message rejected due to content restrictions (in reply to end of DATA command)",
    ),
}
GONE = {
    Net.OFFICE365: Said(
        "5.1.10",
        "host {mx} said: 550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient {rcpt} not found by SMTP address lookup"
        + _EOP
        + " (in reply to end of DATA command)",
    ),
    Net.GOOGLE: Said(
        "5.1.1",
        "host {mx} said: 550-5.1.1 The email account that you tried to reach does not exist. Please try 550-5.1.1"
        " double-checking the recipient's email address for typos or 550-5.1.1 unnecessary spaces. For more"
        " information, go to 550 5.1.1  https://support.google.com/mail/?p=NoSuchUser {tag} - gsmtp (in reply to RCPT"
        " TO command)",
    ),
    Net.YAHOO_JP: Said(
        "5.0.0",
        "host {mx} said: 554 delivery error: dd This user doesn't have a yahoo.co.jp account ({rcpt}) [0] -"
        " mta1.mail.yahoo.co.jp (in reply to end of DATA command)",
    ),
    Net.DOCOMO: Said("5.0.0", "host {mx} said: 550 Unknown user {rcpt} (in reply to RCPT TO command)"),
    Net.AU: Said("5.0.0", "host {mx} said: 550 <{rcpt}>: User unknown (in reply to RCPT TO command)"),
    Net.SOFTBANK: Said("5.0.0", "host {mx} said: 550 Invalid recipient: <{rcpt}> (in reply to RCPT TO command)"),
    Net.OTHER: Said(
        "5.1.1",
        "host {mx} said: 550 5.1.1 <{rcpt}>: Recipient address rejected: User unknown in virtual mailbox table (in"
        " reply to RCPT TO command)",
    ),
}


def busy(draw: float) -> Said:
    """One of Office 365's throttle texts; 70 % are the plain S77719."""
    return BUSY[0] if draw < 0.7 else BUSY[1 + int((draw - 0.7) / 0.3 * (len(BUSY) - 1))]


def reason(said: Said, *, relay: str, rcpt: str, ip: str, stamp: str, rng: Random) -> str:
    tag = f"08DE{int(rng.random() * 2**48):012X}"
    mx = relay.removesuffix(":25")
    return said.reason.format(mx=mx, ip=ip, rcpt=rcpt, tag=tag, stamp=stamp, n=10 + int(rng.random() * 90))


def taken(net: Net, message_id: str, size: int, draw: float) -> tuple[str, str]:
    """dsn and text of an acceptance."""
    number = int(draw * 1e12)
    match net:
        case Net.OFFICE365:
            return "2.6.0", (
                f"250 2.6.0 {message_id} [InternalId={number}, Hostname=TYCPR01MB{number % 9000 + 1000}.jpnprd01.prod."
                f"outlook.com] {size + 812} bytes in 0.{number % 900 + 100}, 61.{number % 1000:03d} KB/sec Queued mail"
                " for delivery"
            )
        case Net.GOOGLE:
            return "2.0.0", f"250 2.0.0 OK  {1790000000 + number % 10000000} d2e1a72fcca58-{number:013x} - gsmtp"
        case Net.YAHOO_JP:
            return "2.0.0", "250 ok dirdel"
        case Net.DOCOMO | Net.SOFTBANK:
            return "2.0.0", f"250 2.0.0 {number:012d} Message accepted for delivery"
        case _:
            return "2.0.0", f"250 2.0.0 Ok: queued as {number:012X}"
