"""Counters, gauges and histograms in the Prometheus text format."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Literal, NamedTuple

from daemon.core.histogram import Histogram


class Metric(NamedTuple):
    """What is measured; `labels` are the names of what its values are told apart by."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()


CONNECTIONS = Metric("connections", "gauge", "Open connections with a token", ("door",))
UNAUTHENTICATED = Metric("connections_unauthenticated", "gauge", "Connections without a token yet")
SUBSCRIPTIONS = Metric("subscriptions", "gauge", "Subscriptions of open connections", ("door",))
BEHIND = Metric("connections_behind", "gauge", "Connections that are given older events")
SLOW_CLOSES = Metric("slow_closes_total", "counter", "Connections cut because they took nothing")
DELIVERED = Metric("delivered_total", "counter", "Events given to connections as they came")
SENT_BYTES = Metric("sent_bytes_total", "counter", "Bytes sent to connections that have ended")
EVENTS = Metric("events_total", "counter", "Events written")
EVENT_BYTES = Metric("event_bytes_total", "counter", "Bytes of the events written")
COMMIT_SECONDS = Metric(
    "commit_seconds", "histogram", "Seconds from the hand-over of a group of events to its commit"
)
PENDING_BYTES = Metric("pending_bytes", "gauge", "Bytes of events that are not yet on disk")
JOURNAL_STALLED = Metric("journal_stalled", "gauge", "1 while the disk refuses, else 0")
TASKS = Metric("tasks", "gauge", "Supervised tasks", ("kind", "state"))
TASKS_QUEUED = Metric("tasks_queued", "gauge", "Tasks that wait for a slot")
COMMANDS = Metric("commands_under_way", "gauge", "Commands of connections without an answer yet")

METRICS = (
    CONNECTIONS,
    UNAUTHENTICATED,
    SUBSCRIPTIONS,
    BEHIND,
    SLOW_CLOSES,
    DELIVERED,
    SENT_BYTES,
    EVENTS,
    EVENT_BYTES,
    COMMIT_SECONDS,
    PENDING_BYTES,
    JOURNAL_STALLED,
    TASKS,
    TASKS_QUEUED,
    COMMANDS,
)
"""Everything that /metrics tells, for the reference."""


class Sample(NamedTuple):
    """One measured value of a metric, with the values of its labels."""

    metric: Metric
    value: float | Histogram
    labels: tuple[str, ...] = ()


def exposition(samples: Iterable[Sample]) -> str:
    """Write all samples, those of one metric in a row (Prometheus text format 0.0.4)."""
    return "\n".join(_lines(samples)) + "\n"


def _lines(samples: Iterable[Sample]) -> Iterator[str]:
    told = None
    for sample in samples:
        metric = sample.metric
        name = f"agentcmd_{metric.name}"
        if metric is not told:
            yield f"# HELP {name} {metric.help}"
            yield f"# TYPE {name} {metric.kind}"
            told = metric
        labels = dict(zip(metric.labels, sample.labels, strict=True))
        if isinstance(sample.value, Histogram):
            yield from _buckets(name, sample.value)
        else:
            yield f"{name}{_braced(labels)} {sample.value:.17g}"


def _buckets(name: str, seen: Histogram) -> Iterator[str]:
    """Write a histogram: each bucket counts all that is at most its bound."""
    counts = list(accumulate(seen.counts))
    for bound, count in zip((*seen.bounds, math.inf), counts, strict=True):
        le = "+Inf" if bound == math.inf else f"{bound:g}"
        yield f'{name}_bucket{{le="{le}"}} {count}'
    yield f"{name}_sum {seen.sum:g}"
    yield f"{name}_count {counts[-1]}"


def _braced(labels: Mapping[str, str]) -> str:
    """Write labels, escaped as the format asks."""
    if not labels:
        return ""
    escapes = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
    return "{" + ",".join(f'{k}="{v.translate(escapes)}"' for k, v in labels.items()) + "}"
