"""What reports say, in many systems' words: where the returned mail begins, what a failure, a delay, an automatic reply
is called, which words stand before an address. A wording that is new is a row here.

Patterns are tried on single lines or short texts, and each is linear.
"""

from __future__ import annotations

import re

from resend.collect.bounces import languages


class Words:
    """Patterns that are tried one after the other: English first, which most reports are in."""

    __slots__ = ("_patterns",)

    def __init__(self, *patterns: re.Pattern[str]) -> None:
        self._patterns = patterns

    def search(self, text: str) -> re.Match[str] | None:
        for pattern in self._patterns:
            match = pattern.search(text)
            if match:
                return match
        return None


def _any(*rows: str) -> re.Pattern[str]:
    return re.compile("|".join(rows), re.IGNORECASE)


# A line after which the returned mail follows. Many put dashes around it.
ORIGINAL_FOLLOWS = Words(
    _any(
        r"below this line is (?:a copy|the original)",
        r"this is a copy of (?:the|your) message",
        r"(?:en|in)closed is a copy of the (?:message|mail)",
        r"included is a copy of the message",
        r"^\W{0,40}original message(?: headers?)?(?: follows)?\W{0,40}$",
        r"^\W{0,40}(?:original|unsent|returned|undelivered|failed) (?:message|mail)(?: headers?)? follows",
        r"^\W{0,40}message headers? follows?\W",
        r"headers? of the (?:original|undelivered) message",
        r"^\W{0,40}headers? of (?:the|your) (?:message|mail)(?: follows)?\W{0,40}$",
        r"^\W{0,40}original (?:message )?headers?\W{0,40}$",
        r"(?:below is|here is|attached is) (?:a copy of )?(?:the|your) (?:original )?(?:message|mail)",
        r"^\W{0,40}(?:message|mail) (?:text|contents?|body) follows\W",
        r"^\W{0,20}message text follows",
        r"returned (?:message|content) below",
        r"\battachment is a copy of (?:the|your) (?:message|mail)",
    ),
    _any(*languages.ORIGINAL_FOLLOWS),
)

# Lines that end what is said about recipients.
CLOSES = _any(
    r"^\W{0,20}(?:if your message was also sent to|please do not reply|for further assistance|for more information)",
    r"^\W{0,20}(?:reporting-mta|arrival-date|final-recipient|original-recipient)\s*:",
    r"^\W{0,20}(?:please note that this is only|please reply to\b|if you feel\b|system contact:)",
    r"^\W{0,20}additional information\W{0,20}$",
    r"^\W{0,20}(?:the (?:message|mail) (?:is kept|will be retried)|this nondelivery report was generated)",
    r"^\W{0,20}(?:続けて|本メールに|このメールに心当たり)",
)

# Lines of a mail system about itself, not about the failure.
IDLE = _any(
    r"^i'm not going to try again",
    r"^giving up on ",
    r"^i'm afraid i wasn't able",
    r"^this is a permanent error",
    r"^(?:hi|hello|dear)\b[^.]{0,40}[.!,]?$",
    r"^sorry(?: it didn't work out)?[.!,]?$",
    r"^this (?:is|message was) (?:an? )?(?:automatically|created automatically|the (?:mail|qmail|postfix))",
    r"^learn more (?:here|at)",
    r"^message from\s",
    r"^[-=_*]{2,40}\s?[A-Za-z][A-Za-z ]{0,60}[-=_*]{0,40}$",
    r"^this is a (?:mime|multi)",
    r"^(?:subject|betreff|objet|件名|主题)\s?[:：]",  # of the mail that failed
    r"^続けて",
    r"^\(?unrecoverable error\)?$",  # sendmail 8.6, before the transcript that tells it
)

