"""Adds alarms: how far up tenants' decisions climb, by slo, and since when that is unusual."""

import sqlalchemy as sa
from alembic import op

from migrations.first_schema_sql import OWN, secure

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

TABLE = """
create table alarms (
    tenant_id uuid not null references tenants,
    slo_name text not null,
    ringing boolean not null,
    since timestamptz not null,
    seen_until bigint not null,
    body jsonb not null,
    primary key (tenant_id, slo_name)
);
"""

GRANTS = """
grant select on alarms to leadline_router, leadline_trainer, leadline_admin;
grant insert, update on alarms to leadline_trainer;
"""


def upgrade() -> None:
    """May run twice."""
    op.execute("set local role leadline_owner")
    if op.get_bind().scalar(sa.text("select to_regclass('alarms')")) is None:
        op.execute(TABLE)
        own, anyone = ("router", "select", OWN), ("trainer", "all", "true")
        op.execute(secure("alarms", own, anyone, ("admin", "select", "true")))
        op.execute(GRANTS)
    op.execute("reset role")
