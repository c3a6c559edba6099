"""Step 1: the loop, end to end, on real input."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.kit import chaos, mainjob
from tests.load import bench
from tests.promises import Measured, passes, promise

KILLS = 10
SWAPS = 50
AWAY_S = 60.0


@promise(
    step=1,
    name="Throughput",
    must="Route (24 arms, outbox on, 1 worker) at 8 and 32 connections: >= 0.30 of a bare echo, "
    "and p99 < 10 ms at 200/s, worker < 350 MB",
)
def throughput() -> Measured:
    """The benchmark's own run."""
    found = bench.measure()
    return Measured(
        figures=f"ratio {found.ratio:.2f} ({found.route_per_s:,.0f}/s of "
        f"{found.echo_per_s:,.0f}/s), p99 {found.p99_ms:.1f} ms, {found.rss_mb:.0f} MB",
        held=found.ratio >= 0.30 and found.p99_ms < 10 and found.rss_mb < 350,
    )


@promise(
    step=1,
    name="kill -9 of the server",
    must=f"{KILLS} kills under load: no acknowledged decision or outcome missing or doubled",
)
def server_kills() -> Measured:
    """Supervisor and workers are killed at once."""
    found = chaos.kill_server(KILLS)
    return Measured(figures=str(found), held=found.audit.clean)


@promise(
    step=1,
    name="kill -9 of Postgres",
    must=f"{KILLS} kills under load: no acknowledged decision or outcome missing or doubled",
)
def postgres_kills() -> Measured:
    """The postmaster is killed, and started again."""
    found = chaos.kill_postgres(KILLS)
    return Measured(figures=str(found), held=found.audit.clean and not found.failed)


@promise(
    step=1,
    name="Postgres away",
    must=f"stopped for {AWAY_S:.0f} s under load: 0 failed routes, 0 lost",
)
def postgres_away() -> Measured:
    """Routing goes on from the caches; the outbox holds the rows."""
    found = chaos.stop_postgres(AWAY_S)
    return Measured(figures=str(found), held=found.audit.clean and not found.failed)


@promise(
    step=1,
    name="Policy swaps",
    must=f"{SWAPS} swaps under load on 2 workers: 0 errors, every reply's predictions are its "
    "version's, every worker follows within 2 s",
)
def policy_swaps() -> Measured:
    """Two policies in turn."""
    found = chaos.swap_policies(SWAPS)
    return Measured(
        figures=f"{len(found.chaos.failed)} errors, {found.mismatched} mismatched, "
        f"slowest {found.slowest_s:.1f} s over {found.chaos.audit.decisions:,} decisions",
        held=not found.chaos.failed and not found.mismatched and found.slowest_s <= 2.0,
    )


@promise(
    step=1,
    name="The real main job",
    must="import cascades, train, promote, route every held-back query through the running "
    "server; accuracy and cost against the best constant arm are reported",
)
def main_job() -> Measured:
    """The commands as a user types them, on real outcomes."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        found = mainjob.run(Path(name))
    return Measured(figures=str(found), held=found.routed == found.held_back)


BAD_INPUT = {
    "Route: empty, 1 MB, unknown slo and arm, negative bounds": (
        "test_a_bad_request_is_refused_with_its_code_reason_and_field"
    ),
    "invalid UTF-8 over gRPC": "test_invalid_utf_8_is_malformed_and_not_a_fault",
    "invalid UTF-8 at the HTTP edge": "test_a_bad_request_is_refused_in_openais_format",
    "an unknown tenant or key": "test_no_key_a_wrong_key_and_a_revoked_key_are_refused",
    "outcomes: unknown decision, another tenant's, bad values": (
        "test_no_call_names_another_tenants_decision or "
        "test_bad_outcomes_are_refused_and_a_report_twice_counts_once"
    ),
    "a request_id with another body": (
        "test_the_same_request_gets_the_same_decision_and_another_body_is_refused"
    ),
    "a log with bad rows": "test_bad_rows_stop_the_training_or_are_left_out_and_counted",
    "a tampered bundle": "test_a_bad_bundle_is_refused_and_the_old_policy_goes_on",
    "an unmigrated database, a port in use": "test_start_up_that_cannot_be_is_one_loud_line",
    "a full outbox": "test_a_full_outbox_refuses_with_its_reason_and_recovers_with_nothing_lost",
    "a full disk": "test_a_full_disk_refuses_and_loses_nothing_that_was_acknowledged",
}


@promise(
    step=1,
    name="Bad input",
    must=f"{len(BAD_INPUT)} kinds, each with its documented code and reason, and no loss",
)
def bad_input() -> Measured:
    """Each kind's own test, through the RPC, the command or the library."""
    failed = [kind for kind, test in BAD_INPUT.items() if not passes(test)]
    return Measured(
        figures=f"{len(BAD_INPUT) - len(failed)} of {len(BAD_INPUT)} kinds refused as documented"
        + "".join(f"; not {kind}" for kind in failed),
        held=not failed,
    )
