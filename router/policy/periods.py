"""The calendar periods of budgets."""

from __future__ import annotations

from datetime import UTC, datetime


def periods(now: datetime) -> dict[str, datetime]:
    """When the hour, the day and the month of `now` began (UTC), by the names of an slo's budgets.

    Raises ValueError for a time without a zone.
    """
    if now.tzinfo is None:
        raise ValueError(f"{now} has no time zone; pass a time in UTC")
    hour = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    day = hour.replace(hour=0)
    return {"hour": hour, "day": day, "month": day.replace(day=1)}
