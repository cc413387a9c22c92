"""Terminals: what their programs write reaches every viewer, and what viewers say reaches them."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys

import pytest
from support import descendants, open_descriptors, processes_with, until
from viewers import Viewer


@pytest.fixture
def connect(running):
    """Connect viewers: `await connect(scope="read:*")`."""
    return lambda **token: Viewer.connect(running, **token)


SEQ = b"".join(b"%d\r\n" % number for number in range(1, 3001))


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
async def test_a_fast_exit_delivers_every_byte_and_then_the_end(connect, binary):
    viewer = await connect()
    for _ in range(60):
        viewer.output, viewer.events = bytearray(), []
        await viewer.create("sh", "-c", "seq 1 3000; exit 3", binary=binary)
        end = await viewer.exit()
        assert viewer.output == SEQ
        assert (end["exitCode"], end["reason"]) == (3, "exited")
        assert [event["type"] for event in viewer.events][-1] == "shell.exit"


async def test_a_login_shell_answers(connect, tmp_path):
    viewer = await connect()
    await viewer.create(env={"HOME": str(tmp_path)})  # not with a developer's profile
    await viewer.type("echo $((20+22)) $TERM; stty size; tty; exit\r")
    end = await viewer.exit()
    assert b"42 xterm-256color" in viewer.output
    assert b"24 80" in viewer.output
    assert b"/dev/pts/" in viewer.output
    assert end["exitCode"] == 0


READ = "import os,sys,hashlib; n=int(sys.argv[1]); h=hashlib.sha256()\n"
READ += "print('ready', flush=True)\n"
READ += "while n > 0: d=os.read(0, 65536); h.update(d); n -= len(d)\n"
READ += "print(h.hexdigest(), n)"


@pytest.mark.parametrize("mode", ["raw", "sane"])
async def test_a_paste_of_a_megabyte_arrives_whole_while_another_terminal_answers(connect, mode):
    line = "x" * 98 + "é\n"
    paste = line * 10_000
    pasting, typing = await connect(), await connect()
    await typing.create("cat")
    size = len(paste.encode())
    await pasting.create(
        "sh", "-c", f'stty {mode} -echo; exec {sys.executable} -c "$1" {size}', "sh", READ
    )
    await pasting.until(b"ready")
    for start in range(0, len(paste), 49_500):
        await pasting.type(paste[start : start + 49_500])
        await typing.type(f"<{start}>\r")
        await typing.until(b"<%d>\r\n<%d>" % (start, start))
    await pasting.exit()
    wanted = hashlib.sha256(paste.encode()).hexdigest()
    assert f"{wanted} 0" in pasting.output.decode()


async def test_a_paste_that_nobody_reads_is_refused_aloud_and_the_terminal_goes_on(connect):
    viewer = await connect()
    await viewer.create("sh", "-c", "stty raw -echo; echo ready; sleep 60")
    await viewer.until(b"ready")
    answers = [await viewer.call("shell.input", {"data": "x" * 500_000}) for _ in range(4)]
    refused = [answer["data"] for answer in answers if answer["type"] == "global.error"]
    assert [each["code"] for each in refused] == ["unavailable"] * len(refused)
    assert refused
    assert (await viewer.call("shell.close"))["data"]["reason"] == "closed"


SURVIVORS = """
nohup sleep 70 >/dev/null 2>&1 &
setsid sleep 71 &
(trap '' HUP TERM; sleep 72; sleep 72) &
sleep 73 & kill -STOP $!
sleep 74 &
(setsid sh -c 'nohup sleep 75 & sleep 76' &)
echo re''ady
"""


@pytest.mark.parametrize("how", ["close", "exit"])
async def test_the_end_of_a_terminal_leaves_nothing_running(connect, how):
    viewer = await connect()
    await viewer.create("bash", "--norc", "-i", env={"MARKER": viewer_mark(how)})
    await viewer.type(SURVIVORS.replace("\n", "\r"))
    await viewer.until(b"ready\r\n")
    assert (
        len(await until(lambda: len(found := processes_with(viewer_mark(how))) > 7 and found)) > 7
    )
    if how == "close":
        answer = await viewer.call("shell.close")
        assert answer["data"]["reason"] == "closed"
    else:
        await viewer.type("exit 4\rexit 4\r")  # the first one warns of stopped jobs
    end = await viewer.exit()
    assert processes_with(viewer_mark(how)) == []
    assert end["reason"] == ("closed" if how == "close" else "exited")


def viewer_mark(how):
    return f"agentcmd-survivor-{how}-{os.getpid()}"


BAD = {
    "no such folder": ({"cwd": "/no/such/folder"}, "bad_request"),
    "a file as folder": ({"cwd": "/etc/passwd"}, "bad_request"),
    "a relative folder": ({"cwd": "src"}, "bad_request"),
    "a folder in no project": ({"cwd": "/usr"}, "not_found"),
    "a missing program": ({"command": ["/no/such/program"]}, "bad_request"),
    "a program that is none": ({"command": ["/etc/passwd"]}, "bad_request"),
    "no program": ({"command": []}, "bad_request"),
    "an empty name": ({"command": [""]}, "bad_request"),
    "NUL in an argument": ({"command": ["echo", "a\0b"]}, "bad_request"),
    "NUL in the environment": ({"env": {"A": "\0"}}, "bad_request"),
    "a name with =": ({"env": {"A=B": "c"}}, "bad_request"),
    "no columns": ({"cols": 0}, "bad_request"),
    "a negative size": ({"rows": -1}, "bad_request"),
    "a huge size": ({"cols": 65536}, "bad_request"),
    "text as a size": ({"cols": "80"}, "bad_request"),
    "an unknown field": ({"columns": 80}, "bad_request"),
    "an unknown project": ({"projectId": "nobody"}, "not_found"),
}


@pytest.mark.parametrize("why", BAD)
async def test_what_cannot_be_opened_is_refused_and_leaves_nothing(connect, running, why):
    data, code = BAD[why]
    viewer = await connect()
    before = open_descriptors()
    answer = await viewer.call("shell.create", {"cols": 80, "rows": 24, **data})
    assert (answer["type"], answer["data"]["code"]) == ("global.error", code)
    assert len(running.daemon.tasks) == 0
    await until(lambda: open_descriptors() <= before)
    assert (await viewer.call("shell.list"))["data"]["terminals"] == []


async def test_what_is_said_to_a_terminal_that_is_not_there_or_has_ended(connect):
    viewer = await connect()
    viewer.id = "nobody"
    for type_, data in WORDS.items():
        assert (await viewer.call(type_, data))["data"]["code"] == "not_found"
    await viewer.create("true")
    await viewer.exit()
    codes = {type_: (await viewer.call(type_, data))["data"] for type_, data in WORDS.items()}
    assert {type_: told.get("code", told.get("state")) for type_, told in codes.items()} == {
        "shell.input": "conflict",
        "shell.resize": "conflict",
        "shell.signal": "conflict",
        "shell.ack": "exited",
        "shell.record": "conflict",
        "shell.stop_recording": "conflict",
        "shell.recording": "not_found",
        "shell.get": None,
        "shell.close": None,
    }
    await viewer.type("late")
    await viewer.until("global.error")
    assert viewer.told("global.error")[0]["code"] == "conflict"


WORDS = {
    "shell.input": {"data": "x"},
    "shell.resize": {"cols": 10, "rows": 10},
    "shell.signal": {"signal": "INT"},
    "shell.ack": {"offset": 1},
    "shell.record": {},
    "shell.stop_recording": {},
    "shell.recording": {},
    "shell.get": {},
    "shell.close": {},
}


async def test_two_hundred_terminals_leave_no_descriptor_and_no_process(connect, running):
    viewer = await connect()
    spawner = running.daemon._launcher.spawner_pid
    await viewer.create("true")
    await viewer.exit()
    before = open_descriptors(), descendants(spawner)

    async def done(command, data=None):
        """Ask until a fast machine is below the limit of messages a second."""
        while (answer := await viewer.call(command, data))["type"] == "global.error":
            assert answer["data"]["code"] == "rate_limited", answer
            await asyncio.sleep(0.1)
        return answer["data"]

    for start in range(0, 200, 50):
        made = [
            await done("shell.create", {"command": ["cat"] if number % 2 else ["true"]})
            for number in range(start, start + 50)
        ]
        for each in made:
            viewer.id = each["terminalId"]
            await done("shell.close")
    await until(lambda: (open_descriptors(), descendants(spawner)) == before)
