"""agentcmd workflow watch: a run as its messages tell of it, its drawing, and the terminal."""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import json
import os
import random
import re
import signal
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from xterm import Emulator

from daemon.cli.drawing import cut, draw, harmless, took, width_of
from daemon.cli.telling import told
from daemon.cli.timeline import Timeline
from daemon.cli.watching import LEAVE, Watching, changes
from daemon.client import ConnectionLost, Message

ROOT = Path(__file__).parents[2]

RUN = {"id": "r1", "name": "Demo", "workflow": "demo", "createdAt": 100.0, "phases": ["one", "two"]}


def fed(*events, run=RUN, steps=()):
    """A timeline that was told of these: their names, their data, each a second after the other."""
    timeline = Timeline(run, steps)
    for number, (name, data) in enumerate(events):
        usual = {"stepId": "a", "durationMs": 1000} if name.startswith("step.") else {}
        timeline.feed(f"workflow.run.{name}", {"runId": "r1", **usual, **data}, 100.0 + number)
    return timeline


def plain(timeline, width=80, height=40, now=110.0, notice=""):
    lines = draw(timeline, width, height, now, notice)
    for line in lines:
        assert not re.search(r"\x1b\[[0-9;]+m(?!.*\x1b\[m)", line), "each row ends without colours"
    return [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in lines]


def step(id_, kind="run", **more):
    return ("step.started", {"stepId": id_, "kind": kind, **more})


def done(id_, **more):
    return ("step.completed", {"stepId": id_, **more})


# The model and its drawing


def test_a_run_is_drawn_by_phases_with_what_each_step_does_and_took():
    timeline = fed(
        ("started", {}),
        ("phase.started", {"phase": "one"}),
        step("a", phase="one"),
        ("step.output", {"stepId": "a", "stream": "stdout", "content": "first\nsecond\nthi"}),
        ("step.output", {"stepId": "a", "stream": "stdout", "content": "rd"}),
    )
    assert plain(timeline, now=105.25) == [
        "Demo  running  5.2s  r1",
        "one",
        "  ⠹ a  3.2s",
        "    │ first",
        "    │ second",
        "    │ third",
        "two",
    ]
    timeline.feed("workflow.run.step.completed", {"stepId": "a", "durationMs": 3250}, 106.0)
    timeline.feed("workflow.run.updated", {"state": "running", "costUsd": 0.5}, 106.0)
    timeline.feed("workflow.run.phase.completed", {"phase": "one", "durationMs": 61000}, 106.0)
    skipped = {"stepId": "b", "reason": "its condition does not hold"}
    timeline.feed("workflow.run.step.skipped", skipped, 106.0)
    timeline.feed("workflow.run.completed", {"durationMs": 7_320_000}, 107.0)
    assert plain(timeline) == [
        "Demo  completed  2h 02m  $0.5000  r1",
        "one  1m 01s",
        "  ✓ a  3.2s",
        "- b  skipped",
    ]


def test_what_waits_says_for_what_and_how_it_is_answered():
    timeline = fed(
        ("started", {}),
        step("a", "approve"),
        ("step.waiting", {"waitsFor": "approval", "message": "Go\non?", "until": 170.0}),
        step("b", "wait-for"),
        ("step.waiting", {"stepId": "b", "waitsFor": "event", "event": "deployed"}),
        step("c", "sleep"),
        ("step.waiting", {"stepId": "c", "waitsFor": "time", "until": 120.0}),
        step("d"),
        ("step.retrying", {"stepId": "d", "attempt": 2, "delayMs": 5000, "message": "it broke"}),
    )
    assert plain(timeline, now=110.0)[1:-2] == [
        "? a  waiting, 1m 00s left  9.0s",
        "  Go on?",
        "  agentcmd workflow approve r1 a",
        "  (or with --reject)",
        "? b  waiting  7.0s",
        "  agentcmd workflow send r1 deployed [JSON]",
        "? c  waiting, 10.0s left  5.0s",
        "↻ d  try 2 in 3.0s",
        "  it broke",
    ]


