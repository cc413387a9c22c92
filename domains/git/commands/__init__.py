"""What can be asked of git, one file for operations that belong together."""

from __future__ import annotations

from domains.git.commands import making, running

__all__ = ["making", "running"]
