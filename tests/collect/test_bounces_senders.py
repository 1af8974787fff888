"""Ordinary mails that speak of failures are none, but the same words of a mail system are; reports in odd wrappings."""

from __future__ import annotations

import base64
import json

import pytest

from resend.collect.bounces.read import read_report
from resend.collect.bounces.report import FailedAction, Report, ReportKind

QUOTED = "<mika@club.example>: host mx.club.example[192.0.2.7] said: 550 5.1.1 Nobody here of this name"

# From, subject, further fields, text
ORDINARY = {
    "a letter about bounces": (
        '"Mail Letter" <letter@blog.example>',
        "Undelivered Mail Returned to Sender, and what it means",
        "",
        f"Line by line, what such a mail tells:\n\n{QUOTED}\n",
    ),
    "somebody who asks for help": (
        "Jiro <jiro@shop.example>",
        "Mail delivery failed: what is this?",
        "",
        f"Hi,\n\nsince today each mail to mika@club.example comes back to us:\n\n{QUOTED}\n\nWhat shall we do?\n",
    ),
    "a ticket": (
        "Desk <desk@host.example>",
        "[#4711] Delivery problem",
        "Auto-Submitted: auto-generated\n",
        "We have noted that mail to mika@club.example could not be delivered, and will look at it.\n",
    ),
    "a parcel": (
        "Courier <no-reply@parcels.example>",
        "Delivery failed, please choose a new day",
        "",
        "We could not deliver your parcel.\n\nRecipient: mika@club.example\n\nPlease do not reply to this e-mail.\n",
    ),
    "a late parcel": (
        "Courier <no-reply@parcels.example>",
        "Delivery Status Notification for parcel 99",
        "Auto-Submitted: auto-generated\n",
        "The delivery has been delayed. Recipient: mika@club.example\n",
    ),
    "a payment": (
        "Billing <billing@shop.example>",
        "Payment failed",
        "",
        "The payment of the account mika@club.example was rejected by the bank.\n",
    ),
    "a thief": (
        '"Mail Administrator" <help@thief.example>',
        "Mail delivery failed",
        "",
        "4 pending messages could not be delivered to mika@club.example. Release messages now.\n",
    ),
    "somebody who writes French": (
        "Luc <luc@shop.example>",
        "mail non remis",
        "",
        "Bonjour, mon courrier pour mika@club.example n'a pas été remis : 550 5.1.1 inconnu. Merci\n",
    ),
    "an absent one who quotes a report": (
        "Mika <mika@club.example>",
        "Out of office: Undeliverable: news",
        "Auto-Submitted: auto-replied\n",
        f"I am away.\n\n{QUOTED}\n",
    ),
    "one who moved, by an automatic answer": (
        "Mika <mika@club.example>",
        "Re: news",
        "Return-Path: <>\n",
        "mika@club.example exists no longer, this mail was not delivered to me. Write to jiro@club.example\n",
    ),
    "a guard that asks who writes": (
        "Guard <hello@guard.example>",
        "Your message to mika@club.example waits",
        "Return-Path: <>\n",
        "Your mail has not been delivered to mika@club.example yet, you are not on the list of friends.\n",
    ),
    "one who is away and says it in a subject of reports": (
        "Mika <mika@club.example>",
        "I am away: your mail was not delivered",
        "Return-Path: <>\n",
        "Mail for mika@club.example is not delivered to me these days.\n",
    ),
    "a carrier's way to ask": (
        "Parcels <no-reply@parcels.example>",
        "Delivery failed",
        "",
        "Your mail could not be delivered, nobody was there. Contact: mika@club.example\n",
    ),
    "an account": (
        "Administrator <admin@school.example>",
        "The account mika@club.example has been blocked",
        "",
        "The account mika@club.example was blocked. Send a mail to desk@school.example\n",
    ),
    "a tracker of tickets": (
        "Tracker <no-reply@tracker.example>",
        "[T-7] Mail delivery failed for some",
        "",
        f"Jiro wrote:\n\n{QUOTED}\n",
    ),
    "the post master of a house": (
        "Postmaster <postmaster@house.example>",
        "Work on our servers",
        "",
        "On Friday mail to mika@club.example could not be delivered. We are sorry.\n",
    ),
}


def mail(sender: str, subject: str, fields: str, text: str) -> bytes:
    return (
        f"From: {sender}\nTo: bounce@news.example\nSubject: {subject}\nDate: Mon, 5 Oct 2026 10:00:00 +0900\n"
        f"{fields}MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n\n{text}"
    ).encode()


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_mails_are_no_failures(name: str) -> None:
    assert read_report(mail(*ORDINARY[name])).kind in (ReportKind.NOT_A_REPORT, ReportKind.AUTO_REPLY)


