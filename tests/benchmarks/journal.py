"""How fast events get onto the disk, and how long one waits for its commit."""

from __future__ import annotations

from collections.abc import Iterator

from harness import Figure, daemon, percentile


def run(*, quick: bool) -> Iterator[Figure]:
    """Measure both."""
    count = 50_000 if quick else 200_000
    with daemon() as inside:
        took = inside.program.ask(do="journal", count=count, turn=50)
        rate = count / took
        detail = "emitted 50 a turn, until all are committed"
        yield Figure("journal", rate, 30_000, "events/s", detail, larger_is_better=True)
        waits = inside.program.ask(do="commit", rate=1000, seconds=2)
        detail = f"p99 {percentile(waits, 0.99):.2f} ms, one event at a time"
        yield Figure("commit, median", percentile(waits, 0.5), 1.0, "ms", detail)
