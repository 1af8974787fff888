"""Whatever stands in the catalog: RCPT and bytes on the wire are those of the plan, or nothing left."""

from __future__ import annotations

import tempfile
from hashlib import sha256
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from resend.executor.transaction import Ended, Mail
from resend.policy.content import ContentError, render
from tests.executor.test_transaction import play

TEMPLATE = "From: pr@example.jp\nTo: {{ name }} <{{ rcpt }}>\nSubject: {{ title }}\n\n{{ title }}\n"
NASTY = st.sampled_from(
    [*list("\r\n\x00\u2028\u2029\x85,\"'<>:;()\\@. \t%{}日é"), "\r\n.\r\n", "RCPT TO:<x@y.jp>", "=?"]
)
TEXTS = st.lists(NASTY | st.text("abcAB0-_+", min_size=1, max_size=3), max_size=8).map("".join)
LOCALS = TEXTS | TEXTS.map(lambda text: f'"{text}"')
ADDRESSES = st.tuples(LOCALS, st.sampled_from(["example.net", "example.net\r\n", "example.net>", "例え.jp"])).map(
    "@".join
)


@settings(max_examples=25, deadline=None)
@given(mails=st.lists(st.tuples(ADDRESSES, TEXTS, TEXTS), min_size=1, max_size=12))
def test_the_wire_is_the_plan(mails: list[tuple[str, str, str]]) -> None:
    fine = Mail(envelope_from="s@example.jp", rcpt="last@example.net", body=b"Subject: x\r\n\r\nx\r\n")
    for mail in made(mails):  # each on its own: what it does to the session must not hide in another's
        with tempfile.TemporaryDirectory() as folder:
            played = play(Path(folder), mails=(mail, fine))
            expected = [(mail.rcpt, sha256(mail.body).hexdigest())] if played.ends[0].how is Ended.ACCEPTED else []
            took = [(receipt.rcpt, receipt.sha256) for receipt in played.receipts]
            assert took == [*expected, (fine.rcpt, sha256(fine.body).hexdigest())]
            assert all(receipt.clean for receipt in played.receipts)


def made(mails: list[tuple[str, str, str]]) -> list[Mail]:
    found = []
    for rcpt, title, name in mails:
        body = b"Subject: x\r\n\r\nnot rendered\r\n"
        try:
            body = render(
                TEMPLATE,
                {"name": name},
                key="k",
                message_id="<1@example.jp>",
                date="2026-11-24T00:00:00Z",
                sender="pr@example.jp",
                envelope_from="s@example.jp",
                rcpt=rcpt,
                title=title,
            )
        except ContentError:
            pass  # quarantined; the transaction must stand the address all the same
        found.append(Mail(envelope_from="s@example.jp", rcpt=rcpt, body=body))
    return found
