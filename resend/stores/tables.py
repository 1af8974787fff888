"""The ledger's tables, for SQLite and PostgreSQL. DDL is made by alembic (stores/migrations); a test holds both equal.

Times are fixed-width RFC 3339 UTC text (clock.to_text), "" where absent would need a NULL in an index, NULL otherwise;
`tat_us` is BIGINT microseconds. Rates are mails per second. Flags are 0/1. Nothing here reads or writes.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)

metadata = MetaData()

# A frozen selection of affected outcomes, from alarm to customer report.
incident = Table(
    "incident",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("selector", Text, nullable=False),  # JSON of model.Selector
    Column("state", Text, nullable=False),  # open | closed
    Column("counts", Text, nullable=False),  # JSON: affected, mails, buckets {}
    Column("evidence_id", Text, nullable=False),  # hash of manifest and SQL that it was frozen from
    Column("opened_at", Text, nullable=False),
    Column("closed_at", Text),
)

# A frozen set of mails to send with its parameters. The rows lie in derived/plan-<id>.parquet until the first run.
plan = Table(
    "plan",
    metadata,
    Column("id", Text, primary_key=True),  # sha256 hex
    Column("incident_id", Text, ForeignKey("incident.id"), nullable=False),
    Column("state", Text, nullable=False),  # model.PlanState
    Column("total", Integer, nullable=False),  # what --confirm must say
    Column("batches", Integer, nullable=False),
    Column("params", Text, nullable=False),  # canonical JSON
    Column("eta_s", Float, nullable=False),
    Column("made_at", Text, nullable=False),
    Column("started_at", Text),
    Column("finished_at", Text),
    Column("reason", Text, nullable=False, default=""),
    Column("rehearsal", Integer, nullable=False, default=0),
)

# One unit of lease: mails of one (egress, provider) in sending order. epoch rises with each lease.
batch = Table(
    "batch",
    metadata,
    Column("id", Text, primary_key=True),  # <plan id, 12 hex>-<egress hash>-<provider>-<seq>
    Column("plan_id", Text, ForeignKey("plan.id"), nullable=False),
    Column("egress", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("seq", Integer, nullable=False),
    Column("state", Text, nullable=False),  # open | leased | done
    Column("size", Integer, nullable=False),
    Column("rate", Float, nullable=False),
    Column("canary", Integer, nullable=False, default=0),
    Column("retry", Integer, nullable=False, default=0),  # made of deferred rows that came due
    Column("not_before", Text),
    Column("zone", Text, nullable=False, default="", server_default=""),  # its recipients' time zone; "" the config's
    Column("epoch", Integer, nullable=False, default=0),
    Column("owner", Text, nullable=False, default=""),
    Column("lease_until", Text),
    Index("batch_next", "plan_id", "state", "egress", "provider", "seq"),
)

# One mail to resend. key = model.delivery_key(release, rcpt_key, generation).
delivery = Table(
    "delivery",
    metadata,
    Column("key", Text, primary_key=True),
    Column("release", Text, nullable=False),
    Column("rcpt_key", Text, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("incident_id", Text, ForeignKey("incident.id"), nullable=False),
    Column("plan_id", Text, ForeignKey("plan.id"), nullable=False),
    Column("batch_id", Text, nullable=False),
    Column("seq", Integer, nullable=False),  # order within the batch
    Column("epoch", Integer, nullable=False, default=0),  # the lease that holds it
    Column("recipient_id", Text, nullable=False),
    Column("rcpt", Text, nullable=False),  # the RCPT argument, exactly
    Column("folded", Text, nullable=False),  # policy.address.fold of rcpt: what address vetoes compare
    Column("customer", Text, nullable=False),
    Column("domain", Text, nullable=False),  # lower-case A-label
    Column("egress", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("envelope_from", Text, nullable=False),
    Column("identity", Text, nullable=False),  # model.Identity
    Column("message_id", Text, nullable=False),  # with brackets
    Column("date", Text),  # Date header; NULL until the first arm where identity is new
    Column("content_id", Text, nullable=False),
    Column("body_sha256", Text, nullable=False, default=""),  # of the wire bytes, from the first arm
    Column("expires_at", Text),
    Column("state", Text, nullable=False),  # model.State
    Column("fate", Text, nullable=False, default=""),  # model.Fate once accepted
    Column("reason", Text, nullable=False, default=""),  # why suppressed, quarantined, held, closed, gave_up
    Column("due_at", Text),  # of a deferred row, or of a planned one that must wait
    Column("first_try_at", Text),
    Column("tries", Integer, nullable=False, default=0),
    Column("released", Integer, nullable=False, default=0),  # times let out of doubt to be sent again
    Column("try_id", Text, nullable=False, default=""),  # the armed or last try
    Column("remote_qid", Text, nullable=False, default=""),
    Column("code", Integer, nullable=False, default=0),
    Column("enhanced", Text, nullable=False, default=""),
    Column("reply", Text, nullable=False, default=""),
    Column("cause", Text, nullable=False, default=""),
    Column("accepted_at", Text),
    Column("fate_at", Text),
    Column("fate_reply", Text, nullable=False, default=""),
    UniqueConstraint("release", "rcpt_key", "generation", name="delivery_once"),
    Index("delivery_batch", "batch_id", "seq"),
    Index("delivery_state", "plan_id", "state", "due_at"),
    Index("delivery_message_id", "message_id"),
    Index("delivery_folded", "folded"),
    Index(
        "delivery_fate",
        "egress",
        "provider",
        "fate",
        sqlite_where=text("fate IN ('unseen', 'queued_at_relay')"),
        postgresql_where=text("fate IN ('unseen', 'queued_at_relay')"),
    ),
)

# One attempt of ours. Inserted by the arm, or by a reply before the arm; append and finish only, never deleted.
try_ = Table(
    "try",
    metadata,
    Column("id", Text, primary_key=True),  # 32 hex; ENVID of the envelope where DSN is offered
    Column("delivery_key", Text, ForeignKey("delivery.key"), nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("worker", Text, nullable=False),
    Column("egress", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("mail_at", Text, nullable=False),  # when MAIL was sent: the paced instant
    Column("armed_at", Text),  # NULL: refused before the arm; by the database's clock on PostgreSQL
    Column("ended_at", Text),
    Column("outcome", Text, nullable=False),  # model.TryOutcome
    Column("stage", Text, nullable=False, default=""),  # model.Stage of the reply or loss
    Column("code", Integer, nullable=False, default=0),
    Column("enhanced", Text, nullable=False, default=""),
    Column("reply", Text, nullable=False, default=""),
    Column("cause", Text, nullable=False, default=""),
    Column("remote_qid", Text, nullable=False, default=""),
    Column("body_sha256", Text, nullable=False, default=""),
    # None on delivery_key: keys are hashes, so every mail of a commit would dirty a page of its own. What is asked by
    # delivery is asked seldom, and reads all tries.
    Index("try_remote", "remote_qid", sqlite_where=text("remote_qid != ''"), postgresql_where=text("remote_qid != ''")),
    Index("try_paced", "egress", "provider", "mail_at"),
)

# Connections allowed to an (egress, provider); several hosts share them.
provider_slot = Table(
    "provider_slot",
    metadata,
    Column("egress", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("n", Integer, nullable=False),
    Column("owner", Text, nullable=False, default=""),
    Column("batch_id", Text, nullable=False, default=""),  # the batch that it was claimed with
    Column("epoch", Integer, nullable=False, default=0),  # and that lease of it
    Column("lease_until", Text),
    PrimaryKeyConstraint("egress", "provider", "n"),
)

# The pacer's state: theoretical arrival time and current rate of an (egress, provider), over all hosts and restarts.
provider_rate = Table(
    "provider_rate",
    metadata,
    Column("egress", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("tat_us", BigInteger, nullable=False, default=0),
    Column("rate", Float, nullable=False),
    Column("ceiling", Float, nullable=False),  # the operator's or the profile's; `rate` never exceeds it
    Column("capped", Float, nullable=False, default=0.0),  # 85 % of the rate that was throttled; 0: none
    Column("capped_until", Text),
    Column("cooldown_until", Text),
    Column("clean_since", Text),
    Column("canary_done", Integer, nullable=False, default=0),
    Column("dwell_until", Text),
    Column("paused", Integer, nullable=False, default=0),
    Column("parked", Text, nullable=False, default=""),  # the rule that parked it
    Column("bound", Float, nullable=False, default=0.0, server_default="0"),  # the timetable's at this hour; 0: none
    # What a restart must not forget, and other hosts keep to.
    Column("half_open", Integer, nullable=False, default=0, server_default="0"),  # single mails try it
    Column("next_cooldown_s", Float, nullable=False, default=0.0, server_default="0"),  # if a probe fails; 0: as usual
    Column("cap_for_s", Float, nullable=False, default=0.0, server_default="0"),  # how long `capped` holds; 0: as usual
    Column("connections", Integer, nullable=False, default=0, server_default="0"),  # by a reaction; 0: none
    Column("connections_until", Text),
    Column("mails_per_connection", Integer, nullable=False, default=0, server_default="0"),
    Column("mails_until", Text),
    Column(
        "live", Float, nullable=False, default=0.0, server_default="0"
    ),  # mails per second of live mail, by all logs
    PrimaryKeyConstraint("egress", "provider"),
)

# Live mail of the sender's own at a provider, as each followed log tells it; what several logs tell adds up.
live_rate = Table(
    "live_rate",
    metadata,
    Column("source", Text, nullable=False),  # host and log
    Column("egress", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("rate", Float, nullable=False),  # mails per second
    Column("at", Text, nullable=False),  # what is older than some seconds says nothing any more
    PrimaryKeyConstraint("source", "egress", "provider"),
)

# Each `catch-up`: a row is there before it sends, so that one that was killed is seen.
catchup = Table(
    "catchup",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("worker", Text, nullable=False),  # host:process, as its tries name it
    Column("began_at", Text, nullable=False),
    Column("ended_at", Text),  # null: under way, or it never came to its end
    Column("due", Integer, nullable=False, default=0),  # rows that were due when it began
    Column("taken", Text, nullable=False, default="[]"),  # JSON: provider, plan, mails, passed_over of the policy
    Column("counts", Text, nullable=False, default="{}"),  # JSON: what came of its mails
    Column("remains", Text, nullable=False, default="{}"),  # JSON: what it left of all open plans, by state or fate
    Column("ending", Text, nullable=False, default=""),  # model.CatchUpEnd
    Column("reason", Text, nullable=False, default=""),  # in words
    Column("exit", Integer),
    Column("next_due", Text),
)

# What must not be sent. The arm checks it in the same statement.
veto = Table(
    "veto",
    metadata,
    Column("kind", Text, nullable=False),  # model.VetoKind
    Column("subject", Text, nullable=False),
    Column("reason", Text, nullable=False),  # model.VetoReason
    Column("scope", Text, nullable=False, default=""),  # of an address: "" all | customer:ID | release:ID
    Column("evidence", Text, nullable=False, default=""),
    Column("source", Text, nullable=False, default=""),  # collect | catalog | reconcile | operator
    Column("at", Text, nullable=False),
    PrimaryKeyConstraint("kind", "subject", "reason", "scope"),
)

# How fresh each source of vetoes is: the run refuses to go on when one is too old.
watermark = Table(
    "watermark",
    metadata,
    Column("source", Text, primary_key=True),
    Column("seen_to", Text, nullable=False),
    Column("refreshed_at", Text, nullable=False),
)

# Commands to a running run. Read at least once a second; `seen_at` tells that it was obeyed.
control = Table(
    "control",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("kind", Text, nullable=False),  # model.ControlKind
    Column("provider", Text, nullable=False, default=""),  # "" all
    Column("value", Text, nullable=False, default=""),
    Column("reason", Text, nullable=False),
    Column("who", Text, nullable=False),
    Column("at", Text, nullable=False),
    Column("seen_at", Text),
)

# Every decision with its reason: by whom (operator, rule), about what.
audit = Table(
    "audit",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("at", Text, nullable=False),
    Column("who", Text, nullable=False),
    Column(
        "what", Text, nullable=False
    ),  # run_started, halved, raised, parked, paused, released, closed, veto_too_late ...
    Column("plan_id", Text, nullable=False, default=""),
    Column("egress", Text, nullable=False, default=""),
    Column("provider", Text, nullable=False, default=""),
    Column("subject", Text, nullable=False, default=""),
    Column("value", Text, nullable=False, default=""),
    Column("reason", Text, nullable=False, default=""),
    Index("audit_what", "what", "at"),
)
