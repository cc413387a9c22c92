"""What can be asked of files, one file for commands that belong together."""

from __future__ import annotations

from domains.file.commands import changing, discarding, looking, searching, watching

__all__ = ["changing", "discarding", "looking", "searching", "watching"]