FAILS = Words(
    _any(
        r"\b(?:could|can|was|were|is|has|have|did|does|do)(?: ?not|n't)(?: been| be| get)?"
        r" (?:deliver|reach|accept|receiv|relay|sen[dt]|exist|forward)",
        r"\bcannot be (?:deliver|sent|reach)|\bcould not (?:find|resolve|connect|open)\b",
        r"\b(?:cannot|can not|unable to|(?:not|wasn't) able to|failed to|failure to|refused to|impossible to)"
        r" (?:be )?(?:deliver|send|relay|transfer|process|connect)",
        r"\bwas not (?:delivered|relayed|sent)|\bnot (?:been )?delivered",
        r"\bundeliver(?:able|ed)|\bnon-?deliver|\bdelivery (?:has )?(?:fail|problem|error|to the following)",
        r"\bfailed delivery|\b(?:mail|message) (?:was|has been) refused",
        r"\bdelivery (?:status )?notification|\bdelivery to the following",
        r"\bfail(?:ed|ure) (?:permanently|notice)|\bfollowing address(?:\(es\)|es)? (?:had|failed)",
        r"\b(?:unknown|invalid|no such) (?:\w{1,20} )?(?:user|recipient|address|mailbox|final|local)",
        r"\buser unknown|\bhost unknown|\bunknown host\b",
        r"\b(?:user|recipient|mailbox|address|account) (?:is )?not (?:known|found)",
        r"\breturned mail|\bmail (?:delivery )?(?:system )?error|\brejected\b|\bbounced?\b|\bblocked\b",
        r"\bdid not reach",
        r"\bfailure reasons?\b|\bmalformed|incorrectly constructed|\bpermanent (?:fatal )?(?:error|failure)",
        r"\bfatal error",
        r"\btransient non-fatal|\bhad delivery problems",
        r"\bnot a valid (?:user|recipient|address|mailbox)|\bdid not (?:exactly )?match",
        r"\bencountered an error while being",
        r"\b(?:mailbox|address|user|recipient|account) (?:for |of )?\S{3,320} (?:is|was) (?:\w{1,20} )?"
        r"(?:unavailable|disabled|full|not)\b",
        r"\bhas stopped the following e?-?mail",
        r"not (?:a )?members? of (?:this|the) (?:mailing list|group)",
        r"may not exist, or you may not have permission",
    ),
    _any(*languages.FAILS),
)

SUCCEEDS = _any(
    r"\b(?:was|has been|were) successfully (?:delivered|relayed|sent)|\bsuccessful (?:mail )?delivery",
    r"\breturn receipt\b|\(success\)|\(relay\)|正常に(?:配信|送信|配送)され",
)
DELAYS = Words(
    _any(
        r"\b(?:has|have) (?:been |not been |not yet been )(?:delayed|delivered (?:yet|within|after))",
        r"\b(?:still|will|to) (?:be(?:ing)? )?(?:retried|retry|be retried|keep trying|continue (?:trying|to try))",
        r"\bwarning (?:message|only)\b|\bthis is a warning|\bdelay(?:ed)? (?:mail|message|delivery)",
        r"\b(?:mail|message)(?: [\w-]{6,40})? delayed\b|\bhas been postponed\b",
        r"\bdelivery (?:has been )?delayed",
        r"\bis delayed for more than|\bdelivery status notification \(delay\)",
        r"\bcould not send message for past",
        r"\btransient non-fatal errors|\bdo not need to resend|\btemporarily deferred and will",
        r"\bnot yet been delivered",
        r"\bdelivery attempts will continue",
    ),
    _any(*languages.DELAYS),
)
GAVE_UP = _any(
    r"(?<!will )\bgiv(?:e|en|ing) up|\bgave up|\bfailed permanently|\bpermanent (?:fatal )?(?:error|failure)",
    r"\bhas stopped trying",
    r"\bwill (?:be deleted|not (?:be )?(?:re)?tr)|\bno further|\bno longer|\bundeliverable\b",
    r"\bdelivery has failed",
)

AUTO_REPLY_SUBJECT = Words(
    _any(
        r"\bout of (?:the )?office\b",
        r"\bauto(?:matic|mated|matisch\w*|matique)?[ -]?(?:reply|response|antwort|respuesta|svar)|\bautorepl",
        r"\bon (?:vacation|holiday|leave)\b|\bvacation (?:reply|message)|\baway from (?:my|the)",
        r"\bi(?:'m| am) (?:away|out|absent|on)\b",
        r"\bthank you for (?:your (?:e?-?mail|message|inquiry)|contacting)|\batvali[nņ]",
    ),
    _any(*languages.AUTO_REPLIES),
)

# Before the address of somebody to ask, not of a recipient.
ASKS = _any(
    r"\b(?:please|contact|send (?:an? |e-?)*mail|write to|for (?:further )?(?:help|assistance)|questions?)\b",
    r"ご連絡|お問い?合わ?せ|問合せ|までご?連絡",
)

