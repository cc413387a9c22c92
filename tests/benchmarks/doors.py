"""The same lines through the daemon's two doors, Socket.IO on Node, and python-socketio's emit.

python-socketio comes with `pip install -e '.[benchmark]'`; without it its figure is left out.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from importlib.util import find_spec

from fanout import CASES, Case, Cost, ours, server, theirs
from harness import HERE, PYTHON, Figure

BURSTS, SINGLE = CASES[0], CASES[2]


def run(*, quick: bool) -> Iterator[Figure]:
    """Measure bursts and single lines to 100 subscribers."""
    for case in (BURSTS, SINGLE):
        rounds = [measured(case) for _ in range(1 if quick else 3)]
        raw, door, node, *emit = (
            [costs[index] for costs in rounds] for index in range(len(rounds[0]))
        )
        yield figure("Socket.IO, of /ws", case, door, raw, 2.0)
        yield figure("Socket.IO, of Node", case, door, node, 2 * case.target)
        if emit:
            yield figure("Socket.IO, of emit", case, door, emit[0], 0.5)


def measured(case: Case) -> tuple[Cost, ...]:
    """Measure all of them once, one after the other."""
    both = ours(case), ours(case, "socketio")
    if find_spec("socketio") is None:
        return *both, theirs(case)
    return *both, theirs(case), server([PYTHON, str(HERE / "peer" / "emit.py")], case)


def figure(name: str, case: Case, ours: list[Cost], other: list[Cost], target: float) -> Figure:
    """Compare the server's CPU for a delivered line."""
    ratio = statistics.median(a.cpu / b.cpu for a, b in zip(ours, other, strict=True))
    own, their = (statistics.median(cost.cpu for cost in side) for side in (ours, other))
    told = f"{own:.2f} against {their:.2f} us a line"
    return Figure(f"{name}, {case.name.split(' to ')[0]}", ratio, target, "", told)
