"""Counters and gauges in the Prometheus text format."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple


class Metric(NamedTuple):
    """One measured value; `kind` is counter or gauge."""

    name: str
    kind: str
    help: str
    value: float


def exposition(metrics: Iterable[Metric]) -> str:
    """Write all metrics (Prometheus text format 0.0.4)."""
    return "\n".join(_lines(metrics)) + "\n"


def _lines(metrics: Iterable[Metric]) -> Iterator[str]:
    for metric in metrics:
        name = f"agentcmd_{metric.name}"
        yield f"# HELP {name} {metric.help}"
        yield f"# TYPE {name} {metric.kind}"
        yield f"{name} {metric.value:g}"
