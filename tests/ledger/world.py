"""Small worlds for the ledger's tests: an incident, a started plan, its mails, and the words of a sender."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sqlalchemy import select

from resend.model import Identity, PlanState, Selector, Stage, State, TryOutcome, delivery_key
from resend.stores import claims, lifecycle, registry
from resend.stores.invariants import check
from resend.stores.ledger import Ledger
from resend.stores.plans import PlanBatch, PlanRow
from resend.stores.rows import Batch, CheckResult, Delivery, IncidentRecord, PlanRecord
from resend.stores.tables import delivery
from resend.stores.transitions import Arm, Finish, Refuse

NOW = datetime.now(UTC) - timedelta(seconds=5)  # near the database's own clock, which PostgreSQL goes by
BODY = hashlib.sha256(b"body").hexdigest()


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


@dataclass
class World:
    """A ledger with one plan of `count` mails in batches of `size`, all for one provider."""

    ledger: Ledger
    count: int = 10
    size: int = 5
    provider: str = "office365"
    egress: str = "direct"
    plan_id: str = field(default_factory=lambda: hashlib.sha256(uuid.uuid4().bytes).hexdigest())
    release: str = "r1"
    incident_id: str = "inc-1"
    not_before: str = ""
    expires_at: str = ""

    def rows(self) -> list[PlanRow]:
        return [
            PlanRow(
                key=delivery_key(self.release, f"u{n}@example{n % 3}.jp", 0),
                release=self.release,
                recipient_id=f"p{n}",
                rcpt_key=f"u{n}@example{n % 3}.jp",
                rcpt=f"U{n}@example{n % 3}.jp" if n % 2 else f"u{n}@example{n % 3}.jp",
                generation=0,
                incident_id=self.incident_id,
                customer=f"c{n % 2}",
                domain=f"example{n % 3}.jp",
                provider=self.provider,
                egress=self.egress,
                batch_id=f"{self.plan_id[:12]}-{self.provider}-{n // self.size}",
                batch_seq=n // self.size,
                canary=n < self.size,
                seq=n % self.size,
                rate=5.0,
                after_s=0,
                message_id=f"<{self.release}.p{n}@mail.example.jp>",
                identity=Identity.SAME,
                date="Tue, 24 Nov 2026 08:00:00 +0900",
                content_id="c" * 64,
                content_kind="template",
                envelope_from="bounce@example.jp",
                sender="news@example.jp",
                title="title",
                urgency=5,
                expires_at=self.expires_at,
                not_before=self.not_before,
                variables="{}",
            )
            for n in range(self.count)
        ]

    def batches(self) -> list[PlanBatch]:
        return [
            PlanBatch(
                id=f"{self.plan_id[:12]}-{self.provider}-{seq}",
                egress=self.egress,
                provider=self.provider,
                seq=seq,
                size=min(self.size, self.count - seq * self.size),
                rate=5.0,
                canary=seq == 0,
                after_s=0,
            )
            for seq in range(-(-self.count // self.size))
        ]

    def make(self) -> World:
        """Incident and plan rows; nothing started."""
        with self.ledger.write() as conn:
            if not any(known.id == self.incident_id for known in registry.incidents(conn)):
                registry.add_incident(
                    conn,
                    IncidentRecord(
                        id=self.incident_id,
                        name=self.incident_id,
                        selector=Selector(provider=self.provider, from_at=NOW),
                        open=True,
                        counts={"affected": self.count, "mails": None, "buckets": {"resend": self.count}},
                        evidence_id="e",
                        opened_at=NOW,
                    ),
                )
            registry.add_plan(
                conn,
                PlanRecord(
                    id=self.plan_id,
                    incident_id=self.incident_id,
                    state=PlanState.READY,
                    total=self.count,
                    batches=len(self.batches()),
                    params="{}",
                    eta_s=1.0,
                    made_at=NOW,
                ),
            )
        return self

    def start(self) -> World:
        self.make()
        with self.ledger.write() as conn:
            assert lifecycle.start_plan(conn, self.plan_id, self.batches(), self.rows(), now=NOW) == self.count
        return self

    def claim(self, *, owner: str = "w1", now: datetime = NOW, lease_s: float = 60.0, **more: int) -> Batch | None:
        with self.ledger.write() as conn:
            return claims.claim_batch(
                conn,
                egress=self.egress,
                provider=self.provider,
                owner=owner,
                now=now,
                lease_s=lease_s,
                plan_id=self.plan_id,
                **more,
            )

    def retry(self, *, now: datetime, owner: str = "w1", plan_id: str | None = None) -> Batch | None:
        with self.ledger.write() as conn:
            return claims.retry_batch(
                conn,
                egress=self.egress,
                provider=self.provider,
                owner=owner,
                now=now,
                lease_s=60.0,
                plan_id=self.plan_id if plan_id is None else plan_id,
            )

    def states(self) -> dict[str, State]:
        with self.ledger.read() as conn:
            return {key: State(state) for key, state in conn.execute(select(delivery.c.key, delivery.c.state))}

    def row(self, key: str) -> dict[str, object]:
        with self.ledger.read() as conn:
            return dict(conn.execute(select(delivery).where(delivery.c.key == key)).mappings().one())


def arm(mail: Delivery, *, at: datetime = NOW, try_id: str = "", body: str = BODY, epoch: int | None = None) -> Arm:
    return Arm(
        key=mail.key,
        batch_id=mail.batch_id,
        epoch=mail.epoch if epoch is None else epoch,
        try_id=try_id or uuid.uuid4().hex,
        worker="w1",
        egress=mail.egress,
        provider=mail.provider,
        mail_at=at,
        armed_at=at,
        body_sha256=body,
        date=mail.date,
    )


def end(armed: Arm, outcome: TryOutcome = TryOutcome.ACCEPTED, *, at: datetime = NOW, **more: object) -> Finish:
    defaults: dict[str, object] = {
        TryOutcome.ACCEPTED: {"code": 250, "reply": "queued as X", "remote_qid": f"Q{armed.try_id[:6]}"},
        TryOutcome.DEFERRED: {"code": 451, "reply": "busy", "due_at": at + timedelta(minutes=5)},
        TryOutcome.REJECTED: {"code": 550, "reply": "no"},
    }.get(outcome, {})  # type: ignore[assignment]
    values = {**defaults, **more}
    return Finish(
        key=armed.key,
        try_id=armed.try_id,
        epoch=armed.epoch,
        outcome=outcome,
        stage=values.pop("stage", Stage.DOT),  # type: ignore[arg-type]
        ended_at=at,
        **values,  # type: ignore[arg-type]
    )


def refuse(mail: Delivery, outcome: TryOutcome = TryOutcome.DEFERRED, *, at: datetime = NOW) -> Refuse:
    return Refuse(
        key=mail.key,
        batch_id=mail.batch_id,
        epoch=mail.epoch,
        try_id=uuid.uuid4().hex,
        worker="w1",
        egress=mail.egress,
        provider=mail.provider,
        mail_at=at,
        outcome=outcome,
        stage=Stage.RCPT,
        ended_at=at,
        code=450 if outcome == TryOutcome.DEFERRED else 550,
        reply="later" if outcome == TryOutcome.DEFERRED else "no such user",
        due_at=at + timedelta(minutes=5) if outcome == TryOutcome.DEFERRED else None,
    )


def send_all(world: World, mails: Sequence[Delivery]) -> None:
    """Arm and accept."""
    armed = [arm(mail) for mail in mails]
    assert all(result.ok for result in world.ledger.apply(armed))
    assert all(result.ok for result in world.ledger.apply([end(item) for item in armed]))


def faults(ledger: Ledger) -> list[CheckResult]:
    """Invariants that do not hold."""
    with ledger.snapshot() as conn:
        return [result for result in check(conn) if not result.ok]
