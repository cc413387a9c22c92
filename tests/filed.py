"""The files of one project, as a client sees them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from daemon.client import Client


class Files:
    """A project whose folder is `path`, and who asks about it."""

    def __init__(self, client: Client, project: str, path: Path) -> None:
        self.client = client
        self.project = project
        self.path = path

    async def ask(self, verb: str, path: str | None = None, **data: Any) -> Any:
        """Give a command of the domain, and its answer."""
        given = {"projectId": self.project, **data}
        if path is not None:
            given["path"] = path
        return await self.client.call(f"file.{verb}", given)

    async def names(self, path: str = "", **data: Any) -> list[str]:
        """Give the names in a folder."""
        return [each["name"] for each in (await self.ask("tree", path, **data))["entries"]]


def sha256(data: bytes) -> str:
    """Give a hash as the domain does."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
