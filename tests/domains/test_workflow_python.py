"""Workflows in Python: their process, what it has the engine do, and what is left when it dies."""

from __future__ import annotations

import asyncio
import textwrap
from contextlib import aclosing, asynccontextmanager
from uuid import uuid4

import pytest
from agents import claude_settings
from model import script
from repositories import Repo, added
from support import Running, http_session, processes_with, settings_for, until

from daemon.app import Daemon
from daemon.cli.runs import run_of, whole_run
from daemon.core.errors import Unavailable
from domains.workflow.python_conversation import OUTPUT_BYTES
from domains.workflow.python_wire import LINE_BYTES

ENDS = ("workflow.run.completed", "workflow.run.failed", "workflow.run.cancelled")
HEAD = """\
import asyncio, os, sys, time
from domains.workflow import StepError, workflow

"""


class Flows:
    """The workflows of a project, and a client that runs them."""

    def __init__(self, client, project, folder):
        self.client, self.project, self.folder = client, project, folder
        self.mark = uuid4().hex

    def write(self, text, name="flow.py"):
        path = self.folder / ".agent/workflows" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        body = textwrap.dedent(text)
        marked = body.replace("@workflow\n", f"@workflow(env={{'MARK': '{self.mark}'}})\n")
        path.write_text(HEAD + marked if name.endswith(".py") else body)
        return path

    async def start(self, text=None, name="flow.py", **args):
        if text is not None:
            self.write(text, name)
        data = {"projectId": self.project, "workflow": name.partition(".")[0], "args": args}
        return (await self.client.call("workflow.start", data))["runId"]

    async def follow(self, run, *until, since=0):
        seen = []
        told = self.client.subscribe(f"workflow:run:{run}", since=since)
        async with asyncio.timeout(60), aclosing(told):
            async for message in told:
                seen.append(message)
                at = message.data.get("stepId")
                if message.type in (*ENDS, *until) or (message.type, at) in until:
                    return seen
        raise AssertionError(seen)

    async def ran(self, text, **args):
        """Run to the end; gives the data of that, with its type, and the steps by id."""
        run = await self.start(text, **args)
        end = (await self.follow(run))[-1]
        return {"type": end.type.rpartition(".")[2], **end.data}, await self.steps(run)

    async def steps(self, run):
        return {each["id"]: each for each in (await whole_run(self.client, run))[1]}


@asynccontextmanager
async def flows_of(made, folder):
    folder.mkdir(exist_ok=True)
    async with made.client() as client:
        yield Flows(client, await added(client, folder), folder)


@pytest.fixture
async def flows(running, tmp_path):
    async with flows_of(running, tmp_path / "own") as made:
        yield made


def output(seen):
    return "".join(
        m.data["content"]
        for m in seen
        if m.type == "workflow.run.step.output" and m.data["stepId"] == "workflow"
    )


YAML = """\
name: Twin
args:
  who: {type: string}
phases: [one, two]
steps:
  - {id: hello, phase: one, run: "echo hello {{ args.who }}"}
  - {id: list, phase: one, run: "echo '[1, 2, 3]'"}
  - id: each
    phase: one
    for-each: "{{ steps.list.json }}"
    steps:
      - {id: show, run: "echo {{ item }}"}
      - {id: more, run: "true"}
  - id: bad
    phase: one
    run: exit 3
    continue-on-error: true
    retries: {max: 1, backoff: 10ms, jitter: 0}
  - id: both
    parallel: {max: 1}
    steps:
      - {id: left, run: "true"}
      - {id: right, run: "true"}
  - {id: nap, phase: two, sleep: 10ms}
  - {id: told, wait-for: news}
  - {id: file, artifact: {path: kept.txt}}
  - {id: ship, phase: two, approve: "Ship it?"}
  - {id: note, annotation: "Shipped"}
  - {id: last, run: exit 4}
"""

