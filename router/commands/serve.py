"""leadline serve."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from router.commands.options import Dsn, settings, time_of_day


def serve(
    context: typer.Context,
    *,
    workers: Annotated[int | None, typer.Option(help="Processes on one port.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "",
    port: Annotated[int | None, typer.Option(help="Port of gRPC; 0 picks a free one.")] = None,
    gateway_port: Annotated[
        int | None, typer.Option(help="Port of the OpenAI-compatible gateway; unset is off.")
    ] = None,
    metrics_port: Annotated[int | None, typer.Option(help="Port of Prometheus; 0 is off.")] = None,
    dsn: Dsn = "",
    embedded: Annotated[
        bool,
        typer.Option("--embedded", help="Use the embedded Postgres whatever LEADLINE_DSN says."),
    ] = False,
    state_dir: Annotated[Path | None, typer.Option(help="Outboxes, keys, embedded data.")] = None,
    durability: Annotated[
        str, typer.Option(help="process, or disk (fsync before each reply).")
    ] = "",
    authentication: Annotated[str, typer.Option(help="api_key, mtls, or none (loopback).")] = "",
    tls_certificate: Annotated[Path | None, typer.Option(help="PEM file.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM file.")] = None,
    tls_client_ca: Annotated[Path | None, typer.Option(help="PEM file; asks for mTLS.")] = None,
    exploration_rate: Annotated[
        float | None, typer.Option(help="Share of decisions that explore, without an slo.")
    ] = None,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "",
    watch: Annotated[
        bool,
        typer.Option("--watch/--no-watch", help="Run 'leadline watch' beside the workers."),
    ] = True,
    train_at: Annotated[
        str, typer.Option(help="Learn every day at this time of the machine's, as 03:00.")
    ] = "",
) -> None:
    """Serves decisions over gRPC until SIGTERM; options stand above LEADLINE_* variables.

    Example: leadline serve --workers 4 --port 50051 --metrics-port 9090
    """
    if embedded and dsn:
        raise typer.BadParameter("say either --embedded or --dsn", param_hint="--embedded")
    if train_at:
        time_of_day(train_at, "--train-at")
        if not _is_installed(context, "schedule"):
            raise typer.BadParameter("needs leadline with training", param_hint="--train-at")
    config = settings(
        workers=workers,
        host=host,
        port=port,
        gateway_port=gateway_port,
        metrics_port=metrics_port,
        dsn=dsn,
        state_dir=state_dir,
        durability=durability,
        authentication=authentication,
        tls_certificate=tls_certificate,
        tls_key=tls_key,
        tls_client_ca=tls_client_ca,
        exploration_rate=exploration_rate,
        log_level=log_level,
    )
    if embedded:
        config = config.model_copy(update={"dsn": None})
    from router.serving import supervisor  # noqa: PLC0415

    supervisor.run(config, watch=watch and _is_installed(context, "watch"), train_at=train_at)


def _is_installed(context: typer.Context, command: str) -> bool:
    """Whether the app has a command of that name: another package brings it."""
    return command in getattr(context.find_root().command, "commands", ())
