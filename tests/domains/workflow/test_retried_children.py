"""A run that is retried: the runs inside of it go on from the step that failed there."""

from __future__ import annotations

import asyncio
import textwrap

import pytest
from flows import Flow, Flows

from daemon.core.errors import Conflict

INNER = """
args: {n: {type: integer, default: 0}}
steps:
  - {id: a, run: "echo a{{ args.n }} >> log; echo made-{{ args.n }}"}
  - {id: b, run: "echo b{{ args.n }} >> log; test -e fixed || test {{ args.n }} = 7"}
  - {id: c, run: "echo c-{{ steps.a.stdout }} >> log"}
"""


@pytest.fixture
async def flows(start_daemon, tmp_path):
    """A project with a workflow that fails after its first step until `fixed` is there."""
    running = await start_daemon(TASK__STOP_GRACE="0.3")
    async with running.client() as client:
        flows = await Flows.of(client, tmp_path / "own", inner=INNER)
        flows.running = running
        yield flows


async def child_of(flow, step="sub"):
    """Return the id of the run that a step started."""
    return Flow(flow.client, (await flow.steps())[step]["child"])


async def failed(flows, text="- {id: sub, workflow: inner}", **more):
    """Start a run that fails in the run inside of it, and give both."""
    flows.write("outer", text)
    flow = await flows.start("outer", **more)
    assert (await flow.end())["type"] == "failed"
    return flow, await child_of(flow)


async def retried(flow, type_="completed"):
    """Retry a run and follow it to its end."""
    await flow.call("retry")
    end = await flow.end()
    assert end["type"] == type_, end
    return end


async def attempt(flow):
    """Return the number of its attempts."""
    return (await flow.run()).get("attempt", 1)


async def children(flows, workflow="inner"):
    """Count the runs of a workflow."""
    return len((await flows.client.call("workflow.runs", {"workflow": workflow}))["runs"])


async def test_the_run_inside_goes_on_from_the_step_that_failed(flows):
    flow, child = await failed(flows)
    (flows.folder / "fixed").touch()
    await retried(flow)
    assert flows.lines() == ["a0", "b0", "b0", "c-made-0"]
    assert (await child_of(flow)).id == child.id
    run = await child.run()
    assert (run["attempt"], run["end"]["type"], run["parent"]) == (2, "completed", flow.id)
    assert await flow.result("sub") == {"runId": child.id, "output": None}
    await child.end()
    await child.end()
    assert any(flow.id in each["message"] for each in child.told("annotation"))
    assert await children(flows) == 1


async def test_it_is_the_same_run_however_often_it_fails(flows):
    flow, child = await failed(flows)
    await retried(flow, "failed")
    await retried(flow, "failed")
    (flows.folder / "fixed").touch()
    await retried(flow)
    assert flows.counts() == {"a0": 1, "b0": 4, "c-made-0": 1}
    assert await attempt(child) == 4


async def test_runs_inside_of_runs_go_on_each_where_it_was(flows):
    flows.write("middle", '- {id: m, run: "echo m >> log"}\n- {id: in, workflow: inner}')
    flow, middle = await failed(flows, "- {id: sub, workflow: middle}")
    inner = await child_of(middle, "in")
    (flows.folder / "fixed").touch()
    await retried(flow)
    assert flows.counts() == {"m": 1, "a0": 1, "b0": 2, "c-made-0": 1}
    assert [await attempt(each) for each in (flow, middle, inner)] == [2, 2, 2]


@pytest.mark.parametrize(
    "text",
    [
        """
        - id: sub
          for-each: [1, 7, 2]
          max-parallel: 3
          steps: [{id: one, workflow: inner, args: {n: "{{ item }}"}}]
        """,
        """
        - id: sub
          parallel: true
          steps:
            - {id: x, workflow: inner, args: {n: 1}}
            - {id: y, workflow: inner, args: {n: 7}}
            - {id: z, workflow: inner, args: {n: 2}}
        """,
    ],
    ids=["for-each", "parallel"],
)
async def test_of_several_each_goes_on_at_its_own(flows, text):
    flows.write("outer", textwrap.dedent(text))
    flow = await flows.done("outer")
    (flows.folder / "fixed").touch()
    await retried(flow)
    counts = {"a1": 1, "a2": 1, "a7": 1, "b1": 2, "b2": 2, "b7": 1}
    assert flows.counts() == counts | {f"c-made-{n}": 1 for n in (1, 2, 7)}
    assert await children(flows) == 3


