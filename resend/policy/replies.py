"""Reads the text of an SMTP reply or of a Postfix reason: its codes, its stage, its waiting time, its wording.

Texts come wrapped ("host x said: ..."), repeat their code on every line, and hold addresses, ids and numbers that look
like codes. Pure, linear in the length of the text, and total: raises nothing for any text.
"""

from __future__ import annotations

import re
import unicodedata

TEXT_MAX = 4_096  # characters looked at; Postfix cuts a record at 2,000 bytes
_WORDS_MAX = 16_384  # remembered at once
_MONTH_S = 30 * 86_400

_CODE_AT_START = re.compile(r"(?:smtp; ?)?((?:[24][0-5]|5[0-579])\d)(?=,? |-|$)", re.IGNORECASE)
_CODE_WITHIN = re.compile(  # it begins with a digit, so that a search passes over all else quickly
    r"([245](?:(?<=[:;(\['\"].)|(?<=[:;(\['\"] .)|(?<=<<<.)|(?<=<<< .)|(?<=\bsaid .)|(?<=\b(?:error|reply) .)"
    r"|(?<=\b(?:returned|response) .))(?:(?<=[24])[0-5]|(?<=5)[0-579])\d)(?=[ -] ?[^ ]|$)"
    r"(?! (?:seconds?|secs?|minutes?|mins?|hours?|bytes|[km]b|(?-i:messages(?! from)))\b)",
    re.IGNORECASE,
)  # a count, as in "limit: 421 messages"; but "said: 421 Message deferred" is a reply
_CODES_ANYWHERE = re.compile(r"(?<![\w.-])((?:[24][0-5]|5[0-579])\d)(?=[ -]#?[245]\.\d{1,3}\.\d{1,3}(?![\d.]))")
_ENHANCED = re.compile(r"(?<![\w.])([245])\.(\d{1,3})\.(\d{1,3})(?!\d|\.\d)", re.ASCII)
_PLAIN_ENHANCED = re.compile(r"[\s#(]{0,3}([245]\.\d{1,3}\.\d{1,3})(?![\d.])", re.ASCII)
_GENERIC = frozenset({"4.0.0", "5.0.0", "2.0.0"})
_CONTINUED = re.compile(r" ((?:[24][0-5]|5[0-579])\d)[- ](?:[245]\.\d{1,3}\.\d{1,3}(?: |$))?")
_ORIGINAL = {  # where the quoted mail begins, by what those marks have in common: most texts hold none of it
    "---": (
        *("---return", "--- return", "---original", "--- original", "--- message header", "--- forwarded"),
        "--- the header",
    ),
    "original ": ("original message", "original sender:"),
    "message headers follow": ("message headers follow",),
    "below this line is": ("below this line is",),
    " is a copy": ("this is a copy of", "included is a copy"),
    "return-path: ": ("return-path: ",),
    "received:": ("received: ", "received:from"),
    "reporting-mta: ": ("reporting-mta: ",),
    "following recipients were affected": ("following recipients were affected",),
    "information": ("additional information", "information should help identify the cause"),
}
_ORIGINAL_FROM = 20  # a bounce says at least so much before it quotes
_IN_REPLY_TO = "(in reply to "
_COMMANDS = {
    "end of data command": "dot",
    "rcpt to command": "rcpt",
    "mail from command": "mail",
    "ehlo command": "ehlo",
    "helo command": "ehlo",
    "data command": "data",
}
_STAGES = (
    ("end of data", "dot"),
    ("failed after i sent the message", "dot"),
    ("message body", "body"),
    ("rcpt to", "rcpt"),
    ("mail from", "mail"),
    ("does not like recipient", "rcpt"),
    ("but sender was rejected", "mail"),
    ("but my name was rejected", "ehlo"),
    ("initial server greeting", "connect"),
    ("after initial connection", "connect"),
    ("refused to talk to me", "connect"),
    ("connect to ", "connect"),
    ("performing the ehlo handshake", "ehlo"),
    ("performing the helo handshake", "ehlo"),
    ("(in reply to ehlo", "ehlo"),
    ("(in reply to helo", "ehlo"),
    ("(in reply to data", "data"),
    ("data command", "data"),
)

