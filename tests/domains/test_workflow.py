"""Workflows from start to end: real runs of a real daemon, one kind of step after the other."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from agents import claude_settings
from flows import Flows
from model import script
from repositories import Repo
from support import Running, http_session, settings_for

from daemon.app import Daemon
from daemon.core.errors import BadRequest, Conflict, NotFound

EVERYTHING = """
name: Everything
args:
  who: {type: string}
phases: [one, two]
steps:
  - {id: hello, phase: one, run: "echo hello {{ args.who }}; echo problem >&2"}
  - {id: list, run: "echo '[\\"a\\", \\"b c\\"]'"}
  - id: each
    for-each: "{{ steps.list.json }}"
    as: word
    max-parallel: 2
    steps:
      - {id: show, run: "echo {{ word }} {{ index }} >> shown"}
  - {id: bad, run: "echo partly; exit 3", continue-on-error: true}
  - {id: skipped, if: steps.bad.exitCode == 0, run: "echo never >> shown"}
  - id: both
    parallel: true
    steps:
      - {id: left, run: "echo left"}
      - {id: right, run: "echo right"}
  - id: join
    phase: two
    run: "echo {{ steps.left.stdout | trim }} {{ steps.right.stdout | trim }}"
  - {id: note, annotation: {message: "{{ steps.join.stdout | trim }}", level: warning}}
