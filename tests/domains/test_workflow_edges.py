"""Workflows at their edges: what is hostile, too much, or comes at the worst moment."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest
from flows import Flow, Flows
from support import until

from daemon.core.errors import BadRequest, Conflict, NotFound
from domains.workflow import inbox
from domains.workflow.definition import Definition
from domains.workflow.library import Library, Source


@pytest.fixture
async def flows(running, tmp_path):
    """A project without workflows yet."""
    async with running.client() as client:
        yield await Flows.of(client, tmp_path / "own")


@pytest.mark.parametrize("run_id", ["/etc", "..", ".", "../../etc", "a\0b", "x" * 5000])
async def test_no_file_outside_of_the_kept_ones_is_an_artifact(flows, tmp_path, run_id):
    (tmp_path / "state/hosts").write_text("of the daemon")
    with pytest.raises(NotFound, match="no run"):
        await flows.client.call("workflow.artifact", {"runId": run_id, "name": "hosts"})


@pytest.fixture
async def trees(running, tmp_path):
    """A repository with a workflow that works in a work tree, until there is a file `flag`."""
    async with running.client() as client:
        flows = await Flows.of(client, tmp_path / "own")
        flows.write(
            "tree",
            f"""
            workspace: worktree
            steps:
              - {{id: a, run: "pwd >> {tmp_path}/log; test -e {tmp_path}/flag"}}
            """,
        )
        for words in ("init -q -b main", "add .", "-c user.name=a -c user.email=a@b commit -qm a"):
            subprocess.run(["git", *words.split()], cwd=flows.folder, check=True)
        yield flows


def listed(flows):
    found = subprocess.run(
        ["git", "worktree", "list"], cwd=flows.folder, capture_output=True, check=True, text=True
    )
    return found.stdout.splitlines()


async def test_a_work_tree_that_is_made_while_its_run_is_cancelled_is_the_runs(trees, tmp_path):
    hook = trees.folder / ".git/hooks/post-checkout"
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/making; sleep 0.5\n")
    hook.chmod(0o755)
    await trees.client.call("project.trust", {"projectId": trees.project, "trusted": True})
    flow = await trees.start("tree")
    await until((tmp_path / "making").exists)
    await flow.call("cancel")
    assert (await flow.end())["type"] == "cancelled"
    (_, tree) = listed(trees)
    assert tree.startswith((await flow.run())["cwd"])
    assert "stays for a retry" in flow.told("annotation")[0]["message"]
    assert not (tmp_path / "log").exists()


async def test_a_file_whose_name_is_no_unicode_hides_no_other(flows, monkeypatch):
    flows.write("a", "- {id: a, run: 'true'}")
    flows.write("gone", "- {id: a, run: 'true'}")
    folder = flows.folder / ".agent/workflows"
    odd = os.fsencode(folder) + b"/odd\xff.yaml"
    os.link(folder / "a.yaml", odd)
    is_file = Path.is_file

    def going(path):
        there = is_file(path)
        if path.name == "gone.yaml":
            path.unlink()
        return there

    monkeypatch.setattr(Path, "is_file", going)
    listed = (await flows.client.call("workflow.list", {"projectId": flows.project}))["workflows"]
    assert [each["id"] for each in listed] == ["a", "odd\ufffd"]
    flow = await flows.done("odd\ufffd")
    assert (await flow.run())["end"]["type"] == "completed"


async def test_of_two_files_of_one_name_a_run_goes_on_with_its_own(daemon_process, tmp_path):
    daemon_process.start()
    async with daemon_process.client() as client:
        flows = await Flows.of(client, tmp_path / "own")
        flows.write("a", "- {id: a, wait-for: go}")
        other = tmp_path / "own/.agent/workflows/a.yml"
        other.write_text("steps: [{id: z, run: 'false'}]")
        flow = await flows.start("a")
        await flow.until("step.waiting")
    daemon_process.kill()
    daemon_process.start()
    async with daemon_process.client() as client:
        flow.client = client
        await flow.call("send_event", event="go")
        assert (await flow.end())["type"] == "completed"
        assert flow.told("annotation") == []


async def test_a_run_does_not_wait_for_the_run_that_it_is_a_step_of(flows):
    flows.write("outer", "concurrency: {key: x}\nsteps:\n  - {id: a, workflow: between}")
    flows.write("between", "- {id: a, workflow: outer}")
    flow = await flows.start("outer")
    end = await flow.end(timeout=5)
    assert (end["type"], end["code"]) == ("failed", "conflict")
    assert f"{flow.id} among them would wait for this one" in end["message"]


async def test_forks_of_runs_that_go_on_are_not_inside_of_them_and_may_queue(flows):
    flows.write("inner", "- {id: a, run: 'true'}")
    flows.write(
        "fork",
        """
        args: {go: {type: boolean, default: false}}
        concurrency: {key: x, limit: 9}
        steps:
          - {id: a, workflow: inner}
          - {id: b, wait-for: go, if: not args.go}
        """,
    )
    first = last = await flows.start("fork")
    for count in range(10):
        await last.until("step.completed", stepId="a")
        more = {"args": {"go": True}} if count == 8 else {}
        made = await last.call("fork", stepId="a", **more)
        last = Flow(flows.client, made["runId"])
        if count == 8:
            break
    assert (await last.until("updated"))["position"] == 1
    await first.call("cancel")
    assert (await last.end())["type"] == "completed"


async def test_a_fork_runs_anew_what_had_failed_beside_its_step(flows):
    flows.write(
        "fork",
        """
        - id: both
          parallel: true
          continue-on-error: true
          steps:
            - {id: a, run: "echo a >> log; test -e flag"}
            - {id: b, run: "echo b >> log; exit 4"}
        - {id: c, run: "test -e flag; exit {{ steps.a.exitCode }}"}
        """,
    )
    flow = await flows.done("fork")
    assert (await flow.run())["end"]["stepId"] == "c"
    assert list(await flow.steps()) == ["both", "both/a", "both/b", "c"]
    (flows.folder / "flag").touch()
    fork = Flow(flows.client, (await flow.call("fork", stepId="both/b"))["runId"])
    assert (await fork.end())["type"] == "completed"
    assert flows.counts() == {"a": 2, "b": 2}
    fork = Flow(flows.client, (await flow.call("fork", stepId="c"))["runId"])
    assert (await fork.end())["code"] == "exit"  # it knows what `a` came to
    assert flows.counts() == {"a": 2, "b": 2}


def nested(depth):
    """Give data so deep that this process writes it, and others hardly read it."""
    value = 1
    for _ in range(depth):
        value = [value]
    return value


async def test_data_that_is_nested_without_end_is_refused_or_stays_text(flows):
    text = msgspec.json.encode(nested(920)).decode()
    (flows.folder / "deep.json").write_text(text)
    flows.write("deep", "args: {x: {}}\nsteps:\n  - {id: a, run: cat deep.json}")
    flows.write("wait", "- {id: a, wait-for: go}")
    with pytest.raises(BadRequest, match="nested too deeply"):
        await flows.start("deep", args={"x": nested(120)})
    flow = await flows.done("deep", args={"x": nested(90)})
    assert (await flow.result("a")) == {"exitCode": 0, "stdout": text, "stderr": ""}
    flow = await flows.start("wait")
    with pytest.raises(BadRequest, match="nested too deeply"):
        await flow.call("send_event", event="go", data=nested(120))
    await flow.call("send_event", event="go", data=nested(90))
    assert (await flow.end())["type"] == "completed"


async def test_an_event_that_cannot_be_judged_does_not_fit_and_ends_no_run(flows):
    flows.write("wait", "- {id: a, wait-for: {event: go, match: event.n > 2}}")
    flow = await flows.start("wait")
    for data in ({"x": 1}, "words", {"n": "2"}, None, {"n": 1}, {"n": 3}):
        await flow.call("send_event", event="go", data=data)
    assert (await flow.end())["type"] == "completed"
    assert (await flow.result("a"))["data"] == {"n": 3}
    said = [each["message"] for each in flow.told("annotation")]
    assert len(said) == 4
    assert said[0] == "an event go is passed over: event.n: there is: x"


async def test_a_retry_has_the_defaults_of_arguments_that_are_new_in_the_file(flows):
    flows.write("more", "args: {x: {default: 1}}\nsteps:\n  - {id: a, run: 'false'}")
    flow = await flows.done("more", args={"x": 2})
    steps = "steps:\n  - {id: a, run: 'echo {{ args.x }} {{ args.y }} >> log'}"
    flows.write("more", f"args: {{x: {{default: 1}}, y: {{default: 3}}}}\n{steps}")
    await flow.call("retry")
    assert (await flow.end())["type"] == "completed"
    assert flows.lines() == ["2 3"]
    assert (await flow.run())["args"] == {"x": 2, "y": 3}


async def test_an_artifact_that_cannot_be_kept_says_whose_fault_that_is(flows, monkeypatch):
    (flows.folder / "loop").symlink_to("loop")
    (flows.folder / "file").write_text("words")
    flows.write("loop", "- {id: a, artifact: loop}")
    flows.write("full", "- {id: a, artifact: file, retries: {max: 1, backoff: 10ms}}")
    flow = await flows.done("loop")
    assert (await flow.run())["end"]["code"] == "not_found"
    copy, copies = shutil.copyfileobj, []

    def copied(*files):
        copies.append(files)
        if len(copies) in (1, 2, 3):
            raise OSError(errno.ENOSPC, "No space left on device")
        copy(*files)

    monkeypatch.setattr(shutil, "copyfileobj", copied)
    flow = await flows.done("full")
    assert (await flow.run())["end"]["code"] == "unavailable"
    flow = await flows.done("full")
    assert (await flow.run())["end"]["type"] == "completed"
    assert len(copies) == 4


async def test_who_may_start_no_run_may_fork_none(flows, running):
    flows.write("a", "- {id: a, run: 'false'}")
    flow = await flows.done("a")
    asked = {"runId": flow.id, "stepId": "a"}
    socket = await running.ws(token=running.token(scope=f"write:workflow:run:{flow.id}"))
    refused = await socket.call("workflow.fork", asked)
    assert refused["data"]["code"] == "forbidden"
    assert f"write:project:{flows.project}" in refused["data"]["message"]
    assert len((await flows.client.call("workflow.runs"))["runs"]) == 1
    answer = await socket.call("workflow.retry", {"runId": flow.id})
    assert answer["data"]["runId"] == flow.id


async def test_a_run_that_waits_for_longer_than_events_are_kept_has_its_files(
    start_daemon, tmp_path
):
    running = await start_daemon(JOURNAL__KEEP_DAYS="0.000001", JOURNAL__PRUNE_INTERVAL="0.05")
    async with running.client() as client:
        flows = await Flows.of(client, tmp_path / "own")
        (flows.folder / "file").write_text("words")
        flows.write("keep", "- {id: a, artifact: file}\n- {id: b, wait-for: go}")
        flow = await flows.start("keep")
        kept = tmp_path / "state/artifacts" / flow.id / "file"
        await until(kept.exists)
    journal = running.daemon._journal
    other = journal.append("session:other", "t.e", b"{}").name
    await until(lambda: other not in {log.name for log in journal})
    assert journal.get(f"workflow:run:{flow.id}").oldest == 1
    async with running.client() as client:
        flow.client = client
        assert (await flow.call("artifact", name="file"))["size"] == 5
        await flow.call("send_event", event="go")
    await until(lambda: not kept.exists())


async def test_a_step_that_is_another_kind_after_a_retry_begins_anew(daemon_process, tmp_path):
    daemon_process.start()
    async with daemon_process.client() as client:
        flows = await Flows.of(client, tmp_path / "own")
        flows.write("turn", "- {id: a, sleep: 60s}")
        flow = await flows.start("turn")
        await flow.until("step.waiting")
    daemon_process.kill()
    flows.write("turn", "- {id: a, approve: Now}")
    daemon_process.start()
    async with daemon_process.client() as client:
        flow.client = client
        await flow.call("cancel")
        assert (await flow.end())["type"] == "cancelled"
        await flow.call("retry")
        told = await flow.until("step.waiting", waitsFor="approval")
        assert "until" not in told  # the sleep's moment is none of the approval's
        await flow.call("approve")
        assert (await flow.end())["type"] == "completed"


async def test_steps_have_a_place_each_after_a_retry_and_a_restart(daemon_process, tmp_path):
    """What a retry forgets leaves gaps; once two had one place, and their page had no next one."""
    item = '{id: x, run: "test {{ item }} = 1"}'
    each = f"- {{id: each, for-each: [2, 1], max-parallel: 2, steps: [{item}]}}"
    daemon_process.start()
    async with daemon_process.client() as client:
        flows = await Flows.of(client, tmp_path / "own")
        flows.write("gaps", each)
        flow = await flows.done("gaps")
        waits = "steps: [{id: w, wait-for: go}, {id: v, wait-for: go}]"
        flows.write("gaps", f"- {{id: both, parallel: true, {waits}}}\n{each}")
        await flow.call("retry")
        for step in ("both/w", "both/v"):
            await flow.until("step.waiting", stepId=step)
        before = [*await flow.steps()]
    daemon_process.kill()
    daemon_process.start()
    async with daemon_process.client() as client:
        flow.client = client
        for _ in range(2):
            await flow.call("send_event", event="go")
        await flow.end()
        found, page = [], {"nextCursor": "0"}
        while "nextCursor" in page:
            page = await flow.call("get", limit=1, cursor=page["nextCursor"])
            found += [step["id"] for step in page["steps"]]
            assert len(found) < 10
        assert found == [*await flow.steps()]
        assert found[: len(before)] == before


async def test_a_run_whose_outer_one_timed_out_in_the_daemons_absence_ends(
    daemon_process, tmp_path
):
    daemon_process.start()
    async with daemon_process.client() as client:
        flows = await Flows.of(client, tmp_path / "own")
        flows.write("inner", "- {id: a, wait-for: go}")
        flows.write("outer", "timeout-minutes: 0.1\nsteps:\n  - {id: a, workflow: inner}")
        flow = await flows.start("outer")
        await until_child(flow)
    daemon_process.kill()
    await asyncio.sleep(6.1)  # what the outer one may take
    daemon_process.start()
    async with daemon_process.client() as client:
        flow.client = client
        assert (await flow.end())["code"] == "timeout"
        inner = Flow(client, (await flow.steps())["a"]["child"])
        assert (await inner.end())["type"] == "cancelled"


async def until_child(flow):
    async with asyncio.timeout(30):
        while "child" not in (await flow.steps()).get("a", {}):
            await asyncio.sleep(0.01)


async def test_events_that_nobody_waits_for_are_bounded(flows, monkeypatch):
    monkeypatch.setattr(inbox, "KEPT_BYTES", 3000)
    monkeypatch.setattr(inbox, "KEPT", 5)
    flows.write("wait", "- {id: a, wait-for: go}")
    flow = await flows.start("wait")
    await flow.call("send_event", event="other", data="x" * 2000)
    with pytest.raises(Conflict, match="3,000 bytes"):
        await flow.call("send_event", event="other", data="x" * 2000)
    for _ in range(4):
        await flow.call("send_event", event="other")
    with pytest.raises(Conflict, match="5 events"):
        await flow.call("send_event", event="other")


async def test_only_the_file_of_a_run_is_read_for_it(flows, monkeypatch):
    for name in ("one", "two", "three"):
        flows.write(name, "- {id: a, run: 'true'}")
    opened, read = Path.open, []

    def noted(path, *args, **options):
        read.append(path.name)
        return opened(path, *args, **options)

    monkeypatch.setattr(Path, "open", noted)
    await flows.start("two")
    assert read == ["two.yaml"]
    with pytest.raises(NotFound, match="there is: one, three, two"):
        await flows.start("four")
    assert read == ["two.yaml"]


def test_what_is_kept_of_texts_that_were_read_is_bounded():
    nothing = Definition(id="", name="", path="", language="yaml", digest="")
    library = Library({"yaml": lambda _: nothing})
    for number in range(40):
        text = f"{number}".encode().ljust(1 << 20)
        library.read(Source("text", "text.yaml", "yaml", text))
        assert sum(len(text) for _, text in library._kept) <= 16 << 20
    assert library._kept


async def test_how_many_may_be_under_way_is_what_the_file_says_now(flows):
    text = "concurrency: {{key: x, limit: {}}}\nsteps:\n  - {{id: a, wait-for: go}}"
    flows.write("queue", text.format(1))
    one, two, three = [await flows.start("queue") for _ in range(3)]
    flows.write("queue", text.format(2))
    four = await flows.start("queue")
    await two.until("step.waiting", timeout=5)
    await one.call("cancel")
    await three.until("step.waiting")
    assert (await four.run())["state"] == "queued"
    flows.write("queue", text.format(1))
    five = await flows.start("queue")
    await two.call("cancel")
    assert (await five.until("updated", position=2, timeout=5))["state"] == "queued"
    await three.call("cancel")
    await three.end()
    queued = ["position" in each for each in three.told("updated")]
    assert queued == sorted(queued, reverse=True)  # it has no place once it has begun
    await four.until("step.waiting")


async def test_what_a_workflow_in_python_returns_can_be_read_by_all(flows):
    path = flows.folder / ".agent/workflows/deep.py"
    path.parent.mkdir(parents=True)
    path.write_text(
        "from domains.workflow import workflow\n"
        "@workflow(name='deep')\n"
        "async def deep(run):\n"
        "    value = 1\n"
        "    for _ in range(600): value = [value]\n"
        "    return value\n"
    )
    flow = await flows.start("deep")
    end = await flow.end()
    assert (end["type"], end["code"]) == ("failed", "too_deep")
    assert "nested too deeply" in end["message"]


async def test_the_key_of_a_step_is_no_clients(flows):
    flows.write("inner", "- {id: a, run: 'echo {{ run.id }}'}")
    flows.write("outer", "- {id: gate, wait-for: go}\n- {id: sub, workflow: inner}")
    outer = await flows.start("outer")
    claimed = await flows.start("inner", idempotencyKey=f"{outer.id}/sub/1.1")
    await outer.call("send_event", event="go")
    await outer.end()
    assert (await outer.result("sub"))["runId"] != claimed.id
    again = await flows.start("inner", idempotencyKey=f"{outer.id}/sub/1.1")
    assert again.id == claimed.id


async def test_runs_are_not_listed_by_a_state_that_there_is_none_of(flows):
    with pytest.raises(BadRequest, match="state"):
        await flows.client.call("workflow.runs", {"state": "nonsense"})