TWIN = """
@workflow(name="Twin", phases=["one", "two"])
async def twin(run, who: str):
    async def shown(scope, item, index):
        await scope.command("show", f"echo {item}")
        await scope.command("more", "true")

    async def left(scope):
        await scope.command("left", "true")

    async def right(scope):
        await asyncio.sleep(0.2)
        await scope.command("right", "true")

    async with run.phase("one"):
        await run.command("hello", ["echo", "hello", who])
        listed = await run.command("list", "echo '[1, 2, 3]'")
        await run.for_each("each", listed.json, shown)
        bad = await run.command("bad", "exit 3", retries=1, backoff=0.01)
        assert (bad.exit_code, bad.code) == (3, "exit")
    await run.parallel("both", left, right)
    async with run.phase("two"):
        await run.sleep("nap", 0.01)
        news = await run.wait_for("told", "news", match="event.n > 1")
        assert news == {"n": 2}
        await run.artifact("file", "kept.txt")
        answer = await run.approve("ship", "Ship it?")
        assert answer.user == "tester"
        await run.annotation("Shipped", id="note")
    await run.command("last", "exit 4", check=True)
"""


async def timeline(flows, text, name):
    run = await flows.start(text, name, who="you; exit 9")
    for number in (1, 2):
        await flows.client.call(
            "workflow.send_event", {"runId": run, "event": "news", "data": {"n": number}}
        )
    await flows.follow(run, ("workflow.run.step.waiting", "ship"))
    await flows.client.call("workflow.approve", {"runId": run})
    seen = await flows.follow(run)
    assert (seen[-1].data["code"], seen[-1].data["stepId"]) == ("exit", "last")
    told = [
        (m.type, m.data.get("stepId"), m.data.get("phase") if ".phase." in m.type else None)
        for m in seen
        if not m.type.endswith((".updated", ".created", ".progress"))
    ]
    # How often it is told depends on the clock; what was told last does not.
    progress = {m.data["stepId"]: m.data["progress"] for m in seen if "progress" in m.data}
    results = {id_: (s["state"], s.get("result")) for id_, s in (await flows.steps(run)).items()}
    return told, results, progress, seen[-1].data["message"]


async def test_a_workflow_in_python_has_the_timeline_of_its_twin_in_yaml(flows):
    (flows.folder / "kept.txt").write_text("kept")
    in_yaml = await timeline(flows, YAML.replace("told, wait-for: news", MATCHED), "yaml.yaml")
    in_python = await timeline(flows, TWIN, "python.py")
    assert in_python == in_yaml
    assert "each/2/show" in in_python[1]
    assert in_python[2]["each"] == {"current": 3, "total": 3, "percentage": 100}


MATCHED = 'told, wait-for: {event: news, match: "event.n > 1"}'


async def test_what_it_prints_is_told_and_what_it_returns_is_the_output(flows):
    run = await flows.start(
        """
        def squared(x):
            print('{"do": "done"}')
            return {"x": x * x}

        @workflow(phases=["a"])
        async def main(run, n: int, m: int = 4):
            print("printed")
            sys.stdout.write('{"do": "call"}\\n' * 3)
            os.system("echo from a program; cat")  # reads no line of the daemon's
            found = [await run.step("square", squared, each) for each in (n, m)]
            async def later():
                return run.cwd
            found.append(await run.step("later", later) == os.getcwd())
            return {"found": found, "ids": [run.id, run.args, run.attempt]}
        """,
        n=3,
    )
    seen = await flows.follow(run)
    assert seen[-1].type == "workflow.run.completed", seen[-1].data
    assert seen[-1].data["output"] == {
        "found": [{"x": 9}, {"x": 16}, True],
        "ids": [run, {"n": 3, "m": 4}, 1],
    }
    said = output(seen)
    assert "printed\n" in said
    assert "from a program\n" in said
    assert list(await flows.steps(run)) == ["square", "square#2", "later"]