"""


@pytest.fixture
async def flows(running, tmp_path):
    """A project without workflows yet."""
    async with running.client() as client:
        yield await Flows.of(client, tmp_path / "own")


async def test_a_file_with_an_odd_name_or_that_cannot_be_read_is_listed_among_the_others(
    flows, monkeypatch
):
    for name in ("good", "odd\udcff", "secret"):
        flows.write(name, "- {id: one, run: 'true'}")
    opened = Path.open

    def refused(path, *args, **options):
        if path.stem == "secret":  # who runs tests may be allowed everything
            raise PermissionError(13, "Permission denied")
        return opened(path, *args, **options)

    monkeypatch.setattr(Path, "open", refused)
    found = await flows.client.call("workflow.list", {"projectId": flows.project})
    listed = [(each["id"], each.get("problem")) for each in found["workflows"]]
    assert listed == [
        ("good", None),
        ("odd\ufffd", None),
        ("secret", ".agent/workflows/secret.yaml: it cannot be read: Permission denied"),
    ]
    assert (await (await flows.start("odd\ufffd")).end())["type"] == "completed"
    with pytest.raises(BadRequest, match="cannot be read"):
        await flows.start("secret")


async def test_steps_conditions_loops_results_phases_and_a_timeline_in_order(flows):
    flows.write("everything", EVERYTHING)
    flow = await flows.start("everything", args={"who": "you; rm -rf /"})
    assert (await flow.end())["type"] == "completed"
    assert flow.in_order()
    steps = await flow.steps()
    assert list(steps)[:3] == ["hello", "list", "each"]
    hello = steps["hello"]["result"]
    assert hello == {"exitCode": 0, "stdout": "hello you; rm -rf /\n", "stderr": "problem\n"}
    assert steps["list"]["result"]["json"] == ["a", "b c"]
    assert sorted(flows.lines("shown")) == ["a 0", "b c 1"]
    assert [steps[f"each/{n}/show"]["state"] for n in (0, 1)] == ["completed"] * 2
    bad = steps["bad"]
    assert (bad["state"], bad["code"], bad["continued"]) == ("failed", "exit", True)
    assert bad["result"]["stdout"] == "partly\n"
    assert (steps["skipped"]["state"], "condition" in steps["skipped"]["message"]) == (
        "skipped", True,
    )  # fmt: skip
    assert steps["join"]["result"]["stdout"] == "left right\n"
    (remark,) = flow.told("annotation")
    assert (remark["message"], remark["level"], remark["stepId"]) == (
        "left right", "warning", "note",
    )  # fmt: skip
    assert [each["phase"] for each in flow.told("phase.started")] == ["one", "two"]
    assert [each["phase"] for each in flow.told("phase.completed")] == ["one", "two"]
    outputs = {(o["stream"], o["content"], o["offset"]) for o in flow.told("step.output")}
    assert {("stdout", "hello you; rm -rf /\n", 0), ("stderr", "problem\n", 0)} <= outputs
    run = await flow.run()
    assert (run["state"], run["end"]["type"], run["args"]) == (
        "ended", "completed", {"who": "you; rm -rf /"},
    )  # fmt: skip


async def test_what_cannot_be_started_says_why(flows):
    flows.write("fine", "args: {n: {type: integer}}\nsteps:\n  - {id: a, run: 'true'}")
    flows.write("broken", "- {id: a, walk: far}")
    with pytest.raises(NotFound, match="fine"):
        await flows.start("other")
    with pytest.raises(BadRequest, match="does not say what"):
        await flows.start("broken")
    with pytest.raises(BadRequest, match="n"):
        await flows.start("fine", args={"n": "many"})
    with pytest.raises(NotFound, match="no run"):
        await flows.client.call("workflow.get", {"runId": "none"})


async def test_a_key_gives_one_run_however_many_ask_at_once(flows):
    flows.write("once", "- {id: a, run: 'echo ran >> log'}")
    asked = [flows.start("once", idempotencyKey="k") for _ in range(5)]
    ids = {flow.id for flow in await asyncio.gather(*asked)}
    (id_,) = ids
    flow = await flows.start("once", idempotencyKey="k")
    await flow.end()
    again = await flows.start("once", idempotencyKey="k")
    assert again.id == flow.id == id_
    assert (await again.run())["state"] == "ended"
    assert (await flows.start("once", idempotencyKey="l")).id != id_
    assert flows.counts()["ran"] >= 1


async def test_a_step_that_fails_ends_its_run_and_says_which_and_why(flows):
    flows.write("fails", "- {id: a, run: 'echo said; exit 4'}\n- {id: b, run: 'touch never'}")
    flow = await flows.start("fails")
    end = await flow.end()
    assert (end["type"], end["code"], end["stepId"]) == ("failed", "exit", "a")
    assert "exited with code 4" in end["message"]
    assert "b" not in await flow.steps()
    flows.write("nowhere", "- {id: a, cwd: nowhere, run: 'true'}")
    end = await (await flows.start("nowhere")).end()
    assert (end["type"], end["stepId"]) == ("failed", "a")


async def test_retries_go_by_their_backoff_and_give_up_after_the_last(flows):
    flows.write(
        "tries",
        """
        - id: works
          run: "echo t >> tries; test $(wc -l < tries) = 3"
          retries: {max: 3, backoff: 20ms, jitter: 0}
        - {id: never, run: exit 1, retries: {max: 1, backoff: 1ms}}
        """,
    )
    flow = await flows.start("tries")
    end = await flow.end()
    assert (end["type"], end["stepId"]) == ("failed", "never")
    assert flows.lines("tries") == ["t"] * 3
    delays = [(each["attempt"], each["delayMs"]) for each in flow.told("step.retrying")]
    assert delays[:2] == [(2, 20), (3, 40)]
    steps = await flow.steps()
    assert (steps["works"]["attempt"], steps["never"]["attempt"]) == (3, 2)


async def test_times_that_are_over_end_a_step_or_the_run_with_all_that_runs_of_it(flows):
    flows.write(
        "slow",
        """
        - {id: step, timeout-minutes: 0.03, continue-on-error: true, run: "sleep 60.0123"}
        - id: inside
          timeout-minutes: 0.03
          continue-on-error: true
          parallel: true
          steps: [{id: a, run: sleep 60.0123}, {id: b, sleep: 60s}]
        - {id: after, run: "echo {{ steps.step.status }} >> log"}
        """,
    )
    flow = await flows.start("slow")
    assert (await flow.end())["type"] == "completed"
    steps = await flow.steps()
    assert [steps[id_].get("code") for id_ in ("step", "inside")] == ["timeout"] * 2
    assert [steps[f"inside/{id_}"]["state"] for id_ in "ab"] == ["cancelled"] * 2
    assert flows.lines() == ["failed"]
    flows.write("whole", "timeout-minutes: 0.03\nsteps:\n  - {id: a, sleep: 60s}")
    flow = await flows.start("whole")
    end = await flow.end()
    assert (end["type"], end["code"]) == ("failed", "timeout")
    assert (await flow.steps())["a"]["state"] == "cancelled"


async def test_a_run_waits_for_events_before_or_after_they_come_and_for_those_that_match(flows):
    flows.write(
        "events",
        """
        - {id: first, wait-for: early}
        - id: two
          parallel: true
          steps:
            - {id: one, wait-for: {event: pick, match: event.n == 1}}
            - {id: other, wait-for: {event: pick, match: event.n == 2}}
        - {id: show, run: "echo {{ steps.first.data.said }} {{ steps.one.data.n }} >> log"}
        """,
    )
    flow = await flows.start("events")
    await flow.until("step.waiting", stepId="first", waitsFor="event", event="early")
    assert (await flow.run())["state"] == "waiting"
    await flow.call("send_event", event="pick", data={"n": 2})
    await flow.call("send_event", event="other", data={"n": 2})
    await flow.call("send_event", event="early", data={"said": "hi"})
    await flow.until("step.completed", stepId="two/other")
    await flow.call("send_event", event="pick", data={"n": 3})
    await flow.call("send_event", event="pick", data={"n": 1})
    assert (await flow.end())["type"] == "completed"
    assert flows.lines() == ["hi 1"]
    with pytest.raises(Conflict, match="ended"):
        await flow.call("send_event", event="early")


async def test_approvals_are_answered_once_with_a_comment_or_by_the_time(flows, running):
    flows.write(
        "ask",
        """
        - {id: ship, approve: "Ship {{ run.id }}?"}
        - {id: show, run: "echo {{ steps.ship.user }} {{ steps.ship.comment }} >> log"}
        - {id: late, approve: "Really?", timeout-minutes: 0.01, otherwise: approve}
        - {id: no, approve: "No?"}
        """,
    )
    flow = await flows.start("ask")
    with pytest.raises(NotFound, match="no step"):
        await flow.call("approve", stepId="nothing")
    asked = await flow.until("step.waiting", stepId="ship")
    assert (asked["waitsFor"], asked["message"]) == ("approval", f"Ship {flow.id}?")
    async with running.client() as second:
        answers = await asyncio.gather(
            flow.call("approve", stepId="ship", comment="yes"),
            second.call("workflow.approve", {"runId": flow.id, "stepId": "ship"}),
            return_exceptions=True,
        )
    assert sorted(type(each).__name__ for each in answers) == ["Conflict", "dict"]
    await flow.until("step.waiting", stepId="no")
    assert (await flow.steps())["late"]["result"]["user"] is None
    await flow.call("approve", approved=False, comment="not today")
    end = await flow.end()
    assert (end["code"], end["stepId"]) == ("rejected", "no")
    assert "not today" in end["message"]
    assert flows.lines() in (["tester yes"], ["tester None"], ["tester "])


async def test_artifacts_are_kept_within_limits_and_had_over_http(flows, running):
    flows.write(
        "keeps",
        """
        - {id: make, run: "printf 'the\\\\0file' > made.bin; ln -sf /etc/passwd out; mkfifo pipe"}
        - {id: keep, artifact: made.bin}
        - {id: named, artifact: {path: made.bin, name: other.bin}}
        - {id: again, artifact: {path: made.bin, name: other.bin}}
        - {id: out, artifact: out, continue-on-error: true}
        - {id: pipe, artifact: pipe, continue-on-error: true}
        - {id: gone, artifact: gone, continue-on-error: true}
        - {id: folder, artifact: .agent, continue-on-error: true}
        - {id: hidden, artifact: {path: made.bin, name: .hidden}, continue-on-error: true}
        """,
    )
    flow = await flows.start("keeps")
    assert (await flow.end())["type"] == "completed"
    kept = flow.told("artifact")
    assert [(each["name"], each["size"]) for each in kept] == [
        ("made.bin", 8), ("other.bin", 8), ("other.bin", 8),
    ]  # fmt: skip
    steps = await flow.steps()
    assert all(steps[id_]["state"] == "failed" for id_ in ("out", "pipe", "gone", "folder"))
    assert steps["hidden"]["state"] == "failed"
    assert "leads out" in steps["out"]["message"]
    async with running.http.get(
        f"{running.url}{kept[0]['href']}", headers=running.headers()
    ) as answer:
        assert (answer.status, await answer.read()) == (200, b"the\0file")
    for name, status in (("none", 404), ("..", 400), ("../made.bin", 400)):
        path = f"/api/runs/{flow.id}/artifact"
        async with running.http.get(
            f"{running.url}{path}", params={"name": name}, headers=running.headers()
        ) as answer:
            assert answer.status == status


async def test_a_run_within_a_run_has_arguments_and_passes_its_failure_on(flows):
    flows.write(
        "inner", "args: {n: {type: integer}}\nsteps:\n  - {id: a, run: 'exit {{ args.n }}'}"
    )
    flows.write(
        "outer",
        """
        - {id: good, workflow: inner, args: {n: 0}}
        - id: bad
          workflow: inner
          args: {n: 5}
          continue-on-error: true
          retries: {max: 1, backoff: 1ms}
        - {id: wrong, workflow: inner, args: {n: x}, continue-on-error: true}
        - {id: itself, workflow: outer, if: false}
        """,
    )
    flows.write("ever", "- {id: again, workflow: ever}")
    flow = await flows.start("outer")
    assert (await flow.end())["type"] == "completed"
    steps = await flow.steps()
    child = (await flows.client.call("workflow.get", {"runId": steps["good"]["child"]}))["run"]
    assert (child["parent"], child["end"]["type"]) == (flow.id, "completed")
    assert steps["bad"]["code"] == "exit"
    assert steps["wrong"]["state"] == "failed"
    runs = (await flows.client.call("workflow.runs", {"workflow": "inner"}))["runs"]
    assert sorted(each["end"]["type"] for each in runs) == ["completed", "failed", "failed"]
    end = await (await flows.start("ever")).end()
    assert end["code"] == "too_deep"


async def test_ten_thousand_items_and_a_loop_without_end_are_bounded(tmp_path, monkeypatch):
    asked = {"all": list(range(10_000))}
    async with (
        Daemon(settings_for(tmp_path / "state")) as daemon,
        http_session() as http,
        Running(daemon, http).client() as client,
    ):
        flows = await Flows.of(client, tmp_path / "own")
        flows.write(
            "many",
            """
            args: {all: {type: array}}
            steps:
              - id: each
                for-each: "{{ args.all }}"
                max-items: 10000
                max-parallel: 20
                steps: [{id: note, annotation: "{{ item }}"}, {id: no, if: index < 0, run: "true"}]
            """,
        )
        flow = await flows.start("many", args=asked)
        assert (await client.call("system.status"))["pid"]  # others have their turn meanwhile
        while (run := (await client.call("workflow.runs"))["runs"][0])["state"] != "ended":
            await asyncio.sleep(0.05)
        assert run["end"]["type"] == "completed"
        monkeypatch.setattr("domains.workflow.live.STEPS", 50)
        flow = await flows.start("many", args=asked)
        assert "at most 50 steps" in (await flow.end())["message"]


async def test_a_run_with_more_results_than_memory_should_hold_ends(flows, monkeypatch):
    monkeypatch.setattr("domains.workflow.live.RESULT_BYTES", 100_000)
    flows.write(
        "large",
        """
        - id: each
          for-each: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
          steps: [{id: say, run: "yes | head -c 20000"}]
        """,
    )
    end = await (await flows.start("large")).end()
    assert end["code"] == "too_large"


async def test_results_from_before_a_restart_count(tmp_path, monkeypatch):
    monkeypatch.setattr("domains.workflow.live.RESULT_BYTES", 50_000)
    large = """
        - {id: say, run: "yes | head -c 20000"}
        - {id: gate, wait-for: go}
        - {id: e, for-each: [1, 2, 3], steps: [{id: more, run: "yes | head -c 20000"}]}
        """

    @asynccontextmanager
    async def connected():
        async with (
            Daemon(settings_for(tmp_path / "state")) as daemon,
            http_session() as http,
            Running(daemon, http).client() as client,
        ):
            yield client

    async with connected() as client:
        flow = await (await Flows.of(client, tmp_path / "own", large=large)).start("large")
        await flow.until("step.waiting")
    async with connected() as client:
        flow.client = client
        await flow.call("send_event", event="go")
        assert (await flow.end())["code"] == "too_large"
        ends = [each["state"] for each in (await flow.steps()).values()]
    assert ends.count("completed") == 3  # the first, the wait and one of the others


async def test_modules_that_workflows_import_and_what_editors_leave_are_none(flows):
    path = flows.write("fine", "- {id: a, run: 'true'}")
    for name in ("_helper.py", "__init__.py", ".fine.yaml", "_more/part.yaml"):
        other = path.parent / name
        other.parent.mkdir(exist_ok=True)
        other.write_text("steps: no")
    listed = await flows.client.call("workflow.list", {"projectId": flows.project})
    assert [each["id"] for each in listed["workflows"]] == ["fine"]


async def test_of_two_files_of_one_name_the_first_counts_and_the_other_says_so(flows):
    path = flows.write("one", "- {id: a, run: 'echo first'}")
    path.with_suffix(".yml").write_text("steps: [{id: a, run: 'echo second'}]")
    listed = await flows.client.call("workflow.list", {"projectId": flows.project})
    first, second = listed["workflows"]
    assert (first["path"], "problem" in first) == (".agent/workflows/one.yaml", False)
    assert "one.yaml is the workflow of this name" in second["problem"]
    flow = await flows.done("one")
    assert (await flow.result("a"))["stdout"] == "first\n"


async def test_steps_are_given_page_by_page(flows):
    item = '{id: item, run: "printf %1000s {{ item }}"}'
    flows.write("many", f"- {{id: all, for-each: [0, 1, 2, 3, 4, 5, 6], steps: [{item}]}}")
    flow = await flows.done("many")
    whole = [*await flow.steps()]
    assert len(whole) == 8
    found, cursor = [], {}
    while cursor is not None:
        page = await flow.call("get", limit=3, **cursor)
        assert page["run"]["state"] == "ended"
        assert len(page["steps"]) == 3 or "nextCursor" not in page
        found += [each["id"] for each in page["steps"]]
        cursor = {"cursor": page["nextCursor"]} if "nextCursor" in page else None
    assert found == whole
    assert "steps" not in await flow.call("get", limit=0)
    with pytest.raises(BadRequest, match="nextCursor"):
        await flow.call("get", cursor="x")


async def test_a_page_of_steps_ends_where_it_has_grown_large(flows, monkeypatch):
    monkeypatch.setattr("domains.workflow.records.PAGE_BYTES", 3000)
    item = '{id: item, run: "printf %1000s {{ item }}"}'
    flows.write("many", f"- {{id: all, for-each: [0, 1, 2, 3, 4, 5, 6], steps: [{item}]}}")
    flow = await flows.done("many")
    page = await flow.call("get")
    assert len(page["steps"]) == 4  # with the for-each itself
    assert len(await flow.steps()) == 8


async def test_git_steps_work_in_a_work_tree_that_goes_when_all_is_merged(running, tmp_path):
    repo = Repo(tmp_path / "own")
    repo.commit({"a.txt": "a\n", ".gitignore": ".agent\n"})
    async with running.client() as client:
        flows = await Flows.of(client, tmp_path / "own")
        flows.write("tree", "workspace: worktree\nsteps:\n  - {id: where, run: pwd}")
        flow = await flows.start("tree")
        assert (await flow.end())["type"] == "completed"
        where = (await flow.result("where"))["stdout"].strip()
        assert flow.id in where
        assert (await flow.run())["workspace"] == "worktree"
        flows.write(
            "commits",
            """
            workspace: worktree
            steps:
              - {id: write, run: "echo b > b.txt; git add ."}
              - id: commit
                run: git -c user.name=Ada -c user.email=ada@example.org commit -qm feat-b
              - {id: log, git: {operation: log, limit: 1}}
            """,
        )
        flow = await flows.start("commits")
        assert (await flow.end())["type"] == "completed", flow.seen[-1]
        kept = (await flow.run())["cwd"]
        said = [each["message"] for each in flow.told("annotation")]
        assert len(said) == 1
        assert kept in said[0]
        assert repo.git("log", "-1", "--format=%s", f"agentcmd/{flow.id}").strip() == "feat-b"
        (logged,) = (await flow.result("log"))["commits"]
        assert logged["subject"] == "feat-b"
        flows.write(
            "stages",
            """
            - {id: write, run: "echo c > c.txt"}
            - {id: stage, git: {operation: stage, paths: [c.txt]}}
            - {id: status, git: status}
            - {id: bad, git: {operation: nothing}, continue-on-error: true}
            """,
        )
        flow = await flows.start("stages")
        assert (await flow.end())["type"] == "completed", flow.seen[-1]
        assert "c.txt" in json.dumps(await flow.result("status"))
        assert (await flow.steps())["bad"]["state"] == "failed"
        repo.git("reset", "-q", "--hard")
        flows.write(
            "branch", "workspace: branch\nsteps:\n  - {id: a, run: git branch --show-current}"
        )
        flow = await flows.start("branch")
        await flow.end()
        assert (await flow.result("a"))["stdout"].strip() == f"agentcmd/{flow.id}"


async def test_what_an_agent_says_does_and_asks_is_live_on_the_run(start_daemon, claude, tmp_path):
    running = await start_daemon(**claude)
    asks = [{"text": "I look."}, {"tool": "Bash", "input": {"command": "touch here\n"}}]
    prompt = json.dumps(script(asks, [{"text": "Done.\nAll of it."}]))
    async with running.client() as client:
        flows = await Flows.of(
            client, tmp_path / "own", talk=f"- {{id: a, agent: claude, prompt: {prompt}}}"
        )
        flow = await flows.start("talk")
        asked = await flow.until("annotation", 60, stepId="a")
        session = (await flow.steps())["a"]["sessionId"]
        told = f"it asks (agentcmd session approve {session}): Bash: touch here"
        assert asked["message"] == told
        await flow.until("updated", state="waiting")
        about = (await client.call("session.get", {"sessionId": session}))["session"]
        (permission,) = about["permissions"]
        answer = {"sessionId": session, "requestId": permission["requestId"], "decision": "allow"}
        await client.call("session.respond_permission", answer)
        await flow.until("updated", state="running")
        assert (await flow.end(60))["type"] == "completed"
    told = flow.told("step.output")
    assert "".join(each["content"] for each in told) == (
        "I look.\n* Bash: touch here\nDone.\nAll of it.\n"
    )
    assert {(each["stream"], each["sessionId"]) for each in told} == {("text", session)}
    sizes = [len(each["content"].encode()) for each in told]
    assert [each["offset"] for each in told] == [sum(sizes[:n]) for n in range(len(sizes))]


async def test_an_agent_step_has_a_result_and_a_later_one_goes_on_in_its_conversation(
    start_daemon, model, tmp_path
):
    running = await start_daemon(**claude_settings(model.url, tmp_path / "agent-home"))
    prompts = [json.dumps(script([{"text": text}])) for text in ("First.", "Second.")]
    async with running.client() as client:
        flows = await Flows.of(client, tmp_path / "own")
        flows.write(
            "talk",
            f"""
            - {{id: one, agent: claude, prompt: {prompts[0]}}}
            - {{id: two, agent: claude, session: one, prompt: {prompts[1]}}}
            - {{id: show, run: "echo {{{{ steps.one.result }}}} {{{{ steps.two.result }}}} >> log"}}
            """,
        )
        flow = await flows.start("talk")
        end = await flow.end(60)
        assert end["type"] == "completed", end
        steps = await flow.steps()
        run = await flow.run()
    assert flows.lines() == ["First. Second."]
    assert steps["one"]["sessionId"] == steps["two"]["sessionId"]
    costs = [steps[id_]["result"]["costUsd"] for id_ in ("one", "two")]
    assert run["costUsd"] == pytest.approx(sum(costs))
    assert 0 < costs[1] < 2 * costs[0]
    assert len(model.requests[-1]["messages"]) > len(model.requests[0]["messages"])
