"""Adds tenants' own webhooks: where each is told of its slos' states, and what came of it.

The secret stands where only those who sign and those who set it may read; serving may not.
"""

import sqlalchemy as sa
from alembic import op

from migrations.first_schema_sql import announce, secure

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TABLE = """
create table webhooks (
    tenant_id uuid primary key references tenants,
    url text not null,
    secret text not null,
    created_at timestamptz not null default now(),
    delivered bigint not null default 0,
    failed bigint not null default 0,
    failed_in_a_row bigint not null default 0,
    last_failure text
);
"""

GRANTS = """
grant select on webhooks to leadline_trainer, leadline_admin;
grant insert, update, delete on webhooks to leadline_admin;
grant update (delivered, failed, failed_in_a_row, last_failure) on webhooks to leadline_trainer;
"""


def upgrade() -> None:
    """May run twice."""
    op.execute("set local role leadline_owner")
    if op.get_bind().scalar(sa.text("select to_regclass('webhooks')")) is None:
        op.execute(TABLE)
        op.execute(secure("webhooks", ("trainer", "all", "true"), ("admin", "all", "true")))
        op.execute(announce("webhooks", "tenants", "insert or delete or update of url, secret"))
        op.execute(GRANTS)
    op.execute("reset role")
