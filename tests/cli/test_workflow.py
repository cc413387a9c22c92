"""agentcmd workflow: what there is, runs from the beginning to the end, and what they leave."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

BUILD = """
name: Build it
description: Builds it all
args:
  word: {type: string}
  count: {type: integer, default: 1}
steps:
  - {id: one, run: "echo {{ args.word }} {{ args.count }}; echo oops >&2"}
  - id: each
    for-each: "{{ [1, 2] }}"
    steps: [{id: say, run: "echo item {{ item }}"}]
  - {id: keep, run: "echo kept > made.txt"}
  - {id: file, artifact: {path: made.txt, name: report.txt}}
"""

BROKEN = "name: Broken\nsteps:\n  - id: one\n    runn: x\n  - id: one\n    run: [1]\n"


@pytest.fixture(scope="module")
def environ(shared_environ):
    return shared_environ


@pytest.fixture(scope="module")
def serving(shared_daemon):
    return shared_daemon


@pytest.fixture
def workflow(agentcmd, serving):  # noqa: ARG001
    """Run `agentcmd workflow`, which must end with this code; gives what it printed."""

    def run(*args, code=0, **options):
        done = agentcmd("workflow", *args, **options)
        assert done.returncode == code, (done.stdout, done.stderr)
        return (done.stdout if not code or done.stdout else done.stderr).decode()

    return run


@pytest.fixture
def write(folder):
    """Write workflows into the folder."""

    def written(**files):
        made = folder / ".agent" / "workflows"
        made.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (made / f"{name}.yaml").write_text(text)

    return written


def test_workflows_are_listed_and_broken_ones_told_as_compilers_do(workflow, write, folder):
    write(build=BUILD, broken=BROKEN)
    rows = workflow("list").splitlines()
    assert rows[0].split() == ["NAME", "FILE", "ARGUMENTS", "ABOUT"]
    assert rows[1].split()[:2] == ["broken", ".agent/workflows/broken.yaml"]
    assert "! .agent/workflows/broken.yaml:" in rows[1]
    assert rows[2].split(None, 2)[2].split("  ")[0] == "word [count]"
    assert rows[2].endswith("Builds it all")
    assert len(json.loads(workflow("list", "--json"))) == 2
    told = workflow("validate", code=1).splitlines()
    assert told[-1] == ".agent/workflows/build.yaml: good"
    assert all(line.startswith(".agent/workflows/broken.yaml:") for line in told[:-1])
    assert workflow("validate", "build") == ".agent/workflows/build.yaml: good\n"
    (folder / "mine.yml").write_text(BROKEN)
    assert workflow("validate", "mine.yml", code=1).startswith("mine.yml:4: ")
    assert "problem" in json.loads(workflow("validate", "mine.yml", "--json", code=1))[0]
    (folder / "other.yaml").write_bytes(b"name: \xff")
    assert "is no UTF-8" in workflow("validate", "other.yaml", code=2)
    (folder / "mine.py").write_text("")
    assert workflow("validate", "mine.py", code=1).startswith("mine.py:1: the file has no workflow")


def test_a_run_is_followed_to_its_end_and_leaves_its_output_and_files(
    workflow, write, folder, agentcmd
):
    write(build=BUILD)
    project = agentcmd("project", "add", ".").stdout.decode().strip()
    told = workflow("run", "build", "--key", "k", "word=it's", "--project", project)
    assert "step.output one | it's 1" in told
    assert told.splitlines()[-1].split()[1] == "run.completed"
    run = told.split("run.created ")[1].split()[0]
    assert "other arguments" in workflow("run", "build", "word=x", "--key", "k", code=1)
    again = workflow("run", "build", "--key", "k", "word=it's", "--json").splitlines()
    assert json.loads(again[-1])["data"]["runId"] == run, "the key was used before"
    assert workflow("logs", run, "one") == "it's 1\n"
    assert set(workflow("logs", run, "each").splitlines()) == (
        {"each/0/say | item 1", "each/1/say | item 2"}
    )
    assert workflow("logs", run, "-f").startswith("one | it's 1\n")
    assert "no step" in workflow("logs", run, "two", code=1)
    rows = workflow("show", run).splitlines()
    assert ["name", "Build it"] in [row.split(None, 1) for row in rows]
    assert [row.split()[:3] for row in rows[-6:]] == [
        ["one", "run", "completed"],
        ["each", "for-each", "completed"],
        ["each/0/say", "run", "completed"],
        ["each/1/say", "run", "completed"],
        ["keep", "run", "completed"],
        ["file", "artifact", "completed"],
    ]
    assert workflow("artifacts", run).splitlines()[1].split() == [
        "report.txt",
        "5",
        "bytes",
        "file",
    ]
    workflow("artifacts", run, "report.txt")
    assert (folder / "report.txt").read_text() == "kept\n"
    assert "here already" in workflow("artifacts", run, "report.txt", code=2)
    assert workflow("artifacts", run, "report.txt", "-o", "-") == "kept\n"
    assert "has kept no" in workflow("artifacts", run, "none", code=1)
    (row,) = workflow("runs", "--state", "ended").splitlines()[1:]
    assert row.split()[:3] == [run, "build", "completed"]
    assert json.loads(workflow("runs", "--workflow", "none", "--json")) == []


def test_what_failed_is_mended_and_goes_on(workflow, write):
    text = "steps: [{id: one, run: echo first}, {id: two, run: '%s'}]"
    write(two=text % "exit 3")
    told = workflow("run", "two", code=1)
    run = told.split("run.created ")[1].split()[0]
    assert "step.failed two it exited with code 3" in told
    write(two=text % "echo good")
    told = workflow("retry", run, "--watch")
    assert told.splitlines()[-1].split()[1] == "run.completed"
    assert workflow("logs", run, "one") == "first\n", "it ran once"
    forked = workflow("fork", run, "two").strip()
    assert forked != run
    assert workflow("watch", forked).splitlines()[-1].split()[1] == "run.completed"
    assert [each["id"] for each in json.loads(workflow("show", forked, "--json"))["steps"]] == (
        ["one", "two"]
    )
    assert "came to its end" in workflow("retry", run, code=1)


def test_a_fork_has_the_arguments_that_it_is_not_given(workflow, write):
    write(build=BUILD)
    run = workflow("run", "build", "word=a", "--detach", "count=3").strip()
    workflow("watch", run)
    told = workflow("fork", run, "one", "--watch", "word=4")
    assert "step.output one | 4 3" in told
    for odd in ("NaN", "-Infinity", "[" * 2000):
        assert f"step.output one | {odd} 3" in workflow(
            "fork", run, "one", "--watch", f"word={odd}"
        )
    assert "cannot be said in JSON" in workflow("send", run, "x", "NaN", code=2)


def test_a_text_is_what_was_typed_and_all_else_is_json(workflow, write):
    write(
        typed="args: {a: {type: string}, b: {type: string}, n: {type: integer}, any: {}}\n"
        "steps: [{id: say, run: 'printf %s\\\\n {{ args.a }} {{ args.b }} {{ args.n }}'}]"
    )
    told = workflow("run", "typed", "a=true", "b=007", "n=7", "any=[1]")
    said = [line.partition(" | ")[2] for line in told.splitlines() if "say | " in line]
    assert said == ["true", "007", "7"]
    refused = workflow("run", "typed", "a=NaN", "b=x", "n=NaN", "any=1", code=2)
    assert "the argument n is a " in refused


def test_approvals_and_events_are_given_and_a_run_rests_and_ends(workflow, write):
    write(
        ask="steps: [{id: ok, approve: 'Go?'}, {id: say, run: 'echo {{ steps.ok.comment }}'},"
        "{id: more, wait-for: deployed}, {id: end, run: 'echo {{ steps.more.data.to }}'},"
        "{id: long, run: sleep 60}]"
    )
    run = workflow("run", "ask", "--detach").strip()
    until(workflow, run, "ok", "waiting")
    workflow("approve", run, "--comment", "fine by me")
    workflow("send", run, "deployed", '{"to": "here"}')
    assert "not JSON" in workflow("send", run, "deployed", "{", code=2)
    until(workflow, run, "long", "running")
    assert workflow("logs", run, "say") == "fine by me\n"
    assert workflow("logs", run, "end") == "here\n"
    workflow("pause", run)
    assert json.loads(workflow("show", run, "--json"))["state"] == "paused"
    workflow("resume", run)
    workflow("cancel", run)
    assert json.loads(workflow("show", run, "--json"))["end"]["type"] == "cancelled"
    assert "has ended" in workflow("pause", run, code=1)
    run = workflow("run", "ask", "--detach").strip()
    until(workflow, run, "ok", "waiting")
    workflow("approve", run, "ok", "--reject")
    assert "step.failed ok" in workflow("watch", run, code=1)


def until(workflow, run, step, state):
    """Follow a run until a step is so: by its events, from the start."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        steps = json.loads(workflow("show", run, "--json"))["steps"]
        if any(each["id"] == step and each["state"] == state for each in steps):
            return
    pytest.fail(f"{step} was never {state}: {steps}")


