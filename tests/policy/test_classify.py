"""Causes: the order of evidence, the traps in texts, the lint of the rules."""

from __future__ import annotations

import re
import time
import tomllib
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resend.model import Action, Cause, CauseClass, Scope
from resend.model import CauseClass as C
from resend.policy.advice import Advice
from resend.policy.classify import Rules, normalise
from resend.policy.replies import codes, folded, retry_after
from resend.policy.rules import Rule, lint_rule, read_rule
from resend.policy.verdict import decide

RULES = Rules.load()
SAID = "host mx.example.jp[192.0.2.1] said: "


def cls(text: str, **known: str | int) -> CauseClass:
    return RULES.classify(text, **known).cls  # type: ignore[arg-type]


def test_the_rules_are_clean() -> None:
    """Each rule has a source, a sample that it wins, and no pattern that could run away."""
    assert RULES.lint() == []
    assert len(RULES.all) > 100


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"class": "throttled", "contains": "busy"}, "no sample"),
        ({"class": "throttled", "sample": "451 busy"}, "needs a literal"),
        ({"class": "mailbox_gone", "contains": "gone", "sample": "550 gone"}, "give class4"),
        ({"class": "throttled", "contains": "busy", "pattern": "(a+)+"}, "repeated group"),
        ({"class": "throttled", "contains": "busy", "pattern": "(a)\\1"}, "reference back"),
        ({"class": "throttled", "contains": "busy", "pattern": ".*busy.*now"}, "more than one open repeat"),
    ],
)
def test_the_lint_finds(row: dict[str, object], problem: str) -> None:
    assert any(problem in line for line in lint_rule(read_rule({"id": "x", "source": "s", **row}, "text")))


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"id": "x", "class": "bored"}, "x: 'bored'"),
        ({"id": "x"}, "x: 'class'"),
        ({"id": "x", "class": "throttled", "codes": "7xx"}, "not a code"),
        ({"id": "x", "class": "throttled", "containz": "y"}, "unknown keys containz"),
    ],
)
def test_a_broken_row_is_named(row: dict[str, object], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        read_rule(row, "text")


def test_a_rule_that_another_one_shadows_is_found() -> None:
    text = files("resend.policy").joinpath("rules.toml").read_text(encoding="utf-8")
    document = tomllib.loads(text)
    document["text"].append(
        {"id": "late", "class": "throttled", "contains": "user unknown", "sample": "550 user unknown", "source": "s"}
    )
    assert [line for line in Rules(document).lint() if line.startswith("late:")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (SAID + "451 4.7.500 Server busy. Please try again later from [192.0.2.9]. (S77719)", (451, "4.7.500")),
        ("550 5.1.1 <a@b.jp>: unknown", (550, "5.1.1")),
        ("550-5.7.1 likely 550-5.7.1 unsolicited 550 5.7.1 mail", (550, "5.7.1")),
        ("smtp; 550 5.1.1 unknown", (550, "5.1.1")),
        ("host x[192.0.5.7] refused to talk to me: 554 no", (554, "")),
        ("421 4.1.1 unverified: host y[192.0.2.2] said: 550 5.1.1 gone", (421, "4.1.1")),
        ("550 5.0.0 x: 5.4.1 Access denied", (550, "5.4.1")),
        ("from 192.0.5.7.8 and 10.5.3.2", (0, "")),
        ("552@qq.com is what it is", (0, "")),
        ("wait: 450 seconds", (0, "")),
        ("message of 535 KB", (0, "")),
        ("limit: 421 messages", (0, "")),
        (SAID + "421 Message from (192.0.2.1) temporarily deferred", (421, "")),
        (SAID + "421 messages from 192.0.2.1 deferred", (421, "")),
        ("Remote server returned '550 Message refused'", (550, "")),
        ("got SMTP error 450 try later", (450, "")),
        ("Exim 4.94.2 here", (0, "")),
        ("delivery failed (#5.1.1)", (0, "5.1.1")),
        ("550 from 4.7.1 to", (550, "")),
        ("", (0, "")),
    ],
)
def test_codes_are_read_where_they_stand(text: str, expected: tuple[int, str]) -> None:
    assert codes(text) == expected


