"""Tries: no index by delivery, under which each mail of a commit wrote a page of its own; known queue ids only."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
_KNOWN = sa.text("remote_qid != ''")


def upgrade() -> None:
    op.drop_index("try_delivery", "try")
    op.drop_index("try_remote", "try")
    op.create_index("try_remote", "try", ["remote_qid"], sqlite_where=_KNOWN, postgresql_where=_KNOWN)