def test_failures_say_why_and_what_can_be_done():
    timeline = fed(
        ("started", {}),
        step("a"),
        ("step.output", {"stream": "stderr", "content": "Error: no\n"}),
        ("step.failed", {"code": "exit", "message": "it exited with code 3", "continued": True}),
        step("b"),
        ("step.failed", {"stepId": "b", "code": "exit", "message": "it exited with code 4"}),
        step("c"),
        ("annotation", {"message": "look here", "level": "warning"}),
        ("artifact", {"name": "report", "size": 2048}),
        ("failed", {"code": "exit", "message": "step b: code 4", "durationMs": 5000}),
    )
    assert plain(timeline) == [
        "Demo  failed  5.0s  r1",
        "! a  1.0s",
        "  it exited with code 3",
        "  │ Error: no",
        "✗ b  1.0s",
        "  it exited with code 4",
        "■ c",
        "! look here",
        "+ report  2.0 KiB",
        "step b: code 4",
        "once more: agentcmd workflow retry r1",
    ]
    timeline.feed("workflow.run.started", {}, 200.0)
    assert [line.split()[0] for line in plain(timeline, now=201.0)[:6]] == [
        *("Demo", "!", "it", "│", "·", "·")
    ]
    timeline.feed("workflow.run.step.started", {"stepId": "b", "kind": "run"}, 201.0)
    timeline.feed("workflow.run.completed", {"durationMs": 1000}, 202.0)
    assert "c" not in timeline.steps, "the file has it no longer"


def test_of_a_line_that_is_redrawn_the_last_is_shown_whatever_the_pieces():
    timeline = fed(("started", {}), step("a"))
    for piece in ("10%\r", "20%\r", "3", "0%\r"):
        data = {"stepId": "a", "stream": "stdout", "content": piece}
        timeline.feed("workflow.run.step.output", data, 102.0)
    assert "  │ 30%" in plain(timeline)
    data = {"stepId": "a", "stream": "stdout", "content": "done\r\n"}
    timeline.feed("workflow.run.step.output", data, 103.0)
    assert "  │ done" in plain(timeline)


def test_what_a_workflow_has_printed_has_ended_as_the_run_has():
    printed = ("step.output", {"stepId": "workflow", "stream": "stderr", "content": "words\n"})
    good = fed(("started", {}), printed, ("completed", {"durationMs": 1000}))
    assert plain(good)[1:] == ["✓ workflow"]
    bad = fed(("started", {}), printed, ("failed", {"code": "x", "durationMs": 1000}))
    assert plain(bad)[1] == "■ workflow"


def test_what_a_workflow_returns_stands_below_it():
    end = ("completed", {"durationMs": 1000, "output": {"tries": 2, "said": "\x1b[2J"}})
    assert plain(fed(("started", {}), end))[1:] == ['{"tries": 2, "said": "\\u001b[2J"}']
    assert told("workflow.run.completed", end[1]) == [
        'run.completed {"tries": 2, "said": "\\u001b[2J"} 1.0s'
    ]


def for_each(count, open_=2, total=None):
    events = [("started", {}), step("all", "for-each")]
    if total is not None:
        progress = {"current": 0, "total": total, "percentage": 0}
        events.append(("step.progress", {"stepId": "all", "progress": progress}))
    for number in range(count):
        events.append(step(f"all/{number}/lint"))
        if number < count - open_:
            events.append(done(f"all/{number}/lint"))
    return events


def test_the_finished_items_of_a_long_for_each_are_a_number():
    drawn = plain(fed(*for_each(14, total=40), run={**RUN, "phases": []}))
    assert drawn[1].startswith("⠋ all  12 of 40 done")
    assert [line.split()[1:3] for line in drawn[2:]] == [["[12]", "lint"], ["[13]", "lint"]]
    short = plain(fed(*for_each(5), run={**RUN, "phases": []}))
    assert short[1].startswith("⠋ all  3 done")
    assert len(short) == 7
    ended = fed(*for_each(14, open_=0), done("all", result={"items": 14}))
    assert plain(ended)[1] == "✓ all  14 of 14 done  1.0s"


def test_steps_of_steps_are_below_them_whatever_is_between():
    timeline = fed(
        ("started", {}),
        step("out", "for-each"),
        step("out/0/both", "parallel"),
        step("out/0/both/x"),
        step("out/0/both/in", "for-each", name="Inside"),
        step("out/0/both/in/3/y"),
    )
    drawn = plain(timeline, now=106.0)[1:-2]
    assert [re.sub(r"  [0-9.]+s$", "", line) for line in drawn] == [
        *("⠋ out  0 done", "  ⠋ [0] both", "    ⠋ x"),
        *("    ⠋ Inside  0 done", "      ⠋ [3] y"),
    ]


