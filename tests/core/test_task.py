"""A program's life under supervision: every way to end, told once, with its reason."""

from __future__ import annotations

import asyncio
import os
import sys

import pytest

from daemon.core.errors import Conflict, Unavailable
from daemon.core.gate import Gate
from daemon.core.launcher import Launcher
from daemon.core.process import STDIN_BYTES
from daemon.core.program import Program
from daemon.core.supervisor import Supervisor
from daemon.core.task import Task, Tasks, TaskSettings


class Owner:
    """Notes what it is told."""

    def __init__(self):
        self.told = []
        self.out = {"stdout": b"", "stderr": b""}
        self.done = asyncio.Event()
        self.heard = asyncio.Event()

    def queued(self, place):
        self.told.append(f"queued {place}")

    def started(self, _):
        self.told.append("started")

    def output(self, stream, data):
        self.out[stream] += data
        self.heard.set()

    def ended(self, _):
        self.told.append("ended")
        self.done.set()


class House:
    """Tasks over a launcher, with a gate that the test closes."""

    def __init__(self, tasks, gate):
        self.tasks, self.gate = tasks, gate
        self.pending = 0

    def start(self, script, *, user="u", stdin=False, id_="1", **limits):
        owner = Owner()
        task = Task(
            id_=id_,
            kind="test",
            channel="session:1",
            user=user,
            program=Program(
                argv=script if isinstance(script, list) else ["sh", "-c", script],
                cwd="/",
                env={"PATH": os.environ["PATH"]},
                stdin=stdin,
            ),
            owner=owner,
            limits=TaskSettings(**{"stop_grace": 0.3, "drain_timeout": 0.3, **limits}),
        )
        self.tasks.start(task)
        return task, owner


@pytest.fixture
async def house():
    made = House(None, None)
    made.gate = Gate(lambda: made.pending, 1000)
    async with (
        Launcher() as launcher,
        Supervisor() as supervisor,
        Tasks(supervisor, launcher, made.gate, limit=2) as tasks,
    ):
        made.tasks = tasks
        yield made


async def end(owner):
    await asyncio.wait_for(owner.done.wait(), 10)
    assert owner.told.count("ended") == 1


async def test_an_exit_has_its_code_and_all_output(house):
    task, owner = house.start("echo out; echo err >&2; exit 3")
    await end(owner)
    assert (task.state, task.reason, task.exit.code) == ("exited", "exited", 3)
    assert owner.out == {"stdout": b"out\n", "stderr": b"err\n"}
    assert owner.told == ["started", "ended"]


async def test_a_signal_from_elsewhere_is_signaled(house):
    task, owner = house.start("kill -USR1 $$")
    await end(owner)
    assert (task.reason, task.exit.signal) == ("signaled", 10)


async def test_a_program_that_cannot_start_says_why(house):
    task, owner = house.start(["/no/such/program"])
    await end(owner)
    assert (task.reason, owner.told) == ("spawn_failed", ["ended"])
    assert "/no/such/program" in task.message


@pytest.mark.parametrize("hard", [False, True])
async def test_a_stop_ends_even_who_does_not_listen(house, hard):
    task, owner = house.start("trap '' TERM; echo ready; while :; do sleep 1; done")
    await owner.heard.wait()
    task.stop(hard=hard)
    await end(owner)
    assert (task.reason, task.exit.signal) == ("cancelled", 9)


async def test_a_stop_before_the_start_ends_it_too(house):
    task, owner = house.start("sleep 100")
    task.stop(hard=True)
    await end(owner)
    assert task.reason == "cancelled"


@pytest.mark.parametrize(
    ("limits", "script", "reason"),
    [
        ({"run_timeout": 0.3}, "while :; do echo x; sleep 0.05; done", "timeout"),
        ({"silence_timeout": 0.3}, "echo x; sleep 100", "silent"),
        ({"silence_timeout": 0.5}, "for i in 1 2 3 4 5; do echo x; sleep 0.2; done", "exited"),
    ],
)
async def test_deadlines_end_it_with_their_reason(house, limits, script, reason):
    task, owner = house.start(script, **limits)
    await end(owner)
    assert task.reason == reason


async def test_who_waits_for_a_slot_is_queued_cancelled_or_too_late(house):
    running = [house.start("echo ready; sleep 100", id_=str(n)) for n in range(2)]
    for _, owner in running:
        await owner.heard.wait()
    late, late_owner = house.start("echo never", id_="late", queue_timeout=0.2)
    cancelled, cancelled_owner = house.start("echo never", id_="cancelled")
    last, last_owner = house.start("echo at last", id_="last")
    await end(late_owner)
    cancelled.stop()
    await end(cancelled_owner)
    assert (late.reason, cancelled.reason) == ("timeout", "cancelled")
    assert late_owner.told == ["queued 1", "ended"]
    running[0][0].stop()
    await end(last_owner)
    assert (last.reason, last_owner.out["stdout"]) == ("exited", b"at last\n")


async def test_a_stopping_daemon_is_the_reason(house):
    task, owner = house.start("echo ready; sleep 100")
    await owner.heard.wait()
    await house.tasks.stop_all()
    assert owner.told == ["started", "ended"]
    assert task.reason == "daemon_stopped"
    assert len(house.tasks) == 0


async def test_no_tail_is_lost_while_the_disk_is_behind(house):
    house.pending = 5000  # the gate is closed
    size = 500_000
    task, owner = house.start(f"head -c {size} /dev/zero; exit 1")
    await asyncio.sleep(0.8)  # longer than the drain: the leader has ended, its pipe is full
    assert len(owner.out["stdout"]) < size
    house.pending = 0
    while not owner.done.is_set():
        house.gate.open()
        await asyncio.sleep(0.01)
    assert len(owner.out["stdout"]) == size
    assert task.exit.code == 1


async def test_input_is_bounded_and_ends(house):
    task, owner = house.start("echo ready; sleep 0.3; cat | wc -c", stdin=True)
    await owner.heard.wait()
    feed = task.process.feed
    feed.write(b"x" * STDIN_BYTES)
    with pytest.raises(Unavailable):
        feed.write(b"x" * STDIN_BYTES)
    feed.end()
    with pytest.raises(Conflict):
        feed.write(b"more")
    await end(owner)
    assert int(owner.out["stdout"].split()[1]) >= STDIN_BYTES


async def test_a_program_that_closes_its_input_harms_nobody(house):
    task, owner = house.start("exec <&-; echo ready; sleep 0.2; exit 4", stdin=True)
    await owner.heard.wait()
    for _ in range(50):
        try:
            task.process.feed.write(b"x" * 10_000)
        except Conflict:
            break
    await end(owner)
    assert task.exit.code == 4


async def test_usage_of_the_program_is_known_at_its_end(house):
    burn = "x = 0\nfor i in range(2_000_000): x += i"
    task, owner = house.start([sys.executable, "-c", burn])
    await end(owner)
    assert task.exit.user_seconds > 0.01
    assert task.exit.max_rss_bytes > 1 << 20
