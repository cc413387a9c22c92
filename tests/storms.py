"""Runs of workflows under a daemon that dies again and again, and what must be true of them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sqlite3
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

from flows import RUN_ENDS, Flows
from support import DaemonProcess, processes_with

from daemon.core.errors import AgentcmdError, Conflict
from daemon.core.store import OFFSET_BITS

HERE = Path(__file__).parent

SETTLED = ("completed", "failed", "skipped")

WORKFLOW = """
args: {n: {type: integer}}
steps:
  - {id: a, run: "echo a >> log-{{ args.n }}; echo {{ args.n }}"}
  - id: each
    for-each: ["0", "1", "2", "3", "4", "5"]
    max-parallel: 4
    steps:
      - {id: item, run: "echo each-{{ item }} >> log-{{ args.n }}; sleep 0.0{{ item }}"}
      - {id: note, annotation: "item {{ item }}"}
  - id: fails
    run: "echo fails >> log-{{ args.n }}; exit 3"
    retries: {max: 1, backoff: 30ms}
    continue-on-error: true
  - {id: nap, sleep: 50ms}
  - {id: no, if: steps.a.exitCode != 0, run: "echo never >> log-{{ args.n }}"}
  - id: both
    parallel: true
    steps:
      - {id: left, run: "echo left >> log-{{ args.n }}"}
      - {id: right, workflow: child, args: {n: "{{ args.n }}"}}
  - {id: told, wait-for: go}
  - {id: last, run: "echo last-{{ steps.told.data }}-{{ steps.left.exitCode }} >> log-{{ args.n }}"}
"""
"""What has each kind of step that the daemon does by itself, for which each leaves its line."""

CHILD = """
args: {n: {type: integer}}
steps:
  - {id: a, run: "echo child >> log-{{ args.n }}; echo {{ args.n }}"}
"""

LINES = {
    "a": "a",
    "both/left": "left",
    "last": "last-7-0",
    **{f"each/{n}/item": f"each-{n}" for n in range(6)},
}
"""Which line a step leaves."""


class DyingDaemon(DaemonProcess):
    """A daemon that dies by itself at a point, or is killed."""

    def start(self, at: str = "") -> str:
        """Start it; gives the URL, or nothing where it died before it listened."""
        self.environ["KILL_AT"] = at
        self.prefix = (sys.executable, "-P", str(HERE / "kill_points.py"))
        try:
            return super().start()
        except AssertionError:
            if not at:
                raise
            return ""

    def start_and_die(self, after: float) -> None:
        """Start it, and kill it so many seconds later, whether it listens by then or not."""
        self.environ["KILL_AT"] = ""
        killing = threading.Timer(after, lambda: self.process and self.process.kill())
        killing.start()
        with contextlib.suppress(AssertionError):
            super().start()
        killing.join()
        self.close()

    def died(self, within: float = 60.0) -> bool:
        """Wait until it has died of SIGKILL."""
        assert self.process is not None
        with contextlib.suppress(Exception):
            return self.process.wait(within) == -signal.SIGKILL
        return False


def committed(state_dir: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """Give the steps that are settled on disk, by run and id."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    path = state_dir / "agentcmd.db"
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        for run, body in db.execute("SELECT run, body FROM workflow_step"):
            step = json.loads(body)
            if step["state"] in SETTLED:
                found.setdefault(run, {})[step["id"]] = step
    return found


def arguments(state_dir: Path) -> dict[str, dict[str, Any]]:
    """Give each run as it stands on disk."""
    path = state_dir / "agentcmd.db"
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        return {
            id_: json.loads(body) for id_, body in db.execute("SELECT id, body FROM workflow_run")
        }


