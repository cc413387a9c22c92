"""Terminals: a flood, key strokes, a stopped reader and Ctrl-C, beside node-pty and terminado.

terminado comes with `pip install -e '.[benchmark]'`; without it its figures are left out.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from fanout import post
from harness import (
    HERE,
    PYTHON,
    Figure,
    Inside,
    Program,
    cpu_clock,
    daemon,
    node_pty,
    percentile,
    program,
    resident,
)

FLOOD, WARM_UP = 50_000_000, 5_000_000
KEYS, AT_A_TIME = 500, 25
STALL = 8.0
"""Seconds without a read; ours gives such a viewer up after five."""
RATE, AFTER, PATIENCE = 5e6, 2.0, 10.0
"""Bytes a second of a slow viewer, seconds until its Ctrl-C, and how long it may then take."""

SHELL = ["sh", "-c", 'stty raw -echo; echo ready; read -r job; eval "$job"']
"""What runs in each terminal; the viewer types the job."""
MARKED = "printf '<end of the job>'; read -r bye"
YES = f"yes {'0123456789' * 8}"


class Server(NamedTuple):
    """One that serves terminals, and how to reach it; ours are made over HTTP first."""

    kind: str
    pid: int
    port: str
    inside: Inside | None = None


class Flooded(NamedTuple):
    """What a flood came to."""

    rate: float
    per_cpu: float
    frames: int


def run(*, quick: bool) -> Iterator[Figure]:
    """Measure all of them in turn, round after round."""
    kinds = ["agentcmd", "node-pty", *(["terminado"] if find_spec("terminado") else [])]
    rounds = 1 if quick else 5
    with tempfile.TemporaryDirectory(prefix="agentcmd-benchmark-") as folder:
        yield from compared(kinds, rounds, Path(folder))
    grown = {kind: [growth(kind) for _ in turns(kind, rounds)] for kind in kinds}
    yield stopped(grown)
    quiet = {kind: [interrupted(kind) for _ in turns(kind, rounds)] for kind in kinds}
    yield silenced(quiet)


def turns(kind: str, rounds: int) -> range:
    """Give the rounds of what takes long: one is enough for the peers, which are far off."""
    return range(min(rounds, 3) if kind == "agentcmd" else 1)


def compared(kinds: list[str], rounds: int, folder: Path) -> Iterator[Figure]:
    """Measure floods and key strokes, and compare them with the peers'."""
    floods: dict[str, list[Flooded]] = {kind: [] for kind in kinds}
    keys: dict[str, list[list[float]]] = {kind: [] for kind in kinds}
    warm_up, whole = (mixed(folder / str(size), size) for size in (WARM_UP, FLOOD))
    for _ in range(rounds):
        with ExitStack() as stack:
            servers = [stack.enter_context(serving(kind)) for kind in kinds]
            for server in servers:
                flooded(server, warm_up)
                floods[server.kind].append(flooded(server, whole))
            for server, latencies in zip(servers, typed(servers), strict=True):
                keys[server.kind].append(latencies)
    for kind in kinds[1:]:
        yield throughput(kind, floods["agentcmd"], floods[kind])
    for kind in kinds[1:]:
        yield latency(kind, keys["agentcmd"], keys[kind])


# What is measured


def flooded(server: Server, file: Path) -> Flooded:
    """Have a program write the file to one viewer, and compare what comes with it."""
    data = file.read_bytes()
    with viewer(server) as seen:
        before = cpu_clock(server.pid)
        told = seen.ask(do="flood", job=f"cat {file}; {MARKED}\n")
        spent = cpu_clock(server.pid) - before
        came = (told["bytes"], told["hash"], told["gaps"])
        if came != (len(data), hashlib.sha256(data).hexdigest(), 0):
            raise RuntimeError(f"{server.kind} did not deliver the flood as it was: {told}")
        seen.ask(do="close")
    size = len(data) / 1e6
    return Flooded(size / told["seconds"], size / spent, told["frames"])


