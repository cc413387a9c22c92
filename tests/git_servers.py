"""Servers of repositories for tests: git's own http-backend, and `git daemon`, on loopback."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from aiohttp import ClientConnectionResetError, web
from repositories import ENVIRONMENT
from support import free_port

BACKEND = Path(
    subprocess.run(
        ["git", "--exec-path"], capture_output=True, text=True, check=True
    ).stdout.strip(),
    "git-http-backend",
)

CHUNK = 16 << 10


class GitServer:
    """What `http-backend` serves of one folder; it can stop in the middle of an answer."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = ""
        self.asked: list[str] = []
        self.authorised = True
        """Whether anybody may come in; else everything is answered with 401."""
        self.sent = asyncio.Event()
        """Set once as much is sent as is sent before it stops."""
        self._stops_after: int | None = None
        self._go_on = asyncio.Event()

    def stop_after(self, count: int) -> None:
        """Hold answers back behind so many bytes, until `go_on`."""
        self._stops_after = count
        self.sent.clear()
        self._go_on.clear()

    def go_on(self) -> None:
        """Hold nothing back any more."""
        self._stops_after = None
        self._go_on.set()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Run http-backend as a CGI program (RFC 3875)."""
        self.asked.append(f"{request.method} {request.path_qs}")
        if not self.authorised:
            raise web.HTTPUnauthorized(headers={"WWW-Authenticate": 'Basic realm="test"'})
        program = await asyncio.create_subprocess_exec(
            BACKEND,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**ENVIRONMENT, **self._variables(request)},
            process_group=0,
        )
        assert program.stdin is not None
        assert program.stdout is not None
        try:
            program.stdin.write(await request.read())
            program.stdin.close()
            return await self._passed_on(request, program.stdout)
        except ClientConnectionResetError:
            raise asyncio.CancelledError from None  # whoever asked is gone
        finally:
            with suppress(ProcessLookupError):
                os.killpg(program.pid, signal.SIGKILL)
            while await program.stdout.read(1 << 20):
                pass  # so that the pipe is closed
            await program.wait()

    def _variables(self, request: web.Request) -> dict[str, str]:
        return {
            "GIT_PROJECT_ROOT": str(self.folder),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_PROTOCOL": request.headers.get("Git-Protocol", ""),
            "PATH_INFO": request.path,
            "QUERY_STRING": request.query_string,
            "REQUEST_METHOD": request.method,
            "CONTENT_TYPE": request.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": request.headers.get("Content-Encoding", ""),
            "REMOTE_USER": "ada",
            "REMOTE_ADDR": "127.0.0.1",
        }

    async def _passed_on(
        self, request: web.Request, output: asyncio.StreamReader
    ) -> web.StreamResponse:
        response = web.StreamResponse()
        while line := (await output.readline()).rstrip(b"\r\n"):
            name, _, value = line.decode().partition(": ")
            if name == "Status":
                response.set_status(int(value.split()[0]))
            else:
                response.headers[name] = value
        await response.prepare(request)
        sent = 0
        while chunk := await output.read(CHUNK):
            if self._stops_after is not None and sent + len(chunk) > self._stops_after:
                self.sent.set()
                await self._go_on.wait()
            await response.write(chunk)
            sent += len(chunk)
        return response


@asynccontextmanager
async def http_server(folder: Path) -> AsyncIterator[GitServer]:
    """Serve a folder of repositories over HTTP, for reading and pushing."""
    if not BACKEND.exists():
        pytest.skip(f"this git comes without {BACKEND.name}")
    server = GitServer(folder)
    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield server
    finally:
        server.go_on()
        await runner.cleanup()


@asynccontextmanager
async def git_daemon(folder: Path) -> AsyncIterator[str]:
    """Serve a folder of repositories by git's own protocol; gives the URL of the folder."""
    if not BACKEND.with_name("git-daemon").exists():
        pytest.skip("this git comes without git-daemon")
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *("git", "daemon", "--listen=127.0.0.1", f"--port={port}", "--reuseaddr"),
        *("--export-all", "--enable=receive-pack", f"--base-path={folder}", str(folder)),
        env={**ENVIRONMENT, "PATH": os.environ["PATH"]},
        stderr=asyncio.subprocess.DEVNULL,
        process_group=0,
    )
    try:
        async with asyncio.timeout(30):
            while True:
                with suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    break
                await asyncio.sleep(0.01)
        yield f"git://127.0.0.1:{port}"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        await process.wait()