class Storm:
    """Runs, and a witness of every death: what was committed then stays as it was."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.daemon = DyingDaemon(folder / "state")
        self.project = ""
        self.faults: list[str] = []
        self.kills = 0
        self._before: dict[str, dict[str, dict[str, Any]]] = {}
        self._counts: dict[int, Counter[str]] = {}

    @property
    def flows(self) -> Flows:
        return Flows(self.daemon.client(), self.folder / "own", self.project)

    async def prepare(self) -> None:
        """Add the project."""
        self.daemon.start()
        async with self.daemon.client() as client:
            flows = await Flows.of(client, self.folder / "own", storm=WORKFLOW, child=CHILD)
            self.project = flows.project

    async def begin(self, numbers: list[int]) -> None:
        """Start runs, by keys, however often the daemon dies meanwhile."""
        with contextlib.suppress(AgentcmdError, OSError, TimeoutError, ConnectionError):
            async with asyncio.timeout(30), self.daemon.client() as client:
                flows = Flows(client, self.folder / "own", self.project)
                for number in numbers:
                    flow = await flows.start(
                        "storm", args={"n": number}, idempotencyKey=f"run {number}"
                    )
                    with contextlib.suppress(Conflict):  # it has ended
                        await flow.call("send_event", event="go", data=7)

    def witness(self) -> None:
        """After a death: see that what was settled at the last one is what it was."""
        self.kills += 1
        now, counts = committed(self.daemon.state_dir), self._lines()
        self._compare(now, counts)
        self._before, self._counts = now, counts

    def _lines(self) -> dict[int, Counter[str]]:
        return {
            int(path.name.rpartition("-")[2]): Counter(path.read_text().split())
            for path in (self.folder / "own").glob("log-*")
        }

    def _compare(
        self, now: dict[str, dict[str, dict[str, Any]]], counts: dict[int, Counter[str]]
    ) -> None:
        runs = arguments(self.daemon.state_dir)
        for run, steps in self._before.items():
            number = runs[run]["args"]["n"]
            for id_, step in steps.items():
                if now.get(run, {}).get(id_) != step:
                    self.faults.append(f"{run} {id_} was {step}, is {now.get(run, {}).get(id_)}")
                line = LINES.get(id_) if runs[run]["workflow"] == "storm" else "child"
                if line and counts[number][line] != self._counts[number][line]:
                    self.faults.append(f"{run} {id_} was committed and ran again")

    async def finish(self, numbers: list[int], within: float = 120.0) -> None:
        """Have all come to their end without further deaths, and judge."""
        self.daemon.start()
        await self.begin(numbers)
        async with asyncio.timeout(within), self.daemon.client() as client:
            while True:
                found = (await client.call("workflow.runs", {"limit": 500}))["runs"]
                outer = [each for each in found if each["workflow"] == "storm"]
                if len(outer) == len(numbers) and all(each["state"] == "ended" for each in found):
                    break
                for each in outer:  # one that died before its event was acknowledged has none
                    if each["state"] == "waiting":
                        with contextlib.suppress(AgentcmdError):
                            asked = {"runId": each["id"], "event": "go", "data": 7}
                            await client.call("workflow.send_event", asked)
                await asyncio.sleep(0.1)
        self.daemon.kill()
        self.witness()
        self.judge(numbers)

    def judge(self, numbers: list[int]) -> None:
        """Compare with runs that nothing disturbed."""
        counts, runs = self._lines(), arguments(self.daemon.state_dir)
        steps = committed(self.daemon.state_dir)
        if len(runs) != 2 * len(numbers):
            self.faults.append(f"{len(runs)} runs instead of {2 * len(numbers)}")
        for id_, run in runs.items():
            if (run.get("end") or {}).get("type") != "completed":
                self.faults.append(f"{id_} ended as {run.get('end')}")
            if run["workflow"] == "storm":
                number = run["args"]["n"]
                told = {key: step["state"] for key, step in steps[id_].items()}
                if told != UNDISTURBED:
                    self.faults.append(f"{id_} has {told}")
                self._judge_lines(number, counts.get(number, Counter()))
                stdout = steps[id_]["a"]["result"]["stdout"]
                if stdout != f"{number}\n":
                    self.faults.append(f"{id_} has the result {stdout!r}")
        self._judge_events(set(runs))
        self._judge_processes()

    def _judge_lines(self, number: int, lines: Counter[str]) -> None:
        wanted = {*LINES.values(), "child", "fails"}
        if set(lines) != wanted:
            self.faults.append(f"run {number} left {set(lines) ^ wanted}")
        if lines["fails"] < 2:
            self.faults.append(f"run {number} did not try again")

    def _judge_events(self, runs: set[str]) -> None:
        path = self.daemon.state_dir / "agentcmd.db"
        with contextlib.closing(sqlite3.connect(path)) as db:
            channels = db.execute(
                "SELECT id, name FROM channel WHERE name LIKE 'workflow:run:%'"
            ).fetchall()
            for id_, name in channels:
                rows = db.execute(
                    "SELECT id, body FROM event WHERE id > ? AND id < ? ORDER BY id",
                    (id_ << OFFSET_BITS, (id_ + 1) << OFFSET_BITS),
                ).fetchall()
                offsets = [row - (id_ << OFFSET_BITS) for row, _ in rows]
                events = [json.loads(body) for _, body in rows]
                if offsets != list(range(1, len(offsets) + 1)):
                    self.faults.append(f"{name} has a hole")
                ends = [n for n, event in enumerate(events) if event["type"] in RUN_ENDS]
                if ends != [len(events) - 1]:
                    self.faults.append(f"{name} has its ends at {ends} of {len(events)}")
                settled = Counter(
                    event["data"]["stepId"]
                    for event in events
                    if event["type"].rpartition(".")[2] in SETTLED
                    and "stepId" in event["data"]
                    and ".step." in event["type"]
                )
                if any(count != 1 for count in settled.values()):
                    self.faults.append(f"{name} tells a step's end more than once: {settled}")
        if len(channels) != len(runs):
            self.faults.append(f"{len(channels)} channels of {len(runs)} runs")

    def _judge_processes(self) -> None:
        deadline = time.monotonic() + 30
        while (left := processes_with(str(self.folder / "state"))) and time.monotonic() < deadline:
            time.sleep(0.02)
        if left:
            self.faults.append(f"processes are left: {left}")


UNDISTURBED = {
    "a": "completed",
    "each": "completed",
    **{f"each/{n}/{id_}": "completed" for n in range(6) for id_ in ("item", "note")},
    "fails": "failed",
    "nap": "completed",
    "no": "skipped",
    "both": "completed",
    "both/left": "completed",
    "both/right": "completed",
    "told": "completed",
    "last": "completed",
}


async def storm(folder: Path, *, kills: int, runs: int, seed: int) -> Storm:
    """Kill a daemon so often at random moments while runs are under way; gives what was seen."""
    random = Random(seed)
    found = Storm(folder)
    numbers = list(range(runs))
    try:
        await found.prepare()
        for number in range(kills):
            begun = numbers[: max(1, runs * (number + 1) // kills)]
            starting = asyncio.ensure_future(found.begin(begun))
            await asyncio.sleep(random.uniform(0.0, 0.5))
            found.daemon.kill()
            starting.cancel()
            await asyncio.wait([starting])
            found.witness()
            if number % 4 == 3:
                found.daemon.start_and_die(random.uniform(0.3, 1.2))
                found.witness()
            found.daemon.start()
        found.daemon.kill()
        found.witness()
        await found.finish(numbers)
    finally:
        with contextlib.suppress(Exception):
            found.daemon.kill()
    return found
