"""The SQL of the first schema, part by part."""

CLUSTER_ROLES = ("owner", "router", "shipper", "trainer", "admin")
LOG_TABLES = ("decisions", "attempts", "outcomes")

# Roles belong to the cluster, so another database's upgrade may be making them now.
ROLES = f"""
do $$
declare
    role_name text;
begin
    foreach role_name in array '{{{",".join(CLUSTER_ROLES)}}}'::text[] loop
        role_name := 'leadline_' || role_name;
        for try in 1..20 loop
            begin
                if not exists (select from pg_roles where rolname = role_name) then
                    execute format('create role %I nologin', role_name);
                end if;
                if not (select rolsuper from pg_roles where rolname = current_user) then
                    execute format('grant %I to current_user', role_name);
                end if;
                exit;
            exception when duplicate_object or unique_violation or internal_error then
                perform pg_sleep(0.05);
            end;
        end loop;
        execute format('grant usage on schema public to %I', role_name);
        execute format('grant select on alembic_version to %I', role_name);
    end loop;
    grant create on schema public to leadline_owner;
    execute format('grant temporary on database %I to leadline_shipper', current_database());
end $$;
"""

CONFIGURATION = """
create table tenants (
    tenant_id uuid primary key,
    name text not null unique,
    created_at timestamptz not null default now()
);
create table api_keys (
    tenant_id uuid not null references tenants,
    key_id text not null,
    secret_sha256 bytea not null,
    role text not null,
    created_at timestamptz not null default now(),
    revoked_at timestamptz,
    primary key (tenant_id, key_id)
);
create table slos (
    tenant_id uuid not null references tenants,
    name text not null,
    version bigint not null,
    body jsonb not null,
    created_at timestamptz not null default now(),
    actor text not null,
    primary key (tenant_id, name, version)
);
create table models (
    name text primary key,
    input_usd_per_mtok double precision not null,
    output_usd_per_mtok double precision not null,
    tier integer not null,
    context_tokens integer not null,
    max_output_tokens integer not null,
    capabilities text[] not null,
    energy_wh_per_ktok double precision not null,
    region text not null,
    endpoint text not null,
    endpoint_model text not null,
    enabled boolean not null
);
create table arms (
    key text primary key,
    model text not null references models,
    strategy text not null,
    params jsonb not null,
    enabled boolean not null
);
create table policies (
    version bigint generated always as identity primary key,
    state text not null,
    created_at timestamptz not null default now(),
    promoted_at timestamptz,
    bundle bytea not null,
    bundle_sha256 text not null unique,
    bundle_bytes bigint not null,
    summary jsonb not null
);
create unique index policies_one_active on policies (state) where state = 'active';
create unique index policies_one_previous on policies (state) where state = 'previous';
create table training_runs (
    run_id uuid primary key,
    started_at timestamptz not null,
    finished_at timestamptz,
    state text not null,
    policy_version bigint,
    dataset_digest text,
    figures jsonb not null default '{}',
    error text
);
create table audit_log (
    entry_id bigint generated always as identity primary key,
    at timestamptz not null default now(),
    tenant_id uuid,
    actor text not null,
    action text not null,
    subject text not null,
    comment text not null default '',
    details jsonb not null default '{}'
);
create table revisions (topic text primary key, revision bigint not null default 0);
insert into revisions (topic) values ('slos'), ('catalog'), ('policies'), ('tenants');
create table secrets (name text primary key, value bytea not null);
create table signing_keys (
    key_id text primary key,
    public_key bytea not null,
    created_at timestamptz not null default now(),
    revoked_at timestamptz
);
"""

LOGS = """
create table decisions (
    tenant_id uuid not null,
    occurred_at timestamptz not null,
    decision_id uuid not null,
    request_id uuid,
    body_digest text,
    query_id text not null,
    query text,
    dataset text,
    subject text,
    conversation_id text,
    labels jsonb,
    request jsonb,
    slo_name text,
    slo_version bigint,
    policy_version bigint not null,
    policy_source text not null,
    arm text not null,
    model text not null,
    strategy text not null,
    params jsonb,
    input_tokens integer,
    propensity double precision,
    explored boolean,
    difficulty double precision,
    slo_status text,
    reason text,
    should_continue boolean,
    feasible jsonb,
    predictions jsonb,
    primary key (tenant_id, occurred_at, decision_id)
) partition by range (occurred_at);
create table attempts (
    tenant_id uuid not null,
    decided_at timestamptz not null,
    decision_id uuid not null,
    attempt smallint not null,
    attempt_id uuid not null,
    occurred_at timestamptz not null,
    arm text not null,
    model text not null,
    strategy text not null,
    params jsonb,
    propensity double precision,
    evidence jsonb,
    keep boolean not null,
    next_arm text,
    accuracy double precision,
    reason text,
    primary key (tenant_id, decided_at, decision_id, attempt)
) partition by range (decided_at);
create table outcomes (
    tenant_id uuid not null,
    decided_at timestamptz not null,
    outcome_id uuid not null,
    decision_id uuid not null,
    occurred_at timestamptz not null,
    attempt smallint not null,
    score double precision,
    source text,
    cost_usd double precision,
    input_tokens integer,
    output_tokens integer,
    latency_s double precision,
    confidence double precision,
    error text,
    answer text,
    primary key (tenant_id, decided_at, outcome_id)
) partition by range (decided_at);
create index outcomes_of_decision on outcomes (tenant_id, decision_id);
"""