@pytest.mark.parametrize(
    ("text", "known", "expected"),
    [
        # bracket code over wording, wording over code
        ("553 5.7.2 [TSS09] user unknown", {}, C.SENDER_BLOCKED),
        ("421 4.7.1 Connection refused from [192.0.2.1] due to exceed max. IB007", {}, C.THROTTLED),
        ("550 5.1.1 SPF check failed", {}, C.AUTH_FAILED),
        ("550 5.2.2 mailbox of the user is not found", {}, C.MAILBOX_GONE),
        # a provider's range
        ("451 4.7.567 hm", {"provider": "office365"}, C.THROTTLED),
        ("550 5.7.606 hm", {"provider": "office365"}, C.SENDER_BLOCKED),
        ("421 4.7.26 hm", {"provider": "google"}, C.AUTH_FAILED),
        # the same words mean another thing elsewhere, and at another stage
        ("550 Unknown user a@docomo.ne.jp", {"provider": "docomo", "stage": "dot"}, C.POLICY_REJECTED),
        ("550 Unknown user a@docomo.ne.jp", {"provider": "docomo", "stage": "rcpt"}, C.MAILBOX_GONE),
        ("550 : User unknown", {"provider": "au", "stage": "rcpt"}, C.POLICY_REJECTED),
        ("lost connection with x[192.0.2.1] while sending RCPT TO", {"provider": "au"}, C.THROTTLED),
        ("lost connection with x[192.0.2.1] while sending RCPT TO", {}, C.TRANSIENT_INFRA),
        ("451 4.7.1 Service unavailable - try again later", {"provider": "icloud"}, C.THROTTLED),
        # a permanent code, but no permanent verdict
        ("550 Mail frequency limited", {}, C.THROTTLED),
        ("550 5.2.1 The user is receiving mail at a rate that prevents more", {}, C.MAILBOX_TEMPORARY),
        ("552 5.2.2 over quota", {}, C.MAILBOX_TEMPORARY),
        ("452 4.1.1 user over quota", {}, C.MAILBOX_TEMPORARY),
        # the receiver's filter is out of order, or judged
        ("451 4.3.0 Spam filter not available", {}, C.TRANSIENT_INFRA),
        ("554 5.7.1 rejected by our spam filter", {}, C.CONTENT_REJECTED),
        # an account that expired is gone, a mail that expired is not
        ("550 <a@b.jp>: account expired", {}, C.MAILBOX_GONE),
        ("550 Message to <a@b.jp> has expired", {}, C.UNKNOWN),
        # what a sending server wrote before a reply is none of it
        ("Deferred: 421 4.3.0 collect: nowhere to put it", {}, C.TRANSIENT_INFRA),
        ("421 HL:ICC 163 smtp1", {}, C.THROTTLED),
        ("421, \"4.7.0\", IP not in whitelist for RCPT domain", {}, C.SENDER_BLOCKED),
        ("556 remote host check error", {}, C.UNKNOWN),
        # three dots end a word
        ("550 This account is not allowed...a@b.jp", {}, C.POLICY_REJECTED),
        # an underscore is a blank, but not before a number
        ("550 user_unknown", {}, C.MAILBOX_GONE),
        ("421 4.2.1 Service refuse. LPN006_107", {}, C.SENDER_BLOCKED),
        # a mailbox's limit, or that of the mail or of the sender
        ("552 Error writing message: File too large", {}, C.MAILBOX_TEMPORARY),
        ("552 attached file too large", {}, C.CONTENT_REJECTED),
        ("550 exceed the quota for the mailbox", {}, C.MAILBOX_TEMPORARY),
        ("550 5.7.1 You exceeded your quota for the hour", {}, C.THROTTLED),
        ("550 Recipient exceeded email quota", {}, C.MAILBOX_TEMPORARY),
        ("550 5.7.1 Email quota exceeded.", {}, C.THROTTLED),
        # nothing of the mail was seen yet
        ("host x[192.0.2.1] refused to talk to me: 571 blocked by our anti-spam system", {}, C.SENDER_BLOCKED),
        (SAID + "571 blocked by our anti-spam system (in reply to end of DATA command)", {}, C.CONTENT_REJECTED),
        # a refusal without a reason is read by its code
        ("554 5.6.1 Message rejected", {}, C.CONTENT_REJECTED),
        ("550 5.7.26 Message rejected", {}, C.AUTH_FAILED),
        ("550 5.1.1 <a@b.jp>: Recipient address rejected: b.jp", {}, C.MAILBOX_GONE),
        ("550 5.1.1 <a@b.jp>: Recipient address rejected: Access denied", {}, C.POLICY_REJECTED),
        # texts that quote others
        ("450 4.1.1 <a@b.jp>: unverified address: host y said: 550 5.1.1 User unknown", {}, C.TRANSIENT_INFRA),
        ("550 5.1.8 <a@b.jp>: Sender address rejected: User unknown", {}, C.AUTH_FAILED),
        ("450 4.1.8 <a@b.jp>: Sender address rejected: Domain not found", {}, C.AUTH_FAILED),
        ("550 5.7.1 <a@b.jp>: Recipient address rejected: Access denied", {}, C.POLICY_REJECTED),
        ("550 5.1.1 <spam.blocked.quota@user-unknown.jp>: hello", {}, C.UNKNOWN),
        ("host spamhaus.virus.example[192.0.2.1] said: 550 5.1.1 <a@b.jp>: User unknown", {}, C.MAILBOX_GONE),
        # lines joined
        ("550-5.1.1 The account that you tried does not\n550-5.1.1 exist. Please\n550 5.1.1 try", {}, C.MAILBOX_GONE),
        # our own side
        ("mail for example.jp loops back to myself", {}, C.LOCAL_CONFIG),
        ("Host or domain name not found. Name service error for name=b.jp type=MX: Host not found", {}, C.BAD_DOMAIN),
        ("Host or domain name not found. Name service error: Host not found, try again", {}, C.TRANSIENT_INFRA),
        ("Domain b.jp does not accept mail (nullMX)", {}, C.BAD_DOMAIN),
        ("TLS is required, but was not offered by host mx.b.jp[192.0.2.1]", {}, C.TRANSIENT_INFRA),
        ("connect to mx.b.jp[192.0.2.1]:25: Connection refused", {}, C.TRANSIENT_INFRA),
        ("delivery temporarily suspended: " + SAID + "451 4.7.500 Server busy (S77719)", {}, C.THROTTLED),
        # greylisting
        ("450 4.2.0 <a@b.jp>: Recipient address rejected: Greylisted, see http://x.example/y", {}, C.GREYLISTED),
        ("451 Internal resource(s) temporarily unavailable", {}, C.GREYLISTED),
        ("451 4.7.1 Please try again in 5 minutes", {}, C.GREYLISTED),
        ("451 4.7.1 Too many mails, please try again in 5 minutes", {}, C.THROTTLED),
        # codes alone
        ("450 4.7.28 x", {}, C.THROTTLED),
        ("554 5.7.38 x", {}, C.POLICY_REJECTED),
        ("550 5.1.1", {}, C.UNKNOWN),
        ("550", {}, C.UNKNOWN),
        ("", {}, C.UNKNOWN),
        ("host x[192.0.2.1] refused to talk to me: 554 x ESMTP", {}, C.SENDER_BLOCKED),
        ("message expired", {"code": 0, "enhanced": "4.4.7"}, C.TRANSIENT_INFRA),
        # other languages
        ("550 Benutzer unbekannt", {}, C.MAILBOX_GONE),
        ("550 Empfänger unbekannt", {}, C.MAILBOX_GONE),
        ("550 usuario desconocido", {}, C.MAILBOX_GONE),
        ("552 Boîte du destinataire pleine", {}, C.MAILBOX_TEMPORARY),
        ("421 Trop de connexions", {}, C.THROTTLED),
        ("550 ユーザーが存在しません", {}, C.MAILBOX_GONE),
        ("<a@b.jp> のユーザーは登録されていません", {}, C.MAILBOX_GONE),
        ("550 送信先のメールアドレスが存在しません", {}, C.MAILBOX_GONE),
        ("送信先メールアドレスが見つかりませんでした。", {}, C.POLICY_REJECTED),  # au says so of a filter as well
        # an address does not take the word after it
        ("550 5.1.1 taro@b.jp...User unknown here", {}, C.MAILBOX_GONE),
        ("550 5.1.1 <taro@b.jp>...User unknown here", {}, C.MAILBOX_GONE),
        # an address is a person that is missed, with brackets or without
        ("550 <taro@b.jp> does not exist", {}, C.MAILBOX_GONE),
        ("550 taro@b.jp does not exist", {}, C.MAILBOX_GONE),
        ("550 5.1.1 invalid address", {}, C.MAILBOX_GONE),
        ("550 5.1.7 invalid address", {}, C.AUTH_FAILED),
        # brackets around an address are told from none: docomo writes none
        ("550 unknown user <taro@b.jp>", {}, C.MAILBOX_GONE),
        ("550 unknown user taro@b.jp", {}, C.POLICY_REJECTED),
        # our own address, and nothing about who should get the mail
        ("550 sorry, your envelope sender stands in our badmailfrom", {}, C.SENDER_BLOCKED),
        ("550 this mailbox takes no mail from this sender", {}, C.SENDER_BLOCKED),
        ("501 <news@mail>: not a valid address (in reply to MAIL FROM command)", {}, C.AUTH_FAILED),
        ("550 Invalid Domain [news.example.jp; LIB_420]", {}, C.AUTH_FAILED),
        ("invalid domain name", {}, C.UNKNOWN),  # ours in HELO, the sender's, the recipient's
        ("501 5.5.4 invalid domain name", {}, C.AUTH_FAILED),
        ("550 5.1.2 invalid domain", {}, C.BAD_DOMAIN),
        ("552 this user has exceeded his quota", {}, C.MAILBOX_TEMPORARY),
        ("the inbox of this user is over its limit, the mailbox is over 2 GB", {}, C.MAILBOX_TEMPORARY),
        ("This is nothing of ours. The MTS-ID of the original message is: c=jp;l=X1 The mailbox is full", {},
         C.MAILBOX_TEMPORARY),
        ("552 user has exceeded the hourly quota", {}, C.THROTTLED),
        ("550 aradığınız kullanıcı bulunamadı", {}, C.MAILBOX_GONE),
        ("552 pełna: skrzynka jest pełna", {}, C.MAILBOX_TEMPORARY),
        ("550 пользователь не найден", {}, C.MAILBOX_GONE),
        # codes in brackets say more than the words around them
        ("550 5.7.1 refused, the DMARC policy of news.example.jp says so LPN007_517", {}, C.AUTH_FAILED),
        ("550 5.1.0 <news@example.jp> sender rejected, see AUP#CXSNDR", {}, C.AUTH_FAILED),
        ("554 too many bad commands from 192.0.2.1, see CXBL", {}, C.SENDER_BLOCKED),
        ("553 Relaying disallowed as news@example.jp", {}, C.LOCAL_CONFIG),
        ("451 4.7.1 this sender is not authorized, please try again", {}, C.GREYLISTED),
        # gateways
        ("The gateway held it back for policy reasons", {}, C.POLICY_REJECTED),
        ("554 held by local policy", {}, C.POLICY_REJECTED),
    ],
)  # fmt: skip
def test_the_order_of_evidence_and_the_traps(text: str, known: dict[str, str], expected: CauseClass) -> None:
    assert cls(text, **known) is expected


