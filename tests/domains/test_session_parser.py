"""Claude Code's lines, understood without a process; those of a real run are recorded first."""

from __future__ import annotations

import asyncio
import json
import os

import msgspec
import pytest
from agents import OFFLINE, claude_program
from hypothesis import given
from hypothesis import strategies as st
from model import script

from domains.session.agents.adapter import Decision
from domains.session.agents.claude import CLAUDE
from domains.session.agents.facts import (
    Asked,
    Began,
    Delta,
    NoProtocol,
    Notice,
    Said,
    TurnEnded,
    Withdrawn,
)
from domains.session.commands import CreateSession
from domains.session.messages import Image, Permission, Text, ToolResult
from domains.session.pieces import Pieces


def facts_of(*lines):
    dialogue = CLAUDE.dialogue()
    return [fact for line in lines for fact in dialogue.parse(_bytes(line))]


def _bytes(line):
    return line if isinstance(line, bytes) else json.dumps(line).encode()


async def recorded(model, folder, prompt):
    """Record what the real program writes in one turn that asks nothing."""
    request = CreateSession(agent="claude", allowed_tools=["Bash(echo:*)"])
    argv = CLAUDE.invocation(request, str(claude_program())).argv
    process = await asyncio.create_subprocess_exec(
        *argv,
        cwd=folder,
        env={
            **OFFLINE,
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "ANTHROPIC_BASE_URL": model.url,
        },
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate(CLAUDE.dialogue().message(prompt, ()))
    return out.splitlines()


async def test_every_line_of_a_real_turn_is_understood(model, tmp_path):
    tool = {"tool": "Bash", "input": {"command": "echo é"}}
    lines = await recorded(
        model, tmp_path, script([{"thinking": "hm"}, {"text": "Ja."}, tool], [{"text": "Ende."}])
    )
    facts = facts_of(*lines)
    assert not [fact for fact in facts if isinstance(fact, NoProtocol)]
    assert isinstance(facts[0], Began)
    said = [fact.message for fact in facts if isinstance(fact, Said)]
    kinds = [type(block).__name__ for message in said for block in message.content]
    assert kinds == ["Thinking", "Text", "ToolUse", "ToolResult", "Text"]
    assert said[3].content == [
        ToolResult(tool_use_id=said[2].content[0].id, content="é", is_error=False)
    ]
    deltas = [fact for fact in facts if isinstance(fact, Delta)]
    assert "".join(fact.text for fact in deltas) == "hmJa.Ende."
    assert {fact.reply_id for fact in deltas} == {m.reply_id for m in said if m.model}
    assert isinstance(facts[-1], TurnEnded)
    assert (facts[-1].stop_reason, facts[-1].result) == ("end_turn", "Ende.")
    # Cut anywhere, a line is none of the protocol's, and nothing breaks.
    longest = max(lines, key=len)
    for cut in range(1, len(longest), 97):
        assert facts_of(longest[:cut]) == [NoProtocol(longest[:cut])]


@pytest.mark.parametrize(
    "line", [b"", b"  ", b"{}", b"[]", b"1", b"null", b'"x"', b'{"type":"new"}']
)
def test_what_says_nothing_gives_no_fact(line):
    assert facts_of(line) == []


@pytest.mark.parametrize("line", [b"Warning: old", b"{", b'{"type":"user"', b"\xff", b'"\xff"'])
def test_what_is_no_json_is_text(line):
    assert facts_of(line) == [NoProtocol(line)]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["type", "message", "content", "event", "request", "x"]), inner
            )
        ),
        max_leaves=8,
    ),
    st.sampled_from(
        ["system", "assistant", "user", "stream_event", "result", "control_request", "x"]
    ),
)
def test_no_line_of_any_shape_breaks_it(value, kind):
    body = value if isinstance(value, dict) else {"message": value, "event": value}
    facts_of({**body, "type": kind})


def test_a_newer_block_is_left_out_and_the_rest_is_told():
    (said,) = facts_of(
        {
            "type": "assistant",
            "uuid": "u1",
            "message": {
                "id": "m1",
                "content": [{"type": "hologram", "x": [1]}, {"type": "text", "text": "hi"}, 7],
            },
        }
    )
    assert said.message.content == [Text(text="hi")]


def test_a_withdrawn_question_and_one_that_is_no_permission():
    assert facts_of({"type": "control_cancel_request", "request_id": "r"}) == [
        Withdrawn(request_id="r")
    ]
    other = {"type": "control_request", "request_id": "r", "request": {"subtype": "hook_callback"}}
    assert facts_of(other) == []