def test_progress_is_a_bar_where_its_end_is_known():
    def progressed(**progress):
        return plain(fed(("started", {}), step("a"), ("step.progress", {"progress": progress})))[1]

    assert progressed(current=5, total=20, percentage=25.0).startswith(
        "⠋ a  25 %  [████░░░░░░░░░░░░]"
    )
    assert progressed(current=5, total=None, percentage=None).startswith("⠋ a  5  9.0s")
    assert "[████████████████]" in progressed(current=50, total=20, percentage=250.0)


def test_a_fork_shows_what_it_was_given_and_a_gap_is_mended():
    record = {"id": "a", "kind": "run", "state": "completed", "startedAt": 50.0, "endedAt": 52.0}
    later = {**record, "id": "b", "startedAt": 101.0, "endedAt": 102.0}
    timeline = fed(("started", {}), run={**RUN, "phases": []}, steps=[record, later])
    assert plain(timeline)[1:] == ["✓ a  2.0s"], "b is told of"
    timeline.feed("workflow.run.step.started", {"stepId": "gone", "kind": "run"}, 103.0)
    end = {"type": "failed", "durationMs": 3000, "message": "no"}
    timeline.settle(
        {**RUN, "state": "ended", "startedAt": 101.0, "end": end},
        [record, {**later, "state": "failed", "message": "no"}],
    )
    assert plain(timeline)[:4] == ["Demo  failed  3.0s  r1", "✓ a  2.0s", "✗ b  1.0s", "  no"]


def test_no_row_is_wider_and_no_drawing_higher_than_the_window_and_what_matters_stays():
    events = [
        *for_each(30, open_=12, total=400),
        *(
            each
            for n in range(30)
            for each in (step(f"s{n}", name=f"名前 {n} " * 9), done(f"s{n}"))
        ),
        step("a", "approve", name="very long name " * 9),
        ("step.waiting", {"waitsFor": "approval", "message": "x" * 300}),
        step("b"),
        ("step.progress", {"stepId": "b", "progress": {"current": 1, "total": 3}}),
        (
            "step.output",
            {"stepId": "b", "stream": "text", "content": "🙂\ufe0f" * 99 + "\n\x1b[2J\n"},
        ),
    ]
    timeline = fed(*events)
    for width in (*range(25), 40, 79, 200):
        for height in (*range(12), 24, 100):
            drawn = plain(timeline, width, height, notice="the connection broke")
            assert len(drawn) <= height
            assert all(width_of(line) <= width for line in drawn), (width, drawn)
    drawn = plain(timeline, 60, 24)
    assert len(drawn) == 24
    assert drawn[0].startswith("Demo  running")
    assert any("more steps" in line for line in drawn)
    assert any("approve r1 a" in line for line in drawn)
    assert plain(timeline, 30, 1)[0].startswith("Demo  running")


def test_text_is_made_harmless_and_cut_by_columns():
    assert harmless("\x1b[31mred\x1b[0m \x1b]0;title\x07b\x07ell\u202ex\u200b\x9b2Jy\x1bc") == (
        "red b ellxy"
    )
    assert harmless("a\tb\nc\ud800") == "a       b c "
    assert harmless("\x1b]0;unended \x1b[2J") == ""
    assert (cut("日本語", 5), cut("日本語", 6), cut("abc", 2), cut("abc", 0)) == (
        *("日本…", "日本語", "a…", ""),
    )
    assert (width_of("e\u0301"), width_of("日"), width_of("❤\ufe0f")) == (1, 2, 2)
    assert [took(n) for n in (-1, 0.04, 59.94, 59.96, 3599.7, 90000)] == (
        ["0.0s", "0.0s", "59.9s", "1m 00s", "1h 00m", "1d 01h"]
    )
    timeline = fed(
        ("started", {}),
        step("a"),
        ("step.output", {"stream": "stdout", "content": " 10 %\r 20 %\r 30 %\r"}),
    )
    assert plain(timeline)[2] == "  │  30 %"
    for _ in range(50):  # a line without an end takes no memory, nor does one that is redrawn
        for content in ("x" * 5000, "\r" + "y" * 5000):
            timeline.feed(
                "workflow.run.step.output",
                {"stepId": "a", "stream": "stderr", "content": content},
                110.0,
            )
    assert len(timeline.steps["a"].unfinished["stderr"]) <= 1000