def test_what_the_locale_cannot_say_is_written_all_the_same(workflow, write, begin):
    write(größe="steps: [{id: one, run: 'true'}]")
    listing = begin("workflow", "list", env={"PYTHONIOENCODING": "ascii"})
    assert "größe" in listing.communicate(timeout=30)[0].decode()
    assert listing.returncode == 0
    assert "größe" in workflow("list")


def test_a_name_does_nothing_to_the_terminal(workflow, write):
    evil = "evil\x1b[2J\x1b]0;pwned\x07"
    write(**{evil: "steps: [{id: one, run: 'true'}]"})
    assert workflow("list").splitlines()[1].split()[0] == "evil"
    assert "there is: evil\n" in workflow("run", "none", code=1)
    workflow("run", evil)
    assert workflow("runs").splitlines()[1].split()[1] == "evil"
    write(c1=r"""{name: "ü\x9b2J\x7f", steps: [{id: one, run: "printf 'ü\\302\\2332J\\177'"}]}""")
    for told, times in ((workflow("list", "--json"), 1), (workflow("run", "c1", "--json"), 3)):
        assert told.count(r"ü\u009b2J\u007f") == times, told
        assert "\x9b" not in told


@pytest.mark.parametrize(
    ("line", "code", "told"),
    [
        (("run", "none"), 1, "no workflow"),
        (("run", "build", "word"), 2, "ARG=VALUE"),
        (("run", "build", "word=a", "count=x"), 2, "count is a text"),
        (("run", "build"), 2, "word is missing"),
        (("run", "build", "word=a", "--project", "none"), 1, "no project"),
        (("watch", "none"), 1, "no run"),
        (("logs", "none"), 1, "no run"),
        (("artifacts", "none"), 1, "no run"),
        (("artifacts", "none", "-o", "x"), 2, "NAME"),
        (("fork", "none", "a", "b=c"), 1, "no run"),
        (("validate", "none"), 1, "no workflow"),
        (("validate", "none.yaml"), 1, "No such file"),
    ],
)
def test_what_cannot_be_is_one_line(workflow, write, line, code, told):
    write(build=BUILD)
    said = workflow(*line, code=code)
    assert told in said
    assert said.count("\n") == 1


