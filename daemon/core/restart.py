"""Whether and when something that has failed is started again."""

from __future__ import annotations

import random
import time
from collections.abc import Callable


class Restarts:
    """Exponential delays with jitter, and an intensity beyond which it is given up.

    As OTP's supervisors: more than `limit` restarts within `within` seconds are no bad luck any
    more, but a fault that another restart does not mend. The delays do not count as time: with them
    a fault whose delays add up to more than `within` would be restarted for ever.
    """

    def __init__(
        self,
        *,
        delay: float,
        max_delay: float,
        limit: int,
        within: float,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Begin with `delay` seconds, double up to `max_delay`; `jitter` gives 0 to 1."""
        self._delay = delay
        self._max_delay = max_delay
        self._limit = limit
        self._within = within
        self._clock = clock
        self._jitter = jitter
        self._times: list[float] = []
        self._delayed = 0.0

    def next_delay(self) -> float | None:
        """Count one restart and give the seconds to wait before it; None to give it up."""
        now = self._clock() - self._delayed
        self._times = [moment for moment in self._times if now - moment < self._within]
        if len(self._times) >= self._limit:
            return None
        longest = min(self._max_delay, self._delay * (1 << min(len(self._times), 30)))
        self._times.append(now)
        delay = longest * (0.5 + 0.5 * self._jitter())  # those that failed together come apart
        self._delayed += delay
        return delay
