"""Fixtures of all tests; what they hand out is in support.py."""

from __future__ import annotations

import compileall
import gc
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from agents import claude_settings
from hypothesis import HealthCheck, settings
from model import Model
from support import DURABLE, Core, DaemonProcess, Running, http_session, settings_for

from daemon.app import Daemon
from daemon.core.fanout import Fanout
from daemon.core.journal import Journal, JournalSettings
from daemon.core.store import Store
from daemon.core.supervisor import Supervisor

ROOT = Path(__file__).parents[1]

# The first example imports modules, and machines are busy: neither has a limit. The examples are
# the same in each run, so that no change waits for what another one has done; others are searched
# with `--hypothesis-profile=search`.
settings.register_profile(
    "same", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("search", settings.get_profile("same"), derandomize=False)
settings.load_profile("same")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Compile our code once: no program that a test starts does it for itself.

    Each would, on a fresh clone where PYTHONDONTWRITEBYTECODE is set; it takes longer than the rest
    of its start. What is up to date is left as it is, and workers find it done.
    """
    if not hasattr(session.config, "workerinput"):
        for package in ("daemon", "domains"):
            compileall.compile_dir(ROOT / package, quiet=2)


def pytest_collection_finish() -> None:
    """Take what is there before the first test out of the sight of `gc.collect()`.

    Tests that count descriptors call it often, and modules and tests are no garbage of theirs.
    """
    gc.collect()
    gc.freeze()


DEVELOPERS = ("AGENTCMD_", "ANTHROPIC_", "CLAUDE_", "DISABLE_", "GIT_", "SSH_", "EMAIL")
"""Beginnings of variables that are a developer's own."""


@pytest.fixture(autouse=True)
def _fresh_user(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Each test runs as somebody with an empty HOME, without settings, daemon or git identity."""
    for name in list(os.environ):
        if name.startswith(DEVELOPERS):
            monkeypatch.delenv(name)
    for name in ("STATE", "CONFIG"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")


CoreFactory = Callable[..., Any]


@pytest.fixture
async def open_core(tmp_path: Path) -> AsyncIterator[CoreFactory]:
    """Open core rooms on `tmp_path/agentcmd.db`; keyword arguments are journal settings."""
    async with AsyncExitStack() as stack:

        async def opened(**settings: Any) -> Core:
            store = await stack.enter_async_context(Store(tmp_path / "agentcmd.db", {}))
            supervisor = await stack.enter_async_context(Supervisor())
            journal = await stack.enter_async_context(
                Journal(
                    store,
                    JournalSettings(**settings),
                    lambda name: name.partition(":")[0] in DURABLE,
                )
            )
            return Core(store, journal, supervisor, Fanout(journal, supervisor))

        yield opened


@pytest.fixture
async def start_daemon(tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    """Start daemons in this loop: `await start_daemon(WEB__MAX_CONNECTIONS="5")`.

    In debug each event is read again, unless a test measures the daemon as it is used.
    """
    async with AsyncExitStack() as stack:

        async def start(*, debug: bool = True, **environ: str) -> Running:
            daemon = await stack.enter_async_context(
                Daemon(settings_for(tmp_path / "state", **environ), debug=debug)
            )
            http = await stack.enter_async_context(http_session())
            return Running(daemon, http)

        yield start


@pytest.fixture
async def running(start_daemon: Callable[..., Any]) -> Running:
    """A daemon with default settings."""
    return await start_daemon()


@pytest.fixture
def daemon_process(tmp_path: Path) -> Iterator[DaemonProcess]:
    """A daemon process, not started yet."""
    process = DaemonProcess(tmp_path / "state")
    yield process
    if process.process is not None:
        process.process.kill()
        process.close()


@pytest.fixture
async def model() -> AsyncIterator[Model]:
    """A model server that answers as prompts tell it to."""
    async with Model() as model:
        yield model


@pytest.fixture
def claude(model: Model, tmp_path: Path) -> dict[str, str]:
    """Settings with which the real claude asks that server."""
    return claude_settings(model.url, tmp_path / "agent-home")
