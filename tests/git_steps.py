"""Git steps of workflows for tests: one is carried out while the daemon dies at a point."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flows import Flows
from repositories import Repo
from storms import DyingDaemon


def plain(result: Any) -> Any:
    """Leave out of an answer what is another one each time."""
    hidden = {"discardId"}
    if isinstance(result, dict):
        return {key: plain(value) for key, value in result.items() if key not in hidden}
    if isinstance(result, list):
        return [plain(each) for each in result]
    if isinstance(result, str) and (len(result) == 40 or "/" in result):
        return "..."
    return result


async def carried_out(
    folder: Path,
    operation: str,
    prepare: Callable[[Path], Repo],
    standing: Callable[[Repo], dict[str, Any]],
    at: str = "",
) -> tuple[Any, dict[str, Any]]:
    """Run one step with a daemon that dies at a point; gives its result, and what is there."""
    folder.mkdir()
    repo, daemon = prepare(folder), DyingDaemon(folder / "state")
    daemon.start(at)
    try:
        async with daemon.client() as client:
            text = f"- {{id: a, git: {operation}}}"
            flow = await (await Flows.of(client, repo.path, flow=text)).start("flow")
            if at:
                assert await asyncio.to_thread(daemon.died), f"it did not die at {at}"
        if at:
            daemon.close()
            daemon.start()
        async with daemon.client() as client:
            flow.client = client
            end = await flow.end()
            assert end["type"] == "completed", end["message"]
            return plain(await flow.result("a")), standing(repo)
    finally:
        daemon.kill()
