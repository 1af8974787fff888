"""Hours: the recipients' zone of a batch, and what the timetable allows a provider at this hour."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    # The server's default is for the rows that are there: they know no zone and no bound.
    op.add_column("batch", sa.Column("zone", sa.Text(), server_default="", nullable=False))
    op.add_column("provider_rate", sa.Column("bound", sa.Float(), server_default="0", nullable=False))
