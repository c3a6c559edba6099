"""What the supervisor itself knows, as Prometheus asks: shipping, workers, and learning."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from router.errors import LeadlineError
from router.serving.workers import Worker
from router.store.alarms import AlarmRecord, PostgresAlarms
from router.store.engine import DatabaseRole, connect
from router.store.shipper import Shipper
from router.store.training_runs import RunState, TrainingRun, TrainingRuns

PATIENCE_S = 1.0


class OwnFigures(Collector):
    """The figures of now; those that Postgres has are left out while it is away."""

    def __init__(self, shipper: Shipper, workers: list[Worker], dsn: str) -> None:
        self._shipper, self._workers = shipper, workers
        engine = connect(
            dsn,
            role=DatabaseRole.TRAINER,
            application_name="leadline metrics",
            statement_timeout_s=PATIENCE_S,
            pool_size=1,
        )
        self._runs, self._alarms = TrainingRuns(engine), PostgresAlarms(engine)
        self.close = engine.dispose

    def collect(self) -> Iterable[Metric]:
        """As Prometheus asks."""
        yield from self._shipping()
        with contextlib.suppress(LeadlineError):
            yield from learning(self._runs.recent(1))
            yield from alarms(self._alarms.ringing())

    def describe(self) -> Iterable[Metric]:
        """Nothing: what there is, is known when it is asked for."""
        return ()

    def _shipping(self) -> Iterator[Metric]:
        stats = self._shipper.stats()
        for name, text, value in (
            ("leadline_outbox_pending_rows", "Rows not in Postgres yet", stats.pending_rows),
            ("leadline_outbox_pending_bytes", "Bytes not in Postgres yet", stats.pending_bytes),
        ):
            yield GaugeMetricFamily(name, text, value=value)
        restarts = sum(worker.restarts for worker in self._workers)
        for name, text, value in (
            ("leadline_shipped_rows", "Rows that went into Postgres", stats.shipped_rows),
            ("leadline_refused_rows", "Rows that Postgres refused", stats.refused_rows),
            ("leadline_worker_restarts", "Workers that died and were replaced", restarts),
        ):
            yield CounterMetricFamily(name, text, value=value)


def learning(newest: Sequence[TrainingRun]) -> Iterator[Metric]:
    """The figures of the newest training run, if there was one."""
    for run in newest:
        state = GaugeMetricFamily(
            "leadline_training_run_state", "1 for the newest run's state", labels=("state",)
        )
        for each in RunState:
            state.add_metric([each], float(run.state is each))
        yield state
        for name, text, value in (
            ("started_timestamp", "When the newest run began", run.started_at.timestamp()),
            ("duration", "How long the newest run took, or has come", run.duration_s),
        ):
            yield GaugeMetricFamily(f"leadline_training_run_{name}_seconds", text, value=value)
        drift = run.figures.get("drift")
        if drift is not None:
            text = "How many figures moved since the active policy was trained"
            moved = len(drift["reasons"])
            yield GaugeMetricFamily("leadline_training_run_drift_moved", text, value=moved)


def alarms(ringing: Sequence[tuple[str, AlarmRecord]]) -> Iterator[Metric]:
    """The alarms that ring, by tenant and slo."""
    found = GaugeMetricFamily(
        "leadline_alarm_ringing",
        "1 while a tenant's decisions climb higher than is usual",
        labels=("tenant", "slo"),
    )
    for tenant, record in ringing:
        found.add_metric([tenant, record.slo_name], 1.0)
    yield found
