"""How far a run is: what for-each, commands, git and functions tell of themselves."""

from __future__ import annotations

import asyncio

import pytest
from flows import Flows
from repositories import Repo

PYTHON = "import asyncio, time\nfrom domains.workflow import workflow\n\n"


@pytest.fixture
async def flows(running, tmp_path):
    """A project without workflows yet."""
    async with running.client() as client:
        yield await Flows.of(client, tmp_path / "own")


def said(flow, step):
    """Give what was told of a step: how much is done, of how much, and when."""
    return [
        (each["progress"]["current"], each["progress"]["total"], each["progress"]["percentage"])
        for each in flow.told("step.progress")
        if each["stepId"] == step
    ]


def before_its_end(flow, step):
    """Tell whether nothing was told of it after its end."""
    told = [m.type.rpartition(".")[2] for m in flow.seen if m.data.get("stepId") == step]
    return told[0] == "started" and "progress" not in told[told.index("progress") :][-1:]


async def test_a_for_each_tells_how_many_of_its_items_are_done(flows):
    flows.write(
        "all",
        """
        - id: all
          for-each: [0, 1, 2, 3]
          steps: [{id: gate, wait-for: go}, {id: note, annotation: "{{ item }}"}]
        - {id: both, parallel: true, steps: [{id: l, run: "true"}, {id: r, run: "true"}]}
        - {id: none, for-each: [], steps: [{id: x, run: "true"}]}
        """,
    )
    flow = await flows.start("all")
    assert (await flow.until("step.progress"))["progress"] == {
        "current": 0,
        "total": 4,
        "percentage": 0,
    }
    for number in (1, 2):
        await flow.call("send_event", event="go")
        told = await flow.until("step.progress")
        assert (told["stepId"], told["progress"]["current"]) == ("all", number)
        assert (await flow.steps())["all"]["progress"] == told["progress"]
    for _ in range(2):
        await flow.call("send_event", event="go")
    assert (await flow.end())["type"] == "completed"
    assert said(flow, "all")[-1] == (4, 4, 100)
    assert said(flow, "both")[-1] == (2, 2, 100)
    assert said(flow, "none") == []
    assert before_its_end(flow, "all")
    assert not any("progress" in each for each in (await flow.steps()).values())


async def test_ten_thousand_items_are_told_of_a_few_times(flows):
    flows.write(
        "many",
        """
        - {id: list, run: "printf '[%s]' $(seq -s, 1 9000)"}
        - id: all
          for-each: "{{ steps.list.json }}"
          max-parallel: 4
          max-items: 10000
          steps: [{id: note, annotation: "{{ item }}"}]
        """,
    )
    flow = await flows.done("many")
    told = [each for each, _, _ in said(flow, "all")]
    assert told == sorted(told)
    assert told[0] == 0
    assert told[-1] == 9000
    taken = next(
        each["durationMs"] for each in flow.told("step.completed") if each["stepId"] == "all"
    )
    assert len(told) <= 3 + taken / 200


async def test_an_item_that_fails_is_not_done_and_what_was_said_last_stays(flows):
    flows.write(
        "bad",
        """
        - {id: all, for-each: [0, 1, 2], steps: [{id: is, run: "test {{ item }} != 1"}]}
        """,
    )
    flow = await flows.done("bad")
    assert said(flow, "all")[-1] == (1, 3, 33.3)
    assert (await flow.steps())["all"]["progress"]["current"] == 1


async def test_a_command_tells_it_as_to_a_terminal(flows):
    flows.write(
        "told",
        r"""
        - id: a
          run: |
            printf 'begun\033]9;4;1;10\a\n'
            printf '\033]9;4;1;55\033\\' >&2
            printf '\033]9;4;3;0\a and so on'
        """,
    )
    flow = await flows.done("told")
    assert said(flow, "a")[0] == (10, 100, 10)
    assert said(flow, "a")[-1] == (55, 100, 55)
    assert before_its_end(flow, "a")
    kept = (await flow.result("a"))["stdout"]
    assert kept == "begun\x1b]9;4;1;10\a\n\x1b]9;4;3;0\a and so on"  # nothing is taken out of it


