"""The log of commands that run for long: lines as the server writes them."""

from router.serving.telemetry import configure_logs, logger

__all__ = ["configure_logs", "logger"]
