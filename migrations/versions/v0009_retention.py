"""Adds how long a tenant's rows are kept, and lets the owner erase one tenant's at a time.

Null keeps them. The owner of the tables sees, as the router does, the rows of the tenant that
the session names, and no others.
"""

from alembic import op

from migrations.first_schema_sql import LOG_TABLES, OWN

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

COLUMN = "alter table tenants add column if not exists retention_days integer"


def upgrade() -> None:
    """May run twice."""
    op.execute("set local role leadline_owner")
    op.execute(COLUMN)
    for log in LOG_TABLES:
        op.execute(f"drop policy if exists owner_all on {log}")
        op.execute(
            f"create policy owner_all on {log} for all to leadline_owner "
            f"using ({OWN}) with check ({OWN})"
        )
    op.execute("reset role")