@pytest.mark.parametrize(
    "text",
    [
        "450 4.1.1 <a@b.jp>: Recipient address rejected: User unknown",
        "550 5.1.1 <a@b.jp>: User unknown, try again later",
        "550 5.1.1 <a@b.jp>: temporarily no such user",
        "550 5.1.1 rejected by policy: no such user allowed",
        "550 5.1.1 sender unknown",
        "550 5.1.1 User unknown (in reply to MAIL FROM command)",
        "550 5.1.1 your IP is blocked, no such mailbox",
        "550 5.1.1 too many unknown users",
        "550 5.1.1 Delivery not authorized",
        "550 5.1.1 restricted recipient",
        "550 5.7.1 we no longer accept email from your network",
        "550 this account has sending disabled",
        "554 Email rejected: user agent is not valid",
        "550 送信者ドメインのアドレスが存在しません",
        "550 your account has been suspended",
        "550 5.1.8 no such user",
        "550 Rule imposed on this mailbox for news@example.jp: user invalid",
        "550 invalid domain name",
        "550 is not a valid RFC 5321 address",
        "550 invalid address",
        "554 5.7.1 mail for this user is in quarantine, mailbox not found there",
        "550-Postmaster verification failed while checking <a@b.jp> 550-Response: 550 <postmaster@b.jp>: User unknown",
    ],
)
def test_never_needs_clear_words_and_a_permanent_code(text: str) -> None:
    cause = RULES.classify(text)
    assert decide(cause, code=codes(text)[0]).action is not Action.NEVER


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # a letter around the reply says nothing of its own
        ("I'm afraid I wasn't able to deliver your message to the following addresses. This is a permanent error; I've"
         " given up. <a@b.jp>: Remote host said: 450 4.2.2 Mailbox full. Giving up on 192.0.2.1.", C.MAILBOX_TEMPORARY),
        ("This message was created automatically by mail delivery software. The following address(es) failed: a@b.jp"
         " SMTP error from remote mail server after RCPT TO:<a@b.jp>: host mx.b.jp [192.0.2.1]: 550 no such user here"
         " ------ This is a copy of the message, including all the headers. ------ Subject: spam virus offer",
         C.MAILBOX_GONE),
        ("Your mail could not be delivered. The account or domain may not exist. Reason: 550 5.0.0 See above",
         C.UNKNOWN),
        ("(reason: 550 Unauthenticated senders not allowed) Message headers follow. Message-ID: <x@y>", C.AUTH_FAILED),
        # what expired is judged by what was said last
        ("retry timeout exceeded: 451 4.7.1 Greylisted, try again in 5 minutes", C.GREYLISTED),
        ("retry timeout exceeded", C.TRANSIENT_INFRA),
        # before RCPT it is about us
        ("host x[192.0.2.1] refused to talk to me: 554 Access denied", C.SENDER_BLOCKED),
        ("550 5.7.1 Access denied", C.POLICY_REJECTED),
        # docomo's bare form proves nothing where the receiver is not known
        ("550 Unknown user a@b.jp", C.POLICY_REJECTED),
        ("550 5.1.1 Unknown user: <a@b.jp>", C.MAILBOX_GONE),
    ],
)  # fmt: skip
def test_letters_around_replies(text: str, expected: CauseClass) -> None:
    assert cls(text) is expected