async def test_a_step_that_fails_is_an_error_that_can_be_caught(flows):
    end, steps = await flows.ran(
        """
        from functools import partial
        from pathlib import Path

        @workflow
        async def main(run):
            caught = []
            try:
                await run.command("bad", "echo why >&2; exit 3", check=True)
            except StepError as error:
                caught.append([error.code, error.message, error.step_id, error.result.stderr])
            async def each(scope, item, index):
                await scope.command("may", f"test {item} != 2", check=True)
            try:
                await run.for_each("all", [1, 2, 3], each)
            except StepError as error:
                caught.append([error.code, error.step_id, error.__cause__.step_id])
            def broken():
                raise KeyError("lost")
            try:
                await run.step("mine", broken, retries=1, backoff=0)
            except StepError as error:
                caught.append([error.code, error.message.splitlines()[0]])
            try:
                await run.step("odd", partial(dict, x=object()))
            except StepError as error:
                caught.append([error.code, "JSON" in error.message])
            try:
                await run.step("slow", asyncio.sleep, 60, timeout=0.05)
            except StepError as error:
                caught.append([error.code, error.step_id])
            for wrong in (
                lambda: run.command("a/b", "true"),
                lambda: run.command("x", "true", retries=-1),
                lambda: run.agent("x", prompt="x", allowed_tools=[1]),
                lambda: run.command("workflow", "true"),
                lambda: run.phase("none").__aenter__(),
            ):
                try:
                    await wrong()
                except ValueError as error:
                    caught.append(str(error)[:30])
            late = await run.command("late", "sleep 60", timeout=0.05)
            caught.append([late.exit_code, late.code])
            caught.append(await run.step("path", Path, "x"))
            return caught
        """
    )
    assert end["type"] == "completed", end
    assert end["output"] == [
        ["exit", "step bad: it exited with code 3", "bad", "why"],
        ["exit", "all", "all/1/may"],
        ["exception", "step mine: KeyError: 'lost'"],
        ["exception", True],
        ["timeout", "slow"],
        "'a/b' cannot be a step's id: 1",
        "step x: Expected `int` >= 0 - ",
        "step x: Expected `str`, got `i",
        "a step cannot be called 'workf",
        "there is no phase 'none'; ther",
        [-1, "timeout"],
        "x",
    ]
    assert steps["mine"]["attempt"] == 2
    assert "all/2/may" not in steps
    assert (steps["bad"]["state"], steps["bad"].get("continued", False)) == ("failed", False)


ENDINGS = {
    "a step": (
        "await run.command('bad', 'exit 3', check=True)",
        "exit",
        "step bad: it exited with code 3",
    ),
    "an error": (
        "raise ValueError('boom')",
        "exception",
        "ValueError: boom\n  .agent/workflows/flow.py:6 in main: raise ValueError('boom')",
    ),
    "an exit": ("sys.exit(3)", "exception", "SystemExit: 3"),
    "an exit in a block": (
        "await run.parallel('all', lambda scope: asyncio.sleep(sys.exit(3)))",
        "exception",
        "SystemExit: 3",
    ),
    "an iterator that ends": (
        "await run.step('next', next, iter(()))",
        "exception",
        "step next: RuntimeError: the function raised StopIteration",
    ),
    "a text that is no UTF-8": (
        "raise ValueError(os.fsdecode(b'a \\x80'))",
        "exception",
        "ValueError: a \\udc80\n  .agent/workflows/flow.py:6 in main: raise",
    ),
    "the same of a step": (
        "await run.step('odd', os.listdir, os.fsdecode(b'no \\x80'))",
        "exception",
        "step odd: FileNotFoundError: [Errno 2] No such file or directory: 'no \\udc80'",
    ),
    "a step in a group": (
        (
            "async with asyncio.TaskGroup() as group:\n"
            "        group.create_task(run.command('bad', 'exit 3', check=True))"
        ),
        "exit",
        "step bad: it exited with code 3",
    ),
    "an error without its output": (
        "sys.stderr.close(); raise ValueError('boom')",
        "exception",
        "ValueError: boom",
    ),
    "a step in a step": (
        "await run.step('outer', lambda: asyncio.run(run.command('inner', 'true')))",
        "exception",
        "step outer: RuntimeError: step inner is asked for by the function of step outer",
    ),
    "a step of another thread": (
        "await asyncio.to_thread(lambda: asyncio.run(run.command('inner', 'true')))",
        "exception",
        "RuntimeError: step inner is asked for in another thread",
    ),
    "a sudden exit": ("print('words'); os._exit(3)", "died", "it exited with code 3: words"),
    "a signal": ("os.kill(os.getpid(), 9)", "died", "signal 9 killed it"),
    "a result": ("return object()", "exception", "JSON cannot hold a object"),
    "a foreign line": (
        "os.write(run._link._said, b'no\\n'); await asyncio.sleep(60)",
        "protocol",
        "the workflow's process is not understood: ",
    ),
    "a long line": (
        (
            f"[os.write(run._link._said, b'x' * 65536) for n in range({LINE_BYTES >> 16})]; "
            "os.write(run._link._said, b'x\\n'); await asyncio.sleep(60)"
        ),
        "protocol",
        f"a line was longer than {LINE_BYTES:,} bytes",
    ),
    "too many steps": (
        "await asyncio.gather(*(run.step('x', asyncio.sleep, 9) for _ in range(1001)))",
        "too_many_open",
        "1000 are open",
    ),
}


