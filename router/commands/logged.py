"""The log of commands that run for long: lines as the server writes them."""

from router.serving.telemetry import Logger, configure_logs, lines, logger

__all__ = ["Logger", "configure_logs", "lines", "logger"]
