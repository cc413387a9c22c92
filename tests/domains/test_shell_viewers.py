"""Many viewers of one terminal: their pace, their sizes, their rights, and what they are told."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest
from support import RawSocket, until
from viewers import Viewer

from daemon.core.frames import read_output
from domains.shell import pace

FLOOD = "stty -onlcr; i=0; while [ $i -lt {rounds} ]; do cat {path}; i=$((i+1)); done; echo over"


@pytest.fixture
def connect(running):
    return lambda **token: Viewer.connect(running, **token)


@pytest.fixture
def block(tmp_path):
    """A file of a megabyte."""
    path = tmp_path / "block"
    path.write_text("".join(f"{number:062}\n" for number in range(16_644)))
    return path


def live(running, viewer):
    (service,) = [
        handler.__self__
        for name, handler in running.daemon._dispatcher._handlers.items()
        if name == "shell.create"
    ]
    return service._terminals[viewer.id]


async def test_a_stalled_viewer_and_a_read_only_one_slow_nobody_down(connect, running, block):
    quick, reader = await connect(), await connect(scope="read:*")
    quick.acks = True
    await quick.create("sh", "-c", "read go; " + FLOOD.format(rounds=20, path=block))
    await reader.follow(quick.id, since=0)
    stalled = await RawSocket.connect(running, receive_bytes=4096)
    data = {"encoding": "binary", "since": 0}
    stalled.send(json.dumps({"type": "subscribe", "channel": quick.channel, "data": data}))
    await quick.type("\n")
    await asyncio.gather(quick.until(b"over", timeout=30), reader.until(b"over", timeout=30))
    assert quick.jumps == []
    assert len(quick.output) > 20_000_000
    assert reader.output == quick.output
    output, start = b"", 0
    async with asyncio.timeout(30):
        while b"over" not in output:
            opcode, payload = await stalled.frame()
            assert opcode in (1, 2, 10)
            if opcode == 2:
                _, at, told = read_output(payload)
                if told.startswith(b"\x1bc"):
                    output, start = b"", at + len(told)
                else:
                    assert at == start + len(output)
                    output += told
    assert start > 10_000_000  # it has missed most, and was told so by a reset
    assert output == quick.output[start:]
    stalled.close()


async def test_one_who_shows_nothing_more_holds_the_program_only_for_a_while(
    connect, running, block, monkeypatch
):
    monkeypatch.setattr(pace, "STALL", 0.5)
    slow, other = await connect(), await connect()
    await slow.create("sh", "-c", "read go; " + FLOOD.format(rounds=4, path=block))
    await slow.send("shell.ack", offset=0)
    await slow.call("ping")
    await other.follow(slow.id, since=0)
    loop = asyncio.get_running_loop()
    begun = loop.time()
    await slow.type("\n")
    terminal = live(running, slow)
    await until(lambda: terminal.log.size >= pace.FIRST_WINDOW)
    assert terminal.log.size < 2 * pace.FIRST_WINDOW
    await other.until(b"over")
    assert loop.time() - begun >= 0.5
    assert other.jumps == []


async def test_one_who_may_not_write_is_shown_everything_and_does_nothing(connect):
    owner, guest = await connect(), await connect(scope="read:shell:*")
    await owner.create("cat")
    told = await guest.follow(owner.id, since=0)
    assert told["recovered"]
    for type_, data in {
        "shell.input": {"data": "x"},
        "shell.resize": {"cols": 9, "rows": 9},
        "shell.signal": {"signal": "KILL"},
        "shell.close": {},
        "shell.record": {},
    }.items():
        assert (await guest.call(type_, data))["data"]["code"] == "forbidden"
    assert (await guest.call("shell.ack", {"offset": 0}))["type"] == "shell.ack.ok"
    await owner.type("seen\r")
    await guest.until(b"seen\r\nseen")


async def test_the_size_is_that_of_who_has_typed_last(connect):
    one, two = await connect(), await connect()
    await one.create("cat")
    await two.follow(one.id)

    async def size(viewer, cols, **more):
        answer = await viewer.call("shell.resize", {"cols": cols, "rows": 30, **more})
        return answer["data"]["cols"]

    assert await size(one, 100) == 100
    assert await size(two, 50) == 100
    two.events.clear()
    await two.type("x")
    await two.until("shell.resized")
    assert two.told("shell.resized")[-1]["cols"] == 50
    assert await size(one, 101) == 50
    assert await size(one, 102, takeOver=True) == 102
    stranger = await connect()
    stranger.id = one.id
    assert await size(stranger, 70) == 70
    await two.until(lambda: two.told("shell.resized")[-1]["cols"] == 70)
    await one.raw.close()
    await two.until(lambda: two.told("shell.resized")[-1]["cols"] == 50)


async def test_a_resize_reaches_the_program(connect):
    viewer = await connect()
    await viewer.create(
        "sh", "-c", "trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.05; done"
    )
    await viewer.until(b"ready")
    await viewer.send("shell.resize", cols=101, rows=31)
    await viewer.exit()
    assert b"31 101" in viewer.output


@pytest.mark.parametrize("how", ["signal", "key"])
async def test_a_signal_reaches_the_foreground_as_a_key_does(connect, how):
    viewer = await connect()
    await viewer.create("bash", "--norc", "-i", env={"PS1": "now> "})
    await viewer.type("sh -c 'echo go; exec sleep 60'\r")
    await viewer.until(b"go\r\n")
    viewer.output.clear()
    if how == "signal":
        answer = await viewer.call("shell.signal", {"signal": "SIGINT"})
        assert answer["type"] == "shell.signal.ok"
    else:
        await viewer.type("\x03")
    await viewer.until(b"now> ")
    await viewer.type("echo code-$?\r")
    await viewer.until(b"code-130\r\n")
    answer = await viewer.call("shell.signal", {"signal": "NOISE"})
    assert answer["data"]["code"] == "bad_request"


async def test_titles_and_folders_are_told(connect):
    viewer = await connect()
    text = "\\033]0;my title\\007\\033]7;file://host/tmp/a%%20b\\033\\\\"
    await viewer.create("sh", "-c", f"printf '{text}'; exec cat")
    await viewer.until("shell.title")
    (told,) = viewer.told("shell.title")
    assert (told["title"], told["folder"]) == ("my title", "/tmp/a b")
    terminal = (await viewer.call("shell.get"))["data"]["terminal"]
    assert (terminal["title"], terminal["folder"]) == ("my title", "/tmp/a b")


@pytest.mark.parametrize("allowed", ["false", "true"])
async def test_the_clipboard_is_written_only_where_that_is_allowed(start_daemon, allowed):
    running = await start_daemon(SHELL__CLIPBOARD=allowed)
    viewer = await Viewer.connect(running)
    await viewer.create("printf", "a\\033]52;c;c2VjcmV0\\007b")
    await viewer.exit()
    whole = b"a\x1b]52;c;c2VjcmV0\x07b"
    assert (b"c2VjcmV0" in viewer.output, viewer.output == whole) == ((allowed == "true",) * 2)
    assert (viewer.output[:1], viewer.output[-1:]) == (b"a", b"b")


async def test_text_is_decoded_across_pieces_and_what_is_none_is_marked(connect):
    viewer = await connect()
    script = r"printf '\342\202'; sleep 0.1; printf '\254 \377 '; sleep 0.1; printf '\360\237'"
    await viewer.create("sh", "-c", script, binary=False)
    await viewer.exit()
    assert viewer.output.decode() == "€ \ufffd \ufffd"
    offsets = [event["offset"] for event in viewer.events]
    assert offsets == list(range(1, len(offsets) + 1))
    assert viewer.told("shell.output")[0]["byteOffset"] == 0


async def test_what_comes_without_an_id_is_answered_only_by_its_effect(connect):
    viewer = await connect()
    await viewer.create("cat", binary=False)
    await viewer.type("one\r")
    await viewer.send("shell.resize", cols=90, rows=20)
    await viewer.send("shell.ack", offset=3)
    await viewer.call("ping")
    await viewer.until(b"one\r\none")
    told = {event["type"] for event in viewer.events}
    assert told == {"shell.created", "shell.output", "shell.resized"}


async def test_acknowledgements_by_the_thousand_are_no_flood(connect):
    viewer = await connect()
    await viewer.create("cat")
    for number in range(3000):
        await viewer.send("shell.ack", offset=number)
    assert (await viewer.call("ping"))["type"] == "global.pong"
    assert viewer.told("global.error") == []


async def test_other_doors_and_patterns_see_it_as_text(connect, running):
    watcher = await connect()
    await watcher.call("subscribe", channel="shell:*")
    told = (await watcher.call("subscribe", channel="project:scratch"))["data"]
    assert told["recovered"]
    viewer = await connect()
    await viewer.create("echo", "hello")
    await viewer.exit()
    await watcher.until(lambda: len(watcher.told("shell.exit")) == 2)
    kinds = [event["type"] for event in watcher.events if event["channel"] == viewer.channel]
    first, *pieces, last = kinds  # a terminal gives it in as many as it likes
    assert (first, {*pieces}, last) == ("shell.created", {"shell.output"}, "shell.exit")
    kinds = [event["type"] for event in watcher.events if event["channel"] == "project:scratch"]
    assert kinds[-2:] == ["shell.created", "shell.exit"]
    history = f"{running.url}/api/channels/{viewer.channel}/history"
    async with running.http.get(history, headers=running.headers()) as response:
        page = await response.json()
    assert [event["type"] for event in page["events"]][-1] == "shell.exit"
    text = "".join(event["data"].get("data", "") for event in page["events"])
    assert text == "hello\r\n"


async def test_bytes_are_for_terminals_on_this_door_alone(connect):
    viewer = await connect()
    await viewer.create("cat")
    for channel in ("shell:*", "project:scratch"):
        answer = await viewer.call("subscribe", {"encoding": "binary"}, channel=channel)
        assert answer["data"]["code"] == "bad_request"
    answer = await viewer.call("subscribe", {"encoding": "utf-16"}, channel=viewer.channel)
    assert answer["data"]["code"] == "bad_request"


async def test_terminals_over_http(running):
    api = f"{running.url}/api/terminals"
    async with running.http.post(api, json={"command": ["cat"]}, headers=running.headers()) as got:
        assert got.status == 201
        id_ = (await got.json())["terminalId"]
        assert got.headers["Location"] == f"/api/terminals/{id_}"

    async def post(command, **data):
        url = f"{api}/{id_}/{command}"
        async with running.http.post(url, json=data, headers=running.headers()) as got:
            return await got.json()

    assert (await post("input", data="hi\r"))["state"] == "running"
    assert (await post("resize", cols=44, rows=11))["cols"] == 44
    async with running.http.get(f"{api}/{id_}", headers=running.headers()) as got:
        assert (await got.json())["terminal"]["cols"] == 44
    assert (await post("close"))["reason"] == "closed"


async def test_a_recording_is_made_and_downloaded(connect, running):
    viewer = await connect()
    await viewer.create("sh", "-c", "read go; printf 'bye\\n'; exit 5", record=True)
    assert (await viewer.call("shell.record"))["data"]["code"] == "conflict"
    await viewer.send("shell.resize", cols=90, rows=20)
    await viewer.type("go\n")
    await viewer.exit()
    url = f"{running.url}/api/terminals/{viewer.id}/recording"
    recording = live(running, viewer).recording
    await until(recording._task.done)
    async with running.http.get(url, headers=running.headers()) as got:
        assert got.content_type == "application/x-asciicast"
        header, *events = [json.loads(line) for line in (await got.text()).splitlines()]
    assert (header["version"], header["term"]["cols"]) == (3, 80)
    assert [data for _, code, data in events if code == "r"] == ["90x20"]
    text = "".join(data for _, code, data in events if code == "o")
    assert text == viewer.output.decode()
    assert events[-1][1:] == ["x", "5"]
    assert [each["state"] for each in viewer.told("shell.recording_updated")] == [
        "recording",
        "ended",
    ]


async def test_a_recording_is_ended_on_request_and_its_file_stays(connect):
    viewer = await connect()
    await viewer.create("cat")
    assert (await viewer.call("shell.record"))["data"]["state"] == "recording"
    await viewer.type("hello\r")
    await viewer.until(b"hello\r\nhello")
    ended = (await viewer.call("shell.stop_recording"))["data"]
    assert (ended["state"], ended["terminalId"]) == ("ended", viewer.id)
    assert (await viewer.call("shell.recording"))["data"] == ended
    assert (await viewer.call("shell.record"))["data"]["path"] != ended["path"]


async def test_a_drain_says_why_the_terminal_ends(start_daemon):
    running = await start_daemon()
    viewer = await Viewer.connect(running)
    await viewer.create("cat")
    running.daemon._tasks.close()
    stopping = asyncio.ensure_future(running.daemon._tasks.stop_all())
    end = await viewer.exit()
    assert end["reason"] == "daemon_stopped"
    assert [each["code"] for each in viewer.told("shell.error")] == ["daemon_stopped"]
    await stopping


async def test_one_that_nobody_uses_ends(start_daemon):
    running = await start_daemon(SHELL__IDLE_TIMEOUT="0.2")
    viewer = await Viewer.connect(running)
    await viewer.create("cat")
    await viewer.call("subscribe", channel="project:scratch")
    await viewer.call("unsubscribe", channel=viewer.channel)
    end = await viewer.exit()
    assert end["reason"] == "idle"


async def test_there_are_so_many_for_a_user_and_no_more(start_daemon):
    running = await start_daemon(SHELL__MAX_TERMINALS_PER_USER="2", SHELL__MAX_TERMINALS="3")
    ada, bob = await Viewer.connect(running), await Viewer.connect(running, user="bob")
    answers = [await who.call("shell.create", CAT) for who in (ada, ada, ada, bob, bob)]
    kinds = [answer["data"].get("code", "ok") for answer in answers]
    assert kinds == ["ok", "ok", "rate_limited", "ok", "rate_limited"]
    ada.id = answers[0]["data"]["terminalId"]
    await ada.call("shell.close")
    assert (await ada.call("shell.create", CAT))["type"] == "shell.create.ok"


CAT = {"command": ["cat"]}


async def test_an_ended_one_can_be_looked_at_for_a_while(start_daemon):
    running = await start_daemon(SHELL__KEEP_ENDED="2")
    viewer = await Viewer.connect(running)
    await viewer.create("echo", "hello")
    await viewer.exit()
    late = await Viewer.connect(running)
    assert (await late.follow(viewer.id, since=0))["recovered"]
    await late.exit()
    assert late.output == viewer.output
    terminal = (await late.call("shell.get"))["data"]["terminal"]
    assert (terminal["state"], terminal["exitCode"]) == ("exited", 0)
    await until(lambda: running.daemon._journal.get(viewer.channel) is None)
    assert (await late.call("shell.get"))["data"]["code"] == "not_found"
    assert (await late.follow(viewer.id))["code"] == "not_found"


async def test_a_listener_of_the_bus_hears_output(connect, running):
    heard = []
    forget = running.daemon._bus.on("shell.output", heard.append)
    viewer = await connect()
    await viewer.create("echo", "hello")
    await viewer.exit()
    forget()
    assert "".join(event.data for event in heard) == "hello\r\n"


async def test_a_terminals_environment_is_the_allowed_one(connect, monkeypatch):
    monkeypatch.setenv("AGENTCMD_TOKEN", "secret")
    monkeypatch.setenv("TERM", "dumb")
    viewer = await connect()
    await viewer.create("env", env={"MINE": "1"})
    await viewer.exit()
    names = dict(line.partition("=")[::2] for line in viewer.output.decode().splitlines())
    assert (names["TERM"], names["COLORTERM"], names["MINE"]) == (
        "xterm-256color",
        "truecolor",
        "1",
    )
    assert "AGENTCMD_TOKEN" not in names


async def test_one_whose_reaper_is_killed_ends_as_lost(connect, running):
    viewer = await connect()
    await viewer.create("cat")
    child = running.daemon._tasks.get(viewer.id).process._child
    os.kill(child._reaper, signal.SIGKILL)
    end = await viewer.exit()
    assert (end["reason"], end["exitCode"]) == ("lost", None)


async def test_a_recording_begins_with_the_screen_that_stands_there(connect, running):
    viewer = await connect()
    await viewer.create("sh", "-c", "printf 'before\\033[6n'; read go; echo after")
    await viewer.until(b"before")
    path = (await viewer.call("shell.record"))["data"]["path"]
    await viewer.type("go\r")
    await viewer.exit()
    await until(live(running, viewer).recording._task.done)
    events = [json.loads(line) for line in Path(path).read_text().splitlines()[1:]]
    text = "".join(data for _, code, data in events if code == "o")
    assert text == "\x1bc\x1b[?25h\x1b[20lbefore\0\0\0\0go\r\nafter\r\n"
