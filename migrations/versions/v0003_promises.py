"""Adds what slos as promises need: certificates, monitors, budgets, and why a decision was made.

New columns are nullable or have a constant default, so no row is rewritten. The indexes on the
logs hold new rows alone; building them reads the old ones while shipping, not serving, waits.
"""

import sqlalchemy as sa
from alembic import op

from migrations.first_schema_sql import OWN, announce, secure

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

COLUMNS = """
alter table models add column if not exists cached_input_usd_per_mtok double precision;
alter table models add column if not exists grid_gco2e_per_kwh double precision not null default 0;
alter table decisions add column if not exists conditions jsonb;
alter table decisions add column if not exists reasons jsonb;
alter table decisions add column if not exists novelty double precision;
alter table decisions add column if not exists arrival bigint;
alter table outcomes add column if not exists arrival bigint;
"""

INDEXES = """
create index if not exists decisions_arrived
    on decisions (tenant_id, slo_name, arrival) where arrival is not null;
create index if not exists outcomes_arrived
    on outcomes (tenant_id, arrival) where arrival is not null;
"""

# A certificate never changes; the newest of an slo's name is the one in force. A budget's row
# counts what was leased to workers in one period: never more than its cap.
TABLES = """
create table certificates (
    tenant_id uuid not null references tenants,
    certificate_id uuid not null,
    slo_name text not null,
    slo_version bigint not null,
    policy_version bigint not null,
    created_at timestamptz not null default now(),
    body jsonb not null,
    primary key (tenant_id, certificate_id)
);
create index certificates_of_slo
    on certificates (tenant_id, slo_name, created_at desc);
create table monitors (
    tenant_id uuid not null references tenants,
    slo_name text not null,
    state text not null,
    seen_until bigint not null,
    updated_at timestamptz not null default now(),
    body jsonb not null,
    primary key (tenant_id, slo_name)
);
create table budgets (
    tenant_id uuid not null references tenants,
    slo_name text not null,
    period text not null,
    starts_at timestamptz not null,
    leased_micro_usd bigint not null default 0,
    spent_micro_usd bigint not null default 0,
    primary key (tenant_id, slo_name, period, starts_at)
);
insert into revisions (topic) values ('promises');
"""

GRANTS = """
grant select on certificates, monitors to leadline_router, leadline_trainer, leadline_admin;
grant insert on certificates to leadline_trainer, leadline_admin;
grant insert, update on monitors to leadline_trainer, leadline_admin;
grant select, insert, update on budgets to leadline_router;
grant select on budgets to leadline_trainer, leadline_admin;
"""


def upgrade() -> None:
    """May run twice; gives up after a second when a partition is in use for longer."""
    op.execute("set local role leadline_owner")
    op.execute(COLUMNS)
    if op.get_bind().scalar(sa.text("select to_regclass('budgets')")) is None:
        op.execute(TABLES)
        op.execute(_security())
        op.execute(GRANTS)
    op.execute("reset role")
    with op.get_context().autocommit_block():
        op.execute("set role leadline_owner")
        op.execute(INDEXES)
        op.execute("reset role")


def _security() -> str:
    """Tenants see their own rows; what is written of certificates and monitors is announced."""
    own, anyone = ("router", "select", OWN), (("trainer", "all", "true"), ("admin", "all", "true"))
    readers = (("trainer", "select", "true"), ("admin", "select", "true"))
    return "\n".join(
        [
            secure("certificates", own, *anyone),
            secure("monitors", own, *anyone),
            secure("budgets", ("router", "all", OWN), *readers),
            announce("certificates", "promises", "insert"),
            announce("monitors", "promises", "insert or update of state"),
        ]
    )