async def test_a_git_step_has_the_progress_of_its_operation(running, tmp_path):
    far = Repo(tmp_path / "far")
    far.commit({f"f{number}.txt": f"{number}\n" for number in range(300)})
    repo = Repo(tmp_path / "own")
    repo.commit({"a.txt": "a\n"})
    repo.git("remote", "add", "origin", far.path.as_uri())
    async with running.client() as client:
        flows = await Flows.of(client, repo.path, get="- {id: get, git: {operation: fetch}}")
        flow = await flows.done("get")
        assert flow.seen[-1].type == "workflow.run.completed", flow.seen[-1].data
    told = said(flow, "get")
    assert all(0 <= share <= 100 for _, total, share in told if total is not None)
    assert told[-1][0] == told[-1][1] > 0


async def test_a_function_tells_it_from_a_thread_and_from_the_loop(flows):
    path = flows.folder / ".agent/workflows/flow.py"
    path.parent.mkdir(parents=True)
    path.write_text(
        PYTHON
        + """
@workflow
async def main(run):
    def counting(upto):
        for number in range(upto + 1):
            run.progress(number, upto)

    async def slowly():
        run.progress(1.5)
        await asyncio.sleep(0.3)
        run.progress(2)
        await asyncio.sleep(0.3)

    async def inside(scope, item, index):
        await scope.step("s", counting, 10)

    def wrongly(*amounts):
        try:
            run.progress(*amounts)
        except (ValueError, TypeError) as error:
            return str(error)

    await run.step("count", counting, 100_000)
    await run.step("slowly", slowly)
    await run.for_each("all", [1, 2], inside)
    said = [wrongly(1)]
    for amounts in ((-1,), (float("nan"),), (1, float("inf")), ("x",)):
        said.append(await run.step("wrong", wrongly, *amounts))
    return said
"""
    )
    flow = await flows.done("flow")
    end = flow.seen[-1]
    assert end.type == "workflow.run.completed", end.data
    outside, *bad, text = end.data["output"]
    assert "run.step" in outside
    assert all("it cannot be" in each for each in bad)
    assert "'<=' not supported" in text
    assert said(flow, "count")[-1] == (100_000, 100_000, 100)
    assert len(said(flow, "count")) < 100
    assert said(flow, "slowly") == [(1.5, None, None), (2, None, None)]
    assert said(flow, "all")[-1] == (2, 2, 100)
    assert said(flow, "all/1/s")[-1] == (10, 10, 100)
    assert before_its_end(flow, "count")


async def test_a_function_that_took_too_long_tells_nothing_of_its_next_try(flows):
    path = flows.folder / ".agent/workflows/flow.py"
    path.parent.mkdir(parents=True)
    path.write_text(
        PYTHON
        + """
from threading import Event

@workflow
async def main(run):
    tries, again, late = [], Event(), Event()

    def work():
        tries.append(1)
        if len(tries) == 1:
            again.wait()
            run.progress(7, 7)
            late.set()
        else:
            again.set()
            late.wait()
            time.sleep(0.2)  # until it would have been said
            run.progress(1, 2)

    await run.step("work", work, timeout=0.5, retries=5, backoff=0)
"""
    )
    flow = await flows.done("flow")
    assert flow.seen[-1].type == "workflow.run.completed", flow.seen[-1].data
    assert said(flow, "work") == [(1, 2, 50)]


async def test_a_run_that_is_cancelled_or_cut_off_tells_no_more(flows):
    flows.write(
        "cut",
        r"""
        - id: a
          run: |
            while :; do for n in 1 2 3 4 5; do printf '\033]9;4;1;%d\a' $n; sleep 0.01; done; done
        """,
    )
    flow = await flows.start("cut")
    for _ in range(3):
        await flow.until("step.progress")
    await flow.call("cancel")
    assert (await flow.end())["type"] == "cancelled"
    await asyncio.sleep(0.3)
    assert flow.in_order()
    history = [each async for each in flows.client.history(f"workflow:run:{flow.id}")]
    assert history[-1].type == "workflow.run.cancelled"
