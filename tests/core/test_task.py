"""A program's life under supervision: every way to end, told once, with its reason."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

import pytest
from support import open_descriptors

from daemon.core import task as module
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

    def start(self, script, *, user="u", stdin=False, id_="1", owner=None, **limits):
        owner = owner or Owner()
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
    await asyncio.wait_for(owner.done.wait(), 30)
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


async def test_nothing_new_begins_once_the_daemon_stops_and_what_runs_goes_on(house):
    task, owner = house.start("echo ready; sleep 100")
    await owner.heard.wait()
    house.tasks.close()
    with pytest.raises(Unavailable):
        house.tasks.require_open()
    assert task.state == "running"


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


async def stopped_by(pid):
    """Wait until a process is stopped by a signal."""
    async with asyncio.timeout(30):
        while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
            await asyncio.sleep(0.005)


async def test_a_polite_stop_lets_a_program_say_its_last_words(house):
    script = "trap 'echo last words; exit 3' TERM; echo ready; while :; do sleep 0.05; done"
    task, owner = house.start(script, stop_grace=10.0)
    await owner.heard.wait()
    task.stop()
    await end(owner)
    assert (task.reason, task.exit.code) == ("cancelled", 3)
    assert owner.out["stdout"] == b"ready\nlast words\n"


async def test_the_first_reason_stays(house):
    task, owner = house.start("trap '' TERM; echo ready; while :; do sleep 1; done", stop_grace=10)
    await owner.heard.wait()
    task.stop("timeout")
    task.stop("cancelled")
    task.stop("daemon_stopped", hard=True)
    await end(owner)
    assert (task.reason, task.exit.signal) == ("timeout", 9)
    task.stop("cancelled", hard=True)  # after the end: nothing
    assert task.reason == "timeout"


async def test_a_kill_does_not_wait_for_the_grace(house):
    task, owner = house.start("trap '' TERM; echo ready; while :; do sleep 1; done", stop_grace=60)
    await owner.heard.wait()
    task.stop()
    await asyncio.sleep(0)
    task.stop(hard=True)
    await end(owner)
    assert task.exit.signal == 9


async def test_a_stopped_program_hears_the_polite_signal(house):
    task, owner = house.start("echo ready; sleep 100", stop_grace=30.0)
    await owner.heard.wait()
    os.kill(task.pid, signal.SIGSTOP)
    await stopped_by(task.pid)
    task.stop()
    await end(owner)
    assert (task.reason, task.exit.signal) == ("cancelled", 15)


async def test_a_stop_while_it_starts_ends_it(house):
    task, owner = house.start("echo ready; sleep 100")
    async with asyncio.timeout(30):
        while task.state != "starting":
            await asyncio.sleep(0)
    task.stop()
    await end(owner)
    assert task.reason == "cancelled"
    assert owner.told in (["started", "ended"], ["ended"])


@pytest.mark.parametrize("turns", [0, 1, 2, 5, 20, 100])
async def test_cancelled_anywhere_the_end_is_told_once_and_the_slot_is_free(house, turns):
    task, owner = house.start("echo ready; sleep 100")
    (running,) = house.tasks._ends
    for _ in range(turns):
        await asyncio.sleep(0.0005)
    running.cancel()
    await asyncio.wait([running])
    await end(owner)
    await asyncio.sleep(0)
    assert (task.state, task.reason) == ("exited", "daemon_stopped")
    assert house.tasks.slots.taken == 0
    assert house.tasks.get("1") is None


async def test_an_owner_that_fails_ends_its_task_and_no_other(house):
    class Failing(Owner):
        def started(self, _):
            raise RuntimeError("no")

    task, owner = house.start("sleep 100", owner=Failing())
    other, other_owner = house.start("echo fine", id_="2")
    await end(owner)
    await end(other_owner)
    assert (task.reason, other.reason) == ("lost", "exited")
    assert "RuntimeError" in task.message
    assert house.tasks.slots.taken == 0


async def test_a_grandchild_that_holds_the_pipe_is_given_the_drain_and_no_more(house):
    script = "(echo child; trap '' TERM; while :; do sleep 1; done) & echo leader; exit 5"
    begun = time.monotonic()
    task, owner = house.start(script, drain_timeout=0.3)
    await end(owner)
    assert (task.reason, task.exit.code) == ("exited", 5)
    assert sorted(owner.out["stdout"].split()) == [b"child", b"leader"]
    assert 0.3 <= time.monotonic() - begun < 5


async def test_a_grandchild_is_heard_while_the_drain_lasts(house):
    task, owner = house.start("(sleep 0.2; echo late) & exit 0", drain_timeout=5.0)
    await end(owner)
    assert task.exit.code == 0
    assert owner.out["stdout"] == b"late\n"


async def test_a_daemonised_descendant_does_not_outlive_the_task(house):
    script = "setsid sh -c 'echo $$; exec sleep 1000' & wait $!; :"
    task, owner = house.start(script)
    await owner.heard.wait()
    pid = int(owner.out["stdout"])
    task.stop(hard=True)
    await end(owner)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_silence_does_not_count_while_nobody_listens(house):
    task, owner = house.start(
        "for i in 1 2 3 4 5 6 7 8; do echo x; sleep 0.1; done", silence_timeout=0.6
    )
    await owner.heard.wait()
    house.pending = 5000  # from here on nothing is read
    await asyncio.sleep(0.9)
    house.pending = 0
    while not owner.done.is_set():
        house.gate.open()
        await asyncio.sleep(0.01)
    assert task.reason == "exited"
    assert owner.out["stdout"] == b"x\n" * 8


async def test_no_tail_is_lost_when_the_task_is_cancelled_while_the_disk_is_behind(house):
    house.pending = 5000
    task, owner = house.start("head -c 300000 /dev/zero; echo; echo done >&2; sleep 100")
    await asyncio.sleep(0.5)
    task.stop()
    house.pending = 0
    while not owner.done.is_set():
        house.gate.open()
        await asyncio.sleep(0.01)
    assert owner.out == {"stdout": b"\0" * 300_000 + b"\n", "stderr": b"done\n"}


async def test_a_lost_reaper_is_lost(house):
    task, owner = house.start("echo ready; sleep 100")
    await owner.heard.wait()
    os.kill(task.process._child._reaper, signal.SIGKILL)
    await end(owner)
    assert (task.reason, task.exit.lost) == ("lost", True)


async def test_a_daemon_that_ends_gives_up_tasks_that_cannot_hand_over_their_output(
    house, monkeypatch
):
    monkeypatch.setattr(module, "END_TIMEOUT", 0.3)
    house.pending = 5000  # the disk never comes back
    task, owner = house.start("head -c 900000 /dev/zero; sleep 100")
    async with asyncio.timeout(30):
        while task.state != "running":
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)
    await house.tasks.end()
    await end(owner)
    assert task.reason == "daemon_stopped"
    assert len(house.tasks) == 0


async def test_idle_waits_for_what_runs_and_what_is_started_meanwhile(house):
    await house.tasks.idle()
    _, first = house.start("sleep 0.1", id_="1")
    idle = asyncio.ensure_future(house.tasks.idle())
    await asyncio.sleep(0.05)
    _, second = house.start("sleep 0.2", id_="2")
    await asyncio.wait_for(idle, 30)
    assert first.done.is_set()
    assert second.done.is_set()


async def test_a_task_can_be_found_while_it_lives(house):
    task, owner = house.start("echo ready; sleep 100", id_="findme")
    await owner.heard.wait()
    assert house.tasks.get("findme") is task
    assert list(house.tasks) == [task]
    assert task.pid is not None
    assert task.duration > 0
    task.stop(hard=True)
    await end(owner)
    await asyncio.sleep(0)
    assert house.tasks.get("findme") is None


async def test_many_tasks_in_few_slots_all_end_once_with_all_their_output(house):
    started = [
        house.start(f"echo {n}; echo {n} >&2", id_=str(n), user=str(n % 3)) for n in range(20)
    ]
    for n, (task, owner) in enumerate(started):
        await end(owner)
        assert (task.reason, task.exit.code) == ("exited", 0)
        text = b"%d\n" % n
        assert owner.out == {"stdout": text, "stderr": text}


async def test_no_descriptor_is_left_behind(house):
    _, owner = house.start("true", id_="first")
    await end(owner)
    before = open_descriptors()
    for n in range(10):
        task, owner = house.start("echo x; cat", id_=str(n), stdin=True)
        await owner.heard.wait()
        task.stop(hard=n % 2 == 0)
        await end(owner)
    assert open_descriptors() <= before
