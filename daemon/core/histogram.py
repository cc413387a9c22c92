"""A histogram: how many measured values were at most so large."""

from __future__ import annotations

from bisect import bisect_left


class Histogram:
    """Counts values by bucket; adding one costs a search among a few bounds."""

    def __init__(self, *bounds: float) -> None:
        """Count up to each bound, and what is beyond the last."""
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    @property
    def count(self) -> int:
        """Give how many values there were."""
        return sum(self.counts)
