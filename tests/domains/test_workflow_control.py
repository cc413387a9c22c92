"""Runs under control: cancelled, paused, retried, forked, drained, and queued."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import sqlite3

import pytest
from flows import Flow, Flows
from git_servers import http_server
from model import script
from repositories import Repo
from support import DaemonProcess, processes_with, until

from daemon.core.errors import Conflict, NotFound

MARK = f"60.0{os.getpid()}"
"""The seconds for which children sleep, by which they are known."""

LONG = f"{{id: a, run: sleep {MARK}}}"


@pytest.fixture
async def flows(start_daemon, tmp_path):
    """A project without workflows yet; what is asked to end does so within a second."""
    running = await start_daemon(TASK__STOP_GRACE="0.3")
    async with running.client() as client:
        yield await Flows.of(client, tmp_path / "own")


async def cancelled(flow):
    """Cancel a run, twice at once, and see that it has ended before the answer."""
    answers = await asyncio.gather(flow.call("cancel"), flow.call("cancel"), return_exceptions=True)
    assert any(isinstance(each, dict) and each["state"] == "ended" for each in answers)
    with pytest.raises(Conflict, match="ended"):
        await flow.call("cancel")
    assert processes_with(MARK) == []
    end = await flow.end()
    assert (end["type"], end["user"]) == ("cancelled", "tester")
    assert flow.in_order()
    steps = (await flow.steps()).values()
    assert not [each for each in steps if each["state"] in ("running", "waiting", "retrying")]
    assert (await flow.run())["end"]["type"] == "cancelled"


@pytest.mark.parametrize(
    ("text", "reached"),
    [
        (f"- {{id: a, run: \"trap '' TERM; sleep {MARK}; sleep {MARK}\"}}", ("step.started", {})),
        ("- {id: a, run: exit 1, retries: {max: 3, backoff: 60s}}", ("step.retrying", {})),
        ("- {id: a, sleep: 60s}", ("step.waiting", {})),
        ("- {id: a, approve: Now}", ("step.waiting", {})),
        ("- {id: a, wait-for: ever}", ("step.waiting", {})),
        (
            f"- {{id: all, for-each: [1, 2, 3, 4, 5], max-parallel: 4, steps: [{LONG}]}}",
            ("step.started", {"stepId": "all/3/a"}),
        ),
        ("- {id: a, workflow: inner}", ("step.started", {})),
    ],
    ids=["step", "retry", "sleep", "approval", "event", "loop", "child"],
)
async def test_cancel_ends_what_runs_or_waits_within_the_grace_period(flows, text, reached):
    flows.write("long", text)
    flows.write("inner", f"- {{id: a, run: sleep {MARK}}}")
    flow = await flows.start("long")
    type_, fields = reached
    await flow.until(type_, **fields)
    async with asyncio.timeout(5):
        await cancelled(flow)
    runs = (await flows.client.call("workflow.runs"))["runs"]
    assert {each["state"] for each in runs} == {"ended"}


async def test_a_child_that_is_just_being_started_is_cancelled_too(flows, monkeypatch):
    from domains.workflow.engine import Engine

    start, reached = Engine._start, asyncio.Event()

    async def slowly(engine, run, *rest, **named):
        begun = await start(engine, run, *rest, **named)
        if run.parent is not None:
            reached.set()
            await asyncio.sleep(0.2)
        return begun

    monkeypatch.setattr(Engine, "_start", slowly)
    flows.write("outer", "- {id: a, workflow: inner}")
    flows.write("inner", f"- {{id: a, run: sleep {MARK}}}")
    flow = await flows.start("outer")
    async with asyncio.timeout(5):
        await reached.wait()
        await cancelled(flow)
    runs = (await flows.client.call("workflow.runs"))["runs"]
    assert [each["state"] for each in runs] == ["ended", "ended"]


async def test_cancel_comes_in_the_first_instant(flows, monkeypatch):
    flows.write("a", "- {id: a, run: 'echo a >> log'}\n- {id: b, sleep: 60s}")
    for _ in range(10):
        flow = await flows.start("a")
        await cancelled(flow)
    # before the run's own task has had its first step
    from domains.workflow.live import LiveRun

    begin = LiveRun.begin

    def doomed(live, body, *, recovered):
        begin(live, body, recovered=recovered)
        live.cancel("tester")

    monkeypatch.setattr(LiveRun, "begin", doomed)
    flow = await flows.start("a")
    assert (await flow.end())["type"] == "cancelled"
    assert await flow.steps() == {}


async def test_runs_with_one_key_queue_and_leave_the_queue_when_cancelled(flows):
    flows.write(
        "queue",
        """
        args: {n: {type: integer}, on: {type: string}}
        concurrency: {key: "{{ args.on }}"}
        steps:
          - {id: wait, wait-for: go}
          - {id: log, run: "echo {{ args.n }} >> log"}
        """,
    )
    one, two, three = [await flows.start("queue", args={"n": n, "on": "x"}) for n in (1, 2, 3)]
    other = await flows.start("queue", args={"n": 4, "on": "y"})
    await other.until("step.waiting")
    await one.until("step.waiting")
    assert (await three.until("updated"))["position"] == 2
    assert [(await each.run())["state"] for each in (one, two, three)] == [
        "waiting", "queued", "queued",
    ]  # fmt: skip
    for each in (three, two, one, other):
        await each.call("send_event", event="go")
    await cancelled(two)
    for each in (one, three, other):
        assert (await each.end())["type"] == "completed"
    assert [line for line in flows.lines() if line != "4"] == ["1", "3"]


async def test_a_further_run_with_one_key_takes_the_place_of_the_first_or_is_refused(flows):
    flows.write(
        "replace", "concurrency: {key: x, on-conflict: replace}\nsteps:\n  - {id: a, sleep: 60s}"
    )
    flows.write(
        "reject", "concurrency: {key: x, on-conflict: reject}\nsteps:\n  - {id: a, sleep: 60s}"
    )
    one = await flows.start("replace")
    await one.until("step.waiting")
    two = await flows.start("replace")
    end = await one.end()
    assert (end["type"], end["code"], two.id in end["message"]) == ("failed", "replaced", True)
    await two.until("step.waiting")
    await cancelled(two)
    one = await flows.start("reject")
    with pytest.raises(Conflict, match="allows 1"):
        await flows.start("reject")
    await cancelled(one)
    three = await flows.start("reject")
    with pytest.raises(Conflict, match="allows 1"):
        await one.call("retry")
    await cancelled(three)


async def test_pause_stops_before_the_next_step_and_resume_goes_on(flows):
    flows.write(
        "two",
        """
        - {id: a, wait-for: go}
        - {id: b, run: "echo b >> log"}
        """,
    )
    flow = await flows.start("two")
    await flow.until("step.waiting")
    assert (await flow.call("pause"))["state"] == "paused"
    await flow.call("send_event", event="go")
    await flow.until("step.completed", stepId="a")
    await asyncio.sleep(0.05)
    assert flows.lines() == []
    assert (await flow.run())["state"] == "paused"
    await flow.call("resume")
    assert (await flow.end())["type"] == "completed"
    assert flows.lines() == ["b"]
    assert [type_ for type_ in flow.types() if type_ in ("paused", "resumed")] == [
        "paused", "resumed",
    ]  # fmt: skip


async def test_retry_runs_only_what_failed_and_what_follows_by_the_file_as_it_is_now(flows):
    text = """
        - {id: a, run: "echo a >> log"}
        - id: each
          for-each: [1, 2, 3]
          continue-on-error: false
          steps: [{id: one, run: "echo each{{ item }} >> log; test {{ item }} != 2 -o -e fixed"}]
        - {id: c, run: "echo c >> log; false"}
        """
    flows.write("fails", text)
    flow = await flows.start("fails")
    assert (await flow.end())["stepId"] == "each"
    (flows.folder / "fixed").touch()
    both = await asyncio.gather(flow.call("retry"), flow.call("retry"), return_exceptions=True)
    assert sorted(type(each).__name__ for each in both) == ["Conflict", "dict"]
    assert (await flow.end())["stepId"] == "c"
    assert flows.lines() == ["a", "each1", "each2", "each2", "each3", "c"]
    flows.write("fails", text.replace("; false", "2"))
    await flow.call("retry")
    assert (await flow.end())["type"] == "completed"
    assert any("as it is now" in each["message"] for each in flow.told("annotation"))
    assert (await flow.run())["attempt"] == 3
    assert list(await flow.steps()) == ["a", "each", "each/0/one", "each/1/one", "each/2/one", "c"]
    assert flows.counts()["a"] == 1
    assert flow.in_order()
    with pytest.raises(Conflict, match="fork"):
        await flow.call("retry")


async def test_a_fork_has_what_came_before_and_runs_the_rest_anew(flows):
    flows.write(
        "line",
        """
        args: {who: {type: string, default: me}}
        steps:
          - {id: a, run: "echo a >> log; echo of-a"}
          - {id: both, parallel: true, steps: [{id: in, run: "echo in >> log; echo of-in"}]}
          - id: b
            run: >-
              echo {{ steps.a.stdout | trim }}-{{ steps.in.stdout | trim }}-{{ args.who }} >> log
        """,
    )
    flow = await flows.start("line")
    await flow.end()
    with pytest.raises(NotFound, match="a, both"):
        await flow.call("fork", stepId="z")
    forked = await flow.call("fork", stepId="b", args={"who": "you"})
    other = Flow(flows.client, forked["runId"])
    assert (await other.end())["type"] == "completed"
    assert (await other.run())["parent"] == flow.id
    assert flows.lines() == ["a", "in", "of-a-of-in-me", "of-a-of-in-you"]


class Restarted:
    """A daemon process, and what a test does before and after it is gone."""

    def __init__(self, daemon: DaemonProcess, folder):
        self.daemon, self.folder, self.project = daemon, folder, ""

    async def begin(self, text, **others):
        self.daemon.start()
        async with self.daemon.client() as client:
            flows = await Flows.of(client, self.folder, flow=text, **others)
            self.project = flows.project
            flow = await flows.start("flow")
            await flow.until("step.waiting")
        return flow

    def flow(self, client, flow):
        again = Flow(client, flow.id)
        again.seen = flow.seen
        return again


@pytest.fixture
def restarted(tmp_path):
    """A daemon process that is killed or stopped, and started again."""
    process = DaemonProcess(tmp_path / "state", TASK__STOP_GRACE="0.3")
    yield Restarted(process, tmp_path / "own")
    process.process.kill()
    process.close()


ASKS = """
- {id: before, run: "echo before >> log"}
- {id: ship, approve: "Ship?"}
- {id: after, run: "echo {{ steps.ship.user }} {{ steps.ship.comment }} >> log"}
"""


async def test_an_approval_waits_across_a_restart_and_one_of_two_answers_wins(restarted):
    flow = await restarted.begin(ASKS)
    restarted.daemon.kill()
    restarted.daemon.start()
    async with restarted.daemon.client() as one, restarted.daemon.client() as two:
        flow = restarted.flow(one, flow)
        await flow.until("step.waiting")
        answers = await asyncio.gather(
            *(each.call("workflow.approve", {"runId": flow.id}) for each in (one, two)),
            return_exceptions=True,
        )
        assert sorted(type(each).__name__ for each in answers) == ["Conflict", "dict"]
        assert (await flow.end())["type"] == "completed"
        assert flow.in_order()
        assert [each.get("recovered", False) for each in flow.told("started")] == [False, True]
    assert len((restarted.folder / "log").read_text().splitlines()) == 2


async def test_what_was_acknowledged_survives_kill_9_however_often(restarted):
    flow = await restarted.begin(
        ASKS.replace("after, run:", "after, wait-for: go}\n- {id: log, run:")
    )
    async with restarted.daemon.client() as client:
        again = restarted.flow(client, flow)
        await again.call("approve", comment="sure")
        await again.call("send_event", event="go", data=1)
        await again.call("pause")
    for _ in range(3):
        restarted.daemon.kill()
        restarted.daemon.start()
    async with restarted.daemon.client() as client:
        again = restarted.flow(client, flow)
        if (await again.run())["state"] != "ended":
            await again.call("resume")
        assert (await again.end())["type"] == "completed"
        assert again.in_order()
    lines = (restarted.folder / "log").read_text().splitlines()
    assert (lines[0], {*lines[1:]}) == ("before", {"tester sure"})


async def test_a_retry_that_waits_a_sleep_and_a_pause_survive_a_restart(restarted):
    flow = await restarted.begin(
        """
        - id: all
          parallel: true
          steps:
            - {id: nap, sleep: 4s}
            - id: again
              run: "echo t >> tries; test $(wc -l < tries) = 2"
              retries: {max: 1, backoff: 4s, jitter: 0}
            - {id: go, wait-for: go}
        - {id: last, run: "echo last >> log"}
        """
    )
    async with restarted.daemon.client() as client:
        again = restarted.flow(client, flow)
        if "step.retrying" not in again.types():
            await again.until("step.retrying")
        steps = await again.steps()
        assert steps["all/again"]["state"] == "retrying"
        untils = {id_: steps[id_]["until"] for id_ in ("all/nap", "all/again")}
        await again.call("send_event", event="go")
        if "all/go" not in [each["stepId"] for each in again.told("step.completed")]:
            await again.until("step.completed", stepId="all/go")
        await again.call("pause")
    restarted.daemon.kill()
    restarted.daemon.start()
    async with restarted.daemon.client() as client:
        again = restarted.flow(client, flow)
        steps = await again.steps()
        assert {id_: steps[id_].get("until", until_) for id_, until_ in untils.items()} == untils
        assert (await again.run())["state"] == "paused"
        await again.call("resume")
        assert (await again.end())["type"] == "completed"
        assert (await again.steps())["all/again"]["attempt"] == 2
    assert (restarted.folder / "tries").read_text().splitlines() == ["t"] * 2


async def test_a_drain_in_the_middle_fails_nothing_and_the_run_goes_on_afterwards(restarted):
    flow = await restarted.begin(
        """
        - id: all
          parallel: true
          steps:
            - {id: ask, approve: "Now?"}
            - {id: sub, workflow: inner}
            - {id: again, run: exit 1, retries: {max: 1, backoff: 60s}, continue-on-error: true}
        - {id: last, run: "echo last >> log"}
        """,
        inner=f"""
        - id: long
          run: "echo begun >> log; test $(wc -l < log) -ge 2 || sleep {MARK}"
        """,
    )
    async with restarted.daemon.client() as client:
        await restarted.flow(client, flow).until("step.retrying")
    log = restarted.folder / "log"
    await until(lambda: log.exists() and log.read_text())
    assert await asyncio.to_thread(restarted.daemon.stop) == 0
    assert processes_with(MARK) == []
    restarted.daemon.start()
    async with restarted.daemon.client() as client:
        again = restarted.flow(client, flow)
        await again.until("step.waiting")
        await again.call("approve", stepId="all/ask")
        await again.until("step.completed", stepId="all/sub")
        assert again.told("step.failed") == []
        assert (await again.steps())["all/again"]["state"] == "retrying"
        await again.call("cancel")
        await again.end()
        assert again.in_order()
    assert (restarted.folder / "log").read_text().splitlines() == ["begun", "begun"]


def verdict_of(state_dir, run_id):
    """Give how a run is to end, as it is on disk."""
    with contextlib.closing(sqlite3.connect(state_dir / "agentcmd.db")) as db:
        ((verdict,),) = db.execute("SELECT verdict FROM workflow_run WHERE id = ?", (run_id,))
    return verdict


async def test_a_cancel_that_the_daemon_did_not_survive_is_carried_out_by_the_next(restarted):
    flow = await restarted.begin(
        f"""
        - id: all
          parallel: true
          steps:
            - {{id: wait, wait-for: go}}
            - {{id: long, run: "trap '' TERM; echo begun >> log; sleep {MARK}; sleep {MARK}"}}
        """
    )
    await until((restarted.folder / "log").exists)
    async with restarted.daemon.client() as client:
        asking = asyncio.ensure_future(restarted.flow(client, flow).call("cancel"))
        await until(lambda: verdict_of(restarted.daemon.state_dir, flow.id))
        assert not asking.done()
        restarted.daemon.kill()
        asking.cancel()
        await asyncio.wait([asking])
    await until(lambda: not processes_with(MARK))
    restarted.daemon.start()
    async with restarted.daemon.client() as client:
        again = restarted.flow(client, flow)
        assert (await again.end())["type"] == "cancelled"
        states = {each["state"] for each in (await again.steps()).values()}
        assert states == {"cancelled"}
    assert (restarted.folder / "log").read_text().splitlines() == ["begun"]


@pytest.mark.parametrize("how", ["edited", "deleted", "broken"])
async def test_a_run_goes_on_with_the_file_that_it_began_with(restarted, how):
    text = """
        - {id: a, run: "echo a >> log"}
        - {id: go, wait-for: go}
        - {id: b, run: "echo b >> log"}
        """
    flow = await restarted.begin(text)
    restarted.daemon.kill()
    flows = Flows(restarted.daemon.client(), restarted.folder)
    path = flows.folder / ".agent/workflows/flow.yaml"
    if how == "edited":
        more = "- {id: new, run: 'echo new >> log'}\n        - {id: go"
        flows.write("flow", text.replace("- {id: go", more).replace("echo b", "echo other"))
    elif how == "deleted":
        path.unlink()
    else:
        path.write_text("steps: [{id: a, nothing: 1}]")
    restarted.daemon.start()
    async with restarted.daemon.client() as client:
        again = restarted.flow(client, flow)
        await again.call("send_event", event="go")
        assert (await again.end())["type"] == "completed"
        assert again.told("annotation") == []
    assert (restarted.folder / "log").read_text().splitlines() == ["a", "b"]


async def test_a_child_of_a_dead_daemon_is_gone_before_its_step_runs_again(restarted):
    flow = await restarted.begin(
        f"""
        - id: all
          parallel: true
          steps:
            - {{id: wait, wait-for: go}}
            - id: long
              run: |
                if [ -e pids ]; then
                  for pid in $(cat pids); do kill -0 $pid 2>/dev/null && echo alive >> log; done
                  echo again >> log
                else
                  trap '' TERM
                  setsid sleep {MARK} & echo $! >> pids; echo $$ >> pids; echo first >> log
                  sleep {MARK}
                fi
        """
    )
    await until((restarted.folder / "log").exists)
    restarted.daemon.kill()
    restarted.daemon.start()
    async with restarted.daemon.client() as client:
        again = restarted.flow(client, flow)
        await again.call("send_event", event="go")
        assert (await again.end())["type"] == "completed"
    assert (restarted.folder / "log").read_text().splitlines() == ["first", "again"]
    assert processes_with(MARK) == []


async def test_an_agent_whose_daemon_died_goes_on_in_the_same_conversation(tmp_path, claude):
    daemon = DaemonProcess(tmp_path / "state", **claude)
    prompt = json.dumps(script({"stall": 30}))
    text = f"""
        - {{id: one, agent: claude, prompt: "first"}}
        - {{id: two, agent: claude, session: one, prompt: {prompt}}}
        """
    try:
        daemon.start()
        async with daemon.client() as client:
            flows = await Flows.of(client, tmp_path / "own", talk=text)
            flow = await flows.start("talk")
            await flow.until("step.started", stepId="two")
            first = (await flow.result("one"))["sessionId"]
            async with asyncio.timeout(30):
                while not (await turn_begun(client, first)):
                    await asyncio.sleep(0.05)
        daemon.kill()
        daemon.start()
        async with daemon.client() as client:
            again = Flow(client, flow.id)
            end = await again.end(60)
            assert end["type"] == "completed", end
            steps = await again.steps()
            assert steps["one"]["result"]["result"] == "you said: first"
            assert "attempt" not in steps["one"]
            assert steps["two"]["sessionId"] == first
            assert "Go on where you were" in steps["two"]["result"]["result"]
    finally:
        daemon.kill()


async def turn_begun(client, session_id):
    """Tell whether the agent was asked for the second time."""
    messages = (await client.call("session.messages", {"sessionId": session_id}))["messages"]
    return sum(each["role"] == "user" for each in messages) >= 2


async def test_cancel_ends_the_session_of_an_agent(start_daemon, claude, tmp_path):
    running = await start_daemon(**claude)
    async with running.client() as client:
        flows = await Flows.of(client, tmp_path / "own")
        flows.write(
            "talk", f"- {{id: a, agent: claude, prompt: {json.dumps(script({'stall': 60}))}}}"
        )
        flow = await flows.start("talk")
        await flow.until("step.started")
        async with asyncio.timeout(30):
            while not (session := (await flow.steps())["a"].get("sessionId")):
                await asyncio.sleep(0.02)
        await cancelled(flow)
        about = (await client.call("session.get", {"sessionId": session}))["session"]
        assert (about["state"], about["end"]["type"]) == ("ended", "cancelled")


STUBBORN = """
import asyncio, signal
from domains.workflow import workflow

