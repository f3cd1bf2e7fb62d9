"""Since when the creator of a public stream is away, and when that was last heard."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("creator_gone_at", "creator_heard_at"):
        op.add_column("streams", sa.Column(name, sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    for name in ("creator_heard_at", "creator_gone_at"):
        op.drop_column("streams", name)