_ADDRESS = re.compile(r"(?<![^\s<>()\[\],;:])[^\s<>()\[\],;:]*@[\w.-]*")
_ADDRESS_AFTER_DOTS = re.compile(
    r"(?:(?<![^\s<>()\[\],;:])|(?<=\.\.\.))(?:(?!\.\.\.)[^\s<>()\[\],;:])*@(?:[\w-]|\.(?!\.))*"
)
_EDGE = "()[]<>{},;:.'\"!?#*="
_IP = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}|(?=[0-9a-f:]*(?:::|[a-f]))[0-9a-f]*(?::[0-9a-f]*){2,7}", re.IGNORECASE)
_HOST_AND_IP = re.compile(r"[^\[\]]*\[(?:IPv6:)?(?=[^\]]*:|(?:\d+\.){3})[0-9a-f.:]{3,}\](?::\d+)?[,:;]?", re.IGNORECASE)
_DIGIT = re.compile(r"\d")
_TIME = re.compile(r"\d{4}-\d\d-\d\d(?:T[\d:.]+Z?)?")
_REPLY_CODE = re.compile(r"(?:[24][0-5]|5[0-579])\d")
_ID = re.compile(
    r"(?<![A-Za-z\d])(?=[A-Za-z]*\d)(?!(?:[RB]L0\d{5}|IPBL[01]{4}|SMTPUTF8|8BITMIME)\b)[0-9A-Za-z]{8,}"
    r"(?:[-_.](?=[A-Za-z-]*\d)[0-9A-Za-z-]+)*|(?<![A-Za-z\d])(?!(?:28|53)2[12]\b)\d{4,}"
)  # RL000001, BL000001 and IPBL0001 are codes, 2821 to 5322 standards of mail
_LATIN_UNITS = (
    r"(s(?:ec(?:ond)?s?|egundos?|econdi|econdes?|ekunden)?|m(?:in(?:s|ut(?:e[ns]?|os?|i)?)?)?"
    r"|h(?:(?:ou)?rs?|eures?|oras?)?|d(?:ays?)?|stunden?|or[ae])(?:\(s\))?(?![a-z\d])"
)
_WAIT = re.compile(rf"(\d{{1,6}})(?::(\d\d):(\d\d)(?![\d:.])|[ -]?{_LATIN_UNITS})")
_OTHER_UNITS = (  # with the same words "100 mails an hour" is said, so what follows counts
    r"([秒초분]|分[钟鐘]?|時間|시간|小[时時]|[日天일])"
    r"(?= ?(?:間(?!に|で)|ほど|程度|くらい|ぐらい|以上|後|[以之]?后|経|お?待|후|뒤|이상|동안))"
    r"|(секунд|минут|час)(?:[уыао]|ов)?(?!\w)"
)
_WAIT_OTHERWISE = re.compile(rf"{_WAIT.pattern[:-1]}| ?(?:{_OTHER_UNITS}))")
_FACTOR = {  # by the first letter of a unit
    **dict.fromkeys("s秒초с", 1),
    **dict.fromkeys("m分분м", 60),
    **dict.fromkeys(("h", "st", "o", "時", "小", "시", "ч"), 3_600),
    **dict.fromkeys("d日天일", 86_400),
}
_SPELLED = re.compile(  # a number in words, where a time to wait may stand: "100 mails an hour" is none
    r"\b(in|after|for|within|wait|least|another|about) (half an|an?|one|two|three|five|ten|fifteen|twenty|thirty|sixty)"
    r"(?= (?:second|minute|hour|day))"
)
_NUMBERS = {"two": "2", "three": "3", "five": "5", "ten": "10", "fifteen": "15", "twenty": "20"}
_NUMBERS |= {"thirty": "30", "sixty": "60"}
_BARE_WAIT = re.compile(r"retry[- ]?(?:after|in)? ?[:=] ?(\d{1,6})(?![\d:.])")  # seconds, as HTTP has it
_ASKS = (
    *("again", "retry", "wait", "back", "list", "delay", "defer", "resend", "later", "block", "ban", "least"),
    *("attempt", "erneut", "réessay", "reessay", "intent", " tent", "riprov", "повтор"),
)
_PREPOSITIONS = (
    *("in ", "for ", "after ", "within ", "least ", "=", "about ", "wait ", "another "),
    *(" dans ", " après ", " en ", " em ", " tra ", " fra ", " dopo ", " nach ", " через "),
)
_NO_WAIT = ("per ", "every ", "each ", "last ", "past ", "previous ", " a ")  # a rate's window, not a wait
_COUNTED = (
    *("messages", "mails", "connections", "recipients", "limit", "timed out", "timeout", "queue", "rate"),
    *("expire", "delivered", "older"),
)
_NEAR = 40  # characters before a time that say what it is
_WORD = re.compile(r"[^\W_]+(?:_\d[^\W_]*)*")  # `user_unknown` are two words, `LPN006_107` is one
_IN_REPLY = re.compile(r" \(in reply to [^()]*\)")