@workflow(timeout=1)
async def main(run):
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    await stopped.wait()
    open("told", "w").close()
    await run.command("late", "sleep %s")
"""


@pytest.mark.parametrize("how", ["cancel", "timeout"])
async def test_a_process_that_does_not_heed_its_runs_timeout_has_no_more_steps_and_is_waited_for(
    start_daemon, tmp_path, how
):
    running = await start_daemon(TASK__STOP_GRACE="1")
    async with running.client() as client:
        flows = await Flows.of(client, tmp_path / "own")
        path = flows.folder / ".agent/workflows/stubborn.py"
        path.parent.mkdir(parents=True)
        path.write_text(STUBBORN % MARK)
        flow = await flows.start("stubborn")
        await until((flows.folder / "told").exists)
        if how == "cancel":
            await flow.call("cancel")
        end = await flow.end()
        assert (await client.call("task.list"))["tasks"] == []
        assert (end["type"], end.get("code")) in {("cancelled", None), ("failed", "timeout")}
        assert await flow.steps() == {}
        assert processes_with(MARK) == []


@pytest.mark.parametrize("how", ["cancel", "timeout"])
async def test_a_git_operation_is_over_with_its_step(running, tmp_path, how):
    served = Repo(tmp_path / "served" / "far")
    served.commit({"large.bin": random.Random(1).randbytes(1 << 20)})
    repo = Repo(tmp_path / "own")
    repo.commit({"a.txt": "a\n"})
    async with http_server(tmp_path / "served") as server, running.client() as client:
        repo.git("remote", "add", "origin", f"{server.url}/far/.git")
        server.stop_after(200_000)
        limit = "" if how == "cancel" else ", timeout-minutes: 0.02"
        get = f"- {{id: get, git: {{operation: fetch}}{limit}}}"
        flow = await (await Flows.of(client, repo.path, get=get)).start("get")
        if how == "cancel":
            await asyncio.wait_for(server.sent.wait(), 30)
            await flow.call("cancel")
        end = await flow.end()
        assert (end["type"], end.get("code")) in {("cancelled", None), ("failed", "timeout")}
        assert processes_with(server.url) == []
        assert list((repo.path / ".git").rglob("*.lock")) == []
        about = {"projectId": (await flow.run())["projectId"]}
        assert (await client.call("git.list", about))["operations"] == []
        server.go_on()
        await client.call("git.fetch", about)
