"""What reads the commands of a workflow: the shell, how it ends, where it is found."""

from __future__ import annotations

import shutil
import textwrap

import pytest
from flows import Flows

from domains.workflow import yaml_file
from domains.workflow.definition import Definition
from domains.workflow.problems import BrokenWorkflow


@pytest.fixture
async def flows(running, tmp_path):
    """A project without workflows yet."""
    async with running.client() as client:
        yield await Flows.of(client, tmp_path / "own")


def parsed(steps: str) -> Definition:
    text = "steps:\n" + textwrap.indent(textwrap.dedent(steps), "  ")
    return yaml_file.parse(text.encode(), id="w", path="w.yaml")


async def test_a_script_ends_at_its_first_failing_command(flows):
    flows.write(
        "publish",
        """
        - id: publish
          run: |
            echo building
            false
            echo published >> log
        """,
    )
    end = await (await flows.start("publish")).end()
    assert (end["type"], end["code"]) == ("failed", "exit")
    assert flows.lines() == []


async def test_bash_ends_at_a_failure_inside_of_a_pipeline_and_sh_does_not_see_it(flows):
    flows.write("sh", "- {id: one, run: 'false | true; echo went on'}")
    flows.write("bash", "- {id: one, shell: bash, run: 'false | true; echo went on'}")
    assert (await (await flows.done("sh")).result("one"))["stdout"].strip() == "went on"
    flow = await flows.done("bash")
    assert (await flow.result("one"))["exitCode"] == 1


async def test_a_shell_that_is_written_out_gets_the_text_as_its_last_argument(flows):
    flows.write(
        "own",
        """
        - {id: lenient, shell: [sh, -c], run: "false; echo went on {{ run.id }}"}
        - {id: python, shell: [python3, -c], run: "import sys; print(sys.argv)"}
        """,
    )
    flow = await flows.done("own")
    assert (await flow.result("lenient"))["stdout"].strip() == f"went on {flow.id}"
    assert (await flow.result("python"))["stdout"].strip() == "['-c']"


@pytest.mark.parametrize(
    ("step", "told"),
    [
        ("{id: a, shell: zsh, run: 'true'}", "shell of step a is 'zsh'; allowed: sh, bash, a prog"),
        ("{id: a, shell: 'bash -e {0}', run: 'true'}", "allowed: sh, bash, a program with its"),
        ("{id: a, shell: [bash, -e], run: 'true'}", "shell of step a has no -c"),
        ("{id: a, shell: [bash, -e, '{0}'], run: 'true'}", r"has \{0\} in it"),
        ("{id: a, shell: [], run: 'true'}", "shell of step a has 0 items"),
        ("{id: a, shell: '{{ run.id }}', run: 'true'}", "shell of step a is"),
        ("{id: a, shell: [perl, -e], run: 'print {{ run.id }}'}", "neither sh nor bash reads"),
        ("{id: a, shell: bash, approve: 'Well?'}", "it belongs to run"),
    ],
)
def test_a_shell_that_cannot_be_used_is_refused_with_its_line(step, told):
    with pytest.raises(BrokenWorkflow, match=told) as caught:
        parsed(f"- {step}")
    assert caught.value.message.startswith("w.yaml:2: ")


async def test_the_shell_is_found_whatever_path_a_step_has(flows):
    flows.write("step", "- {id: one, env: {PATH: /nowhere}, run: 'echo $PATH'}")
    flows.write(
        "file",
        """
        env: {PATH: /nowhere}
        steps:
          - {id: one, run: "echo $PATH"}
          - {id: two, shell: bash, run: "echo $PATH"}
        """,
    )
    for name, steps in (("step", ["one"]), ("file", ["one", "two"])):
        flow = await flows.done(name)
        for step in steps:
            assert (await flow.result(step))["stdout"].strip() == "/nowhere"


async def test_a_program_that_is_written_out_is_looked_for_on_the_path_of_the_step_first(
    flows, tmp_path
):
    tool = tmp_path / "bin" / "reader"
    tool.parent.mkdir()
    tool.write_text(f'#!{shutil.which("sh")}\necho own "$1"\n')
    tool.chmod(0o755)
    flows.write("own", f"- {{id: one, shell: [reader], env: {{PATH: {tool.parent}}}, run: hello}}")
    assert (await (await flows.done("own")).result("one"))["stdout"].strip() == "own hello"


async def test_a_workflow_in_python_has_the_same_shells(flows):
    path = flows.write("x", "").with_name("shells.py")
    path.write_text(
        textwrap.dedent(
            """
            from domains.workflow import workflow

            @workflow
            async def shells(run):
                ended = await run.command("ended", "false; echo on")
                piped = await run.command("piped", "false | true; echo on", shell="bash")
                lenient = await run.command("lenient", "false; echo on", shell=["sh", "-c"])
                words = await run.command("words", ["echo", "a  b"])
                return [ended.exit_code, piped.exit_code, lenient.stdout, words.stdout]
            """
        )
    )
    flow = await flows.start("shells")
    assert (await flow.end())["output"] == [1, 1, "on", "a  b"]


async def test_a_workflow_in_python_is_told_of_a_shell_that_is_not_known(flows):
    path = flows.write("x", "").with_name("odd.py")
    path.write_text(
        "from domains.workflow import workflow\n"
        "@workflow\nasync def odd(run):\n    await run.command('a', 'true', shell='zsh')\n"
    )
    end = await (await flows.start("odd")).end()
    assert end["type"] == "failed"
    assert "zsh" in end["message"]


async def test_commands_have_the_umask_of_whoever_started_the_daemon(daemon_process, tmp_path):
    daemon_process.umask = 0o027
    daemon_process.start()
    async with daemon_process.client() as client:
        flows = await Flows.of(client, tmp_path / "own", w="- {id: one, run: umask}")
        result = await (await flows.done("w")).result("one")
    assert result["stdout"].strip() == "0027"