def test_whatever_is_told_in_whatever_order_it_can_be_drawn():
    chance = random.Random(7)
    ids = ["a", "b", "b/0/x", "b/1/x", "c/d", "e/9/f/2/g"]
    kinds = [
        lambda: ("started", {}),
        lambda: step(chance.choice(ids), chance.choice(["run", "for-each", "parallel"])),
        lambda: done(chance.choice(ids)),
        lambda: ("step.failed", {"stepId": chance.choice(ids), "code": "x", "message": "m"}),
        lambda: ("step.skipped", {"stepId": chance.choice(ids), "reason": "r"}),
        lambda: ("step.waiting", {"stepId": chance.choice(ids), "waitsFor": "time"}),
        lambda: ("completed", {"durationMs": 1}),
        lambda: ("paused", {}),
        lambda: ("something.new", {}),
    ]
    for _ in range(200):
        timeline = fed(*(chance.choice(kinds)() for _ in range(25)))
        assert plain(timeline)


def test_only_rows_that_differ_are_written_and_what_is_below_is_erased():
    assert changes([], ["a", "b"], fresh=True) == (b"\x1b[H\x1b[2J\x1b[1;1Ha\x1b[K\x1b[2;1Hb\x1b[K")
    assert changes(["a", "b", "c"], ["a", "x"], fresh=False) == b"\x1b[2;1Hx\x1b[K\x1b[3;1H\x1b[J"
    assert changes(["a"], ["a"], fresh=False) == b""


def test_events_are_lines_where_nothing_is_drawn():
    def line(name, **data):
        return told(f"workflow.run.{name}", {"runId": "r1", **data})

    assert line("step.completed", stepId="test", durationMs=3200) == ["step.completed test 3.2s"]
    assert line("step.output", stepId="t", content="a\n\x1b[2Jb\n") == (
        ["step.output t | a", "step.output t | b"]
    )
    assert line("phase.completed", phase="p", durationMs=100) == ["phase.completed p 0.1s"]
    assert line("failed", code="x", message="no\ngood", durationMs=0) == ["run.failed no good 0.0s"]
    waiting = line("step.waiting", stepId="a", waitsFor="approval", message="Go?")
    assert waiting == ["step.waiting a for approval: Go? (agentcmd workflow approve r1 a)"]
    progress = {"current": 1, "total": 4, "percentage": 25}
    assert line("step.progress", stepId="a", progress=progress) == ["step.progress a 1 of 4 (25 %)"]
    assert line("updated", state="queued", position=2) == ["run.updated queued, place 2"]