def test_a_question_is_answered_with_its_own_input_or_another():
    (asked,) = facts_of(
        {
            "type": "control_request",
            "request_id": "r1",
            "request": {
                "subtype": "can_use_tool",
                "tool_name": "Bash",
                "input": {"command": "ls"},
                "permission_suggestions": [{"type": "addRules"}],
            },
        }
    )
    assert isinstance(asked, Asked)

    def answer(**decision):
        line = CLAUDE.dialogue().decide(asked.permission, Decision(**decision))
        assert line.endswith(b"\n")
        return json.loads(line)["response"]["response"]

    assert answer(allow=True) == {"behavior": "allow", "updatedInput": {"command": "ls"}}
    assert answer(allow=True, updated_input={"a": 1})["updatedInput"] == {"a": 1}
    assert answer(allow=True, remember=True)["updatedPermissions"] == [{"type": "addRules"}]
    assert answer(allow=False, message="no")["message"] == "no"
    assert answer(allow=False)["behavior"] == "deny"


def test_a_question_survives_being_written_down():
    asked = Permission(
        request_id="r", tool_name="T", input=msgspec.Raw(b'{"a":[1]}'), suggestions=[{"b": 1}]
    )
    again = msgspec.json.decode(msgspec.json.encode(asked), type=Permission)
    assert (bytes(again.input), again.suggestions) == (b'{"a":[1]}', [{"b": 1}])


def test_costs_are_differences_where_only_the_total_is_told():
    turns = facts_of(
        *[{"type": "result", "subtype": "success", "total_cost_usd": c} for c in (1, 3)]
    )
    assert [turn.cost_usd for turn in turns] == [1, 2]


def test_a_retry_is_a_sentence():
    (notice,) = facts_of(
        {
            "type": "system",
            "subtype": "api_retry",
            "attempt": 2,
            "max_retries": 10,
            "retry_delay_ms": 1500,
            "error_status": 529,
            "error": "overloaded",
        }
    )
    assert isinstance(notice, Notice)
    assert notice.text == "the API failed (529 overloaded); trying again in 1.5 s, 2 of 10"


def test_values_are_never_taken_for_flags():
    request = CreateSession(
        agent="claude", prompt="--help", model="--m", resume="--r", fork=True, system_prompt="-s",
        mcp_config="-c", allowed_tools=["--a", "b"], budget_usd=1.5, permission_mode="plan",
    )  # fmt: skip
    argv = CLAUDE.invocation(request, "/opt/claude").argv
    assert argv[0] == "/opt/claude"
    assert [arg for arg in argv if "=" not in arg] == [
        "/opt/claude", "-p", "--verbose", "--include-partial-messages", "--fork-session",
    ]  # fmt: skip
    assert {"--model=--m", "--resume=--r", "--append-system-prompt=-s", "--mcp-config=-c"} <= set(
        argv
    )
    assert {"--allowed-tools=--a,b", "--max-budget-usd=1.5", "--permission-mode=plan"} <= set(argv)


def test_a_message_has_its_images_first():
    image = Image(media_type="image/png", data="eA==")
    line = json.loads(CLAUDE.dialogue().message("-x\ny", [image]))
    assert [block["type"] for block in line["message"]["content"]] == ["image", "text"]
    assert line["message"]["content"][1]["text"] == "-x\ny"


async def test_pieces_joined_are_what_was_written_and_few():
    told = []
    pieces = Pieces(told.append)
    for number in range(1000):
        pieces.add(Delta(reply_id="m", index=0, kind="text", text=f"{number} "))
    pieces.add(Delta(reply_id="m", index=1, kind="text", text="next"))
    pieces.flush()
    assert "".join(each.text for each in told if each.index == 0) == "".join(
        f"{number} " for number in range(1000)
    )
    assert [each.text for each in told if each.index == 1] == ["next"]
    assert told[0].text == "0 "
    assert len(told) == 3


async def test_a_piece_is_told_though_nothing_comes_after_it():
    told = asyncio.Queue()
    pieces = Pieces(told.put_nowait)
    for text in ("a", "b"):
        pieces.add(Delta(reply_id="m", index=0, kind="text", text=text))
    async with asyncio.timeout(30):
        assert (await told.get()).text == "a"
        assert (await told.get()).text == "b"