def typed(servers: list[Server]) -> list[list[float]]:
    """Type keys that a program gives back, a few to each in turn; milliseconds each."""
    found: list[list[float]] = [[] for _ in servers]
    with ExitStack() as stack:
        seen = [stack.enter_context(viewer(server)) for server in servers]
        for turn in range(KEYS // AT_A_TIME):
            for one, latencies in zip(seen, found, strict=True):
                job = "" if turn else "exec cat\n"
                latencies.extend(one.ask(do="keys", job=job, count=AT_A_TIME))
        for one in seen:
            one.ask(do="close")
    return found


def growth(kind: str) -> float:
    """Stop reading what a program writes without end; gives the MiB by which the server grew."""
    with serving(kind) as server, viewer(server) as seen:
        before = most = resident(server.pid)
        ends = time.monotonic() + STALL
        seen.write(json.dumps({"do": "stall", "job": f"exec {YES}\n", "seconds": STALL}))
        while time.monotonic() < ends:
            time.sleep(0.1)
            most = max(most, resident(server.pid))
        seen.read()
    return (most - before) / (1 << 20)


def interrupted(kind: str) -> float:
    """Interrupt a flood to a slow viewer; seconds until it has rendered the last of it."""
    job = f"stty sane -echo; trap : INT; {YES}; {MARKED}\n"
    limits = {"rate": RATE, "after": AFTER, "patience": PATIENCE}
    with serving(kind) as server, viewer(server) as seen:
        found = seen.ask(do="interrupt", job=job, **limits)
    return PATIENCE if found is None else float(found)


# What it came to


def throughput(kind: str, ours: list[Flooded], theirs: list[Flooded]) -> Figure:
    """Compare what a second of the server's CPU delivers."""
    ratio = statistics.median(a.per_cpu / b.per_cpu for a, b in zip(ours, theirs, strict=True))
    (own, peer) = (
        Flooded(*(statistics.median(column) for column in zip(*side, strict=True)))
        for side in (ours, theirs)
    )
    detail = (
        f"{own.per_cpu:.0f} against {peer.per_cpu:.0f} MB a CPU second of the server's process; "
        f"{own.rate:.0f} and {peer.rate:.0f} MB/s; {own.frames:,.0f} and {peer.frames:,.0f} frames"
    )
    name = f"terminal flood, of {kind}"
    return Figure(name, ratio, 1.3, "of peer", detail, larger_is_better=True)


def latency(kind: str, ours: list[list[float]], theirs: list[list[float]]) -> Figure:
    """Compare how long a key takes to come back."""
    own, peer = (
        [(percentile(v, 0.5), percentile(v, 0.99)) for v in side] for side in (ours, theirs)
    )
    ratio = statistics.median(a[0] / b[0] for a, b in zip(own, peer, strict=True))
    p50, p99, peer_p50, peer_p99 = (
        statistics.median(column) for side in (own, peer) for column in zip(*side, strict=True)
    )
    detail = f"{p50:.2f} against {peer_p50:.2f} ms; p99 {p99:.2f} and {peer_p99:.2f}"
    return Figure(f"terminal keys p50, of {kind}", ratio, 1.0, "of peer", detail)


def stopped(grown: dict[str, list[float]]) -> Figure:
    """Tell the growth beside a stopped reader."""
    detail = told(grown, lambda value: f"{value:.0f} MiB") + f"; {STALL:g} s of a flood"
    return Figure(
        "terminal, stopped reader", statistics.median(grown["agentcmd"]), 16, "MiB", detail
    )


def silenced(quiet: dict[str, list[float]]) -> Figure:
    """Tell how long it takes until Ctrl-C has worked."""
    detail = told(
        quiet, lambda value: f"{value:.2f} s" if value < PATIENCE else f"over {value:g} s"
    )
    own = statistics.median(quiet["agentcmd"])
    return Figure("terminal, Ctrl-C to quiet", own, 0.1, "s", f"{detail}; viewer at 5 MB/s")


def told(values: dict[str, list[float]], written: Callable[[float], str]) -> str:
    """Say the peers' values."""
    return ", ".join(
        f"{kind}: {written(statistics.median(found))}"
        for kind, found in values.items()
        if kind != "agentcmd"
    )


# The servers and their viewers


@contextmanager
def serving(kind: str) -> Iterator[Server]:
    """Run a server of this kind."""
    if kind == "agentcmd":
        with daemon() as inside:
            yield Server(kind, inside.program.pid, inside.port, inside)
        return
    with program([*command(kind), *SHELL]) as peer:
        yield Server(kind, peer.pid, peer.read())


def command(kind: str) -> list[str]:
    """Give the command line of a peer."""
    if kind == "terminado":
        return [PYTHON, str(HERE / "peer" / "terminado_server.py")]
    return [shutil.which("node") or "node", str(node_pty() / "terminals.js")]


@contextmanager
def viewer(server: Server) -> Iterator[Program]:
    """Run a viewer of a new terminal."""
    token, terminal = "none", "none"
    if server.inside is not None:
        token = server.inside.token
        made = {"cols": 80, "rows": 24, "command": SHELL}
        terminal = post(server.inside, "/api/terminals", made)["terminalId"]
    argv = [PYTHON, str(HERE / "terminal_viewer.py"), server.kind, server.port, token, terminal]
    with program(argv) as running:
        assert running.read() == "ready"
        yield running


def mixed(path: Path, size: int) -> Path:
    """Write so many bytes as programs print them: logs, colours, boxes, other scripts."""
    chance = random.Random(6)
    kinds = (
        "2026-11-25T10:41:07.{n:06} INFO  worker[{n}] finished request in {n} ms, 200 OK\n",
        "\x1b[32m✓\x1b[0m tests/core/test_{n}.py::test_what_it_promises \x1b[2m({n} ms)\x1b[0m\n",
        "\x1b[1;34m{n:>8}\x1b[0m │ {n} │ größer als je zuvor, naïve façade │ {n:x} │\n",
        "変更 {n} 件のファイルを処理しました — 完了 🎉\n",
        "\x1b[{n};1H\x1b[K\x1b[48;5;{n}m progress {n}% \x1b[0m",
        "{n} " * 60 + "\n",
    )
    weights = (40, 20, 15, 5, 10, 10)
    lines = (
        chance.choices(kinds, weights)[0].format(n=chance.randrange(10**5)) for _ in range(9000)
    )
    block = "".join(lines).encode()
    with path.open("wb") as file:
        for _ in range(size // len(block)):
            file.write(block)
        file.write(b"." * (size % len(block)))
    return path