async def test_what_ends_a_workflow_is_said_with_its_place(flows):
    for case, (line, code, said) in ENDINGS.items():
        end, _ = await flows.ran(f"@workflow\nasync def main(run):\n    {line}")
        assert (case, end["type"], end.get("code")) == (case, "failed", code), end
        assert said in end["message"]


async def test_what_can_never_be_done_is_said_at_once(flows):
    end, _ = await flows.ran(
        """
        @workflow
        async def main(run):
            said = []
            for asked in (
                run.wait_for("wait", "go", match="event.n >"),
                run.artifact("keep", "a\\0b", "name"),
            ):
                try:
                    await asked
                except StepError as error:
                    said.append([error.code, str(error)])
            return said
        """
    )
    (waits, why), keeps = end["output"]
    assert (waits, "step wait: match: " in why) == ("bad_expression", True)
    assert keeps == ["bad_request", "step keep: a path of an artifact holds no NUL character"]


async def test_an_id_is_not_asked_for_in_two_branches(flows):
    """They were numbered as they came, and after a restart had one another's results."""
    end, steps = await flows.ran(
        """
        @workflow
        async def main(run):
            async def one(scope):
                await scope.command("x", "echo one")

            async def outside(scope, item, index):
                await run.annotation(str(item), id="note")

            async def apart(scope, item, index):
                await scope.annotation(str(item), id="note")
                await run.annotation(str(item), id=f"note-{index}")

            said = []
            for asked in (
                run.parallel("p", one, one),
                run.for_each("q", [1, 2], outside),
                run.annotation("after", id="note"),
                run.for_each("r", [1, 2], apart),
            ):
                try:
                    await asked
                    said.append("")
                except (StepError, ValueError) as error:
                    said.append(str(error))
            await asyncio.gather(*(run.annotation("at once", id="gathered") for _ in range(2)))
            return said
        """
    )
    two, items, after, none = end["output"]
    assert "step p/x is asked for in p/0 and in p/1: give it an id of its own" in two
    assert "step note is asked for in q/0 and in q/1" in items
    assert "step note is asked for in q/0 and in the workflow" in after
    assert none == ""
    assert {"note-0", "note-1", "r/0/note", "gathered", "gathered#2"} <= steps.keys()