@pytest.mark.parametrize(
    ("sender", "fields"),
    [
        ("Mail Delivery System <MAILER-DAEMON@mx.example>", ""),
        ("postmaster@mx.example", ""),
        ("MTA <no-reply@mx.example>", ""),
        ("Hanako <hanako@mx.example>", "Return-Path: <>\n"),
        ("Hanako <hanako@mx.example>", "Return-Path: <MAILER-DAEMON>\n"),
        ("Hanako <hanako@mx.example>", "X-Failed-Recipients: mika@club.example\n"),
    ],
)
def test_the_same_words_of_a_mail_system_are_one(sender: str, fields: str) -> None:
    report = read_report(mail(sender, "Mail delivery failed", fields, f"Your mail was not delivered.\n\n{QUOTED}\n"))
    assert [(failed.recipient, failed.code) for failed in report.recipients] == [("mika@club.example", 550)]
    assert report.kind is ReportKind.FAILURE


def test_a_returned_mail_makes_a_report_believable() -> None:
    returned = (
        "Received: from x by y; Mon, 5 Oct 2026 10:00:00 +0900\nFrom: a@news.example\nTo: mika@club.example\n\nhi"
    )
    text = f"Could not be delivered:\n\n<mika@club.example>: no such mailbox\n\n--- message follows ---\n\n{returned}\n"
    by_person = ("Hanako <hanako@house.example>", "Delivery failed", "", text)
    assert read_report(mail(*by_person)).kind is ReportKind.FAILURE
    assert read_report(mail(*by_person[:3], text.partition("---")[0])).kind is ReportKind.NOT_A_REPORT


TOLD = {  # "not delivered" and "still tried", in the words of systems of these countries
    "fi": ("Viestiä ei voitu toimittaa vastaanottajalle:", ReportKind.FAILURE),
    "cs": ("Vaše zpráva nebyla doručena:", ReportKind.FAILURE),
    "tr": ("İletiniz şu adrese teslim edilemedi:", ReportKind.FAILURE),
    "ro": ("Mesajul nu a putut fi livrat catre:", ReportKind.FAILURE),
    "el": ("Το μήνυμα δεν παραδόθηκε στον παραλήπτη:", ReportKind.FAILURE),
    "th": ("ไม่สามารถส่งอีเมลถึง:", ReportKind.FAILURE),
    "vi": ("Thư không thể gửi tới:", ReportKind.FAILURE),
    "uk": ("Лист не вдалося доставити одержувачу:", ReportKind.FAILURE),
    "zh-tw": ("郵件無法送達下列收件者:", ReportKind.FAILURE),
    "es": ("El mensaje no fue entregado a:", ReportKind.FAILURE),
    "fr, waits": ("La remise est retardée, le serveur continuera d'essayer:", ReportKind.DELAY),
    "de, waits": ("Noch nicht zugestellt, es wird weiterhin versucht:", ReportKind.DELAY),
    "ja, waits": ("配信が未完了です。引き続き再送を試みます。\n宛先:", ReportKind.DELAY),
    "zh, waits": ("邮件已延迟，系统将继续尝试投递:", ReportKind.DELAY),
}


REASONS = {  # where a reply begins, and what may stand around an address
    "in quotes, after words": ("<mika@club.example>\n5.3.0 - Something else 552-'no room left' (attempts: 0)\n", 552),
    "in a column, under a heading in dashes": (
        "--- The following addresses had delivery problems ---\n\n<mika@club.example>\tno room left there\n",
        0,
    ),
    "told by a program, before a code that says nothing": (
        "  ----- Transcript of session follows -----\n"
        "mail.local: /var/mail/mika: no room left\n554 <mika@club.example>... Service unavailable\n",
        554,
    ),
    "of whom a mailbox is": ("Mailbox for mika@club.example is full, it was refused.\n", 0),
    "after the type of the address": ("These people haven't received it:\n\n  SMTP: mika@club.example\n", 0),
    "in words without a column, after a colon": (
        "Not delivered to the following:\nmika@club.example There is no room left\n",
        0,
    ),
    "in a sentence about a way": ("Could not find a way for mika@club.example\n", 0),
    "wide brackets": ("mika@club.example（メールボックスが一杯です）\n", 0),
    "a line of sendmail 8.6 first": (
        "mika@club.example  (unrecoverable error)\n    (expanded from: all@club.example)\n\n"
        "   ----- Transcript of session follows -----\n"
        "mika@club.example... Deferred: no answer of club.example\n",
        0,
    ),
}


