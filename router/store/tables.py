"""The tables as SQLAlchemy Core knows them; a test holds them to the migrations."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, BYTEA, JSONB

from router.store.seams import Kind

metadata = sa.MetaData()


def _time(name: str, *, null: bool = False, now: bool = False) -> sa.Column[datetime]:
    default = sa.text("now()") if now else None
    return sa.Column(name, sa.DateTime(timezone=True), nullable=null, server_default=default)


def _text(name: str, *, null: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=null)


def _count(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False, server_default=sa.text("0"))


tenants = sa.Table(
    "tenants",
    metadata,
    sa.Column("tenant_id", sa.Uuid, primary_key=True),
    sa.Column("name", sa.Text, nullable=False, unique=True),
    _time("created_at", now=True),
    sa.Column("retention_days", sa.Integer),
)
webhooks = sa.Table(
    "webhooks",
    metadata,
    sa.Column("tenant_id", sa.Uuid, sa.ForeignKey("tenants.tenant_id"), primary_key=True),
    _text("url"),
    _text("secret"),
    _time("created_at", now=True),
    _count("delivered"),
    _count("failed"),
    _count("failed_in_a_row"),
    _text("last_failure", null=True),
)
api_keys = sa.Table(
    "api_keys",
    metadata,
    sa.Column("tenant_id", sa.Uuid, sa.ForeignKey("tenants.tenant_id"), primary_key=True),
    sa.Column("key_id", sa.Text, primary_key=True),
    sa.Column("secret_sha256", BYTEA, nullable=False),
    _text("role"),
    _time("created_at", now=True),
    _time("revoked_at", null=True),
)
slos = sa.Table(
    "slos",
    metadata,
    sa.Column("tenant_id", sa.Uuid, sa.ForeignKey("tenants.tenant_id"), primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("version", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("body", JSONB, nullable=False),
    _time("created_at", now=True),
    _text("actor"),
)
models = sa.Table(
    "models",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("input_usd_per_mtok", sa.Double, nullable=False),
    sa.Column("output_usd_per_mtok", sa.Double, nullable=False),
    sa.Column("tier", sa.Integer, nullable=False),
    sa.Column("context_tokens", sa.Integer, nullable=False),
    sa.Column("max_output_tokens", sa.Integer, nullable=False),
    sa.Column("capabilities", ARRAY(sa.Text), nullable=False),
    sa.Column("energy_wh_per_ktok", sa.Double, nullable=False),
    _text("region"),
    _text("endpoint"),
    _text("endpoint_model"),
    sa.Column("enabled", sa.Boolean, nullable=False),
    sa.Column("cached_input_usd_per_mtok", sa.Double),
    sa.Column("grid_gco2e_per_kwh", sa.Double, nullable=False, server_default=sa.text("0")),
    sa.Column("thinking", sa.Text),
)
arms = sa.Table(
    "arms",
    metadata,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("model", sa.Text, sa.ForeignKey("models.name"), nullable=False),
    _text("strategy"),
    sa.Column("params", JSONB, nullable=False),
    sa.Column("enabled", sa.Boolean, nullable=False),
)
policies = sa.Table(
    "policies",
    metadata,
    sa.Column("version", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    _text("state"),
    _time("created_at", now=True),
    _time("promoted_at", null=True),
    sa.Column("bundle", BYTEA, nullable=False),
    sa.Column("bundle_sha256", sa.Text, nullable=False, unique=True),
    sa.Column("bundle_bytes", sa.BigInteger, nullable=False),
    sa.Column("summary", JSONB, nullable=False),
    sa.Column("share", sa.Double),
    sa.Column("canary", JSONB),
)
for _state in ("active", "previous", "canary"):
    sa.Index(
        f"policies_one_{_state}",
        policies.c.state,
        unique=True,
        postgresql_where=policies.c.state == _state,
    )
training_runs = sa.Table(
    "training_runs",
    metadata,
    sa.Column("run_id", sa.Uuid, primary_key=True),
    _time("started_at"),
    _time("finished_at", null=True),
    _text("state"),
    sa.Column("policy_version", sa.BigInteger),
    _text("dataset_digest", null=True),
    sa.Column("figures", JSONB, nullable=False, server_default=sa.text("'{}'::jsonb")),
    _text("error", null=True),
    sa.Column("scope", sa.Text, nullable=False, server_default="database"),
    sa.Column("watermark", sa.BigInteger),
    sa.Column("seed", sa.BigInteger),
    sa.Column("holdout", sa.Double),
    _text("stage", null=True),
    _time("stage_at", null=True),
    sa.Index(
        "training_runs_one_unfinished",
        "scope",
        unique=True,
        postgresql_where=sa.text("state in ('running', 'interrupted')"),
    ),
)
audit_log = sa.Table(
    "audit_log",
    metadata,
    sa.Column("entry_id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    _time("at", now=True),
    sa.Column("tenant_id", sa.Uuid),
    _text("actor"),
    _text("action"),
    _text("subject"),
    sa.Column("comment", sa.Text, nullable=False, server_default=""),
    sa.Column("details", JSONB, nullable=False, server_default=sa.text("'{}'::jsonb")),
)
revisions = sa.Table(
    "revisions",
    metadata,
    sa.Column("topic", sa.Text, primary_key=True),
    sa.Column("revision", sa.BigInteger, nullable=False, server_default=sa.text("0")),
)
secrets = sa.Table(
    "secrets",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", BYTEA, nullable=False),
)
signing_keys = sa.Table(
    "signing_keys",
    metadata,
    sa.Column("key_id", sa.Text, primary_key=True),
    sa.Column("public_key", BYTEA, nullable=False),
    _time("created_at", now=True),
    _time("revoked_at", null=True),
)
decisions = sa.Table(
    "decisions",
    metadata,
    sa.Column("tenant_id", sa.Uuid, primary_key=True),
    sa.Column("occurred_at", sa.DateTime(timezone=True), primary_key=True),
    sa.Column("decision_id", sa.Uuid, primary_key=True),
    sa.Column("request_id", sa.Uuid),
    _text("body_digest", null=True),
    _text("query_id"),
    _text("query", null=True),
    _text("dataset", null=True),
    _text("subject", null=True),
    _text("conversation_id", null=True),
    sa.Column("labels", JSONB),
    sa.Column("request", JSONB),
    _text("slo_name", null=True),
    sa.Column("slo_version", sa.BigInteger),
    sa.Column("policy_version", sa.BigInteger, nullable=False),
    _text("policy_source"),
    _text("arm"),
    _text("model"),
    _text("strategy"),
    sa.Column("params", JSONB),
    sa.Column("input_tokens", sa.Integer),
    sa.Column("propensity", sa.Double),
    sa.Column("explored", sa.Boolean),
    sa.Column("difficulty", sa.Double),
    _text("slo_status", null=True),
    _text("reason", null=True),
    sa.Column("should_continue", sa.Boolean),
    sa.Column("feasible", JSONB),
    sa.Column("predictions", JSONB),
    sa.Column("explanation", JSONB),
    sa.Column("conditions", JSONB),
    sa.Column("reasons", JSONB),
    sa.Column("novelty", sa.Double),
    sa.Column("arrival", sa.BigInteger),
    sa.Index(
        "decisions_arrived",
        *("tenant_id", "slo_name", "arrival"),
        postgresql_where=sa.text("arrival is not null"),
    ),
    sa.Index(
        "decisions_of_unit",
        *("tenant_id", sa.text("coalesce(conversation_id, subject)"), "occurred_at"),
        postgresql_where=sa.text(
            "arrival is not null and coalesce(conversation_id, subject) is not null"
        ),
    ),
    postgresql_partition_by="RANGE (occurred_at)",
)
attempts = sa.Table(
    "attempts",
    metadata,
    sa.Column("tenant_id", sa.Uuid, primary_key=True),
    sa.Column("decided_at", sa.DateTime(timezone=True), primary_key=True),
    sa.Column("decision_id", sa.Uuid, primary_key=True),
    sa.Column("attempt", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("attempt_id", sa.Uuid, nullable=False),
    _time("occurred_at"),
    _text("arm"),
    _text("model"),
    _text("strategy"),
    sa.Column("params", JSONB),
    sa.Column("propensity", sa.Double),
    sa.Column("evidence", JSONB),
    sa.Column("keep", sa.Boolean, nullable=False),
    _text("next_arm", null=True),
    sa.Column("accuracy", sa.Double),
    _text("reason", null=True),
    postgresql_partition_by="RANGE (decided_at)",
)
outcomes = sa.Table(
    "outcomes",
    metadata,
    sa.Column("tenant_id", sa.Uuid, primary_key=True),
    sa.Column("decided_at", sa.DateTime(timezone=True), primary_key=True),
    sa.Column("outcome_id", sa.Uuid, primary_key=True),
    sa.Column("decision_id", sa.Uuid, nullable=False),
    _time("occurred_at"),
    sa.Column("attempt", sa.SmallInteger, nullable=False),
    sa.Column("score", sa.Double),
    _text("source", null=True),
    sa.Column("cost_usd", sa.Double),
    sa.Column("input_tokens", sa.Integer),
    sa.Column("output_tokens", sa.Integer),
    sa.Column("latency_s", sa.Double),
    sa.Column("confidence", sa.Double),
    _text("error", null=True),
    _text("answer", null=True),
    sa.Column("arrival", sa.BigInteger),
    sa.Column("time_to_first_token_s", sa.Double),
    sa.Index("outcomes_of_decision", "tenant_id", "decision_id"),
    sa.Index(
        "outcomes_arrived",
        *("tenant_id", "arrival"),
        postgresql_where=sa.text("arrival is not null"),
    ),
    postgresql_partition_by="RANGE (decided_at)",
)
certificates = sa.Table(
    "certificates",
    metadata,
    sa.Column("tenant_id", sa.Uuid, sa.ForeignKey("tenants.tenant_id"), primary_key=True),
    sa.Column("certificate_id", sa.Uuid, primary_key=True),
    _text("slo_name"),
    sa.Column("slo_version", sa.BigInteger, nullable=False),
    sa.Column("policy_version", sa.BigInteger, nullable=False),
    _time("created_at", now=True),
    sa.Column("body", JSONB, nullable=False),
    sa.Index("certificates_of_slo", "tenant_id", "slo_name", sa.text("created_at desc")),
)
monitors = sa.Table(
    "monitors",
    metadata,
    sa.Column("tenant_id", sa.Uuid, sa.ForeignKey("tenants.tenant_id"), primary_key=True),
    sa.Column("slo_name", sa.Text, primary_key=True),
    _text("state"),
    sa.Column("seen_until", sa.BigInteger, nullable=False),
    _time("updated_at", now=True),
    sa.Column("body", JSONB, nullable=False),
)
alarms = sa.Table(
    "alarms",
    metadata,
    sa.Column("tenant_id", sa.Uuid, sa.ForeignKey("tenants.tenant_id"), primary_key=True),
    sa.Column("slo_name", sa.Text, primary_key=True),
    sa.Column("ringing", sa.Boolean, nullable=False),
    _time("since"),
    sa.Column("seen_until", sa.BigInteger, nullable=False),
    sa.Column("body", JSONB, nullable=False),
)
budgets = sa.Table(
    "budgets",
    metadata,
    sa.Column("tenant_id", sa.Uuid, sa.ForeignKey("tenants.tenant_id"), primary_key=True),
    sa.Column("slo_name", sa.Text, primary_key=True),
    sa.Column("period", sa.Text, primary_key=True),
    sa.Column("starts_at", sa.DateTime(timezone=True), primary_key=True),
    sa.Column("leased_micro_usd", sa.BigInteger, nullable=False, server_default=sa.text("0")),
    sa.Column("spent_micro_usd", sa.BigInteger, nullable=False, server_default=sa.text("0")),
)

LOGS = {Kind.DECISION: decisions, Kind.ATTEMPT: attempts, Kind.OUTCOME: outcomes}