async def test_what_is_nested_too_deeply_to_be_kept_is_said_so_and_hangs_nothing(flows):
    """What could be written in one place could not be read in another: the run never ended."""
    end, steps = await flows.ran(
        """
        from functools import reduce

        @workflow
        async def main(run):
            def deep(levels):
                return reduce(lambda inner, _: [inner], range(levels), 1)
            codes = []
            for levels in (90, *range(110, 1000, 20)):
                try:
                    await run.step("deep", deep, levels)
                except StepError as error:
                    codes.append(error.code)
            text = "[" * 950 + "]" * 950
            return [sorted(set(codes)), (await run.command("parsed", f"echo '{text}'")).json]
        """
    )
    assert end.get("output") == [["exception", "too_deep"], None], end
    assert steps["deep"]["state"] == "completed"
    end, _ = await flows.ran(
        """
        @workflow
        async def main(run):
            deep = b"[" * 900 + b"]" * 900
            os.write(run._link._said, b'{"do": "done", "output": ' + deep + b"}\\n")
            await asyncio.sleep(60)
        """
    )
    assert (end["type"], end["code"]) == ("failed", "too_deep")


async def test_what_a_fork_comes_to_is_not_what_the_run_comes_to(flows):
    end, steps = await flows.ran(
        """
        import multiprocessing

        def plain():
            os._exit(5)

        @workflow
        async def main(run):
            codes = []
            for what in ("return", "exit", "ask", "read"):
                if not (pid := os.fork()):
                    if what == "exit":
                        sys.exit(0)
                    if what == "ask":
                        await run.command("wrong", "true")
                    if what == "read":
                        await asyncio.sleep(0.1)
                    return what
                codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
                await run.command("right", "true")
            process = multiprocessing.get_context("fork").Process(target=plain)
            process.start()
            process.join()
            return [*codes, process.exitcode]
        """
    )
    assert end.get("output") == [1, 1, 1, 1, 5], end
    assert list(steps) == ["right", "right#2", "right#3", "right#4"]


async def test_a_file_that_cannot_be_imported_is_a_broken_definition(flows):
    for text, said in (
        (
            "import there_is_none\n@workflow\nasync def main(run): ...",
            (
                "ModuleNotFoundError: No module named 'there_is_none'\n"
                "  .agent/workflows/flow.py:4 in <module>: import there_is_none"
            ),
        ),
        (
            "@workflow\nasync def main(run): ...\nmain = None",
            "it has no functions with @workflow; it needs one",
        ),
    ):
        end, _ = await flows.ran(text)
        assert (end["type"], end["code"]) == ("failed", "broken_definition")
        assert said in end["message"]


async def test_many_steps_at_once_wait_for_each_other(flows):
    end, steps = await flows.ran(
        """
        @workflow
        async def main(run):
            async def noted(scope, item, index):
                await scope.annotation(str(item), id="note")
                return item * 2
            found = await run.for_each("each", range(200), noted, max_parallel=64)
            await asyncio.gather(*(run.annotation(str(n)) for n in range(1500)))
            big = await asyncio.gather(*(run.step("big", str.__mul__, "x" * 1000, 500)
                                         for _ in range(20)))
            return [found == [n * 2 for n in range(200)], sum(map(len, big))]
        """
    )
    assert end.get("output") == [True, 10_000_000], end
    assert len(steps) == 1 + 200 + 1500 + 20
    assert steps["annotation#1500"]["state"] == "completed"


async def test_steps_that_nobody_waits_for_are_cut_off_and_what_hangs_is_ended(flows):
    end, steps = await flows.ran(
        """
        import threading

        @workflow
        async def main(run):
            try:
                async with asyncio.timeout(0.3):
                    await run.command("dropped", "sleep 60")
            except TimeoutError:
                pass
            left = asyncio.ensure_future(run.command("left", "sleep 60"))
            await run.command("other", "true")
            threading.Thread(target=time.sleep, args=(60,)).start()
            return 1
        """
    )
    assert (end["type"], end["output"]) == ("completed", 1)
    states = {id_: each["state"] for id_, each in steps.items()}
    assert states == {"dropped": "cancelled", "left": "cancelled", "other": "completed"}
    assert not processes_with(flows.mark)


