"""What later steps see of a step: its output, its JSON, what there is of one that was left out."""

from __future__ import annotations

import textwrap

import pytest
from flows import Flows

from domains.workflow.commands import StepRecord
from domains.workflow.expressions import Expressions
from domains.workflow.templates import BadExpression
from domains.workflow.views import view


@pytest.fixture
async def flows(running, tmp_path):
    """A project without workflows yet."""
    async with running.client() as client:
        yield await Flows.of(client, tmp_path / "own")


async def test_an_output_is_put_in_as_the_shell_would_and_raw_where_that_is_asked_for(flows):
    flows.write(
        "tag",
        r"""
        - {id: v, run: "printf 'v1.2.3\\n\\n'; printf 'why\\n' >&2"}
        - {id: use, run: "printf '%s|' {{ steps.v.stdout }}x {{ steps.v.stderr }}"}
        - {id: raw, run: "printf '%s|' {{ steps.v.stdoutRaw }} {{ steps.v.stderrRaw }}"}
        - {id: bare, run: "printf x"}
        - {id: same, run: "printf '%s|' {{ steps.bare.stdoutRaw }}"}
        - {id: none, run: ":"}
        - {id: empty, run: "printf '%s|' {{ steps.none.stdout }} {{ steps.none.stdoutRaw }}"}
        """,
    )
    flow = await flows.done("tag")
    results = {
        step: (await flow.result(step))["stdout"] for step in ("use", "raw", "same", "empty")
    }
    assert results == {
        "use": "v1.2.3x|why|",
        "raw": "v1.2.3\n\n|why\n|",
        "same": "x|",
        "empty": "||",
    }


async def test_a_workflow_in_python_sees_the_same_output(flows):
    path = flows.write("x", "").with_name("said.py")
    path.write_text(
        textwrap.dedent(
            """
            from domains.workflow import workflow

            @workflow
            async def said(run):
                one = await run.command("one", "echo a; echo b >&2")
                big = await run.command("big", "yes '[1]' | head -n 100000")
                return [one.stdout, one.stdout_raw, one.stderr, one.stderr_raw, one.json_problem,
                        big.json, big.json_problem]
            """
        )
    )
    flow = await flows.start("said")
    *output, problem = (await flow.end())["output"]
    assert output == ["a", "a\n", "b", "b\n", None, None]
    assert "400,000 bytes" in problem


async def test_the_fields_of_a_step_that_was_left_out_are_empty_and_no_error(flows):
    flows.write(
        "w",
        """
        - {id: test, if: 1 == 2, run: "false"}
        - {id: ask, if: 1 == 2, agent: claude, prompt: Hello}
        - {id: both, if: 1 == 2, parallel: true, steps: [{id: left, run: "false"},
            {id: inner, parallel: true, steps: [{id: deep, run: "false"}]}]}
        - {id: zero, if: steps.test.exitCode == 0, run: "echo never"}
        - {id: more, if: steps.test.exitCode > 0 or steps.test.exitCode < 1, run: "echo never"}
        - {id: inside, if: steps.left.exitCode == null and steps.deep.status == 'skipped', run: ":"}
        - id: last
          run: "printf '<%s>' {{ steps.test.stdout }} {{ steps.test.exitCode }}
            {{ steps.ask.result }}
            {{ steps.test.stdout | lines | length }} {{ steps.test.json.deep | default('no') }}"
        """,
    )
    flow = await flows.done("w")
    steps = await flow.steps()
    assert [steps[each]["state"] for each in ("zero", "more", "inside", "last")] == [
        *("skipped", "skipped", "completed", "completed")
    ]
    assert steps["last"]["result"]["stdout"] == "<><><><0><no>"


async def test_of_a_step_that_ran_into_its_time_limit_the_fields_are_there(flows):
    flows.write(
        "w",
        """
        - {id: slow, run: sleep 60, timeout-minutes: 0.01, continue-on-error: true}
        - {id: use, run: "printf '<%s>' {{ steps.slow.exitCode }} {{ steps.slow.stdout }}"}
        """,
    )
    assert (await (await flows.done("w")).result("use"))["stdout"] == "<><>"


@pytest.mark.parametrize(
    ("run", "told"),
    [
        ("yes '[1]' | head -n 100000", "has 400,000 bytes, of which the last 262,144 characters"),
        ("echo '[1, 2'", "is no list or object in JSON"),
        ("echo words", "is no list or object in JSON"),
    ],
)
async def test_it_is_said_why_an_output_is_not_there_as_json(flows, run, told):
    flows.write(
        "w", f"- {{id: a, run: \"{run}\"}}\n- {{id: b, run: 'echo {{{{ steps.a.json }}}}'}}"
    )
    end = await (await flows.start("w")).end()
    assert (end["type"], end["code"]) == ("failed", "bad_expression")
    assert told in end["message"]


def test_what_an_older_daemon_wrote_down_is_read_in_the_same_way():
    record = StepRecord(
        id="a", kind="run", state="completed", started_at=1.0, result={"stdout": "x\n\n"}
    )
    names = {"steps": {"a": view(record)}}
    assert Expressions().text("{{ steps.a.stdout }}|{{ steps.a.stdoutRaw }}", names) == "x|x\n\n"


def test_a_field_that_is_mistyped_is_an_error_where_the_step_came_to_something():
    record = StepRecord(
        id="a", kind="run", state="completed", started_at=1.0, result={"stdout": "x"}
    )
    with pytest.raises(BadExpression, match="did you mean stdout"):
        Expressions().text("{{ steps.a.stdot }}", {"steps": {"a": view(record)}})
