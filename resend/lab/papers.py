"""The sender's own files of the made-up incident: catalog CSV, message templates, kept mails.

Writes below one directory and nothing else. A template is a whole message with its headers, in UTF-8, for Jinja2; the
charset it names is the one it is to be sent in.
"""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from email.header import Header
from hashlib import sha256
from pathlib import Path

from resend.lab.story import Story
from resend.lab.world import DAY, HOUR, JST, MICROS, Recipient, Release, World

_JA = """\
{{ name }} 様

いつもお世話になっております。@CUSTOMER@ 広報担当です。
本日、下記のとおり発表いたしましたのでご案内申し上げます。

■ @TITLE@

@BODY@
────────────────────
配信先: {{ outlet }} {{ name }} 様
このメールは、プレスリリースの受信にご同意いただいた方へお送りしています。
配信停止: https://example.jp/unsubscribe?id={{ recipient }}
送信者: 株式会社サンプル配信　東京都千代田区霞が関0-0-0　info@example.jp
"""
_EN = """\
Dear {{ name }},

@CUSTOMER@ announced today:

* @TITLE@

@BODY@
--
Sent to {{ name }} ({{ outlet }}) because you asked for press releases.
Unsubscribe: https://example.jp/unsubscribe?id={{ recipient }}
Sender: Sample Press Delivery, 0-0-0 Kasumigaseki, Chiyoda-ku, Tokyo, info@example.jp
"""
_HEAD = """\
From: @FROM@
To: {{ name }} <{{ rcpt }}>
Subject: @TITLE@
Date: {{ date }}
Message-ID: {{ message_id }}
X-Release-Id: @RELEASE@
List-Unsubscribe: <https://example.jp/unsubscribe?id={{ recipient }}>
MIME-Version: 1.0
Content-Type: text/plain; charset=@CHARSET@
Content-Transfer-Encoding: @ENCODING@

"""
_LINE_JA = (
    "本件は、利用者の皆さまの声をもとに約二年をかけて準備してきた取り組みです。詳細は添付の資料をご覧ください。\n"
)
_LINE_EN = "The project took about two years and rests on what users told us. Details are on our web site.\n"


def write_catalog(out: Path, world: World, story: Story) -> None:
    """releases, recipients and suppressions; the send log is written mail by mail."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / "releases.csv").open("w", encoding="utf-8", newline="") as handle:
        rows = csv.writer(handle, lineterminator="\n")
        rows.writerow(
            [
                "id",
                "customer",
                "customer_name",
                "title",
                "sender",
                "envelope_from",
                "sent_at",
                "embargo_at",
                "expires_at",
                "withdrawn",
                "urgency",
                "content",
                "template",
            ]
        )
        for release in world.releases:
            rows.writerow(_release(release))
    with (out / "recipients.csv").open("w", encoding="utf-8", newline="") as handle:
        rows = csv.writer(handle, lineterminator="\n")
        rows.writerow(("id", "address", "name", "locale", "tz", "unsubscribed_at", "attr.outlet"))
        for person in world.recipients:
            locale = "en" if person.english else "ja"
            gone = text_of(person.unsubscribed_at)
            rows.writerow((person.id, person.address, person.name, locale, "Asia/Tokyo", gone, person.outlet))
    with (out / "suppressions.csv").open("w", encoding="utf-8", newline="") as handle:
        rows = csv.writer(handle, lineterminator="\n")
        rows.writerow(("address", "reason", "at", "scope"))
        for index in sorted(story.suppressed):
            rows.writerow((world.recipients[index].address, "complaint", text_of(world.end - 8 * HOUR), "all"))
        for number in range(20):
            rows.writerow((f"former.{number}@example.com", "hard bounce", text_of(world.start - 90 * DAY), "all"))


def _release(release: Release) -> tuple[object, ...]:
    envelope = "" if release.link.name == "VERP" else "bounce@example.jp"
    return (
        release.id,
        release.customer.id,
        release.customer.name,
        release.title,
        release.sender,
        envelope,
        text_of(release.sent_at),
        text_of(release.embargo_at),
        text_of(release.expires_at),
        int(release.withdrawn),
        9 if release.number % 13 == 3 else 5,
        f"{release.id}.eml.j2" if release.content else "",
        "",
    )


def text_of(at: int | None) -> str:
    """us since 1970 to RFC 3339 in Japanese time; "" for None."""
    return "" if at is None else datetime.fromtimestamp(at // MICROS, JST).isoformat()


def write_templates(out: Path, world: World) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for release in world.releases:
        if release.content:
            (out / f"{release.id}.eml.j2").write_text(_template(release), encoding="utf-8", newline="\n")


def _template(release: Release) -> str:
    english, japanese_bytes = release.customer.english, release.charset != "utf-8"
    line = _LINE_EN if english else _LINE_JA
    text = _HEAD + (_EN if english else _JA)
    values = {
        "FROM": f"{release.customer.name} <{release.sender}>",
        "TITLE": release.title,
        "RELEASE": release.id,
        "CHARSET": release.charset.upper(),
        "ENCODING": "7bit" if japanese_bytes else "8bit",
        "CUSTOMER": release.customer.name,
        "BODY": line * (6 + release.number % 9),
    }
    for key, value in values.items():
        text = text.replace(f"@{key}@", value)
    return text


def write_kept(out: Path, release: Release, person: Recipient, message_id: str, at: int) -> None:
    """The bytes of one mail as it was sent, by the sha256 of its message-id."""
    charset = release.charset
    date = datetime.fromtimestamp(at // MICROS, UTC).strftime("%a, %d %b %Y %H:%M:%S +0000")
    header, _, body = _template(release).partition("\n\n")
    fields = {"name": person.name, "rcpt": person.address, "date": date, "message_id": message_id}
    fields |= {"recipient": person.id, "outlet": person.outlet}
    for key, value in fields.items():
        header, body = header.replace(f"{{{{ {key} }}}}", value), body.replace(f"{{{{ {key} }}}}", value)
    lines = [_encoded(line, charset) for line in header.split("\n")]
    text = "\r\n".join(lines) + "\r\n\r\n"
    (out / "kept").mkdir(parents=True, exist_ok=True)
    name = sha256(message_id.encode()).hexdigest()
    wire = text.encode("ascii") + body.replace("\n", "\r\n").encode(charset, "replace")
    (out / "kept" / f"{name}.eml").write_bytes(wire)


def _encoded(line: str, charset: str) -> str:
    """A header line with its non-ASCII words encoded and folded."""
    if line.isascii():
        return line
    name, _, value = line.partition(": ")
    phrase, bracket, address = value.partition(" <")
    encoded = Header(phrase, charset, header_name=name, maxlinelen=75).encode(linesep="\r\n")
    return f"{name}: {encoded}{bracket}{address}"
