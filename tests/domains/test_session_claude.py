"""Conversations with the real Claude Code, whose model is a server of the tests'."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import time
from pathlib import Path

import pytest
from agents import claude_settings
from model import INPUT_TOKENS, OUTPUT_TOKENS, script
from support import processes_with

from daemon.core.errors import BadRequest, Conflict, NotFound, Unavailable

ENDS = ("session.completed", "session.error", "session.cancelled")
BASH = {"tool": "Bash", "input": {"command": "touch made; echo hi"}}


@pytest.fixture
async def running(start_daemon, claude):
    """A daemon with the real agent."""
    return await start_daemon(**claude)


class Talk:
    """One session, as a client sees it."""

    def __init__(self, client, session_id, messages):
        self.client, self.id, self.messages = client, session_id, messages
        self.seen = []

    @classmethod
    async def begin(cls, client, prompt=None, **data):
        request = {"agent": "claude", "prompt": prompt, **data}
        created = await client.call("session.create", {k: v for k, v in request.items() if v})
        session_id = created["sessionId"]
        return cls(client, session_id, client.subscribe(f"session:{session_id}", since=0))

    async def until(self, *types, **fields):
        """Read up to the next message of a type, whose data has these fields."""
        async with asyncio.timeout(30):
            async for message in self.messages:
                self.seen.append(message)
                matches = all(message.data.get(key) == value for key, value in fields.items())
                if message.type in types and matches:
                    return message.data
                assert message.type not in ENDS, message.data
        raise AssertionError(types)

    async def call(self, type_, **data):
        return await self.client.call(f"session.{type_}", {"sessionId": self.id, **data})

    def said(self, role="assistant"):
        return [
            block
            for message in self.seen
            if message.type == "session.message" and message.data["message"]["role"] == role
            for block in message.data["message"]["content"]
        ]

    def texts(self, role="assistant"):
        return [block["text"] for block in self.said(role) if block["type"] == "text"]


async def end_of(client, prompt, **data):
    """Hold a conversation to its end."""
    talk = await Talk.begin(client, prompt, **data)
    return talk, await talk.until(*ENDS)


async def test_a_turn_has_text_thought_a_tool_that_asks_its_result_and_its_usage(running):
    async with running.client() as client:
        prompt = script([{"thinking": "hmm"}, {"text": "I will."}, BASH], [{"text": "It said hi."}])
        talk = await Talk.begin(client, prompt)
        asked = await talk.until("session.permission_requested")
        assert (asked["toolName"], asked["input"]) == ("Bash", BASH["input"])
        shown = (await talk.call("get"))["session"]
        assert (shown["state"], shown["permissions"][0]["requestId"]) == (
            "waiting", asked["requestId"],
        )  # fmt: skip
        answer = {"requestId": asked["requestId"], "decision": "allow"}
        await talk.call("respond_permission", **answer)
        with pytest.raises(Conflict, match="answered"):
            await talk.call("respond_permission", **answer)
        resolved = await talk.until("session.permission_resolved")
        assert (resolved["decision"], resolved["user"]) == ("allow", "tester")
        turn = await talk.until("session.turn_completed")
        assert turn["stopReason"] == "end_turn"
        assert turn["usage"]["inputTokens"] == 2 * INPUT_TOKENS
        assert turn["usage"]["outputTokens"] == 2 * OUTPUT_TOKENS
        end = await talk.until("session.completed")
    assert (end["exitCode"], end["result"], end["usage"]) == (0, "It said hi.", turn["usage"])
    assert end["costUsd"] == pytest.approx(turn["costUsd"])
    kinds = [block["type"] for block in talk.said()]
    assert kinds == ["thinking", "text", "tool_use", "text"]
    assert talk.texts("user") == [prompt]
    results = [block for block in talk.said("user") if block["type"] == "tool_result"]
    assert [(each["content"], each.get("isError", False)) for each in results] == [("hi", False)]
    assert results[0]["toolUseId"] == talk.said()[2]["id"] == asked["toolUseId"]
    ids = [m.data["message"]["id"] for m in talk.seen if m.type == "session.message"]
    assert len(set(ids)) == len(ids)
    assert [m.offset for m in talk.seen] == list(range(1, len(talk.seen) + 1))


async def test_text_comes_as_it_is_written_and_whole_at_the_end(running):
    async with running.client() as client:
        talk, _ = await end_of(client, script([{"text": "word ", "repeat": 2000}]))
    (whole,) = talk.texts()
    deltas = [m.data for m in talk.seen if m.type == "session.message_delta"]
    assert "".join(each["text"] for each in deltas) == whole == "word " * 2000
    (reply,) = {each["replyId"] for each in deltas}
    said = [m.data["message"] for m in talk.seen if m.type == "session.message"]
    assert said[-1]["replyId"] == reply


async def test_a_late_client_sees_the_open_question_and_a_denial_reaches_the_agent(running):
    async with running.client() as client, running.client() as late:
        talk = await Talk.begin(client, script([BASH], [{"text": "Then not."}]))
        asked = await talk.until("session.permission_requested")
        other = Talk(late, talk.id, late.subscribe(f"session:{talk.id}", since=0))
        assert await other.until("session.permission_requested") == asked
        with pytest.raises(NotFound, match="no request"):
            await other.call("respond_permission", requestId="another", decision="allow")
        await other.call(
            "respond_permission", requestId=asked["requestId"], decision="deny", message="not now"
        )
        await talk.until("session.completed")
    (result,) = [block for block in talk.said("user") if block["type"] == "tool_result"]
    assert (result["content"], result["isError"]) == ("not now", True)


async def test_two_clients_answer_at_once_and_one_is_told(running):
    async with running.client() as client, running.client() as other:
        talk = await Talk.begin(client, script([BASH], [{"text": "Well."}]))
        asked = await talk.until("session.permission_requested")
        answer = {"sessionId": talk.id, "requestId": asked["requestId"]}
        answers = await asyncio.gather(
            client.call("session.respond_permission", {**answer, "decision": "allow"}),
            other.call("session.respond_permission", {**answer, "decision": "deny"}),
            return_exceptions=True,
        )
        assert sum(isinstance(each, Conflict) for each in answers) == 1
        await talk.until("session.completed")


async def test_changed_input_is_what_the_tool_gets(running):
    async with running.client() as client:
        talk = await Talk.begin(client, script([BASH], [{"text": "Well."}]))
        asked = await talk.until("session.permission_requested")
        await talk.call(
            "respond_permission",
            requestId=asked["requestId"],
            decision="allow",
            updatedInput={"command": "touch made; echo changed"},
        )
        await talk.until("session.completed")
    assert [b["content"] for b in talk.said("user") if b["type"] == "tool_result"] == ["changed"]


async def test_two_tools_in_parallel_ask_both(running):
    two = [BASH, {"tool": "Bash", "input": {"command": "touch other; echo ho"}}]
    async with running.client() as client:
        talk = await Talk.begin(client, script(two, [{"text": "Both."}]))
        for _ in two:
            asked = await talk.until("session.permission_requested")
            await talk.call("respond_permission", requestId=asked["requestId"], decision="allow")
        await talk.until("session.completed")
    results = [b["content"] for b in talk.said("user") if b["type"] == "tool_result"]
    assert sorted(results) == ["hi", "ho"]


async def test_twenty_tools_in_one_turn(running):
    steps = [[{"tool": "Bash", "input": {"command": f"echo {n}"}}] for n in range(20)]
    async with running.client() as client:
        talk, _ = await end_of(
            client, script(*steps, [{"text": "Done."}]), allowedTools=["Bash(echo:*)"]
        )
    results = [b["content"] for b in talk.said("user") if b["type"] == "tool_result"]
    assert results == [str(number) for number in range(20)]


async def test_300_kb_in_one_message(running):
    async with running.client() as client:
        talk, end = await end_of(client, script([{"text": "x", "repeat": 300_000}]))
    assert talk.texts() == ["x" * 300_000]
    assert end["result"] == "x" * 300_000


async def test_many_turns_go_to_one_process_in_order(running):
    async with running.client() as client:
        talk = await Talk.begin(client, script([{"text": "one"}]), keepAlive=True)
        pid = (await talk.until("session.started"))["pid"]
        sent = await talk.call("send_message", content=script([{"text": "two"}]))
        third = await talk.call("send_message", content=script([{"text": "three"}]))
        assert (sent["position"], third["position"]) == (1, 2)
        costs = [(await talk.until("session.turn_completed"))["costUsd"] for _ in range(3)]
        await talk.until("session.updated", state="idle")
        shown = (await talk.call("get"))["session"]
        assert (shown["pid"], shown["state"]) == (pid, "idle")
        assert shown["costUsd"] == pytest.approx(sum(costs))
        assert costs[0] == pytest.approx(costs[2])
        assert shown["usage"]["inputTokens"] == 3 * INPUT_TOKENS
        await talk.call("cancel")
        await talk.until("session.cancelled")
    assert talk.texts() == ["one", "two", "three"]


async def test_an_interrupt_ends_the_turn_and_the_next_one_works(running):
    mark = f"quiet-{time.time_ns()}"  # a bare sleep is refused by the program
    endless = {"tool": "Bash", "input": {"command": f"tail -F {mark}"}}
    async with running.client() as client:
        talk = await Talk.begin(
            client, script([endless]), keepAlive=True, allowedTools=["Bash(tail:*)"]
        )
        pid = (await talk.until("session.started"))["pid"]
        async with asyncio.timeout(30):
            while not processes_with(mark):
                await asyncio.sleep(0.05)
        await talk.call("interrupt")
        turn = await talk.until("session.turn_completed")
        assert turn["stopReason"] == "interrupted"
        async with asyncio.timeout(30):
            while processes_with(mark):
                await asyncio.sleep(0.05)
        await talk.until("session.updated", state="idle")
        with pytest.raises(Conflict, match="no turn"):
            await talk.call("interrupt")
        await talk.call("send_message", content=script([{"text": "after"}]))
        assert (await talk.until("session.turn_completed"))["stopReason"] == "end_turn"
        assert (await talk.call("get"))["session"]["pid"] == pid
        await talk.call("kill")
        await talk.until("session.cancelled")
    assert talk.texts()[-1] == "after"


async def test_an_interrupt_at_a_question_expires_it(running):
    async with running.client() as client:
        talk = await Talk.begin(client, script([BASH]), keepAlive=True)
        asked = await talk.until("session.permission_requested")
        await talk.call("interrupt")
        resolved = await talk.until("session.permission_resolved")
        assert (resolved["requestId"], resolved["decision"]) == (asked["requestId"], "expired")
        await talk.until("session.turn_completed", stopReason="interrupted")
        await talk.call("cancel")
        await talk.until("session.cancelled")


async def test_a_question_expires_with_the_process(running):
    async with running.client() as client:
        talk = await Talk.begin(client, script([BASH]))
        asked = await talk.until("session.permission_requested")
        await talk.call("kill")
        assert (await talk.until("session.permission_resolved"))["decision"] == "expired"
        await talk.until("session.cancelled")
        assert "permissions" not in (await talk.call("get"))["session"]
        with pytest.raises(Conflict, match="ended"):
            await talk.call("respond_permission", requestId=asked["requestId"], decision="allow")


async def test_a_message_to_an_ended_session_resumes_its_conversation(running, model):
    async with running.client() as client, running.client() as other:
        talk, first = await end_of(client, script([{"text": "one"}]))
        await talk.call("send_message", content=script([{"text": "two"}]))
        seen = talk.seen[-1].offset
        follow = Talk(other, talk.id, other.subscribe(f"session:{talk.id}", since=seen))
        end = await follow.until("session.completed")
        assert follow.seen[0].offset == seen + 1
        shown = (await talk.call("get"))["session"]
    assert follow.texts() == ["two"]
    assert end["usage"]["inputTokens"] == 2 * INPUT_TOKENS
    assert end["costUsd"] == pytest.approx(2 * first["costUsd"])
    assert shown["costUsd"] == end["costUsd"]
    assert len(model.requests[-1]["messages"]) > len(model.requests[0]["messages"])


async def test_messages_and_raw_lines_are_kept_and_paged(running):
    async with running.client() as client:
        talk, _ = await end_of(
            client,
            script(*[[{"tool": "Bash", "input": {"command": f"echo {n}"}}] for n in range(5)]),
            allowedTools=["Bash(echo:*)"],
        )
        told = [m.data["message"] for m in talk.seen if m.type == "session.message"]
        kept, page = [], {}
        while not kept or "nextCursor" in page:
            more = {"cursor": page["nextCursor"]} if page else {}
            page = await talk.call("messages", limit=3, **more)
            assert len(page["messages"]) <= 3
            kept += page["messages"]
        assert kept == told
        raw, page = "", {}
        while not raw or "nextCursor" in page:
            more = {"cursor": page["nextCursor"]} if page else {}
            page = await talk.call("transcript", limit=2, **more)
            raw += page["content"]
        for cursor in ("x", "-1", "", "9" * 30):
            with pytest.raises(BadRequest, match="cursor"):
                await talk.call("messages", cursor=cursor)
        with pytest.raises(NotFound):
            await client.call("session.messages", {"sessionId": "none"})
    types = [json.loads(line)["type"] for line in raw.splitlines()]
    assert types.count("result") == 1
    assert types.count("assistant") == 6
    assert raw.endswith("\n")
    async with running.http.get(
        f"{running.url}/api/sessions/{talk.id}/messages?limit=1", headers=running.headers()
    ) as answer:
        assert (await answer.json())["messages"] == told[:1]


async def test_a_fork_leaves_the_first_conversation_as_it_is(running):
    async with running.client() as client:
        talk, _ = await end_of(client, script([{"text": "one"}]))
        origin = (await talk.call("get"))["session"]["agentSessionId"]
        forked, _ = await end_of(client, script([{"text": "fork"}]), resume=origin, fork=True)
        assert (await forked.call("get"))["session"]["agentSessionId"] != origin
        assert forked.texts() == ["fork"]


async def test_images_reach_the_model(running, model):
    pixel = base64.b64encode(
        base64.b64decode(
            "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
        )
    ).decode()
    image = {"mediaType": "image/png", "data": pixel}
    async with running.client() as client:
        talk, _ = await end_of(client, script([{"text": "nice"}]), images=[image])
    kinds = [
        block["type"]
        for message in model.requests[-1]["messages"]
        if isinstance(message["content"], list)
        for block in message["content"]
    ]
    assert "image" in kinds
    assert talk.said("user")[0]["type"] == "image"


@pytest.mark.parametrize(
    ("step", "code", "match"),
    [
        ({"status": 400}, "invalid_request", "400"),
        ({"status": 401}, "authentication_failed", "401"),
        ({"status": 403}, "permission_denied", "403"),
        ({"status": 404}, "model_not_found", "model"),
        ({"status": 413}, "too_large", "large"),
        ({"status": 429}, "rate_limited", "429|limit"),
        ({"status": 500}, "api_error", "500"),
        ({"status": 529}, "overloaded", "529"),
        ({"drop": True}, "connection_failed", "lost|ECONNRESET"),
    ],
)
async def test_an_error_of_the_api_is_the_sessions_though_it_calls_itself_a_success(
    running, step, code, match
):
    async with running.client() as client:
        talk, end = await end_of(client, script(*[step] * 4))
        turn = next(m.data for m in talk.seen if m.type == "session.turn_completed")
    assert talk.seen[-1].type == "session.error"
    assert end["code"] == code, end
    assert re.search(match, end["message"])
    assert (turn["stopReason"], turn["code"]) == ("error", code)


async def test_a_retry_is_told(running):
    async with running.client() as client:
        talk, _ = await end_of(client, script({"status": 529}))
    notices = [
        m.data["content"]
        for m in talk.seen
        if m.type == "session.stream_output" and m.data["type"] == "system"
    ]
    assert notices
    assert "529 overloaded" in notices[0]
    assert "1 of 1" in notices[0]


async def test_an_error_in_a_live_conversation_ends_the_turn_and_no_more(running):
    async with running.client() as client:
        talk = await Talk.begin(client, script({"status": 400}), keepAlive=True)
        await talk.until("session.turn_completed", stopReason="error")
        await talk.until("session.updated", state="idle")
        await talk.call("cancel")
        await talk.until("session.cancelled")


async def test_a_budget_that_is_reached_stops_the_session(running):
    async with running.client() as client:
        _, end = await end_of(client, script([{"text": "dear"}]), budgetUsd=0.0001, keepAlive=True)
    assert end["code"] == "budget"
    assert "budgetUsd" in end["message"]


@pytest.mark.parametrize("wanted", ["11111111-1111-1111-1111-111111111111", "garbage", "--help"])
async def test_a_conversation_that_is_not_there_cannot_be_resumed(running, wanted):
    async with running.client() as client:
        _, end = await end_of(client, "hello", resume=wanted)
    assert end["code"] == "resume_failed"
    assert wanted in end["message"]


async def test_a_missing_program_is_a_sentence(start_daemon, claude):
    running = await start_daemon(**{**claude, "AGENTS__CLAUDE__PATH": "/no/such/claude"})
    async with running.client() as client:
        _, end = await end_of(client, "hello")
    assert end["code"] == "spawn_failed"
    assert "/no/such/claude" in end["message"]


async def test_a_stalled_api_is_silence(start_daemon, claude):
    running = await start_daemon(**claude, TASK__SILENCE_TIMEOUT="2")
    async with running.client() as client:
        _, end = await end_of(client, script({"stall": 20}))
    assert end["code"] == "silent"


async def test_one_that_waits_too_long_for_a_message_ends_well(start_daemon, claude):
    running = await start_daemon(**claude, SESSION__IDLE_TIMEOUT="0.2")
    async with running.client() as client:
        _, end = await end_of(client, script([{"text": "one"}]), keepAlive=True)
    assert end["exitCode"] == 0


async def test_a_background_child_of_a_tool_is_gone_with_the_session(running):
    marker = f"sleep 3{time.time_ns() % 10**8}"
    bash = {
        "tool": "Bash",
        "input": {"command": f"(setsid nohup {marker} >/dev/null 2>&1 &) ; true"},
    }
    async with running.client() as client:
        talk = await Talk.begin(client, script([bash], [{"text": "Running."}]))
        asked = await talk.until("session.permission_requested")
        await talk.call("respond_permission", requestId=asked["requestId"], decision="allow")
        await talk.until("session.completed")
    assert processes_with(marker.replace(" ", "\0")) == []


async def test_raw_input_is_refused(running):
    async with running.client() as client:
        talk = await Talk.begin(client, keepAlive=True)
        await talk.until("session.started")
        with pytest.raises(Conflict, match="send_message"):
            await talk.call("input", data="{}\n")
        await talk.call("kill")
        await talk.until("session.cancelled")


async def test_the_conversation_goes_on_after_kill_9_of_the_daemon(daemon_process, model, tmp_path):
    daemon_process.environ |= {
        f"AGENTCMD_{name}": value
        for name, value in claude_settings(model.url, tmp_path / "agent-home").items()
    }
    daemon_process.start()
    async with daemon_process.client() as client:
        talk = await Talk.begin(client, script([{"text": "one"}]), keepAlive=True)
        await talk.until("session.updated", state="idle")
    await asyncio.to_thread(daemon_process.kill)
    await asyncio.to_thread(daemon_process.start)
    async with daemon_process.client() as client:
        again = Talk(client, talk.id, client.subscribe(f"session:{talk.id}", since=0))
        assert (await again.until("session.error"))["code"] == "lost"
        assert (await again.call("resume"))["state"] == "queued"
        await again.until("session.updated", state="idle")
        await again.call("send_message", content=script([{"text": "two"}]))
        await again.until("session.turn_completed")
        await again.call("cancel")
        await again.until("session.cancelled")
    assert again.texts() == ["one", "two"]
    assert [m.offset for m in again.seen] == list(range(1, len(again.seen) + 1))
    asked = [str(message["content"]) for message in model.requests[-1]["messages"]]
    assert any("one" in text for text in asked)


async def test_an_agents_own_conversations_are_imported_and_go_on(running, tmp_path, model):
    async with running.client() as client, running.client() as other:
        talk, _ = await end_of(client, script([{"text": "one"}]))
        ours = (await talk.call("get"))["session"]
        (folder,) = (tmp_path / "agent-home/.claude/projects").iterdir()
        text = (folder / f"{ours['agentSessionId']}.jsonl").read_text()
        name = "22222222-2222-4222-8222-222222222222"
        text = text.replace(ours["agentSessionId"], name)
        (folder / f"{name}.jsonl").write_text(f"not JSON\n{text}" + '{"type": "half')
        (folder / "nothing.jsonl").write_text('{"type": "summary"}\n')
        (folder / "a-folder.jsonl").mkdir()
        found = await client.call("session.import", {"agent": "claude"})
        assert found["known"] == 1
        (session,) = found["sessions"]
        assert (session["state"], session["agentSessionId"]) == ("ended", name)
        again = await client.call("session.import", {"agent": "claude"})
        assert (again["sessions"], again["known"]) == ([], 2)
        await client.call(
            "session.send_message",
            {"sessionId": session["id"], "content": script([{"text": "two"}])},
        )
        channel = other.subscribe(f"session:{session['id']}", since=0)
        follow = Talk(other, session["id"], channel)
        assert (await follow.until("session.completed"))["durationMs"] == 0
        await follow.until("session.completed")
    assert follow.texts() == ["one", "two"]
    assert "one" in str(model.requests[-1]["messages"])


async def test_where_an_agent_was_never_at_work_there_is_nothing_to_import(running):
    async with running.client() as client:
        for agent in ("claude", "command"):
            found = await client.call("session.import", {"agent": agent})
            assert found == {"sessions": [], "known": 0}
        with pytest.raises(BadRequest, match="no agent"):
            await client.call("session.import", {"agent": "nobody"})


async def test_fifty_agents_at_once_lose_no_message(start_daemon):
    fake = Path(__file__).parents[1] / "fake_claude.py"
    running = await start_daemon(AGENTS__CLAUDE__PATH=str(fake))
    count = 200
    async with running.client() as client:
        talks = [await Talk.begin(client, f"{count} 0.005") for _ in range(50)]
        await asyncio.gather(*(talk.until("session.completed") for talk in talks))
        kept = (await talks[-1].call("messages", limit=500))["messages"]
    for talk in talks:
        numbers = [int(text.split()[1]) for text in talk.texts()]
        assert numbers == list(range(1, count + 1))
        assert [m.offset for m in talk.seen] == list(range(1, len(talk.seen) + 1))
    assert len(kept) == count + 1


async def fake(start_daemon, tmp_path, body, **settings):
    """A daemon whose claude is a shell script that has read its first message."""
    program = tmp_path / "claude"
    program.write_text(f"#!/bin/sh\nread -r message\n{body}\n")
    program.chmod(0o755)
    return await start_daemon(AGENTS__CLAUDE__PATH=str(program), **settings)


RESULT = """echo '{"type":"result","subtype":"success","result":"done"}'"""


async def test_lines_that_are_none_of_the_protocols_are_text(start_daemon, tmp_path):
    body = f"echo 'Warning: é'; echo more >&2; {RESULT}; printf 'the rest'"
    running = await fake(start_daemon, tmp_path, body)
    async with running.client() as client:
        talk, end = await end_of(client, "hello")
        raw = (await talk.call("transcript"))["content"]
    assert end["result"] == "done"
    texts = {"stdout": "", "stderr": ""}
    for message in talk.seen:
        if message.type == "session.stream_output":
            texts[message.data["type"]] += message.data["content"]
    assert texts == {"stdout": "Warning: é\nthe rest\n", "stderr": "more\n"}
    assert raw.startswith("Warning: é\n")


async def test_a_line_over_the_limit_is_passed_over_and_told(start_daemon, tmp_path):
    body = f"head -c 5000 /dev/zero | tr '\\0' x; echo; {RESULT}"
    running = await fake(start_daemon, tmp_path, body, SESSION__LINE_BYTES="4096")
    async with running.client() as client:
        talk, end = await end_of(client, "hello")
    assert end["result"] == "done"
    (told,) = [m.data for m in talk.seen if m.type == "session.stream_output"]
    assert told["type"] == "system"
    assert "4096" in told["content"]


async def test_an_agent_that_ends_in_the_middle_of_a_turn_is_incomplete(start_daemon, tmp_path):
    running = await fake(start_daemon, tmp_path, "echo out of ideas >&2; exit 0")
    async with running.client() as client:
        _, end = await end_of(client, "hello")
    assert (end["code"], end["exitCode"]) == ("incomplete", 0)
    assert "out of ideas" in end["message"]


async def test_more_messages_than_may_wait_are_refused(start_daemon, tmp_path):
    running = await fake(start_daemon, tmp_path, "sleep 60", SESSION__QUEUED_MESSAGES="2")
    async with running.client() as client:
        talk = await Talk.begin(client, "hello")
        await talk.until("session.message")
        for _ in range(2):
            await talk.call("send_message", content="more")
        with pytest.raises(Unavailable, match="2 messages wait"):
            await talk.call("send_message", content="too much")
        await talk.call("kill")
        await talk.until("session.cancelled")
    told = [m.data["content"] for m in talk.seen if m.type == "session.stream_output"]
    assert told == ["messages that it did not come to: 2; send them again\n"]


async def test_model_prompt_and_mode_reach_the_agent(running, model):
    async with running.client() as client:
        talk = await Talk.begin(client, keepAlive=True)  # only to learn where it works
        cwd = (await talk.call("get"))["session"]["cwd"]
        await talk.call("kill")
        await talk.until("session.cancelled")
        made = Path(cwd) / "made.txt"
        write = {"tool": "Write", "input": {"file_path": str(made), "content": "by the agent"}}
        talk, _ = await end_of(
            client,
            script([write], [{"text": "Written."}]),
            model="claude-of-the-test",
            systemPrompt="You are the agent of a test.",
            mcpConfig='{"mcpServers": {}}',
            permissionMode="acceptEdits",
        )
        shown = (await talk.call("get"))["session"]
    assert made.read_text() == "by the agent"
    assert shown["permissionMode"] == "acceptEdits"
    assert shown["model"] == "claude-of-the-test"
    asked = model.requests[-1]
    assert asked["model"] == "claude-of-the-test"
    assert "You are the agent of a test." in str(asked["system"])


QUESTION = (
    'echo \'{"type":"control_request","request_id":"r1","request":'
    '{"subtype":"can_use_tool","tool_name":"Bash","input":{"command":"ls"}}}\''
)


async def test_waiting_for_somebody_is_no_silence(start_daemon, tmp_path):
    body = f"{QUESTION}; read -r answer; {RESULT}"
    running = await fake(start_daemon, tmp_path, body, TASK__SILENCE_TIMEOUT="1.5")
    async with running.client() as client:
        talk = await Talk.begin(client, "hello")
        await talk.until("session.permission_requested")
        await asyncio.sleep(2.5)  # longer than the limit on silence
        await talk.call("respond_permission", requestId="r1", decision="deny")
        assert (await talk.until("session.completed"))["result"] == "done"


async def test_two_messages_at_once_to_an_ended_session_both_arrive(running):
    async with running.client() as client, running.client() as other:
        talk, _ = await end_of(client, script([{"text": "one"}]))
        said = [{"sessionId": talk.id, "content": script([{"text": t}])} for t in ("two", "three")]
        say = "session.send_message"
        await asyncio.gather(client.call(say, said[0]), other.call(say, said[1]))
        follow = Talk(other, talk.id, other.subscribe(f"session:{talk.id}", since=0))
        await follow.until("session.completed")
        await follow.until("session.completed")
    assert follow.texts()[0] == "one"
    assert sorted(follow.texts()[1:]) == ["three", "two"]


async def test_an_import_that_breaks_off_is_told_and_can_be_repeated(
    running, tmp_path, monkeypatch
):
    from domains.session import imports

    async with running.client() as client:
        talk, _ = await end_of(client, script([{"text": "one"}]))
        ours = (await talk.call("get"))["session"]["agentSessionId"]
        (folder,) = (tmp_path / "agent-home/.claude/projects").iterdir()
        text = (folder / f"{ours}.jsonl").read_text()
        (folder / "another.jsonl").write_text(text)

        def breaks(dialogue, lines):
            found = list(whole(dialogue, lines))
            yield from found[:1]
            if found:
                raise OSError(5, "Input/output error")

        whole = imports._messages
        with monkeypatch.context() as broken:
            broken.setattr(imports, "_messages", breaks)
            found = await client.call("session.import", {"agent": "claude"})
        assert found["sessions"] == []
        (lost, _) = (await client.call("session.list"))["sessions"]
        assert (lost["state"], lost["end"]["code"]) == ("ended", "lost")
        again = await client.call("session.import", {"agent": "claude"})
        assert [each["agentSessionId"] for each in again["sessions"]] == ["another"]
