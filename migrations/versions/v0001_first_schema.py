"""Makes the roles, the tables, row-level security and the announcements of changes."""

import secrets

import sqlalchemy as sa
from alembic import op

from migrations.first_schema_sql import (
    ANNOUNCEMENTS,
    CONFIGURATION,
    GRANTS,
    LOGS,
    PARTITIONS,
    POLICIES,
    ROLES,
)

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Everything belongs to leadline_owner, which nobody logs in as."""
    op.execute(ROLES)
    op.execute("set local role leadline_owner")
    for part in (CONFIGURATION, LOGS, PARTITIONS, POLICIES, ANNOUNCEMENTS, GRANTS):
        op.execute(part)
    op.execute("select ensure_partitions(3)")
    op.get_bind().execute(
        sa.text("insert into secrets (name, value) values ('decision_key', :value)"),
        {"value": secrets.token_bytes(32)},
    )
    op.execute("reset role")
