"""What the daemon costs while nothing happens: memory, memory of a connection, time to listen."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator

from harness import PYTHON, Figure, daemon, resident, viewers

CONNECTIONS = 500


def run(*, quick: bool) -> Iterator[Figure]:
    """Measure all three."""
    starts, sizes = zip(*(start() for _ in range(2 if quick else 5)), strict=True)
    yield Figure("time to listening", statistics.median(starts), 0.7, "s", "from exec")
    yield Figure("idle daemon", statistics.median(sizes) / 1e6, 60, "MB", "resident")
    with daemon() as inside:
        with viewers("agentcmd", inside.port, inside.token, "session:1", 20):
            before = resident(inside.program.pid)
            with viewers("agentcmd", inside.port, inside.token, "session:1", CONNECTIONS):
                after = resident(inside.program.pid)
        each = (after - before) / CONNECTIONS / 1024
        yield Figure("an idle connection", each, 20, "KiB", f"of {CONNECTIONS}, subscribed")


def start() -> tuple[float, int]:
    """Start a daemon as its user does; gives the seconds to its line, and its resident bytes."""
    folder = tempfile.mkdtemp(prefix="agentcmd-benchmark-")
    environ = {
        **os.environ,
        "AGENTCMD_SERVER__STATE_DIR": folder,
        "AGENTCMD_SERVER__PORT": "0",
    }
    begun = time.perf_counter()
    serving = subprocess.Popen(
        [PYTHON, "-m", "daemon", "serve"],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert serving.stdout is not None
    serving.stdout.readline()
    took = time.perf_counter() - begun
    time.sleep(0.5)
    size = resident(serving.pid)
    serving.terminate()
    serving.wait()
    serving.stdout.close()
    shutil.rmtree(folder, ignore_errors=True)
    return took, size
