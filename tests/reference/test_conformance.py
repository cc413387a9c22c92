"""What a real daemon answers over HTTP is what the OpenAPI document says, whatever it is sent."""

from __future__ import annotations

import asyncio
import json
import sys

from daemon.reference import ROOT

DOCUMENT = ROOT / "daemon" / "web" / "docs" / "openapi.json"

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)

LEFT_OUT = ("system.stop", "events")
"""Operations after which there is nobody to ask, and without an end."""


async def test_schemathesis_finds_nothing(start_daemon, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))  # no program that it may think of is found
    monkeypatch.setenv("HOME", str(tmp_path))
    shell = tmp_path / "shell"  # what it types is nobody's command
    shell.write_text("#!/bin/sh\nexec /bin/cat\n")
    shell.chmod(0o755)
    running = await start_daemon(SHELL__PROGRAM=str(shell))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "schemathesis.cli", "run", str(DOCUMENT), "--url", running.url),
        *("--header", f"Authorization: Bearer {running.token()}"),
        *(f"--exclude-operation-id={name}" for name in LEFT_OUT),
        f"--checks={','.join(CHECKS)}",
        *("--seed=1", "--max-examples=12", "--generation-database=none", "--no-color"),
        *("--warnings=off", "--suppress-health-check=too_slow", "--request-timeout=60"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=tmp_path,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
    paths = json.loads(DOCUMENT.read_text())["paths"]
    count = sum(len(methods) for methods in paths.values()) - len(LEFT_OUT)
    assert f"Tested: {count}\n" in out.decode(), out.decode()
    async with running.http.get(f"{running.url}/health") as response:
        assert (await response.json())["status"] == "ok"