@pytest.mark.parametrize(
    "body",
    [
        "while True: pass",
        "await run.command('long', 'sleep 60')",
        "await run.parallel('all', *[lambda s: s.command('n', 'sleep 60')] * 3)",
        "await run.step('mine', time.sleep, 60)",
    ],
)
async def test_cancel_ends_the_process_and_its_steps_before_it_is_told(flows, body):
    run = await flows.start(f"@workflow\nasync def main(run):\n    print('up')\n    {body}")
    await flows.follow(run, "workflow.run.step.output", "workflow.run.step.started")
    assert processes_with(flows.mark)
    await flows.client.call("workflow.cancel", {"runId": run})
    end = (await flows.follow(run))[-1]
    assert end.type == "workflow.run.cancelled"
    assert not processes_with(flows.mark)
    assert {each["state"] for each in (await flows.steps(run)).values()} <= {"cancelled"}


async def test_a_run_that_takes_too_long_is_ended_whatever_it_does(flows):
    end, _ = await flows.ran(
        f"@workflow(timeout=0.5, env={{'MARK': '{flows.mark}'}})\n"
        "async def main(run):\n    while True: pass"
    )
    assert (end["type"], end["code"]) == ("failed", "timeout")
    assert not processes_with(flows.mark)


async def test_a_run_waits_for_a_process_while_the_machine_is_short(running, flows, monkeypatch):
    monkeypatch.setattr("domains.workflow.python_run.SHORT", 0.01)
    refused = iter(["one", "two"])

    def short():
        for why in refused:
            raise Unavailable(why)

    monkeypatch.setattr(running.daemon._tasks, "_guard", short)
    run = await flows.start("@workflow\nasync def main(run):\n    return 1")
    seen = await flows.follow(run)
    assert [m.data["message"] for m in seen if m.type.endswith("annotation")] == ["it waits: one"]
    assert seen[-1].data["output"] == 1


async def test_output_without_end_is_told_up_to_a_limit(flows):
    run = await flows.start(
        "@workflow\nasync def main(run):\n    for _ in range(300): print('x' * 9999)\n    return 1"
    )
    seen = await flows.follow(run)
    assert seen[-1].data["output"] == 1
    said = output(seen)
    assert OUTPUT_BYTES <= len(said) < OUTPUT_BYTES + 100_000
    assert "the rest is not told" in said[-100:]


async def test_a_project_of_the_same_names_does_not_stand_in_for_our_modules(flows):
    for name in ("domains", "msgspec", "daemon"):
        (flows.folder / name).mkdir()
        (flows.folder / name / "__init__.py").write_text("raise ImportError('not this one')")
    (flows.folder / "own.py").write_text("WORD = 'of the project'")
    end, _ = await flows.ran(
        "from own import WORD\n@workflow\nasync def main(run):\n    return [WORD, __file__]\n"
        "the_same = main"
    )
    path = flows.folder / ".agent/workflows/flow.py"
    assert end.get("output") == ["of the project", str(path)], end


REPLAYED = """
from _beside import noted_by

@workflow(phases=["a", "b"], env={"MARK": "the mark"})
async def main(run, folder: str):
    noted = noted_by(folder)
    async def each(scope, item, index):
        await scope.step("noted", noted, item)
        return (await scope.command("said", f"echo x >> {folder}/said{item}; echo {item}")).stdout
    async with run.phase("a"):
        first = await run.step("first", noted, "first")
        said = await run.for_each("each", ["1", "2", "3"], each, max_parallel=3)
        try:
            await run.command("caught", f"echo x >> {folder}/caught; exit 3", check=True)
        except StepError as error:
            said.append(error.code)
    async with run.phase("b"):
        async def held(scope, item, index):
            if item == "two":
                await scope.command("go", f"echo x >> {folder}/go; while ! test -e {folder}/open;"
                                          " do sleep 0.05; done")
            return await scope.step("in", noted, item)
        said += await run.for_each("held", ["one", "two"], held)
        again = await run.step("first", noted, "again")
    return [first, said, again]
"""


