"""Steps a second of many runs, beside DBOS on SQLite; recovery; `--storm` kills a daemon all along.

`python tests/benchmarks/workflows.py --storm [--kills 100] [--runs 30] [--seed N]` asserts only
what always holds: every run ends as an undisturbed one, what was committed never runs again,
nothing is left running, and events are in order without holes. It ends with 1 where it does not.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import randrange
from typing import Any

from harness import HERE, PYTHON, Figure, Program, percentile

RUNS = 200
PARKED = 1000

STEPS = """
args: {items: {type: array}}
steps:
  - id: all
    for-each: "{{ args.items }}"
    steps:
      - {id: a, annotation: "step"}
      - {id: b, annotation: "step"}
      - {id: c, annotation: "step"}
      - {id: d, annotation: "step"}
      - {id: e, annotation: "step"}
"""
PER_ITEM = 5

PARKS = """
steps:
  - {id: first, annotation: "Here."}
  - {id: ask, approve: "Go on?"}
"""


def run(*, quick: bool) -> Iterator[Figure]:
    """Measure all."""
    yield from steps(20 if quick else 50)
    yield recovery()


@contextmanager
def place() -> Iterator[Path]:
    """Make a folder with a project in it while this is open."""
    folder = Path(tempfile.mkdtemp(prefix="agentcmd-benchmark-"))
    try:
        where = folder / "own/.agent/workflows"
        where.mkdir(parents=True)
        (where / "steps.yaml").write_text(STEPS)
        (where / "parks.yaml").write_text(PARKS)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def begun(folder: Path) -> Program:
    """Start a daemon with a probe that starts runs."""
    running = Program([PYTHON, str(HERE / "inside_runs.py"), str(folder / "state")])
    running.read()
    return running


def steps(items: int) -> Iterator[Figure]:
    """Run steps that do nothing, in many runs at once."""
    each = items * PER_ITEM
    with place() as folder:
        program = begun(folder)
        try:
            project = program.ask(do="add", path=str(folder / "own"))["projectId"]
            order = {"do": "run", "project": project, "workflow": "steps"}
            program.ask(**order, runs=RUNS, args={"items": [0]})  # all is loaded
            told = program.ask(**order, runs=RUNS, args={"items": list(range(items))})
        finally:
            program.end()
        rate = RUNS * each / told["seconds"]
        peer = dbos(folder, RUNS, max(1, each // 20))
    beside = "DBOS is not installed"
    if peer is not None:
        theirs = RUNS * max(1, each // 20) / peer["seconds"]
        beside = f"DBOS {theirs:.0f}/s, its lag p99 {percentile(peer['lags'], 0.99):.0f} ms"
    detail = f"{RUNS} runs of {each}, begun in {told['starting']:.2f} s; {beside}"
    yield Figure("steps a second", rate, 5000, "steps/s", detail, larger_is_better=True)
    lags = told["lags"]
    detail = f"p50 {percentile(lags, 0.5):.1f}, max {max(lags):.0f}, {len(lags)} samples"
    yield Figure("loop lag p99, steps in 200 runs", percentile(lags, 0.99), 50, "ms", detail)


def dbos(folder: Path, runs: int, each: int) -> dict[str, Any] | None:
    """Do the same with DBOS, where it is installed; fewer steps, for it takes its time."""
    if importlib.util.find_spec("dbos") is None:
        return None
    argv = [PYTHON, str(HERE / "dbos_steps.py"), str(folder), str(runs), str(each)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def recovery() -> Figure:
    """Kill a daemon in which many runs wait, and see how long the next one takes to open."""
    with place() as folder:
        program = begun(folder)
        empty = program.ask(do="opened")["seconds"]
        project = program.ask(do="add", path=str(folder / "own"))["projectId"]
        program.ask(do="park", project=project, workflow="parks", runs=PARKED, args={})
        program.process.send_signal(signal.SIGKILL)
        program.end()
        program = begun(folder)
        try:
            started = time.perf_counter()
            told = program.ask(do="opened")
            while told["waiting"] < PARKED:
                told = program.ask(do="opened")
            waits = time.perf_counter() - started
        finally:
            program.end()
    detail = f"to open, {waits:.2f} s more until all wait again; without any: {empty:.2f} s"
    return Figure("1,000 parked runs", told["seconds"] + waits, 2.0, "s", detail)


def main() -> int:
    """Storm, or measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--storm", action="store_true")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--seed", type=int, default=randrange(10_000))
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    if not args.storm:
        for figure in run(quick=args.quick):
            sys.stdout.write(figure.line() + "\n")
        return 0
    sys.path += [str(HERE.parents[1]), str(HERE.parent)]  # `domains` is the one of the first
    from storms import storm

    with place() as folder:
        seen = asyncio.run(storm(folder, kills=args.kills, runs=args.runs, seed=args.seed))
    for fault in seen.faults:
        sys.stdout.write(f"FAULT {fault}\n")
    told = f"{seen.kills} kills over {args.runs} runs, seed {args.seed}"
    sys.stdout.write(f"{told}: {len(seen.faults)} faults\n")
    return 1 if seen.faults else 0


if __name__ == "__main__":
    sys.exit(main())