def codes(text: str) -> tuple[int, str]:
    """Reply code (0 none) and enhanced code ("" none) of the reply that was given to us, not of one quoted in it.

    >>> codes("host mx.example.jp[192.0.2.1] said: 451 4.7.500 Server busy (in reply to MAIL FROM command)")
    (451, '4.7.500')
    """
    _, code, enhanced = reply_in(" ".join(text[:TEXT_MAX].split()))
    return code, enhanced


def reply_in(text: str) -> tuple[int, int, str]:
    """Where in one line of text the reply given to us begins (0 at the start, or none), and its codes."""
    match = _CODE_AT_START.match(text) or _CODE_WITHIN.search(text) or _CODES_ANYWHERE.search(text)
    first = match.group(1)[0] if match else ""
    found = ""
    for candidate in _ENHANCED.finditer(text, match.end(1) if match else 0):
        code = candidate.group()
        if (first and code[0] != first) or (not first and candidate.start() and text[candidate.start() - 1] != "#"):
            continue  # another class, or a version number
        found = found or code
        if code not in _GENERIC:
            found = code
            break
    return (match.start(1), int(match.group(1)), found) if match else (0, 0, found)


def without_original(text: str) -> str:
    """The text of a bounce without the mail that it quotes."""
    lowered = text.lower().replace("original message is:", "original-message is:")  # Exchange tells its number
    marks = [mark for common, marks in _ORIGINAL.items() if common in lowered for mark in marks]
    ends = [place for mark in marks if (place := lowered.find(mark, _ORIGINAL_FROM)) > 0]
    return text[: min(ends)] if ends else text


def plain_enhanced(text: str) -> str:
    """An enhanced code as others hand it over ("5.1.2 (remote server said no)", "#5.1.2"); "" where it is none."""
    found = _PLAIN_ENHANCED.match(text)
    return found.group(1) if found else ""


def stage_of(text: str) -> str:
    """The stage that Postfix names in a reason, as model.Stage; "" where it names none."""
    lowered = text.lower()
    place = lowered.rfind(_IN_REPLY_TO)
    if place >= 0:  # as Postfix ends its reasons; what it quotes may hold another command
        stage = _COMMANDS.get(lowered[place + len(_IN_REPLY_TO) : lowered.find(")", place)])
        if stage is not None:
            return stage
    for words, stage in _STAGES:
        if words in lowered:
            return stage
    return ""


def flat(text: str) -> str:
    """One line, runs of white space as one space, cut at TEXT_MAX; codes repeated on continuation lines are dropped."""
    text = " ".join(text[:TEXT_MAX].split())
    start = _CODE_AT_START.match(text) or _CODE_WITHIN.search(text)
    if start is None or text[start.end() : start.end() + 1] != "-":
        return text
    code, head, rest = start.group(1), text[: start.end()], text[start.end() + 1 :]
    return f"{head} {_CONTINUED.sub(lambda match: ' ' if match.group(1) == code else match.group(), rest)}"


def normalise(text: str) -> str:
    """The wording: without what differs from mail to mail (addresses, hosts' addresses, ids, times, counts).

    >>> normalise("host mx1.example.jp[192.0.2.1] said: 550 5.1.1 <taro@example.jp>: User unknown AB12CD34EF")
    'host [ip] said: 550 5.1.1 <addr>: User unknown id'
    """
    return " ".join(map(_MASKED.__getitem__, text[:TEXT_MAX].split()))


class _Masked(dict[str, str]):
    """Words as they are masked, remembered: a lookup costs no call of Python for a word seen before."""

    def __missing__(self, word: str) -> str:
        masked = word if word.isalpha() else _masked(word)
        if len(self) >= _WORDS_MAX:
            self.clear()
        self[word] = masked
        return masked


