"""What an agent is told in secret: in files that only it can read, never in the process list."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from support import processes_with

from domains.session.private_files import FOLDER, PrivateFiles

PROGRAM = """#!/bin/sh
for each in "$@"; do
  case "$each" in
    --mcp-config=*|--append-system-prompt-file=*)
      file="${each#*=}"
      stat -c '%a' "$file" "${file%/*}" >> SEEN
      cat "$file" >> SEEN; echo >> SEEN;;
  esac
done
touch SEEN.whole
read -r message
echo '{"type":"result","subtype":"success","result":"done"}'
"""

SECRET = "bearer-of-the-test"
CONFIG = json.dumps({"mcpServers": {"x": {"headers": {"Authorization": SECRET}}}})


async def test_secrets_reach_the_agent_in_files_that_are_gone_with_it(start_daemon, tmp_path):
    seen, program = tmp_path / "seen", tmp_path / "claude"
    program.write_text(PROGRAM.replace("SEEN", str(seen)))
    program.chmod(0o755)
    running = await start_daemon(AGENTS__CLAUDE__PATH=str(program))
    async with running.client() as client:
        asked = {"agent": "claude", "keepAlive": True, "mcpConfig": CONFIG}
        given = {**asked, "systemPrompt": f"never say {SECRET} " + "x" * 200_000}
        session = (await client.call("session.create", given))["session"]
        async with asyncio.timeout(30):
            while not Path(f"{seen}.whole").exists():
                await asyncio.sleep(0.01)
        assert not processes_with(SECRET)
        text = seen.read_text()
        assert CONFIG in text
        assert given["systemPrompt"] in text
        assert text.split("\n")[:2] == ["600", "700"]
        (folder,) = Path(tmp_path).rglob(FOLDER)
        assert [path.name for path in folder.iterdir()] == [session["id"]]
        await client.call("session.kill", {"sessionId": session["id"]})
        async with asyncio.timeout(30):
            while list(folder.iterdir()):
                await asyncio.sleep(0.01)


def test_what_a_dead_daemon_has_left_is_removed(tmp_path):
    argv = ["claude", "--mcp-config={}"]
    (before,) = PrivateFiles(tmp_path).moved("s", argv, {1: "--mcp-config"})[1:]
    left = Path(before.partition("=")[2])
    assert left.read_text() == "{}"
    PrivateFiles(tmp_path)
    assert not left.exists()
