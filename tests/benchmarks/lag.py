"""How late the daemon's loop is with fifty sessions: streaming, flooding, and of agents."""

from __future__ import annotations

from collections.abc import Iterator

from fanout import create, create_with, post
from harness import HERE, PYTHON, Figure, Inside, daemon, percentile, viewers

SESSIONS = 50


def run(*, quick: bool) -> Iterator[Figure]:
    """Measure both."""
    seconds = 3 if quick else 8
    steady = [PYTHON, str(HERE / "child.py"), str(seconds * 500), "1", "0.002"]
    with daemon() as inside:
        lags = streaming(inside, steady, seconds)
    yield figure("loop lag p99, 50 at 500 lines/s", lags, 10)
    with daemon() as inside:
        lags = streaming(
            inside, ["sh", "-c", "yes 0123456789012345678901234567890123456789"], seconds
        )
    yield figure("loop lag p99, 50 floods", lags, 50)
    with daemon(AGENTCMD_AGENTS__CLAUDE__PATH=str(HERE.parent / "fake_claude.py")) as inside:
        wanted = {"agent": "claude", "prompt": f"{seconds * 200} 0.005"}
        lags = watched(inside, [create_with(inside, wanted) for _ in range(SESSIONS)], seconds)
    yield figure("loop lag p99, 50 agents, 200 messages/s", lags, 50)


def streaming(inside: Inside, argv: list[str], seconds: float) -> list[float]:
    """Run the sessions, with a viewer on the first, and give the lags."""
    return watched(inside, [create(inside, argv) for _ in range(SESSIONS)], seconds)


def watched(inside: Inside, sessions: list[str], seconds: float) -> list[float]:
    """Give the lags while these sessions run, with a viewer on the first."""
    with viewers("agentcmd", inside.port, inside.token, sessions[0], 1):
        lags: list[float] = inside.program.ask(do="lag", seconds=seconds)
    for session in sessions:
        post(inside, f"/api/sessions/{session.partition(':')[2]}/kill", {})
    return lags


def figure(name: str, lags: list[float], target: float) -> Figure:
    """Make a figure of lags."""
    detail = f"p50 {percentile(lags, 0.5):.1f}, max {max(lags):.0f}, {len(lags)} samples"
    return Figure(name, percentile(lags, 0.99), target, "ms", detail)