@pytest.mark.parametrize("name", REASONS)
def test_what_is_said_beside_an_address(name: str) -> None:
    text, code = REASONS[name]
    report = read_report(mail("MAILER-DAEMON@mx.example", "*", "", f"Your mail could not be delivered:\n\n{text}"))
    assert [(failed.recipient, failed.code) for failed in report.recipients] == [("mika@club.example", code)]
    assert "room left" in report.recipients[0].reply or not code
    assert "unrecoverable" not in report.recipients[0].reply


@pytest.mark.parametrize("language", TOLD)
def test_what_failed_is_told_in_many_languages(language: str) -> None:
    words, kind = TOLD[language]
    report = read_report(mail("MAILER-DAEMON@mx.example", "*", "", f"{words}\n\n  mika@club.example\n"))
    assert (report.kind, [failed.recipient for failed in report.recipients]) == (kind, ["mika@club.example"])


@pytest.mark.parametrize(
    "subject", ["傳遞狀態通知 (失敗)", "Notificación del estado de entrega (error)", "配信状態通知"]
)
def test_a_subject_says_delivery_status_in_many_languages(subject: str) -> None:
    report = read_report(mail("postmaster@mx.example", subject, "", "Could not be delivered:\n\n mika@club.example\n"))
    assert [failed.recipient for failed in report.recipients] == ["mika@club.example"]


STATUS = (
    "Reporting-MTA: dns; mx.example\n\nFinal-Recipient: rfc822; mika@club.example\nAction: failed\nStatus: 5.2.2\n"
    "Diagnostic-Code: smtp; 552 5.2.2 no room left\n"
)
HEAD = (
    "From: MAILER-DAEMON@mx.example\nTo: bounce@news.example\nDate: Mon, 5 Oct 2026 10:00:00 +0900\nSubject: failed\n"
)
PARTS = "--b\nContent-Type: text/plain\n\nIt failed.\n\n--b\nContent-Type: {kind}\n{fields}\n{body}\n--b--\n"
WRAPPED = {
    "HTML whose lines begin with blanks": HEAD
    + "Content-Type: text/html\n\n<body>\n  <p>It failed.</p>\n"
    + "".join(f"  {line}<br>\n" for line in STATUS.splitlines())
    + "</body>",
    "a type that was lost": HEAD
    + "Content-Type: multipart/mixed; boundary=b\n\n"
    + PARTS.format(
        kind="application/octet-stream",
        fields="Content-Transfer-Encoding: base64\n",
        body=base64.encodebytes(STATUS.encode()).decode(),
    ),
    "no type at all": HEAD + "\n" + PARTS.format(kind="message/delivery-status", fields="", body=STATUS),
    "words for old readers, no type": HEAD
    + "\nThis is a MIME mail.\n\n"
    + PARTS.format(kind="message/delivery-status", fields="", body=STATUS),
    "under it a mailing list": HEAD
    + f"\n{STATUS}\n{'_' * 47}\nnews mailing list\nnews@lists.example\nhttps://lists.example/\n",
    "under it a scanner": HEAD + f"\n{STATUS}\n-- \nscanned by\n <guard@scan.example>: 550 checks\n",
}


@pytest.mark.parametrize("name", WRAPPED)
def test_a_report_is_read_in_any_wrapping(name: str) -> None:
    report = read_report(WRAPPED[name].encode())
    assert [(failed.recipient, failed.status, failed.code) for failed in report.recipients] == [
        ("mika@club.example", "5.2.2", 552)
    ]


def event(kind: str, name: str, about: dict[str, object], of: str = "notificationType") -> Report:
    told = json.dumps({of: kind, "mail": {"messageId": "1", "source": "a@news.example"}, name: about})
    return read_report(mail("SES <no-reply@sns.amazonaws.com>", "AWS Notification Message", "", told))


def test_amazon_tells_deliveries_and_delays_by_mail() -> None:
    delivered = event("Delivery", "delivery", {"recipients": ["mika@club.example"]})
    assert delivered.kind is ReportKind.NOT_A_REPORT
    assert [failed.action for failed in delivered.recipients] == [FailedAction.DELIVERED]
    person = {"emailAddress": "mika@club.example", "status": "4.4.1", "diagnosticCode": "smtp; 421 4.4.1 timed out"}
    delayed = event("DeliveryDelay", "deliveryDelay", {"delayedRecipients": [person]}, of="eventType")
    assert delayed.kind is ReportKind.DELAY
    assert [(failed.action, failed.code) for failed in delayed.recipients] == [(FailedAction.DELAYED, 421)]
    assert event("Open", "open", {"recipients": ["mika@club.example"]}).kind is ReportKind.NOT_A_REPORT
