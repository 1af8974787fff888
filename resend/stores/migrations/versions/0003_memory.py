"""Memory: what a provider's guard must not forget, live mail as several logs tell it, and each catch-up."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_NUMBERS: dict[str, sa.Integer | sa.Float[float]] = {
    "half_open": sa.Integer(),
    "next_cooldown_s": sa.Float(),
    "cap_for_s": sa.Float(),
    "connections": sa.Integer(),
    "mails_per_connection": sa.Integer(),
    "live": sa.Float(),
}


def upgrade() -> None:
    # The server's default is for the rows that are there: nothing was kept of them.
    for name, kind in _NUMBERS.items():
        op.add_column("provider_rate", sa.Column(name, kind, server_default="0", nullable=False))
    for name in ("connections_until", "mails_until"):
        op.add_column("provider_rate", sa.Column(name, sa.Text(), nullable=True))
    op.create_table(
        "live_rate",
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("egress", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("rate", sa.Float(), nullable=False),
        sa.Column("at", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("source", "egress", "provider"),
    )
    op.create_table(
        "catchup",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column("began_at", sa.Text(), nullable=False),
        sa.Column("ended_at", sa.Text(), nullable=True),
        sa.Column("due", sa.Integer(), nullable=False),
        sa.Column("taken", sa.Text(), nullable=False),
        sa.Column("counts", sa.Text(), nullable=False),
        sa.Column("remains", sa.Text(), nullable=False),
        sa.Column("ending", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("exit", sa.Integer(), nullable=True),
        sa.Column("next_due", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