# Words before an address that failed, on its line ("Recipient: <a@b>").
LABELS = Words(
    _any(
        r"recipient|(?:un)?deliver|failed|rejected|unknown|not found|invalid|user ?id|mailbox|addressed to",
        r"destination|rcpt|error-for",
    ),
    _any(*languages.LABELS),
)
# Of these words some are the reason, too.
CALLED = _any(r"\b(?:unknown|invalid|not found|no such|non-?existent|disabled|rejected|full|over quota)\b")
NOT_LABELS = _any(r"\bfrom\b|sender|reply|contact|please|support|送信者|差出人|postmaster|subject|help|report|\bcc\b")

# Headings between the addresses and what was said to them.
EXPLAINS = Words(
    _any(
        r"transcript of session|technical details|diagnostic|the (?:response|reason|error)|reason\b|because",
        r"server message",
        r"\breports:\s*$|\breturned ['\"]?[45][0-5]\d ",
        r"remote host said|additional information follows|error (?:message|was)",
    ),
    _any(*languages.EXPLAINS),
)

# Notices that systems write in the reader's language: a mark that stands in all of them, and what they say.
NOTICES = (("groups.google.com/support", "no permission to post to this group, or it is not there"),)

DAEMONS = _any(
    r"mailer-?daemon|mail delivery|mail ?administrator|mail system|daemon@|\bpost[-_.]master@",
    r"delivery (?:sub)?system|smtp-?gateway|microsoftexchange[0-9a-f]{32}@",
    r"system administrator|content-filter|mailerdaemon|no-?reply@sns\.|spam firewall|maildelivery|^$|<\s?>$",
)
# Names and addresses that mail systems write from, and those that all kinds of machines do.
MAIL_MACHINES = _any(
    r"mailer|post[-_. ]?master|daemon|\bndr\b|posta-certificata|smtp|anti-?virus|imss|interscan",
    r"microsoft ?exchange",
    r"\bm(?:ta|x)\b",
    r"mail[-_. ]?(?:server|service|system|router|gateway|delivery)",
)
MACHINES = _any(r"no[-_.]?reply|do[-_.]?not[-_.]?reply|bounce|admin|\broot@|\bsystem\b|gateway")
# A mail of the reader's: what a report is about.
OF_MAIL = Words(
    _any(
        r"\byour (?:\w{1,12} )?(?:e-?mail|mail|message)\b",
        r"\b(?:e-?mail|mail|message) (?:that )?you (?:have )?sent\b",
        r"\bdeliver(?:ing|y of)? (?:(?:the|this|a|following) ){0,2}(?:e-?mail|mail|message)\b|\bmailing list\b",
        r"^\W{0,9}(?:e-?mail|mail|message) (?:could|was|has|is)\b",
    ),
    _any(*languages.OF_MAIL),
)
# What promises mails that wait, to have somebody click.
LURES = _any(
    r"\b(?:release|retrieve|recover|review|view|allow) (?:(?:the|your|all|pending|these|messages? to) )?"
    r"(?:e-?mails?|messages?|inbox)\b",
    r"\b\d{1,4} (?:(?:new|incoming|pending|undelivered|quarantined|unread) ){1,3}(?:e-?mails?|messages)\b",
)
ANSWERS = re.compile(r"\s*(?:re|fwd?|aw|wg|sv|tr|rv|返信|転送)\s*[:：]", re.IGNORECASE)  # a person about a report
REPORT_SUBJECT = Words(
    _any(
        r"undeliver|non-?deliver|fail(?:ed|ure)|returned mail",
        r"delivery (?:status|report|notification|problem|warning|has)|mail (?:delivery|system) error",
        r"^\W{0,3}bounced?\b|\berror (?:sending|delivering)",
        r"\bnot (?:a )?members?\b|delayed mail|delivery delayed|warning: (?:could not|message)|mail could not",
        r"message (?:not|you sent)|rejected|\b(?:could|can|was|were)(?: ?not|n't) (?:be )?deliver",
        r"\bnot delivered",
        r"\bmailbox (?:is )?(?:full|over)|\b(?:user|recipient|host) unknown|\bnon-?existent|\bpostmaster notif",
        r"\bblocked your\b|has (?:been )?blocked",
    ),
    _any(*languages.SUBJECTS),
)