def test_a_line_without_end_in_the_logs_of_several_steps_is_cut_into_pieces(workflow, write):
    write(long="steps: [{id: a, run: \"head -c 300000 /dev/zero | tr '\\\\0' x; echo; echo end\"}]")
    run = workflow("run", "long").split("run.created ")[1].split()[0]
    *pieces, end = workflow("logs", run).splitlines()
    assert len(pieces) > 1
    assert "".join(each.removeprefix("a | ") for each in pieces) == "x" * 300_000
    assert end == "a | end"


def test_logs_of_a_run_that_waits_for_its_retry_go_on_to_its_end(workflow, write, begin, folder):
    text = 'concurrency: {{key: x}}\nsteps: [{{id: say, run: "{}"}}]'
    write(lane=text.format("echo one; exit 1"))
    run = workflow("run", "lane", code=1).split("run.created ")[1].split()[0]
    write(lane=text.format("echo two; until test -e go; do sleep 0.05; done"))
    workflow("run", "lane", "--detach")
    workflow("retry", run)
    following = begin("workflow", "logs", run, "-f")
    assert following.stdout.readline() == b"say | one\n"
    (folder / "go").touch()
    assert following.communicate(timeout=30)[0] == b"say | two\n"
    assert following.returncode == 0


def test_logs_of_a_run_end_when_their_reader_is_gone(workflow, write, begin):
    write(slow="steps: [{id: say, run: 'echo one; sleep 600'}]")
    run = workflow("run", "slow", "--detach").strip()
    following = begin("workflow", "logs", run, "-f")
    assert following.stdout.readline() == b"say | one\n"
    following.stdout.close()
    assert following.wait(30) == 141
    workflow("cancel", run)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (("runs", "--state", "failed"), b"choose from "),
        (("run",), b"required: NAME; see"),
        (("fork", "run"), b"required: STEP; see"),
    ],
)
def test_wrong_usage_is_told_and_what_is_right(workflow, capfdbinary, line, told):
    with pytest.raises(SystemExit, match="2"):
        workflow(*line)
    assert told in capfdbinary.readouterr().err


def test_what_a_workflow_in_python_prints_is_in_its_logs(workflow, folder, agentcmd):
    text = "from domains.workflow import workflow\n@workflow\nasync def f(run): print('words')\n"
    made = folder / ".agent/workflows/own.py"
    made.parent.mkdir(parents=True)
    made.write_text(text)
    told = workflow("run", "own")
    run = told.split("run.created ")[1].split()[0]
    assert agentcmd("workflow", "logs", run).stderr == b"workflow | words\n"
    assert "no step 'other'" in workflow("logs", run, "other", code=1)
    assert agentcmd("workflow", "logs", run, "workflow").stderr == b"words\n"


def test_a_folder_without_workflows_is_no_project_and_without_a_daemon_that_is_said(
    workflow, folder, tmp_path
):
    assert "has no .agent/workflows" in workflow("list", code=1)
    assert not list(folder.iterdir())
    nowhere = {"AGENTCMD_SERVER__STATE_DIR": str(tmp_path / "none")}
    for line in (("list",), ("run", "build"), ("watch", "x")):
        assert "no daemon runs" in workflow(*line, code=3, env=nowhere)
