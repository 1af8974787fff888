"""Sending order: every mail once, canary over many domains, customers in turn, the recipient gap's rounds."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from resend.planner import order
from resend.planner.order import Mail, Shape

SHAPES = {"office365": Shape(batch=50, canary=20), "docomo": Shape(batch=10, canary=0)}


class Place(NamedTuple):
    """Where one mail stands: its batch, its place there."""

    mail: Mail
    batch: int
    seq: int
    round: int
    canary: bool


def place(mails: Iterable[Mail], shapes: Mapping[str, Shape]) -> Iterator[Place]:
    """`order.place`, mail by mail; shapes by provider."""
    for cut in order.place(mails, {("direct", provider): shape for provider, shape in shapes.items()}):
        assert cut.mails and {(each.egress, each.provider) for each in cut.mails} == {(cut.egress, cut.provider)}
        for seq, each in enumerate(cut.mails):
            yield Place(each, cut.number, seq, cut.round, cut.canary)


def mail(id_: int, **changes: object) -> Mail:
    fields: dict[str, object] = {
        "id": id_,
        "egress": "direct",
        "provider": "office365",
        "domain": f"d{id_ % 40}.example.jp",
        "customer": "c1",
        "release": "r1",
        "rcpt_key": f"u{id_}@d{id_ % 40}.example.jp",
        "urgency": 5,
        "expires_at": None,
        "arrived_at": id_,
    }
    return Mail(**{**fields, **changes})  # type: ignore[arg-type]


def batches(places: list[Place]) -> dict[tuple[str, str, int], list[Place]]:
    found: dict[tuple[str, str, int], list[Place]] = {}
    for item in places:
        found.setdefault((item.mail.egress, item.mail.provider, item.batch), []).append(item)
    return found


MAILS = st.lists(
    st.builds(
        dict,
        provider=st.sampled_from(["office365", "docomo"]),
        customer=st.sampled_from(["c1", "c2", "c3"]),
        rcpt_key=st.sampled_from(["a@x.jp", "b@x.jp", "c@y.jp", "d@z.jp"]),
        domain=st.sampled_from(["x.jp", "y.jp", "z.jp"]),
        urgency=st.integers(0, 9),
        expires_at=st.none() | st.integers(0, 10),
        zone=st.sampled_from(["", "Asia/Tokyo", "America/New_York"]),
    ),
    max_size=120,
)


@given(MAILS, st.randoms(use_true_random=False))
def test_every_mail_once_and_the_same_plan_from_any_order(rows: list[dict[str, object]], rng: random.Random) -> None:
    mails = [mail(n, **row) for n, row in enumerate(rows)]
    places = list(place(mails, SHAPES))
    assert Counter(item.mail.id for item in places) == Counter(range(len(rows)))
    rng.shuffle(mails)
    assert list(place(mails, SHAPES)) == places
    for (_, provider, _), members in batches(places).items():
        assert [item.seq for item in members] == list(range(len(members)))
        assert len(members) <= max(SHAPES[provider].batch, SHAPES[provider].canary)
        assert len({item.canary for item in members}) == 1 and len({item.round for item in members}) == 1
        assert len({item.mail.zone for item in members}) == 1


@given(MAILS)
def test_a_second_mail_to_a_mailbox_never_shares_a_round_with_the_first(rows: list[dict[str, object]]) -> None:
    places = list(place((mail(n, **row) for n, row in enumerate(rows)), SHAPES))
    seen = Counter((item.mail.provider, item.mail.rcpt_key, item.round) for item in places)
    assert all(count == 1 for count in seen.values())
    stood = [(item.mail.egress, item.mail.provider, item.batch, item.round) for item in places]
    assert stood == sorted(stood)


def test_the_canary_spreads_over_domains() -> None:
    crowded = [mail(n, domain="big.example.jp", urgency=9) for n in range(100)]
    small = [mail(100 + n, domain=f"small{n}.example.jp", urgency=1) for n in range(30)]
    canary = [item.mail.domain for item in place(crowded + small, SHAPES) if item.canary]
    assert len(canary) == 20
    assert len(set(canary)) == 20


def test_customers_take_turns_and_urgency_goes_first() -> None:
    many = [mail(n, customer="big", provider="docomo") for n in range(30)]
    few = [mail(100 + n, customer="small", provider="docomo", arrived_at=1000) for n in range(3)]
    urgent = [mail(200, customer="big", provider="docomo", urgency=9, arrived_at=5000)]
    sent = [item.mail.id for item in place(many + few + urgent, SHAPES)]
    assert sent[0] == 200
    assert {100, 101, 102} <= set(sent[:8])


@given(MAILS)
def test_zones_never_let_a_less_urgent_mail_go_first(rows: list[dict[str, object]]) -> None:
    """Of two batches the earlier one holds no mail that is less urgent than all of the later one; canaries apart."""
    cut = batches([item for item in place((mail(n, **row) for n, row in enumerate(rows)), SHAPES) if not item.canary])
    least: dict[tuple[str, str, int], int] = {}
    for (egress, provider, _), members in sorted(cut.items()):
        key = (egress, provider, members[0].round)
        assert max(item.mail.urgency for item in members) <= least.get(key, 9)
        least[key] = min(item.mail.urgency for item in members)


def test_every_zone_has_a_canary_and_the_largest_goes_first() -> None:
    far = [mail(n, zone="America/New_York") for n in range(30)]
    near = [mail(100 + n) for n in range(60)]
    cut = batches(list(place(far + near, SHAPES)))
    assert [(members[0].mail.zone, members[0].canary, len(members)) for _, members in sorted(cut.items())] == [
        ("", True, 20),
        ("America/New_York", True, 20),
        ("America/New_York", False, 10),
        ("", False, 40),
    ]


@given(
    st.lists(
        st.builds(
            dict,
            domain=st.sampled_from(["a.jp", "a.jp", "a.jp", "b.jp", "c.jp", "d.jp", "e.jp", "f.jp", "own.jp"]),
            urgency=st.integers(4, 5),
            customer=st.sampled_from(["c1", "c2"]),
            zone=st.sampled_from(["", "Asia/Tokyo"]),
        ),
        min_size=10,
        max_size=150,
    ),
    st.sampled_from([0.15, 0.2, 0.25, 1 / 3, 0.5]),
    st.integers(1, 60),
)
def test_no_domain_gets_more_than_its_share_while_others_wait(
    rows: list[dict[str, object]], share: float, batch: int
) -> None:
    mails = [mail(n, **row, unbounded=row["domain"] == "own.jp") for n, row in enumerate(rows)]
    shapes = {"office365": Shape(batch=batch, canary=0, share=share)}
    found = list(place(mails, shapes))
    assert Counter(item.mail.id for item in found) == Counter(range(len(rows)))
    for zone in {item.mail.zone for item in found}:
        stream = [item.mail for item in found if item.mail.zone == zone]
        assert [each.urgency for each in stream] == sorted((each.urgency for each in stream), reverse=True)
        forced = [too_soon(stream, n, math.ceil(1 / share)) for n in range(len(stream))]
        for start in range(len(stream)):
            in_window: Counter[str] = Counter()
            for end in range(start, len(stream)):
                if forced[end]:
                    break
                in_window[stream[end].domain] += not stream[end].unbounded
                assert max(in_window.values()) <= share * (end + 1 - start) + 1


def too_soon(stream: list[Mail], at: int, gap: int) -> bool:
    """Whether the mail at a place follows another of its domain too soon; fails where anybody else could have gone."""
    one, before = stream[at], {each.domain for each in stream[max(0, at - gap + 1) : at]}
    if one.unbounded or one.domain not in before:
        return False
    waiting = {other.domain for other in stream[at:] if other.urgency == one.urgency and other.domain != one.domain}
    assert waiting <= before - {"own.jp"}
    return True


def test_a_burst_to_one_company_is_spread_and_nothing_waits_for_nobody() -> None:
    burst = [mail(n, domain="one.example.jp") for n in range(40)]
    others = [mail(100 + n, domain=f"d{n}.example.jp", arrived_at=1000 + n) for n in range(160)]
    shapes = {"office365": Shape(batch=500, canary=0, share=0.2)}
    sent = [item.mail.domain for item in place(burst + others, shapes)]
    assert [n for n, domain in enumerate(sent) if domain == "one.example.jp"] == list(range(0, 200, 5))
    alone = [item.mail.id for item in place(burst, shapes)]
    assert alone == list(range(40))
    home = [mail(n, domain="gmail.com", unbounded=True) for n in range(40)]
    assert [item.mail.id for item in place(home + others, shapes)][:40] == list(range(40))