BESIDE = """
def noted_by(folder):
    def noted(word):
        with open(f"{folder}/{word}", "a") as file:
            file.write("x")
        return word
    return noted
"""


@pytest.mark.parametrize("gone", [False, True])
async def test_after_kill_9_what_was_done_is_not_done_again(daemon_process, tmp_path, gone):
    notes = tmp_path / "notes"
    notes.mkdir()
    mark = uuid4().hex
    daemon_process.start()
    async with flows_of(daemon_process, tmp_path / "own") as flows:
        flows.write(BESIDE, "_beside.py")
        run = await flows.start(REPLAYED.replace("the mark", mark), folder=str(notes))
        seen = await flows.follow(run, ("workflow.run.step.started", "held/1/go"))
        await until((notes / "go").exists)
        if gone:
            (flows.folder / ".agent/workflows/flow.py").unlink()
    daemon_process.kill()
    (notes / "open").touch()
    daemon_process.start()
    async with flows_of(daemon_process, tmp_path / "own") as flows:
        rest = await flows.follow(run, since=seen[-1].offset)
        assert rest[-1].type == "workflow.run.completed", rest[-1].data
        assert rest[-1].data["output"] == [
            "first",
            ["1", "2", "3", "exit", "one", "two"],
            "again",
        ]
        began = [m.data["stepId"] for m in rest if m.type == "workflow.run.step.started"]
        assert began == ["held", "held/1/go", "held/1/in", "first#2"]
        said = [m.data["message"] for m in rest if m.type == "workflow.run.annotation"]
        assert said
        assert all("interrupted" in each for each in said)
        assert not processes_with(mark)
    times = {path.name: path.read_text().count("x") for path in notes.iterdir()}
    assert (times.pop("go"), times.pop("open")) == (2, 0)  # what was cut off is done again
    assert set(times.values()) == {1}, times


async def test_a_daemon_that_is_stopped_politely_is_no_fault_of_the_run(daemon_process, tmp_path):
    daemon_process.start()
    async with flows_of(daemon_process, tmp_path / "own") as flows:
        run = await flows.start(
            """
            @workflow
            async def main(run):
                await run.command("one", "true")
                await run.wait_for("news", "news")
                return "went on"
            """
        )
        await flows.follow(run, "workflow.run.step.waiting")
    daemon_process.stop()
    daemon_process.start()
    async with flows_of(daemon_process, tmp_path / "own") as flows:
        await flows.client.call("workflow.send_event", {"runId": run, "event": "news"})
        end = (await flows.follow(run))[-1]
        assert (end.type, end.data.get("output")) == ("workflow.run.completed", "went on")


async def test_a_run_of_python_starts_another_and_retries_from_what_failed(flows):
    flows.write("@workflow\nasync def main(run, n: int):\n    return n + 1", "child.py")
    (flows.folder / "helped.txt").write_text("no")
    run = await flows.start(
        """
        @workflow
        async def main(run):
            found = await run.workflow("child", "child", {"n": 1})
            await run.command("test", "grep yes helped.txt", check=True)
            return found
        """
    )
    assert (await flows.follow(run))[-1].type == "workflow.run.failed"
    (flows.folder / "helped.txt").write_text("yes")
    offset = (await flows.follow(run))[-1].offset
    await flows.client.call("workflow.retry", {"runId": run})
    rest = await flows.follow(run, since=offset)
    assert (rest[-1].type, rest[-1].data["output"]) == ("workflow.run.completed", 2)
    began = [m.data["stepId"] for m in rest if m.type == "workflow.run.step.started"]
    assert began == ["test"]


