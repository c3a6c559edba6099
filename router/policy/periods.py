"""The calendar periods of budgets."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


def periods(now: datetime) -> dict[str, datetime]:
    """When the hour, the day and the month of `now` began (UTC), by the names of an slo's budgets.

    Raises ValueError for a time without a zone.
    """
    if now.tzinfo is None:
        raise ValueError(f"{now} has no time zone; pass a time in UTC")
    hour = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    day = hour.replace(hour=0)
    return {"hour": hour, "day": day, "month": day.replace(day=1)}


def period_end(period: str, starts_at: datetime) -> datetime:
    """When the period that began then ends. Raises KeyError for no name of a period."""
    if period == "month":
        return (starts_at + timedelta(days=32)).replace(day=1)
    return starts_at + {"hour": timedelta(hours=1), "day": timedelta(days=1)}[period]


def elapsed_share(period: str, now: datetime) -> float:
    """The share of the hour, day or month (UTC) of `now` that has passed. Raises KeyError."""
    start = periods(now)[period]
    return (now.astimezone(UTC) - start) / (period_end(period, start) - start)