def test_codes_from_elsewhere_may_be_anything() -> None:
    for odd in ("5.1.2 (remote server said no)", "#5.1.2", " 5.1.2"):
        assert cls("550 x", enhanced=odd) is C.BAD_DOMAIN
    for odd in ("5.1.", "5.1.x", "5.1.2222", "5.x", "é", "٥.١.٢", "5.1.2.3"):
        assert cls("550 x", enhanced=odd) is C.UNKNOWN


@given(st.sampled_from([rule for rule in RULES.all if rule.section != "stage"]), st.text("xyz", min_size=3, max_size=8))
def test_words_that_no_rule_knows_change_nothing(rule: Rule, word: str) -> None:
    """The cause is the same whatever name is said behind the reply, seen before or not."""
    text = rule.samples[0]
    known = {"provider": rule.providers[0] if rule.providers else "", "stage": rule.stage}
    assert RULES.classify(f"{text} q{word}q", **known) == RULES.classify(text, **known)


def test_a_huge_reply_is_read_to_its_cap() -> None:
    text = "550 5.1.1 User unknown " + "q" * 100_000
    start = time.perf_counter()
    assert cls(text) is C.MAILBOX_GONE and cls("q " * 50_000) is C.UNKNOWN
    assert time.perf_counter() - start < 0.2


