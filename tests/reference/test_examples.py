"""Examples are true: each message fits its structure, and every program in the guide runs."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import msgspec
import npm
import pytest
from node_client import SOCKET_IO_CLIENT, node

from daemon.app import build_registry
from daemon.reference import ROOT
from daemon.reference.asyncapi import ASKED
from daemon.reference.examples import COMMANDS, EVENTS, REQUESTS
from daemon.reference.markup import snippets
from daemon.reference.page import guide
from daemon.reference.routes import HistoryPage
from daemon.web.messages import parse

REGISTRY = build_registry()
GUIDE = {snippet.name: snippet.code for snippet in snippets(guide()) if snippet.name}


def unknown(data, struct):
    """Read data as a structure's, and give the fields that the structure does not know."""
    msgspec.json.decode(json.dumps(data), type=struct)
    return data.keys() - set(struct.__struct_encode_fields__)


@pytest.mark.parametrize("name", EVENTS)
def test_an_example_of_an_event_is_one(name):
    if name != "global.pong":  # which carries whatever it was sent
        assert unknown(EVENTS[name], REGISTRY.events[name]) == set()


@pytest.mark.parametrize("name", COMMANDS)
def test_an_example_of_a_command_and_of_its_answer_is_one(name):
    command = REGISTRY.commands[name]
    assert unknown(COMMANDS[name].data, command) == set()
    assert unknown(COMMANDS[name].answer, command.__command__.answer) == set()


@pytest.mark.parametrize("asked", ASKED, ids=lambda asked: asked.name)
def test_an_example_of_a_request_is_one(asked):
    request = parse(json.dumps(REQUESTS[asked.name]))
    assert request.type == asked.name
    if asked.data is not None:
        request.decode(asked.data)


def test_everything_that_was_declared_has_an_example():
    assert EVENTS.keys() == REGISTRY.events.keys()
    assert COMMANDS.keys() == REGISTRY.commands.keys()


# Programs


@pytest.fixture
def run(running):
    """Run a program that was written for a daemon at the default address against this one."""

    async def start(*argv, code="", until=None):
        environ = {
            **os.environ,
            "AGENTCMD_SERVER__STATE_DIR": str(running.daemon.state_dir),
            "AGENTCMD_TOKEN": running.token(),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        here = running.url.removeprefix("http://")
        process = await asyncio.create_subprocess_exec(
            *argv,
            code.replace("127.0.0.1:4100", here),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environ,
            cwd=ROOT,
            start_new_session=True,
        )
        async with asyncio.timeout(30):
            out = b""
            if until is None:
                out, errors = await process.communicate()
                assert process.returncode == 0, errors.decode()
            else:
                while until not in out:
                    line = await process.stdout.readline()
                    assert line, out
                    out += line
                os.killpg(process.pid, signal.SIGKILL)  # what a shell has started, too
                await process.communicate()
        return out.decode()

    return start


@pytest.fixture
async def session(run):
    """Make a session as the guide does, and wait for its end; gives its id."""
    made = json.loads(await run("sh", "-c", code=GUIDE["create"]))["sessionId"]
    await run(
        "sh",
        "-c",
        code=GUIDE["stream"].replace("session:ID", f"session:{made}"),
        until=b'"session.completed"',
    )
    return made


async def test_a_session_is_made_followed_and_read_again_with_curl(run, session):
    code = GUIDE["history"].replace("session:ID", f"session:{session}")
    page = msgspec.json.decode(await run("sh", "-c", code=code), type=HistoryPage)
    assert [event.offset for event in page.events] == list(range(1, page.next + 1))
    assert page.events[-1].type == "session.completed"
    said = [event.data["content"] for event in page.events if event.type.endswith("stream_output")]
    assert "".join(said) == "one\ntwo\n"


async def test_a_browsers_websocket_follows_a_session(run):
    code = f"const token = process.env.AGENTCMD_TOKEN;\n{GUIDE['websocket']}"
    out = await run(node(), "--experimental-websocket", "--no-warnings", "-e", code=code)
    assert out.split() == ["one", "two"]


async def test_a_browsers_websocket_shows_a_terminal(run):
    code = f"const token = process.env.AGENTCMD_TOKEN;\n{GUIDE['terminal']}"
    out = await run(node(), "--experimental-websocket", "--no-warnings", "-e", code=code)
    assert out.split() == ["one", "two"]


async def test_the_python_client_follows_a_session(run):
    out = await run(sys.executable, "-W", "error", "-c", code=GUIDE["client"])
    assert out.splitlines()[-1].split()[1] == "session.completed"


async def test_a_socket_io_client_follows_a_session(run):
    folder = await asyncio.to_thread(npm.package, SOCKET_IO_CLIENT)
    code = (
        f"const {{io}} = require('{folder}/node_modules/socket.io-client');\n"
        f"const token = process.env.AGENTCMD_TOKEN;\n{GUIDE['socketio']}"
    )
    assert (await run(node(), "-e", code=code)).split() == ["one", "two"]


async def test_a_token_is_made_as_the_guide_says(run, running):
    token = (await run("sh", "-c", code=GUIDE["token"])).strip()
    caller = running.daemon.tokens.verify(token)
    assert (caller.sub, caller.grants) == ("ada", (("read", "session:*"),))


def test_every_program_of_the_guide_is_run_here():
    assert GUIDE.keys() == {
        "create",
        "history",
        "stream",
        "terminal",
        "websocket",
        "client",
        "socketio",
        "token",
    }


# The README's programs have no end of their own


def readme(language, word):
    """Find the one block of code of a language that has a word in it."""
    blocks = snippets((ROOT / "README.md").read_text())
    (found,) = [each.code for each in blocks if each.language == language and word in each.code]
    return found


async def test_the_readmes_websocket_program_runs(run):
    code = (
        f"const token = process.env.AGENTCMD_TOKEN;\n{readme('js', 'WebSocket')}\n"
        'ws.addEventListener("message", ({data}) => {\n'
        '  if (JSON.parse(data).type === "session.completed") ws.close();\n});'
    )
    out = await run(node(), "--experimental-websocket", "--no-warnings", "-e", code=code)
    assert "total 0" in out  # what `ls -l` says of the scratch folder


async def test_the_readmes_python_program_runs(run):
    body = "".join(f"    {line}\n" for line in readme("python", "Client").splitlines())
    code = (
        "import asyncio, os\ntoken = os.environ['AGENTCMD_TOKEN']\n"
        f"async def main():\n{body}\nasyncio.run(main())"
    )
    out = await run(
        sys.executable, "-u", "-W", "error", "-c", code=code, until=b"session.completed"
    )
    assert "session.created" in out


async def test_the_readmes_curl_commands_run(run):
    create, _, follow = readme("sh", "curl -N").partition("curl -N")
    made = json.loads(await run("sh", "-c", code=create))["sessionId"]
    code = f"exec curl -sN{follow}".replace("session:ID", f"session:{made}")
    assert "session.created" in await run("sh", "-c", code=code, until=b'"session.completed"')
