"""What git would have done besides in a trusted project: hooks run, and signatures made."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from domains.git.work import Work

COMMIT = ("pre-commit", "prepare-commit-msg", "commit-msg", "post-commit", "pre-merge-commit")
"""Hooks of a commit."""

MERGE = ("pre-merge-commit", "prepare-commit-msg", "commit-msg", "post-merge")

REBASE = ("pre-rebase", "prepare-commit-msg", "post-commit", "post-rewrite", "post-checkout")

PICK = ("prepare-commit-msg", "post-commit")
"""Hooks of commits that are made anew, or undone."""


class Skipped(NamedTuple):
    """What was left out of an operation, because the project is not trusted."""

    hooks: bool = False
    signature: bool = False


async def skipped(git: Work, hooks: Sequence[str], signs: str = "") -> Skipped:
    """Return whether there are such hooks, and whether the key `signs` asks for a signature."""
    if git.trusted:
        return Skipped()
    signature = signs != "" and await _said(git, signs, "bool") == "true"
    named = await _said(git, "core.hooksPath", "path")
    folder = Path(git.root, named) if named else Path(git.repository.common_dir, "hooks")
    return Skipped(await asyncio.to_thread(_any, folder, hooks), signature)


async def _said(git: Work, key: str, type_: str) -> str | None:
    """Return what a key that is switched off here would else say; None where that is nothing."""
    args = ("config", "--null", f"--type={type_}", "--get-all", key)
    finished = await git.run(*args, ok=(0, 1, 128))
    said = finished.stdout.decode(errors="surrogateescape").split("\0")[:-1]
    return said[-2] if len(said) > 1 else None  # the last one is ours


def _any(folder: Path, hooks: Sequence[str]) -> bool:
    return any((folder / name).is_file() and os.access(folder / name, os.X_OK) for name in hooks)