_MASKED = _Masked()


def _masked(word: str) -> str:
    """One word without what differs from mail to mail; the marks around it stay."""
    bare = word.strip(_EDGE)
    if not bare:
        return word
    before, _, after = ("", "", "") if bare == word else word.partition(bare)
    if "@" in bare:
        address = _ADDRESS_AFTER_DOTS if "..." in bare else _ADDRESS
        return f"{before}{address.sub('addr', bare)}{after}"
    if "[" in word and _HOST_AND_IP.fullmatch(word):
        return "[ip]" + (word[-1] if word[-1] in ",:;" else "")
    if bare.startswith("name="):
        return f"{before}name=domain{after}"  # of a DNS error
    if _DIGIT.search(bare) is None:
        return word
    if bare.isdigit():
        return word if _REPLY_CODE.fullmatch(bare) or not _ID.fullmatch(f"{bare:0>4}") else f"{before}N{after}"
    if (":" in bare or bare.count(".") == 3) and _IP.fullmatch(bare):
        return f"{before}ip{after}"
    if _TIME.fullmatch(bare):
        return f"{before}id{after}"
    if "://" in bare:
        page, _, query = bare.partition("?")
        return f"{before}{page}?{query}{after}" if query.startswith("p=") else f"{before}{page}{after}"
    return f"{before}{_ID.sub('id', bare)}{after}"


def folded(text: str) -> str:
    """What rules look into: words in lower case without accents and punctuation, single spaces, a space at both ends.

    Postfix's "(in reply to RCPT TO command)" is left out: it says where, not why.
    """
    return f" {' '.join(filter(None, map(fold_word, without_command(text).split())))} "


def without_command(text: str) -> str:
    return _IN_REPLY.sub("", text) if "(in reply to " in text else text


def fold_word(word: str) -> str:
    """One word between blanks: what it says, which may be several words ("doesn't" is "doesn t"), or "".

    >>> fold_word("[S77719],"), fold_word("doesn't"), fold_word("...")
    ('s77719', 'doesn t', '')
    """
    if word.strip(".,:;") == "addr":
        return "addr bare"  # an address without brackets, as few systems write it
    if not word.isascii():
        word = "".join(c for c in unicodedata.normalize("NFKD", word) if not unicodedata.combining(c))
    return " ".join(_WORD.findall(word.casefold()))


def retry_after(text: str) -> int | None:
    """Seconds that a reply asks for ("in 5 minutes", "for 300 seconds", "after 00:05:00"); None where it says none.

    >>> retry_after("450 Greylisted, try again in 00:04:59"), retry_after("421 at most 100 mails per 60 seconds")
    (299, None)
    """
    lowered = text[:TEXT_MAX].lower()
    if " hour" in lowered or " minute" in lowered or " day" in lowered or " second" in lowered:
        lowered = _SPELLED.sub(_in_digits, lowered)
    weak = None
    for match in (_WAIT if lowered.isascii() else _WAIT_OTHERWISE).finditer(lowered):
        start = match.start()
        before = lowered[max(0, start - _NEAR) : start]
        last = before[-1:]
        if (last.isascii() and last.isalnum()) or before.endswith((".", ":", *_NO_WAIT)):
            continue
        wait = _seconds(match)
        if not 0 < wait < _MONTH_S:
            continue
        asked = before.endswith(_PREPOSITIONS) or match.lastindex == 5
        if any(word in before for word in _ASKS) and (asked or match.lastindex != 3):
            return wait
        if weak is None and asked and not any(word in before for word in _COUNTED):
            weak = wait
    if weak is None and "retry" in lowered:
        bare = _BARE_WAIT.search(lowered)
        weak = int(bare.group(1)) if bare and 0 < int(bare.group(1)) < _MONTH_S else None
    return weak


def _in_digits(match: re.Match[str]) -> str:
    if match[2] == "half an":
        return f"{match[1]} 30 minutes"
    return f"{match[1]} {_NUMBERS.get(match[2], '1')}"


def _seconds(match: re.Match[str]) -> int:
    if match.lastindex == 3:
        return int(match[1]) * 3_600 + int(match[2]) * 60 + int(match[3])
    unit = match[match.lastindex or 0]
    return int(match[1]) * (_FACTOR.get(unit[:2]) or _FACTOR[unit[0]])