async def test_a_workflow_in_python_has_its_runs_go_on_too(flows):
    (flows.folder / ".agent/workflows/outer.py").write_text(
        "from domains.workflow import workflow\n\n@workflow\nasync def outer(run):\n"
        "    for n in (7, 1):\n        await run.workflow('sub', 'inner', {'n': n})\n"
    )
    flow = await flows.done("outer")
    (flows.folder / "fixed").touch()
    await retried(flow)
    counts = {"a7": 1, "b7": 1, "c-made-7": 1, "a1": 1, "b1": 2, "c-made-1": 1}
    assert flows.counts() == counts


async def test_tries_within_one_run_start_another_and_the_last_of_them_is_retried(flows):
    text = "- {id: sub, workflow: inner, retries: {max: 1, backoff: 1ms}}"
    flow, last = await failed(flows, text)
    assert await children(flows) == 2
    await retried(flow, "failed")
    assert await children(flows) == 3
    assert await attempt(last) == 2
    (flows.folder / "fixed").touch()
    newest = await child_of(flow)
    await retried(flow)
    assert (await newest.run())["end"]["type"] == "completed"
    assert flows.counts()["a0"] == 3


async def test_other_arguments_begin_another_run(flows):
    flow, child = await failed(flows, "- {id: sub, workflow: inner, args: {n: 1}}")
    flows.write("outer", "- {id: sub, workflow: inner, args: {n: 7}}")
    await retried(flow)
    assert flows.lines() == ["a1", "b1", "a7", "b7", "c-made-7"]
    assert await attempt(child) == 1
    assert (await child_of(flow)).id != child.id


async def test_another_workflow_at_the_step_begins_another_run(flows):
    flow, child = await failed(flows)
    flows.write("other", '- {id: a, run: "echo other >> log"}')
    flows.write("outer", "- {id: sub, workflow: other}")
    await retried(flow)
    assert flows.lines() == ["a0", "b0", "other"]
    assert await attempt(child) == 1


async def test_an_argument_that_its_default_stands_for_is_no_other_one(flows):
    flow, _ = await failed(flows)
    (flows.folder / "fixed").touch()
    flows.write("outer", "- {id: sub, workflow: inner, args: {n: 0}}")
    await retried(flow)
    assert flows.counts()["a0"] == 1


async def test_its_file_as_it_is_now_counts(flows):
    flow, child = await failed(flows)
    flows.write("inner", INNER.replace("test -e fixed", "true"))
    await retried(flow)
    assert flows.lines() == ["a0", "b0", "b0", "c-made-0"]
    await child.end()
    await child.end()
    assert any("as it is now" in each["message"] for each in child.told("annotation"))


async def test_a_run_that_is_gone_begins_anew(flows):
    flow, child = await failed(flows)
    (flows.folder / "fixed").touch()
    journal = flows.running.daemon._journal
    journal.forget(journal.get(f"workflow:run:{child.id}"))
    await retried(flow)
    assert flows.counts()["a0"] == 2


async def test_what_somebody_has_retried_meanwhile_is_taken_as_it_came_out(flows):
    flow, child = await failed(flows)
    (flows.folder / "fixed").touch()
    await retried(Flow(child.client, child.id), "failed")  # its first end is read again
    async with asyncio.timeout(20):
        while (await child.run())["state"] != "ended":
            await asyncio.sleep(0.01)
    await retried(flow)
    assert flows.lines() == ["a0", "b0", "b0", "c-made-0"]
    assert await attempt(child) == 2
    assert (await flow.result("sub"))["runId"] == child.id


WAITS = """
- {id: a, run: "echo a >> log"}
- {id: b, run: "echo b >> log; test -e fixed"}
- {id: asks, wait-for: go}
"""