class Daemon:
    """What a client is to one who watches: answers of `workflow.get`, and a channel."""

    def __init__(self, answers, messages):
        self._answers = iter(answers)
        self._messages = messages

    async def call(self, name, _):
        assert name == "workflow.get"
        answer = next(self._answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def subscribe(self, channel, *, since):
        assert (channel, since) == ("workflow:run:r1", 0)
        for offset, (type_, data, ts) in enumerate(self._messages, 1):
            message = {"type": f"workflow.run.{type_}", "data": data, "ts": ts, "offset": offset}
            yield Message.of({"channel": channel, **message}, json.dumps(message))
        await asyncio.Event().wait()


async def known(_):
    return "r1"


async def test_the_end_that_counts_is_the_one_after_the_last_retry(capfd):
    run = {**RUN, "state": "running", "startedAt": 200.0}
    failed = {"runId": "r1", "code": "x", "message": "no", "durationMs": 1}
    messages = [("failed", failed, 150.0), ("started", {}, 200.0), ("completed", {}, 201.0)]
    watching = Watching(argparse.Namespace(json=True), cancels=False)
    await watching.run(Daemon([{"run": run}], messages), known)
    assert watching.code() == 0
    assert [json.loads(line)["offset"] for line in capfd.readouterr().out.splitlines()] == [1, 2, 3]


async def test_an_end_before_the_retry_of_a_run_that_is_queued_is_not_its_end(capfd):
    run = {**RUN, "state": "queued"}
    failed = {"runId": "r1", "code": "x", "message": "no", "durationMs": 1}
    messages = [("failed", failed, 150.0), ("started", {}, 200.0), ("completed", {}, 200.9)]
    ended = {**run, "state": "ended", "startedAt": 200.0, "endedAt": 200.9004}
    for answers in ([run, run, ended], [run, ended, ended]):  # also where it has ended meanwhile
        watching = Watching(argparse.Namespace(json=False), cancels=False)
        await watching.run(Daemon([{"run": each} for each in answers], messages), known)
        assert watching.code() == 0
    del capfd


async def test_a_run_that_ended_while_its_events_were_missed_has_ended(capfd):
    run = {**RUN, "state": "running", "startedAt": 100.0}
    end = {"type": "failed", "durationMs": 1, "message": "no"}
    watching = Watching(argparse.Namespace(json=False), cancels=False)
    ended = {**run, "state": "ended", "end": end}
    watching.on_status("gap", "workflow:run:r1")
    answers = [{"run": run}, ConnectionLost("it is away"), {"run": ended}]
    await watching.run(Daemon(answers, [("started", {}, 100.0)]), known)
    assert watching.code() == 1
    del capfd


# The terminal


WORKFLOW = r"""
name: Démo
args: {word: {type: string, default: none}}
phases: [build, review]
steps:
  - id: say
    phase: build
    run: printf '\033[31mrot\033[0m \033[2J%s\n日本語\n' "$WORD"
    env: {WORD: "{{ args.word }}"}
  - id: ok
    phase: review
    approve: "Ship it, whatever it is that was built here?"
  - id: last
    phase: review
    run: echo the end
"""

SLOW = "steps: [{id: slow, run: 'echo begun; exec sleep 60'}]"
STUBBORN = """steps: [{id: slow, run: "trap '' TERM; echo begun; while :; do sleep 1; done"}]"""


@pytest.fixture(scope="module")
def environ(shared_environ):
    return {**shared_environ, "TERM": "xterm-256color"}


@pytest.fixture(scope="module")
def serving(shared_daemon):
    return shared_daemon


@pytest.fixture
def project(folder, serving):  # noqa: ARG001
    """The folder as a project with workflows."""
    made = folder / ".agent" / "workflows"
    made.mkdir(parents=True)
    (made / "demo.yaml").write_text(WORKFLOW)
    (made / "slow.yaml").write_text(SLOW)
    (made / "stubborn.yaml").write_text(STUBBORN)
    return folder


def resize(seat, cols, rows):
    size = rows.to_bytes(2, "little") + cols.to_bytes(2, "little") + bytes(4)
    fcntl.ioctl(seat.fd, termios.TIOCSWINSZ, size)


def modes(seat):
    return termios.tcgetattr(seat.fd)[3] & (termios.ECHO | termios.ICANON | termios.ISIG)


def started(agentcmd, name):
    begun = agentcmd("workflow", "run", name, "--detach")
    assert begun.returncode == 0, begun.stderr
    return begun.stdout.decode().strip()


def state_of(agentcmd, run):
    shown = json.loads(agentcmd("workflow", "show", run, "--json").stdout)
    return shown.get("end", {}).get("type", shown["state"])


def test_a_run_is_drawn_as_it_goes_and_left_on_the_screen(project, terminal, agentcmd):  # noqa: ARG001
    seat = terminal("workflow", "run", "demo", "word=drei")
    before = modes(seat)
    seat.until(b"agentcmd workflow approve")
    seat.until(b"--reject")
    assert not modes(seat) & termios.ECHO, "what is typed does not show"
    run = re.search(rb"workflow approve (\w+) ok", seat.seen)[1].decode()
    with Emulator(80, 24) as screen:
        screen.write(seat.seen)
        assert screen.alternate
        rows = screen.screen()
        assert rows[0].startswith("Démo  waiting  ")
        assert [re.sub(r"  +[0-9.]+s$", "", row) for row in rows[1:10]] == [
            "build",
            "  ✓ say",
            "review",
            "  ? ok  waiting",
            "    Ship it, whatever it is that was built here?",
            f"    agentcmd workflow approve {run} ok",
            "    (or with --reject)",
            "",
            "",
        ]
        seat.seen = b""
        resize(seat, 30, 6)
        seat.until(b"\x1b[2J")
        seat.until(b"\x1b[?2026l")
        screen.resize(30, 6)
        screen.write(seat.seen)
        rows = screen.screen()
        assert rows[0].startswith("Démo  waiting  ")
        assert any(row.startswith("    Ship it, whatever it") and row[-1] == "…" for row in rows)
        seat.seen = b""
        assert agentcmd("workflow", "approve", run, "ok").returncode == 0
        assert seat.end() == 0
        screen.write(seat.seen)
        assert not screen.alternate
        assert "cursorVisible" not in screen.modes or screen.modes["cursorVisible"]
        assert screen.text.startswith("Démo  completed"), screen.text
        assert modes(seat) == before
    assert seat.seen.count(LEAVE) == 1


def test_ctrl_c_cancels_what_was_begun_here(project, terminal, agentcmd):  # noqa: ARG001
    seat = terminal("workflow", "run", "slow")
    before = modes(seat)
    seat.until(b"begun")
    seat.type(b"\x03")
    assert seat.end() == 130
    run = re.search(rb"retry (\w+)", seat.seen)[1].decode()
    assert state_of(agentcmd, run) == "cancelled"
    assert modes(seat) == before


def test_a_second_ctrl_c_leaves_and_says_how_to_come_back(project, terminal, agentcmd):  # noqa: ARG001
    seat = terminal("workflow", "run", "stubborn")
    seat.until(b"begun")
    seat.type(b"\x03")
    seat.until(b"once more leaves it")
    seat.type(b"\x03")
    assert seat.end() == 130
    run = re.search(rb"left; the run goes on.*agentcmd workflow watch (\w+)", seat.seen)[1]
    assert state_of(agentcmd, run.decode()) == "running"


def test_who_watches_leaves_a_run_alone(project, terminal, agentcmd):  # noqa: ARG001
    run = started(agentcmd, "slow")
    seat = terminal("workflow", "watch", run)
    before = modes(seat)
    seat.until(b"begun")
    seat.seen = b""
    seat.type(b"\x1a")  # nobody is there to have it go on, so it is not stopped
    seat.until(LEAVE)
    seat.until(b"begun")
    seat.type(b"\x03")
    assert seat.end() == 130
    assert modes(seat) == before
    assert b"the run goes on" in seat.seen
    other = terminal("workflow", "watch", run)
    other.until(b"begun")
    os.kill(other.pid, signal.SIGTERM)
    assert other.end() == 128 + signal.SIGTERM
    assert LEAVE in other.seen
    gone = terminal("workflow", "watch", run)
    gone.until(b"begun")
    gone.hang_up()
    os.waitpid(gone.pid, 0)
    gone.code = 0
    assert state_of(agentcmd, run) == "running"
    assert agentcmd("workflow", "cancel", run).returncode == 0
    once = terminal("workflow", "watch", run)
    assert once.end() == 1, "it ends as the run did"
    assert b"cancelled" in once.seen


def test_what_was_written_does_nothing_to_the_terminal(project, terminal, agentcmd):  # noqa: ARG001
    run = started(agentcmd, "demo")
    terminal("workflow", "watch", run).until(b"agentcmd workflow approve")
    for of in ((), ("say",)):
        seat = terminal("workflow", "logs", run, *of)
        assert seat.end() == 0
        assert "rot none\r\n" in seat.seen.decode()
        assert b"\x1b" not in seat.seen
    written = agentcmd("workflow", "logs", run, "say").stdout
    assert written.startswith(b"\x1b[31mrot\x1b[0m \x1b[2J"), "elsewhere it is what it was"


def test_in_a_pipe_there_is_a_line_for_each_event(project, environ, agentcmd):
    run = started(agentcmd, "demo")
    watching = subprocess.Popen(
        [sys.executable, "-m", "daemon", "workflow", "watch", run],
        env=environ, cwd=project, stdout=subprocess.PIPE,
    )  # fmt: skip
    with watching:
        lines = []
        while not lines or b"step.waiting" not in lines[-1]:
            lines.append(watching.stdout.readline())
            assert lines[-1], lines
        told_ = b"".join(lines)
        assert re.search(rb"\n\d\d:\d\d:\d\d step.completed say \d+\.\ds\n", told_), lines
        assert b" step.output say | rot none\n" in told_
        agentcmd("workflow", "approve", run)
        rest = watching.stdout.read()
        assert b" step.output last | the end\n" in rest
        assert watching.wait(30) == 0
    history = agentcmd("workflow", "watch", run, "--json").stdout.splitlines()
    messages = [json.loads(line) for line in history]
    assert [each["offset"] for each in messages] == [*range(1, len(messages) + 1)]
    assert messages[-1]["type"] == "workflow.run.completed"