def test_what_follows_from_a_cause() -> None:
    assert RULES.classify("451 4.7.500 Server busy").scope is Scope.PROVIDER
    assert RULES.classify("454 Throttling failure: Maximum sending rate exceeded.").scope is Scope.RELAY
    assert RULES.classify("550 5.1.1 User unknown").scope is Scope.RECIPIENT
    assert RULES.classify("421 4.7.0 [TSS04] deferred").retry_after == 14_400
    assert RULES.classify("421 4.7.0 [TSS04] deferred, retry after 2 hours").retry_after == 7_200
    assert RULES.classify(SAID + "550 no (in reply to RCPT TO command)").stage == "rcpt"
    lost = "lost connection with mx[192.0.2.1] while sending end of data -- message may be sent more than once"
    assert RULES.classify(lost).maybe_delivered
    assert RULES.classify("conversation with x[192.0.2.1] timed out while sending end of data").maybe_delivered
    assert not RULES.classify("lost connection with mx[192.0.2.1] while sending message body").maybe_delivered


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("450 Greylisted, try again in 300 seconds", 300),
        ("450 greylisted for 5 minutes", 300),
        ("450 try again in 5min", 300),
        ("450 retry after 00:05:30", 330),
        ("450 please wait 1 hour", 3_600),
        ("450 at most 100 per 60 seconds; wait 2 hours", 7_200),
        ("450 at most 100 per 60 seconds", None),
        ("450 in 99999 hours", None),
        ("450 later", None),
        ("421 blocked for 2 hours", 7_200),
        ("421 4.7.1 delayed for 180s by policy", 180),
        ("451 come back in 0:04:59", 299),
        ("450 please wait 15 minute(s)", 900),
        ("450 retry=60s", 60),
        ("450 5分後に再送してください", 300),
        ("421 you sent 100 mails in the last 60 minutes, retry in 10 minutes", 600),
        ("421 more than 100 messages in 60 minutes", None),
        ("conversation timed out after 30 seconds", None),
        ("450 x [192.0.2.1] 2026-11-24T08:01:02 AB12m", None),
    ],
)
def test_waiting_times(text: str, seconds: int | None) -> None:
    assert retry_after(text) == seconds