# Rows older than the first month go to `history`, so that the default partition, which
# Postgres scans whenever a month is attached, stays empty.
PARTITIONS = """
create function add_partition(log text, part text, low text, high text) returns void
language plpgsql set search_path = public, pg_temp as $$
begin
    execute format('create table %I (like %I including defaults)', part, log);
    execute format('alter table %I enable row level security', part);
    execute format('alter table %I force row level security', part);
    execute format('alter table %I attach partition %I for values from (%s) to (%s)',
                   log, part, low, high);
end $$;
revoke all on function add_partition from public;

create function ensure_partitions(months_ahead integer) returns integer
language plpgsql security definer set search_path = public, pg_temp set lock_timeout = '1s' as $$
declare
    log text;
    month timestamp;
    part text;
    made integer := 0;
begin
    perform pg_advisory_xact_lock(7166081);
    foreach log in array array['decisions', 'attempts', 'outcomes'] loop
        for ahead in 0..months_ahead loop
            month := date_trunc('month', now() at time zone 'UTC') + make_interval(months => ahead);
            part := log || to_char(month, '_YYYY_MM');
            continue when to_regclass(part) is not null;
            begin
                perform add_partition(log, part, quote_literal(month at time zone 'UTC'),
                    quote_literal((month + interval '1 month') at time zone 'UTC'));
                made := made + 1;
            exception when check_violation or invalid_object_definition then
                raise warning 'rows of % stay in the default or history partition', part;
            end;
        end loop;
    end loop;
    return made;
end $$;
revoke all on function ensure_partitions from public;

do $$
declare
    log text;
    first text := quote_literal(date_trunc('month', now() at time zone 'UTC') at time zone 'UTC');
begin
    foreach log in array array['decisions', 'attempts', 'outcomes'] loop
        perform add_partition(log, log || '_history', 'minvalue', first);
        execute format('create table %I partition of %I default', log || '_default', log);
        execute format('alter table %I enable row level security', log || '_default');
        execute format('alter table %I force row level security', log || '_default');
    end loop;
end $$;
"""

OWN = "tenant_id = nullif(current_setting('leadline.tenant_id', true), '')::uuid"


def secure(table: str, *policies: tuple[str, str, str]) -> str:
    """The SQL that keeps a table's rows apart; each policy is (role, command, condition)."""
    lines = [
        f"alter table {table} enable row level security;",
        f"alter table {table} force row level security;",
    ]
    for role, command, condition in policies:
        clause = {
            "select": f"using ({condition})",
            "insert": f"with check ({condition})",
            "all": f"using ({condition}) with check ({condition})",
        }[command]
        lines.append(
            f"create policy {role}_{command} on {table} for {command} to leadline_{role} {clause};"
        )
    return "\n".join(lines)


POLICIES = "\n".join(
    [
        secure(
            "tenants",
            ("router", "select", "true"),
            ("trainer", "select", "true"),
            ("admin", "all", "true"),
        ),
        secure("api_keys", ("router", "select", OWN), ("admin", "all", "true")),
        secure(
            "slos",
            ("router", "select", OWN),
            ("router", "insert", OWN),
            ("trainer", "select", "true"),
            ("admin", "all", "true"),
        ),
        secure(
            "audit_log",
            ("router", "select", OWN),
            ("router", "insert", OWN),
            ("trainer", "all", "true"),
            ("admin", "all", "true"),
        ),
        *(
            secure(
                log,
                ("router", "select", OWN),
                ("shipper", "insert", "true"),
                ("trainer", "select", "true"),
            )
            for log in LOG_TABLES
        ),
    ]
)


def announce(table: str, topic: str, events: str) -> str:
    """The SQL of a trigger that raises the topic's revision on these events."""
    return (
        f"create trigger announce after {events} on {table} "
        f"for each statement execute function announce_change('{topic}');"
    )


ANY = "insert or update or delete or truncate"
ANNOUNCEMENTS = "\n".join(
    [
        """
create function announce_change() returns trigger
language plpgsql security definer set search_path = public, pg_temp as $$
begin
    update revisions set revision = revision + 1 where topic = tg_argv[0];
    perform pg_notify('leadline', tg_argv[0]);
    return null;
end $$;
revoke all on function announce_change from public;
""",
        announce("tenants", "tenants", ANY),
        announce("api_keys", "tenants", ANY),
        announce("slos", "slos", ANY),
        announce("models", "catalog", ANY),
        announce("arms", "catalog", ANY),
        announce("policies", "policies", "insert or update of state or delete or truncate"),
    ]
)

GRANTS = """
grant select on tenants, api_keys, slos, models, arms, policies, revisions, secrets, signing_keys,
    decisions, attempts, outcomes, audit_log to leadline_router;
grant insert on slos, audit_log to leadline_router;

grant insert on decisions, attempts, outcomes to leadline_shipper;
grant execute on function ensure_partitions to leadline_shipper, leadline_admin;

grant select on tenants, slos, models, arms, policies, training_runs, signing_keys, revisions,
    decisions, attempts, outcomes, audit_log to leadline_trainer;
grant insert, update on policies, training_runs, signing_keys to leadline_trainer;
grant insert on audit_log to leadline_trainer;

grant select on tenants, api_keys, slos, models, arms, policies, training_runs, signing_keys,
    revisions, audit_log to leadline_admin;
grant insert, update on tenants, api_keys, slos, models, arms, policies, signing_keys
    to leadline_admin;
grant insert on audit_log to leadline_admin;
"""