async def test_a_run_that_somebody_has_going_is_waited_for(flows):
    flows.write("inner", WAITS)
    flow, child = await failed(flows)
    (flows.folder / "fixed").touch()
    await child.call("retry")
    await child.until("step.failed")
    await child.end()
    await child.until("step.waiting")
    await flow.call("retry")
    await flow.until("started")
    with pytest.raises(Conflict):
        await child.call("retry")
    async with asyncio.timeout(20):
        while (await flow.steps()).get("sub", {}).get("child") != child.id:
            await asyncio.sleep(0.01)
    await child.call("send_event", event="go")
    await flow.end()
    assert flow.seen[-1].type == "workflow.run.completed"
    assert flows.lines() == ["a", "b", "b"]


async def retried_and_waiting(flows):
    """Return a retried run and its child, which waits in its own retry."""
    flows.write("inner", WAITS)
    flow, child = await failed(flows)
    (flows.folder / "fixed").touch()
    await flow.call("retry")
    await child.end()
    await child.until("step.waiting")
    return flow, child


async def test_a_cancel_reaches_what_was_retried_and_another_retry_goes_on(flows):
    flow, child = await retried_and_waiting(flows)
    await flow.call("cancel")
    assert (await flow.end())["type"] == "cancelled"
    assert (await child.run())["end"]["type"] == "cancelled"
    await flow.call("retry")
    await child.end()
    await child.until("step.waiting")
    await child.call("send_event", event="go")
    assert (await flow.end())["type"] == "completed"
    assert flows.lines() == ["a", "b", "b"]


async def test_a_fork_begins_another_run(flows):
    flow, child = await failed(flows)
    (flows.folder / "fixed").touch()
    forked = Flow(flow.client, (await flow.call("fork", stepId="sub"))["runId"])
    assert (await forked.end())["type"] == "completed"
    assert flows.lines() == ["a0", "b0", "a0", "b0", "c-made-0"]
    assert await attempt(child) == 1


async def test_one_of_two_retries_wins_and_the_run_inside_is_retried_once(flows):
    flow, child = await failed(flows)
    (flows.folder / "fixed").touch()
    both = await asyncio.gather(flow.call("retry"), flow.call("retry"), return_exceptions=True)
    assert sorted(type(each).__name__ for each in both) == ["Conflict", "dict"]
    assert (await flow.end())["type"] == "completed"
    assert await attempt(child) == 2


KEYED = "concurrency: {key: one, on-conflict: CONFLICT}\n" + INNER.strip() + "\n"


async def test_its_key_holds_when_it_is_retried(flows):
    flows.write("inner", KEYED.replace("CONFLICT", "reject"))
    flow, child = await failed(flows)
    waits = KEYED.replace("CONFLICT", "reject") + "  - {id: d, wait-for: go}\n"
    flows.write("inner", waits)
    (flows.folder / "fixed").touch()
    other = await flows.start("inner", args={"n": 7})
    await other.until("step.waiting")
    end = await retried(flow, "failed")
    assert end["code"] == "conflict"
    assert await attempt(child) == 1
    await other.call("send_event", event="go")
    await other.end()
    await flow.call("retry")
    await child.end()
    await child.until("step.waiting")
    await child.call("send_event", event="go")
    assert (await flow.end())["type"] == "completed"
    assert flows.counts()["a0"] == 1


async def test_a_key_that_the_outer_run_holds_itself_is_a_conflict_and_no_endless_wait(flows):
    lane = "concurrency: {key: one}\n"
    args = "args: {deep: {type: boolean, default: false}}\nsteps:\n"
    again = '  - {id: sub, workflow: itself, args: {deep: true}, if: "not args.deep"}\n'
    fails = '  - {id: f, run: "exit 1", if: args.deep}\n'
    flows.write("itself", args + again + fails)
    flow = await flows.done("itself")
    flows.write("itself", lane + args + again + fails)
    assert (await retried(flow, "failed"))["code"] == "conflict"


async def test_a_pause_of_the_outer_run_pauses_what_it_has_retried(flows):
    flow, child = await retried_and_waiting(flows)
    await flow.call("pause")
    assert (await child.run())["state"] == "paused"
    await flow.call("resume")
    await child.call("send_event", event="go")
    assert (await flow.end())["type"] == "completed"
