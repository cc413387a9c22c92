"""A child's lines to many subscribers, beside Socket.IO on Node doing the same."""

from __future__ import annotations

import json
import shutil
import statistics
import urllib.request
from collections.abc import Iterator
from typing import NamedTuple

from harness import (
    HERE,
    PYTHON,
    Figure,
    Inside,
    Program,
    cpu_seconds,
    daemon,
    peer_folder,
    program,
    viewers,
)


class Case(NamedTuple):
    """So many bursts of so many lines, to so many viewers; structured means an event a line."""

    name: str
    viewers: int
    count: int
    per: int
    gap: float
    structured: bool
    target: float


CASES = (
    Case("bursts of 10 lines to 100", 100, 400, 10, 0.01, False, 1 / 10),
    Case("bursts of 10 events to 100", 100, 400, 10, 0.01, True, 1 / 8),
    Case("single lines to 100", 100, 200, 1, 0.02, False, 0.85),
    Case("single lines to 1,000", 1000, 40, 1, 0.1, False, 0.65),
)


class Cost(NamedTuple):
    """Microseconds of the server's CPU for a delivered line, and latencies in ms."""

    cpu: float
    p50: float
    p99: float


def run(*, quick: bool) -> Iterator[Figure]:
    """Measure every case, three times each unless quick."""
    for case in CASES:
        pairs = [(ours(case), theirs(case)) for _ in range(1 if quick else 3)]
        cpu = statistics.median(a.cpu / b.cpu for a, b in pairs)
        own, peer = (
            Cost(*(statistics.median(column) for column in zip(*side, strict=True)))
            for side in zip(*pairs, strict=True)
        )
        yield Figure(
            f"CPU, {case.name}",
            cpu,
            case.target,
            "of peer",
            f"{own.cpu:.2f} against {peer.cpu:.2f} us a line",
        )
        yield Figure(
            f"p99, {case.name}",
            own.p99 / peer.p99,
            1.25,
            "of peer",
            f"{own.p99:.1f} against {peer.p99:.1f} ms; p50 {own.p50:.1f} and {peer.p50:.1f}",
        )


def ours(case: Case, door: str = "agentcmd") -> Cost:
    """Measure the daemon, with viewers at one of its doors."""
    with daemon() as inside:
        if case.structured:
            with viewers(door, inside.port, inside.token, "session:1", case.viewers) as seen:
                before = cpu_seconds(inside.program.pid)
                inside.program.ask(do="emit", count=case.count, per=case.per, gap=case.gap)
                return cost(case, inside.program.pid, before, seen)
        session = create(inside, child(case, wait=True))
        with viewers(door, inside.port, inside.token, session, case.viewers) as seen:
            before = cpu_seconds(inside.program.pid)
            say(inside, session)
            return cost(case, inside.program.pid, before, seen)


def theirs(case: Case) -> Cost:
    """Measure the peer."""
    folder = peer_folder()
    return server([shutil.which("node") or "node", str(folder / "server.js")], case)


def server(argv: list[str], case: Case) -> Cost:
    """Measure a Socket.IO server that runs the child by itself."""
    with program([*argv, *child(case)]) as peer:
        port = peer.read()
        with viewers("socketio", port, "none", "session:1", case.viewers) as seen:
            before = cpu_seconds(peer.pid)
            peer.write("go")
            assert peer.read() == "done"
            found = cost(case, peer.pid, before, seen)
        peer.process.terminate()
        return found


def child(case: Case, *, wait: bool = False) -> list[str]:
    """Give the child's command line; ours waits for a line of input, theirs is started late."""
    argv = [PYTHON, str(HERE / "child.py"), str(case.count), str(case.per), str(case.gap)]
    return ["sh", "-c", 'read go; exec "$@"', "sh", *argv] if wait else argv


def cost(case: Case, pid: int, before: float, seen: Program) -> Cost:
    """Wait until all has arrived, and count."""
    seen.write(str(case.viewers * case.count * case.per))
    told = json.loads(seen.read())
    spent = cpu_seconds(pid) - before
    return Cost(spent / told["lines"] * 1e6, told["p50"], told["p99"])


def create(inside: Inside, argv: list[str]) -> str:
    """Create a session; gives its channel."""
    return create_with(inside, {"agent": "command", "argv": argv, "keepAlive": True})


def create_with(inside: Inside, data: dict[str, object]) -> str:
    """Create a session of this data; gives its channel."""
    return "session:" + post(inside, "/api/sessions", data)["sessionId"]


def say(inside: Inside, session: str) -> None:
    """Send a line to a session's program."""
    post(inside, f"/api/sessions/{session.partition(':')[2]}/input", {"data": "go\n"})


def post(inside: Inside, path: str, data: dict[str, object]) -> dict[str, str]:
    """Carry out a command over HTTP."""
    request = urllib.request.Request(  # our own URL
        inside.url + path,
        data=json.dumps(data).encode(),
        headers={"Authorization": f"Bearer {inside.token}"},
    )
    with urllib.request.urlopen(request) as answer:
        found: dict[str, str] = json.load(answer)
        return found
