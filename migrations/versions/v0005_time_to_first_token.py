"""Adds the time to first token to outcomes, which tells a queue from a backend that writes slowly.

A nullable column without a default rewrites no row, in any partition.
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """May run twice; gives up after a second when a partition is in use for longer."""
    op.execute("set local role leadline_owner")
    op.execute(
        "alter table outcomes add column if not exists time_to_first_token_s double precision"
    )
    op.execute("reset role")
