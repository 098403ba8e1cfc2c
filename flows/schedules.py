"""When a pipeline or a single stage runs by itself: the `schedules:` section of a config.

A schedule is never in a recipe. `crawl2chat up` gives it to the deployment that it belongs to; what it overrides is
checked when the config is loaded.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Literal
from zoneinfo import available_timezones

from cronsim import CronSim, CronSimError
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from flows.registry import BY_NAME

StageName = Literal["all", *BY_NAME]  # type: ignore[valid-type]
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_SPAN = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([smhdw]?)\s*")
SHORTEST = 60  # seconds; the server looks for due runs every few seconds, and a run takes longer than that


class ScheduleConfig(BaseModel):
    """One schedule: `cron` or `interval`, and what the runs that it starts are to do."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field("", title="Name", description="What the UI calls it; empty: cron-1, interval-2, …")
    cron: str | None = Field(None, title="Cron", description="Five fields: minute, hour, day, month, weekday")
    interval: str | float | None = Field(
        None, title="Interval", description='Seconds, or a number with s, m, h, d or w: "6h"'
    )
    timezone: str = Field("UTC", title="Time zone", description="An IANA name, such as Europe/Zurich")
    stage: StageName = Field("all", title="Stage", description="Run this stage alone; all: the pipeline")
    set: list[str] = Field([], title="Overrides", description="As --set takes them: quality.alpha=2")
    until: StageName = Field("all", title="Until", description="Stop the pipeline after this stage")
    active: bool = Field(True, title="Active", description="Whether it starts runs; the UI can switch it too")

    @field_validator("cron")
    @classmethod
    def _cron_is_one(cls, value: str | None) -> str | None:
        if value is not None and (problem := _cron_problem(value)):
            raise ValueError(f"not a cron expression of five fields, minute hour day month weekday: {problem}")
        return value

    @field_validator("interval")
    @classmethod
    def _interval_is_one(cls, value: str | float | None) -> str | float | None:
        if value is not None and (_seconds(value) or 0) < SHORTEST:
            raise ValueError(f'seconds, or a number with s, m, h, d or w such as "6h"; {SHORTEST} seconds at least')
        return value

    @field_validator("timezone")
    @classmethod
    def _timezone_is_known(cls, value: str) -> str:
        if value not in available_timezones():
            raise ValueError("no time zone of the IANA database (Europe/Zurich, America/New_York, UTC, …)")
        return value

    @field_validator("set")
    @classmethod
    def _overrides_have_values(cls, value: list[str]) -> list[str]:
        for override in value:
            path, equals, _ = override.partition("=")
            if not path or not equals:
                raise ValueError(f"write {override!r} as section.field=value")
        return value

    @model_validator(mode="after")
    def _one_of_two(self) -> ScheduleConfig:
        if (self.cron is None) == (self.interval is None):
            raise ValueError("a schedule has either cron or interval")
        if self.stage != "all" and self.until != "all":
            raise ValueError("until belongs to a schedule of the pipeline, and this one is of a stage")
        return self

    @property
    def seconds(self) -> float | None:
        """The interval in seconds; None for a cron schedule."""
        return None if self.interval is None else _seconds(self.interval)

    def slug(self, number: int) -> str:
        """Its name in the UI, for the schedule at this place (from 1) of the config."""
        plain = re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")
        return plain or f"{'cron' if self.cron else 'interval'}-{number}"


def _cron_problem(text: str) -> str | None:
    """What is wrong with it, by the rules that Prefect's server shares. (Its own module cannot be asked: importing it
    would fix Prefect's settings before the embedded server has its address.)"""
    try:
        CronSim(text, datetime(2026, 1, 1))
    except CronSimError as error:
        return str(error).lower()
    return "weekday L" if "l" in text.split()[4].lower() else None


def _seconds(value: str | float) -> float | None:
    found = _SPAN.fullmatch(str(value))
    return float(found[1]) * _UNITS[found[2] or "s"] if found else None
