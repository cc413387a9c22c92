"""Repositories for tests: real ones, made by git with an identity and a clock of their own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

from daemon.client import Client

ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.org",
    "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.org",
    "GIT_AUTHOR_DATE": "2026-01-02T03:04:05+00:00",
    "GIT_COMMITTER_DATE": "2026-01-02T03:04:05+00:00",
    "LC_ALL": "C.UTF-8",
}
"""Nothing of the developer's configuration reaches a repository made here."""


class Repo:
    """A work tree and its repository."""

    def __init__(self, path: Path, *, bare: bool = False) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        self.git("init", "-q", "-b", "main", *(["--bare"] if bare else []))

    def git(self, *args: str, ok: tuple[int, ...] = (0,), stdin: bytes = b"") -> str:
        """Run git in it and give what it prints."""
        return self.raw(*args, ok=ok, stdin=stdin).decode(errors="surrogateescape")

    def raw(self, *args: str, ok: tuple[int, ...] = (0,), stdin: bytes = b"") -> bytes:
        """Run git in it and give the bytes that it prints."""
        done = subprocess.run(
            ["git", "-C", self.path, *args],
            input=stdin,
            capture_output=True,
            env=ENVIRONMENT,
            check=False,
        )
        assert done.returncode in ok, (args, done)
        return done.stdout

    def write(self, name: str, content: str | bytes = "") -> Path:
        """Write a file, with the folders on its way."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def commit(self, files: dict[str, str | bytes] | None = None, message: str = "a commit") -> str:
        """Write files, commit everything, and give the commit's id."""
        for name, content in (files or {}).items():
            self.write(name, content)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD").strip()

    def grow(self, commits: int, *, files: int = 50) -> None:
        """Add many commits at once, by git-fast-import(1)."""
        stream = []
        for number in range(commits):
            text = f"line {number}\n"
            stream.append(
                f"commit refs/heads/main\n"
                f"committer Ada <ada@example.org> {1767322000 + number} +0000\n"
                f"data <<END\ncommit {number}\nEND\n"
                + ("from refs/heads/main^0\n" if number == 0 and self._born() else "")
                + f"M 100644 inline grown/{number % files}.txt\ndata {len(text)}\n{text}\n"
            )
        self.git("fast-import", "--quiet", stdin="".join(stream).encode())
        if not (self.path / "HEAD").exists():  # not bare
            self.git("reset", "-q", "--hard")

    def _born(self) -> bool:
        return bool(self.git("rev-parse", "-q", "--verify", "refs/heads/main", ok=(0, 1)))


async def added(client: Client, path: Path) -> str:
    """Make a folder a project and give its id."""
    return str((await client.call("project.add", {"path": str(path)}))["projectId"])


async def ran(client: Client, project: str, operation: str, **args: Any) -> Any:
    """Run a git operation by its name and give its result."""
    answer = await client.call(
        "git.run", {"projectId": project, "operation": operation, "args": args}
    )
    return answer["result"]
