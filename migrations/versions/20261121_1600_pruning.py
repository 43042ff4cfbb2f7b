"""An index by which a delivery that is pruned finds what it told of."""

from collections.abc import Sequence

from alembic import op

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_index("ix_delivery_resources_delivery_id", "delivery_resources", ["delivery_id"], unique=False)


def downgrade() -> None:
    """Going back would lose what was stored since; restore a backup instead."""
    raise NotImplementedError("migrations only go forward: restore a backup to go back")
