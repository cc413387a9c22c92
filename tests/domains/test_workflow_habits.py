"""What people write out of habit from elsewhere, and what goes wrong there."""

from __future__ import annotations

import pytest
from flows import Flows

from daemon.core.errors import BadRequest


@pytest.fixture
async def flows(running, tmp_path):
    """A project without workflows yet."""
    async with running.client() as client:
        yield await Flows.of(client, tmp_path / "own")


async def test_a_value_of_many_lines_arrives_whole_in_variables_and_words(flows):
    flows.write(
        "w",
        """
        args: {text: {type: string}}
        steps:
          - {id: a, env: {A: "{{ args.text }}"}, run: "printf '%s|' \\"$A\\" {{ args.text }}"}
        """,
    )
    text = "one\n  two: 'three'\n\n#four \"five\" $(six)"
    flow = await flows.done("w", args={"text": text})
    assert (await flow.result("a"))["stdout"] == f"{text}|{text}|"


async def test_a_file_with_the_line_ends_of_windows_does_the_same(flows):
    path = flows.write("w", "x")
    path.write_bytes(
        b"steps:\r\n  - id: a\r\n    run: |\r\n      printf '%s' one\r\n      printf '%s' two\r\n"
        b"  - id: b\r\n    if: steps.a.stdout == 'onetwo'\r\n    run: >\r\n"
        b"      echo\r\n      b\r\n"
    )
    path.with_name("p.py").write_bytes(
        b"from domains.workflow import workflow\r\n\r\n@workflow\r\nasync def p(run):\r\n"
        b"    return (await run.command('a', '''printf x\r\nprintf y''')).stdout\r\n"
    )
    steps = await (await flows.done("w")).steps()
    assert steps["a"]["result"]["stdout"] == "onetwo"
    assert steps["b"]["result"]["stdout"] == "b\n"
    assert (await (await flows.start("p")).end())["output"] == "xy"


async def test_a_list_without_items_is_gone_through_in_no_time(flows):
    flows.write(
        "w",
        """
        - {id: none, for-each: [], steps: [{id: a, run: "echo a >> log"}]}
        - {id: list, run: "echo []"}
        - id: also
          for-each: "{{ steps.list.json }}"
          max-parallel: 3
          steps: [{id: a, run: "echo a >> log"}]
        - id: lines
          for-each: "{{ steps.none.x | default('') | lines }}"
          steps: [{id: a, run: x}]
        - {id: end, run: "echo end >> log"}
        """,
    )
    assert (await (await flows.start("w")).end())["type"] == "completed"
    assert flows.lines() == ["end"]


async def test_one_list_may_be_gone_through_twice(flows):
    flows.write(
        "w",
        """
        - {id: list, run: "echo '[{\\"n\\": 1}, {\\"n\\": 2}]'"}
        - id: one
          for-each: "{{ steps.list.json }}"
          steps: [{id: a, run: "echo {{ item.n }} >> log"}]
        - id: two
          for-each: "{{ steps.list.json }}"
          steps: [{id: a, run: "echo {{ item.n }} >> log"}]
        """,
    )
    await flows.done("w")
    assert flows.lines() == ["1", "2", "1", "2"]


@pytest.mark.parametrize("rest", ["", " </dev/null", " >/dev/null"])
async def test_a_step_ends_with_its_shell_though_something_in_the_background_goes_on(flows, rest):
    flows.write("w", f"- {{id: a, run: 'sleep 600{rest} & echo begun'}}")
    flow = await flows.done("w")
    assert (await flow.result("a"))["stdout"] == "begun\n"


async def test_what_is_too_long_for_a_program_is_refused_with_a_way_out(flows):
    flows.write(
        "w",
        """
        - {id: big, run: "head -c 140000 /dev/zero | tr '\\\\0' x"}
        - {id: word, run: "echo {{ steps.big.stdout }}", continue-on-error: true}
        - {id: env, env: {BIG: "{{ steps.big.stdout }}"}, run: "true", continue-on-error: true}
        """,
    )
    steps = await (await flows.done("w")).steps()
    assert "write what is large to a file" in steps["word"]["message"]
    assert "BIG has 140,000 bytes" in steps["env"]["message"]


@pytest.mark.parametrize("word", ["false", "False", "FALSE"])
async def test_a_text_that_says_false_decides_nothing_without_a_comparison(flows, word):
    flows.write(
        "w",
        f"""
        - {{id: check, run: "echo {word}"}}
        - {{id: never, if: steps.check.stdout, run: "echo never >> log"}}
        """,
    )
    end = await (await flows.start("w")).end()
    assert (end["type"], end["code"]) == ("failed", "bad_expression")
    assert "== 'true'" in end["message"]
    assert flows.lines() == []


async def test_what_stands_beside_an_expression_in_a_condition_is_refused(flows):
    flows.write("w", "- {id: a, if: \"{{ 1 == 2 }} '\", run: 'echo a >> log'}")
    with pytest.raises(BadRequest, match="one expression stands here"):
        await flows.start("w")


@pytest.mark.parametrize("path", ["./bin:$PATH", "${PATH}:/x", "$HOME/bin:/bin"])
async def test_a_path_with_a_variable_of_the_shell_in_it_is_refused(flows, path):
    flows.write("w", f"- {{id: a, env: {{PATH: '{path}'}}, run: ls}}")
    with pytest.raises(BadRequest, match="no shell reads env"):
        await flows.start("w")
    flows.write("w", f"env: {{PATH: '{path}'}}\nsteps:\n  - {{id: a, run: ls}}")
    with pytest.raises(BadRequest, match="no shell reads env"):
        await flows.start("w")


async def test_a_number_for_a_text_of_git_is_told_to_be_put_in_quotes(flows):
    flows.write("w", "- {id: a, git: {operation: tag_create, name: 1.5}}")
    end = await (await flows.start("w")).end()
    assert "put a text in quotes" in end["message"]


async def test_what_a_step_prints_that_is_no_text_reaches_later_steps_as_text(flows):
    flows.write(
        "w",
        r"""
        - {id: a, run: "printf 'a\\377\\033[31mb\\n'"}
        - {id: b, run: "printf '%s' {{ steps.a.stdout }}"}
        """,
    )
    assert (await (await flows.done("w")).result("b"))["stdout"] == "a\ufffd\x1b[31mb"