def test_the_waiting_time_is_that_of_the_reply_and_not_of_its_wording() -> None:
    waits = [RULES.classify(f"450 4.2.0 Greylisted, try again in {n} seconds").retry_after for n in (60, 300, 60)]
    assert waits == [60, 300, 60]


def test_wordings_lose_what_differs_from_mail_to_mail() -> None:
    first = (
        SAID + "550 5.1.1 <taro@example.jp>: User unknown 3mPVKl0Mhjz7sXv [192.0.2.7      12] 08DE12AB34CD (in 17 s)"
    )
    other = (
        "host mx2.example.jp[2001:db8::1] said: 550 5.1.1 <hana.o@example.jp>: User unknown 4nQWLm1Nikz8tYw"
        " [198.51.100.9      8] 08DF99AB34CD (in 4 s)"
    )
    assert normalise(first) == normalise(other)
    assert normalise(SAID + "451 4.7.500 Server busy (S77719)") == "host [ip] said: 451 4.7.500 Server busy (S77719)"
    for code in ("TSS04", "S3150", "IB007", "OFR006_102", "CS01", "RL000001", "5.7.606", "RFC 5322"):
        assert code in normalise(f"550 x [{code}] y")


SPECIAL = (
    "451 4.7.500 Server busy. Please try again later from [192.0.2.1].",
    "550 5.7.1 part of their network is on our block list (S3150)",
    "421 4.7.28 Gmail has detected an unusual rate of mail from your IP address",
    "421 4.7.0 [TSS04] Messages temporarily deferred",
    "550 5.7.515 Access denied, sending domain does not meet the required authentication level",
    "550 5.7.26 unauthenticated, neither SPF nor DKIM passed",
    "550 5.7.1 SPF check failed",
    "450 4.2.0 Greylisted",
    "451 Internal resources are temporarily unavailable",
)


