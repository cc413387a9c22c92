"""A flooding child to one subscriber through the durable journal, beside the same pipe into cat."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Iterator

from fanout import create, say
from harness import Figure, daemon, viewers

LINE = "0123456789" * 8
MEGABYTES = 200


def run(*, quick: bool) -> Iterator[Figure]:
    """Measure the throughput."""
    size = MEGABYTES * 1_000_000
    rates, cats = [], []
    for _ in range(1 if quick else 3):
        cats.append(size / cat(size) / 1e6)
        rates.append(size / stream(size) / 1e6)
    rate = statistics.median(rates)
    detail = f"of the child's bytes; the same pipe into cat: {statistics.median(cats):.0f} MB/s"
    yield Figure("flood to one subscriber", rate, 120, "MB/s", detail, larger_is_better=True)


def flood(size: int) -> str:
    """Give the shell line that writes so many bytes of lines."""
    return f"yes {LINE} | head -c {size}"


def cat(size: int) -> float:
    """Time the same pipe into cat."""
    begun = time.perf_counter()
    subprocess.run(["sh", "-c", f"{flood(size)} | cat > /dev/null"], check=True)
    return time.perf_counter() - begun


def stream(size: int) -> float:
    """Time the way to a subscriber in another process, from the first byte to the last."""
    with daemon() as inside:
        session = create(inside, ["sh", "-c", f"read go; {flood(size)}"])
        with viewers("agentcmd", inside.port, inside.token, session, 1) as seen:
            begun = time.perf_counter()
            say(inside, session)
            seen.write(str(size // (len(LINE) + 1)))
            seen.read()
            return time.perf_counter() - begun
