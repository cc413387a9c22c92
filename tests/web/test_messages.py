"""What a client may say, and what it is told when it says something else."""

from __future__ import annotations

import json

import pytest

from daemon.core.errors import BadMessage
from daemon.web.messages import Refused, parse

PING = b'{"type":"ping"}'


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "null",
        "true",
        '"ping"',
        "[]",
        "{}",
        '{"type":null}',
        '{"type":{}}',
        '{"Type":"ping"}',
        '{"type":"ping"',
        '{"type":"ping"} {"type":"ping"}',
        "{'type':'ping'}",
        '{"type":"ping","data":NaN}',
        '{"type":"ping","data":-Infinity}',
        '{"type":"ping","data":{"a":"\x01"}}',
        '\ufeff{"type":"ping"}',
        '{"type":"ping",}',
    ],
)
def test_what_is_no_json_object_with_a_string_type_is_a_bad_message(text):
    with pytest.raises(BadMessage, match="JSON object"):
        parse(text)


@pytest.mark.parametrize("id_", ["0", '""', "-0.0", "1e5", '"a b"', '"' + "x" * 254 + '"'])
def test_an_id_is_kept_as_it_was_written(id_):
    assert parse(f'{{"id":{id_},"type":"ping"}}').id == id_.encode()


@pytest.mark.parametrize("id_", ["false", "[]", '{"a":1}', "9" * 257])
def test_an_id_that_is_neither_text_nor_number_is_refused(id_):
    with pytest.raises(Refused) as found:
        parse(f'{{"id":{id_},"type":"ping"}}')
    assert found.value.error.code == "bad_request"
    assert found.value.id == b""


def test_no_id_and_a_null_id_are_the_same():
    assert parse('{"id":null,"type":"ping"}').id == parse(PING).id == b""


@pytest.mark.parametrize("data", ["", ',"data":null', ',"data":{}'])
def test_no_data_is_an_empty_object(data):
    assert bytes(parse(f'{{"type":"task.list"{data}}}').data) == b"{}"


@pytest.mark.parametrize("channel", ["7", "[]", '""', '"a b"', '"session:\\u0000"', '"*:"'])
def test_a_channel_that_does_not_parse_is_refused_with_the_id(channel):
    with pytest.raises(Refused) as found:
        parse(f'{{"id":7,"type":"ping","channel":{channel}}}')
    assert found.value.error.code == "invalid_channel"
    assert found.value.id == b"7"


def test_a_null_channel_is_none():
    assert parse('{"type":"ping","channel":null}').channel is None


# Over a connection


@pytest.mark.parametrize(
    "data",
    ["null", "[1,2]", "7", '"text"', "1.50", "true", '{"\\u00e9":[{}]}', "[" * 500 + "]" * 500],
)
async def test_a_ping_gives_back_its_data_byte_for_byte(running, data):
    ws = await running.ws()
    await ws.raw.send_str(f'{{"type":"ping","channel":"session:1","data":{data}}}')
    frame = await ws.raw.receive(30)
    assert frame.data == f'{{"channel":"session:1","type":"global.pong","data":{data}}}'


async def test_an_unknown_field_is_named_together_with_what_there_is(running):
    ws = await running.ws()
    answer = await ws.call("session.create", {"agent": "command", "argv": ["true"], "mood": "x"})
    assert answer["data"]["code"] == "bad_request"
    assert "mood" in answer["data"]["message"]
    assert "keepAlive" in answer["data"]["message"]
    answer = await ws.call("task.list", {"x": 1})
    assert "there is: none" in answer["data"]["message"]


async def test_an_unknown_command_is_told_with_those_that_exist(running):
    ws = await running.ws()
    answer = await ws.call("x" * 5000)
    assert answer["data"]["code"] == "unknown_command"
    assert "session.create" in answer["data"]["message"]
    assert len(answer["data"]["message"]) < 3000
    message = (await ws.call("project.frob"))["data"]["message"]
    assert "project.add" in message
    assert "session.create" not in message


async def test_strikes_are_those_of_bad_messages_whatever_comes_between(running):
    ws = await running.ws()
    for bad in ("junk", "[]"):
        await ws.raw.send_str(bad)
        assert (await ws.next())["data"]["code"] == "bad_message"
        assert (await ws.call("ping"))["type"] == "global.pong"
        assert (await ws.call("no.such"))["data"]["code"] == "unknown_command"
    await ws.raw.send_bytes(PING)
    assert await ws.closed() == 4400


async def test_three_binary_messages_are_closed_with_4400(running):
    ws = await running.ws()
    for _ in range(2):
        await ws.raw.send_bytes(PING)
        assert (await ws.next())["data"]["code"] == "bad_message"
    await ws.raw.send_bytes(PING)
    assert await ws.closed() == 4400


async def test_what_is_said_after_the_goodbye_is_not_carried_out(running):
    ws = await running.ws()
    for _ in range(3):
        await ws.raw.send_str("junk")
    await ws.send("project.add", {"path": str(running.daemon.state_dir)}, id=9)
    assert await ws.closed() == 4400
    async with running.client() as client:
        assert len((await client.call("project.list"))["projects"]) == 1


async def test_text_that_is_no_utf8_closes_with_1007(raw):
    socket = await raw()
    await socket.next()
    socket.send(b'{"type":"\xff"}')
    assert await socket.next() == {"type": "close", "code": 1007}


@pytest.mark.parametrize("opcode", [3, 11])
async def test_a_frame_of_an_unknown_kind_closes_with_1002(raw, opcode):
    socket = await raw()
    await socket.next()
    socket.send(b"", opcode=opcode)
    assert await socket.next() == {"type": "close", "code": 1002}


async def test_a_message_of_exactly_the_limit_is_taken_and_one_byte_more_is_not(start_daemon):
    running = await start_daemon(WEB__MAX_MESSAGE_BYTES="2000")
    ws = await running.ws()
    empty = len(json.dumps({"type": "ping", "data": ""}))
    await ws.send("ping", "x" * (2000 - empty))
    assert (await ws.next())["type"] == "global.pong"
    await ws.send("ping", "x" * (2001 - empty))
    assert await ws.closed() == 1009


async def test_fragments_are_limited_together(raw):
    socket = await raw()
    await socket.next()
    socket.send('{"type":"ping","data":"', fin=False)
    for _ in range(20):
        socket.send("x" * 100_000, opcode=0, fin=False)
    assert await socket.next() == {"type": "close", "code": 1009}


async def test_a_failure_here_is_told_by_its_error_id_alone(running, monkeypatch):
    def broken(*_args, **_options):
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(running.daemon._dispatcher, "call", broken)
    ws = await running.ws()
    answer = await ws.call("project.list")
    assert answer["data"]["code"] == "internal"
    assert answer["data"]["details"]["errorId"] in answer["data"]["message"]
    assert "secret detail" not in json.dumps(answer)
    assert "Traceback" not in json.dumps(answer)
    assert (await ws.call("ping"))["type"] == "global.pong"


async def test_more_commands_at_once_than_allowed_are_refused(start_daemon):
    running = await start_daemon(WEB__MAX_COMMANDS="2")
    ws = await running.ws()
    for number in range(5):
        await ws.send("project.add", {"path": "/tmp"}, id=number)
    answers = [await ws.next() for _ in range(5)]
    assert {a["id"] for a in answers} == set(range(5))
    refused = [a for a in answers if a["type"] == "global.error"]
    assert len(refused) == 3
    assert {a["data"]["code"] for a in refused} == {"rate_limited"}
    answer = await ws.call("project.list")
    assert answer["type"] == "project.list.ok"
