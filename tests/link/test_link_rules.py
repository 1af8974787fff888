"""Each link rule on its own ground, and the order of all: the first certain one wins, nothing is guessed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from link_suspects import AT, suspect

from resend.errors import ConfigError
from resend.stores.history import OwnTry

TEMPLATE = "release.{release}.{recipient}@mail.example.jp"
VERP = "bounce+{release}.{recipient}@example.jp"
RELEASES = "id,customer,title,sender\n" + "".join(
    f"{name},C1,Title {name},pr@example.jp\n" for name in ("R1", "R2", "R1.5", "2026.r1.x")
)
RECIPIENTS = (
    "id,address\nr1,Taro@Example.jp\nr2,jiro@example.jp\nr3,both@example.jp\nr4,both@example.jp\nx.r1,dots@example.jp\n"
    "u1,hana@例え.jp\n"
)
Catalog = Callable[..., None]
Linked = Callable[..., dict[int, dict[str, Any]]]


@pytest.fixture(autouse=True)
def _loaded(catalog: Catalog) -> None:
    catalog(releases=RELEASES, recipients=RECIPIENTS)


def short(link: dict[str, Any]) -> tuple[str, str, str, str]:
    return link["rule"], link["confidence"], link["release"], link["recipient_id"]


@pytest.mark.parametrize("written", ["<1.a@x.example.jp>", "1.a@x.example.jp", "<1.a@x.example.jp>+29A6"])
def test_the_send_log_knows_the_message_id(catalog: Catalog, linked: Linked, written: str) -> None:
    catalog(sendlog="release,recipient,message_id\nR1,r1,<1.a@x.example.jp>\nR2,r2,<1.a@x.example.jp>\n")
    found = linked([suspect(1, "Taro@example.JP", message_id=written)])[1]
    assert short(found) == ("10_message_id", "certain", "R1", "r1")
    assert found["evidence"] == f"mail.log:1 message-id {written}"


@pytest.mark.parametrize(
    ("qid", "returned"),
    [
        ("0106019bbf-ses-000000", "0106019bbf-ses-000000"),  # SES: messageId
        ("14c5d75ce93.dfd.64b469", "14c5d75ce93.dfd.64b469"),  # SendGrid: X-Message-Id
        ("883953f4-6105-42a2-a16a-77a8", "<883953f4-6105-42a2-a16a-77a8>"),  # Postmark, written like a header
    ],
)
def test_the_send_log_knows_the_id_that_the_service_returned(
    catalog: Catalog, linked: Linked, qid: str, returned: str
) -> None:
    catalog(sendlog=f"release,recipient,message_id\nR1,r1,{returned}\nR2,r2,{returned}\n")
    mail = {"qid": qid, "message_id": "<made@ses.example>"}
    found = linked([suspect(1, "taro@example.jp", **mail), suspect(2, "who@else.example", **mail)])
    assert short(found[1]) == ("10_message_id", "certain", "R1", "r1")
    assert found[1]["evidence"] == f"mail.log:1 accepted as {qid}"
    assert found[2]["confidence"] == "none", "an id alone, at another address, proves nothing"


def test_the_message_id_comes_before_the_id_of_the_service(catalog: Catalog, linked: Linked) -> None:
    catalog(sendlog="release,recipient,message_id\nR1,r1,<1@x>\nR2,r1,QUEUE1\n")
    found = linked([suspect(1, "taro@example.jp", qid="QUEUE1", message_id="<1@x>")])[1]
    assert short(found) == ("10_message_id", "certain", "R1", "r1")


def test_one_message_id_for_a_whole_release_is_told_apart_by_the_address(catalog: Catalog, linked: Linked) -> None:
    catalog(sendlog="release,address,message_id\nR1,Taro@Example.jp,<all@x>\nR1,jiro@example.jp,<all@x>\n")
    found = linked(
        [suspect(n, who, message_id="<all@x>") for n, who in enumerate(("taro@example.jp", "jiro@example.jp"))]
    )
    assert [short(link) for link in found.values()] == [
        ("10_message_id", "certain", "R1", "r1"),
        ("10_message_id", "certain", "R1", "r2"),
    ]


def test_another_address_than_the_send_log_says_is_ambiguous(catalog: Catalog, linked: Linked) -> None:
    catalog(sendlog="release,recipient,message_id\nR1,r1,<1@x>\n")
    found = linked(
        [suspect(1, "jiro@example.jp", message_id="<1@x>"), suspect(2, "who@else.example", message_id="<1@x>")]
    )
    for link in found.values():
        assert short(link) == ("10_message_id", "ambiguous", "R1", "r1")
        assert link["doubt"] == "its recipient has another address in the catalog"


def test_two_releases_under_one_message_id_are_ambiguous(catalog: Catalog, linked: Linked) -> None:
    catalog(sendlog="release,recipient,message_id\nR1,r1,<1@x>\nR2,r1,<1@x>\nR2,r1,<1@x>\n")
    found = linked([suspect(1, "Taro@Example.jp", message_id="<1@x>")])[1]
    assert (found["confidence"], found["candidates"]) == ("ambiguous", 2)


@pytest.mark.parametrize(
    ("local", "address", "expected"),
    [
        ("release.R1.r1", "Taro@Example.jp", ("certain", "R1", "r1")),
        ("release.R1.5.r1", "Taro@Example.jp", ("certain", "R1.5", "r1")),  # a dot in the release's id
        ("release.2026.r1.x.r1", "dots@example.jp", ("certain", "2026.r1", "x.r1")),  # decided by the address
        ("release.R1.u1", "hana@xn--r8jz45g.jp", ("certain", "R1", "u1")),
        ("release.R1.r3", "both@example.jp", ("certain", "R1", "r3")),  # two recipients, one is named
        ("release.R1.r1", "jiro@example.jp", ("ambiguous", "R1", "r1")),  # forwarded, or a mix-up
        ("release.R1.r9", "jiro@example.jp", ("probable", "R1", "r2")),  # an old id, the address is known
        ("release.R1.r9", "who@else.example", ("none", "R1", "")),
        ("release.R9.r1", "Taro@Example.jp", ("none", "R9", "r1")),
        ("release.R1", "Taro@Example.jp", ("none", "", "")),
        ("other.R1.r1", "Taro@Example.jp", ("none", "", "")),
        ("release..r1", "Taro@Example.jp", ("none", "", "")),
    ],
)
@pytest.mark.parametrize("way", ["message-id", "verp"])
def test_templates(
    catalog: Catalog, linked: Linked, way: str, local: str, address: str, expected: tuple[str, str, str]
) -> None:
    catalog(releases=RELEASES + "2026.r1,C1,T,pr@example.jp\n")
    if way == "message-id":
        row = suspect(1, address, message_id=f"<{local}@mail.example.jp>")
    else:
        row = suspect(1, address, sender=local.replace("release.", "bounce+", 1) + "@example.jp")
    found = linked([row], message_id=TEMPLATE, verp=VERP)[1]
    assert (found["confidence"], found["release"], found["recipient_id"]) == expected
    assert found["rule"] == (
        "" if expected[1] == "" else "20_message_id_template" if way == "message-id" else "40_verp"
    )
    assert bool(found["doubt"]) == (expected[0] != "certain")


def test_a_template_without_recipient_goes_by_the_address(linked: Linked) -> None:
    found = linked(
        [
            suspect(1, "jiro@example.jp", message_id="<news-R1@example.jp>"),
            suspect(2, "both@example.jp", message_id="<news-R1@example.jp>"),
        ],
        message_id="news-{release}@example.jp",
    )
    assert short(found[1]) == ("20_message_id_template", "certain", "R1", "r2")
    assert (found[2]["confidence"], found[2]["candidates"]) == ("ambiguous", 2)


def test_a_recipient_first_template(linked: Linked) -> None:
    row = suspect(1, "jiro@example.jp", message_id="<r2/R1.5@example.jp>")
    found = linked([row], message_id="{recipient}/{release}@example.jp")[1]
    assert short(found) == ("20_message_id_template", "certain", "R1.5", "r2")


@pytest.mark.parametrize("value", ["R1", "X-Release-Id: R1", "x-release-id:R1"])
def test_the_logged_header(linked: Linked, value: str) -> None:
    rows = [
        suspect(n, who, header_value=value)
        for n, who in enumerate(("jiro@example.jp", "both@example.jp", "no@x.example"))
    ]
    found = linked(rows)
    assert short(found[0]) == ("30_header", "certain", "R1", "r2")
    assert (found[1]["confidence"], found[1]["doubt"]) == ("ambiguous", "several recipients have its address")
    assert (found[2]["confidence"], found[2]["doubt"]) == ("none", "its recipient is not in the catalog")


@pytest.mark.parametrize("logged", ['"a..b."@docomo.ne.jp', '"a.\\.b."@DOCOMO.ne.jp', "a..b.@docomo.ne.jp"])
def test_quotes_that_an_address_does_not_need_are_no_difference(catalog: Catalog, linked: Linked, logged: str) -> None:
    catalog(recipients="id,address\nd1,a..b.@docomo.ne.jp\n")
    assert short(linked([suspect(1, logged, header_value="R1")])[1]) == ("30_header", "certain", "R1", "d1")


def test_another_logged_header_says_nothing(linked: Linked) -> None:
    assert short(linked([suspect(1, "jiro@example.jp", header_value="Subject: R1")])[1]) == ("", "none", "", "")


def test_the_same_queued_message_lends_its_release(linked: Linked) -> None:
    found = linked(
        [
            suspect(1, "jiro@example.jp", qid="Q", header_value="R1"),
            suspect(2, "Taro@Example.jp", qid="Q"),
            suspect(3, "Taro@Example.jp", qid="Q", epoch=1),  # the queue id came round again
        ]
    )
    assert short(found[2]) == ("50_queue_chain", "certain", "R1", "r1")
    assert found[3]["confidence"] == "none"


def test_the_first_certain_rule_wins_and_an_uncertain_one_does_not_stop_it(catalog: Catalog, linked: Linked) -> None:
    catalog(sendlog="release,recipient,message_id\nR1,r2,<1@x>\n")
    found = linked([suspect(1, "Taro@Example.jp", message_id="<1@x>", header_value="R2")])[1]
    assert short(found) == ("30_header", "certain", "R2", "r1")  # the send log named another address
    catalog(sendlog="release,recipient,message_id\nR1,r1,<1@x>\n")
    found = linked([suspect(1, "Taro@Example.jp", message_id="<1@x>", header_value="R2")])[1]
    assert short(found) == ("10_message_id", "certain", "R1", "r1")


def own(**values: Any) -> OwnTry:
    row = {
        "remote_qid": "",
        "message_id": "",
        "rcpt_key": "jiro@example.jp",
        "at_us": AT,
        "release": "R1",
        "recipient_id": "r2",
    }
    return OwnTry(**(row | values))


def test_our_own_resends_are_no_originals(linked: Linked) -> None:
    rows = [
        suspect(1, "jiro@example.jp", qid="OURS", header_value="R1"),
        suspect(2, "Taro@Example.jp", qid="OURS", header_value="R1"),  # another recipient
        suspect(3, "jiro@example.jp", qid="OURS", header_value="R1", arrived_at=AT - 30 * 86_400_000_000),  # id reused
        suspect(4, "jiro@example.jp", message_id="<new@example.jp>", header_value="R1"),
    ]
    found = linked(rows, own=[own(remote_qid="OURS"), own(message_id="<new@example.jp>")])
    assert [found[n]["rule"] for n in (1, 2, 3, 4)] == ["00_own_try", "30_header", "30_header", "00_own_try"]


def test_what_is_no_address_links_to_nothing_and_breaks_nothing(linked: Linked) -> None:
    strange = [
        "root",
        '"a b"@example.jp',
        "",
        '"user 1234 with space"@example.jp',
        "a@b@c",
        "x" * 3000,
        "\ud83d\ude00@例え.テスト",
        "a\tb@example.jp",
    ]
    found = linked([suspect(n, text, header_value="R1") for n, text in enumerate(strange)])
    assert {link["confidence"] for link in found.values()} == {"none"}


def test_a_template_that_cannot_be_read(linked: Linked) -> None:
    with pytest.raises(ConfigError, match=r"\[link\] message_id"):
        linked([suspect(1, "jiro@example.jp")], message_id="{release}{recipient}@x")


SENDLOG = "release,recipient,sent_at\n"


def at(us: int) -> str:
    return datetime.fromtimestamp(us / 1e6, UTC).isoformat(timespec="microseconds")


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (["R1,r1,-60"], ("60_send_log_window", "probable", "R1", "r1")),
        (["R1,r1,-60", "R2,r1,-600"], ("60_send_log_window", "ambiguous", "R1", "r1")),
        (["R1,r1,-1200"], ("", "none", "", "")),  # too long before
        (["R1,r1,300"], ("", "none", "", "")),  # after it
        (["R1,r2,-60"], ("", "none", "", "")),  # to somebody else
    ],
)
def test_the_send_log_by_address_and_time_is_never_certain(
    catalog: Catalog, linked: Linked, sent: list[str], expected: tuple[str, ...]
) -> None:
    rows = [line.rsplit(",", 1) for line in sent]
    catalog(sendlog=SENDLOG + "".join(f"{who},{at(AT + 1_000_000 + int(s) * 1_000_000)}\n" for who, s in rows))
    found = linked([suspect(1, "Taro@Example.jp", message_id="")])[1]
    assert short(found) == expected


def test_a_bounce_comes_days_after_the_send_log(catalog: Catalog, linked: Linked) -> None:
    catalog(sendlog=SENDLOG + f"R1,r1,{at(AT - 4 * 86_400_000_000)}\n")
    found = linked([suspect(1, "Taro@Example.jp", message_id="", host="bounce")])[1]
    assert short(found) == ("60_send_log_window", "probable", "R1", "r1")


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        ("Subject: Title R2", ("70_subject", "probable", "R2", "r1")),
        ("Subject: =?utf-8?B?VGl0bGUgUjI=?=", ("70_subject", "probable", "R2", "r1")),
        ("subject:  title   r2 ", ("70_subject", "probable", "R2", "r1")),
        ("Subject: Something else", ("", "none", "", "")),
        ("Subject: =?x-nowhere?B?!!?=", ("", "none", "", "")),
    ],
)
def test_the_subject_names_the_release(linked: Linked, subject: str, expected: tuple[str, ...]) -> None:
    assert short(linked([suspect(1, "Taro@Example.jp", message_id="", subject=subject)])[1]) == expected


def test_a_subject_of_two_releases_is_ambiguous(catalog: Catalog, linked: Linked) -> None:
    catalog(
        releases="id,customer,title,sender\nA,C1,新製品のお知らせ,pr@example.jp\nB,C1,新製品のお知らせ,pr@example.jp\n"
    )
    found = linked([suspect(1, "Taro@Example.jp", message_id="", subject="Subject: 新製品のお知らせ")])[1]
    assert (found["rule"], found["confidence"], found["candidates"]) == ("70_subject", "ambiguous", 2)