def test_aliases() -> None:
    assert RULES.classify("421 4.7.26 hm", provider="Gmail") == RULES.classify("421 4.7.26 hm", provider="google")


def test_there_are_words_for_every_class_and_rule() -> None:
    advice = Advice.load()
    for each in CauseClass:
        cause = Cause(cls=each, rule="none", scope=Scope.RECIPIENT)
        english, japanese = advice.of(cause, "en"), advice.of(cause, "ja")
        assert english.meaning.isascii() and english.advice.isascii()
        assert not japanese.meaning.isascii() and not japanese.advice.isascii()
    assert advice.rules() <= {rule.id for rule in RULES.all}
    words = {advice.of(RULES.classify(text), "en", enhanced=codes(text)[1]).meaning for text in SPECIAL}
    assert len(words) == len(SPECIAL)


@given(st.text(max_size=300) | st.text("45.0 1-7:[]()@<>abcsuser unknown\r\n", max_size=200), st.integers(0, 599))
def test_no_text_makes_it_fail(text: str, code: int) -> None:
    cause = RULES.classify(text, code=code)
    assert cause.cls in CauseClass
    assert normalise(normalise(text)) is not None and folded(text).startswith(" ")
    if cause.cls is CauseClass.MAILBOX_GONE:
        assert re.search(r"\w", text)


@pytest.mark.parametrize(
    "unit",
    [
        "a",
        " ",
        "1",
        "5.",
        "550-",
        "[",
        "[1",
        "@",
        "a@",
        "::",
        "(in reply to ",
        "4.7.1 ",
        "user unknown ",
        "1 s",
        "é",
        "name=",
        "@+",
        "a;1@",
        "-1a",
        "5 minutes in ",
        "12:30:",
        "--- original",
        "550 5.1.1 ",
        "x[",
    ],
)
def test_hostile_texts_take_linear_time(unit: str) -> None:
    """A text twice as long takes at most about twice as long; what is beyond the cut costs nothing more."""

    def spent(length: int) -> float:
        text = (unit * length)[: length * 2]
        best = 1.0
        for _ in range(3):
            fresh = Rules.__new__(Rules)
            fresh.__dict__.update(RULES.__dict__)
            fresh._cache, fresh._by_words = {}, {}
            start = time.perf_counter()
            fresh.classify(text)
            best = min(best, time.perf_counter() - start)
        return best

    assert spent(2_000) < 8 * spent(500) + 0.005
    assert spent(200_000) < 0.1


def test_an_incident_of_replies_is_judged_in_seconds() -> None:
    """A tenth of the incident: 19,208 distinct replies; the whole takes 5 s at most on two cores (DESIGN 13)."""
    texts = [
        f"host TY2PEPF0000AB.mail.protection.outlook.com[52.101.1.{i % 250}] said: 451 4.7.500 Server busy. Please try"
        f" again later from [192.0.2.17]. (S77719) [TYCJPN01FT0{i % 90}.eop-JPN01.prod.protection.outlook.com"
        f" 2026-11-24T08:{i // 60 % 60:02}:{i % 60:02}.123Z 08DE{i * 7919:012X}] (in reply to MAIL FROM command)"
        for i in range(19_208)
    ]
    start = time.perf_counter()
    causes = {RULES.classify(text, code=451, enhanced="4.7.500", provider="office365") for text in texts}
    assert time.perf_counter() - start < 3.0  # measured 0.13 s; a loaded machine may take long
    assert {cause.cls for cause in causes} == {CauseClass.THROTTLED}