async def test_a_conversation_goes_on_and_git_does_what_it_is_asked(start_daemon, model, tmp_path):
    repo = Repo(tmp_path / "own")
    repo.commit({"a.txt": "a\n", ".gitignore": ".agent\n"})
    repo.git("config", "user.name", "Ada")
    repo.git("config", "user.email", "ada@example.org")
    made = await start_daemon(**claude_settings(model.url, tmp_path / "agent-home"))
    async with flows_of(made, tmp_path / "own") as flows:
        end, steps = await flows.ran(
            """
            @workflow
            async def main(run, first: str, second: str):
                one = await run.agent("one", prompt=first)
                two = await run.agent("two", prompt=second, session=one.session_id)
                await run.command("change", "echo b > a.txt")
                status = await run.git("status", "status")
                await run.git("commit", "commit", message="feat: b", all=True)
                return [one.result, two.result, one.session_id == two.session_id, status]
            """,
            first=script([{"text": "one"}]),
            second=script([{"text": "two"}]),
        )
    assert end["type"] == "completed", end
    first, second, same, status = end["output"]
    assert (first, second, same) == ("one", "two", True)
    assert "a.txt" in str(status)
    assert repo.git("log", "-1", "--format=%s").strip() == "feat: b"
    assert steps["two"]["sessionId"] == steps["one"]["sessionId"]


async def test_nothing_of_the_daemon_is_in_its_process(flows):
    end, _ = await flows.ran(
        """
        @workflow
        async def main(run):
            return [each for each in sys.modules if each.startswith(("daemon", "domains."))]
        """
    )
    inner = ["", ".sdk", ".python_calls", ".python_wire", ".python_results", ".python_options"]
    assert sorted(end["output"]) == sorted(f"domains.workflow{each}" for each in inner)


async def test_a_broken_file_is_listed_with_its_line_and_a_module_of_others_is_not(flows):
    flows.write("@workflow(\nasync def main(run): ...")
    flows.write("WORD = 1", "_words.py")
    data = {"projectId": flows.project}
    (found,) = (await flows.client.call("workflow.list", data))["workflows"]
    assert "flow.py:4: the Python is broken" in found["problem"]


OUTER = """
@workflow
async def main(run, hold: bool = False):
    await run.workflow("sub", "inner", {"hold": hold})
"""

INNER = """
@workflow
async def main(run, hold: bool = False):
    await run.annotation("here", id="note")
    if hold:
        await run.wait_for("gate", "go")
"""


async def test_all_wait_for_a_place_but_those_inside_of_one_that_has_one(tmp_path, monkeypatch):
    monkeypatch.setattr("domains.workflow.python_run.PROCESSES", 1)

    @asynccontextmanager
    async def begun():
        async with (
            Daemon(settings_for(tmp_path / "state")) as daemon,
            http_session() as http,
            flows_of(Running(daemon, http), tmp_path / "own") as flows,
        ):
            yield flows

    async with begun() as flows:
        flows.write(INNER, "inner.py")
        flows.write("steps: [{id: sub, workflow: inner}]", "plain.yaml")
        outer = await flows.start(OUTER, hold=True)
        await flows.follow(outer, ("workflow.run.step.started", "sub"))
        plain = await flows.start(name="plain.yaml")
        forked = {"runId": outer, "stepId": "sub", "args": {}}
        fork = (await flows.client.call("workflow.fork", forked))["runId"]
    async with begun() as flows:
        inner = (await flows.steps(outer))["sub"]["child"]
        await flows.follow(inner, ("workflow.run.step.waiting", "gate"))
        await flows.client.call("workflow.send_event", {"runId": inner, "event": "go"})
        for run in (outer, plain, fork):
            assert (await flows.follow(run))[-1].type == "workflow.run.completed"
        ended = (await run_of(flows.client, outer))["endedAt"]
        begun_at = (await flows.steps(fork))["sub"]["startedAt"]
        noted = await flows.steps((await flows.steps(plain))["sub"]["child"])
        assert min(begun_at, noted["note"]["startedAt"]) >= ended
