"""Adds what a broken-off training run needs to be taken up again: its watermark, seed and stage.

Runs from before have no watermark, so those that never ended can't be taken up and have failed.
"""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

COLUMNS = """
alter table training_runs add column if not exists scope text not null default 'database';
alter table training_runs add column if not exists watermark bigint;
alter table training_runs add column if not exists seed bigint;
alter table training_runs add column if not exists holdout double precision;
alter table training_runs add column if not exists stage text;
alter table training_runs add column if not exists stage_at timestamptz;
update training_runs set state = 'failed', finished_at = started_at, error = 'it was broken off'
    where state = 'running' and watermark is null;
create unique index if not exists training_runs_one_unfinished
    on training_runs (scope) where state in ('running', 'interrupted');
"""


def upgrade() -> None:
    """May run twice."""
    op.execute("set local role leadline_owner")
    op.execute(COLUMNS)
    op.execute("reset role")
