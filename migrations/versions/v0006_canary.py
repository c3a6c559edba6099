"""Adds canaries: the share of the traffic that a policy decides on trial, and what came of it.

New columns are nullable, so no row is rewritten. The index finds what a user or conversation
was decided before; it holds new rows alone, and building it keeps shipping, not serving, waiting.
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

COLUMNS = """
alter table policies add column if not exists share double precision;
alter table policies add column if not exists canary jsonb;
create unique index if not exists policies_one_canary on policies (state) where state = 'canary';
"""

INDEX = """
create index if not exists decisions_of_unit
    on decisions (tenant_id, coalesce(conversation_id, subject), occurred_at)
    where arrival is not null and coalesce(conversation_id, subject) is not null;
"""


def upgrade() -> None:
    """May run twice; gives up after a second when a partition is in use for longer."""
    op.execute("set local role leadline_owner")
    op.execute(COLUMNS)
    op.execute("reset role")
    with op.get_context().autocommit_block():
        op.execute("set role leadline_owner")
        op.execute(INDEX)
        op.execute("reset role")
