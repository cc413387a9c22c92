"""What is wrong in a workflow file: where, why, and what would be allowed there."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

import msgspec

from daemon.core.errors import BadRequest

MOST_TOLD = 20
"""How many problems of one file are told; who mends those sees the rest the next time."""


class BrokenWorkflow(BadRequest):
    """A workflow file that cannot be used; `path`, `line` and all `problems` are in the details."""


class Problem(msgspec.Struct, frozen=True, order=True):
    """One thing that is wrong. Lines begin with 1."""

    line: int
    message: str
    allowed: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Give the sentence, with what is allowed."""
        return (
            f"{self.message}; allowed: {', '.join(self.allowed)}" if self.allowed else self.message
        )


class Problems:
    """Takes down what is wrong while a file is read, so that all of it can be told at once."""

    def __init__(self) -> None:
        """Know of no problem yet."""
        self._found: list[Problem] = []

    def __bool__(self) -> bool:
        """Tell whether there is any."""
        return bool(self._found)

    def __len__(self) -> int:
        """Count them."""
        return len(self._found)

    def add(self, line: int, message: str, allowed: Iterable[str] = ()) -> None:
        """Take one down."""
        self._found.append(Problem(line, shown(message, 600), tuple(allowed)))

    def raise_if_any(self, path: str) -> None:
        """Raise BrokenWorkflow for what was found, the first line first."""
        if not self._found:
            return
        told = sorted(set(self._found))
        first, rest = told[0], len(told) - 1
        also = f" (and {rest} more)" if rest else ""
        raise BrokenWorkflow(
            f"{path}:{first.line}: {first}{also}",
            path=path,
            line=first.line,
            problems=[
                {"line": one.line, "message": one.message, "allowed": list(one.allowed)}
                for one in told[:MOST_TOLD]
            ],
        )


def meant(word: str, known: Iterable[str]) -> str:
    """Give `, did you mean ...?` for a word that is close to a known one, and nothing otherwise."""
    close = get_close_matches(word[:100], list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""


def shown(text: str, length: int = 60) -> str:
    """Give a text on one line, shortened, as it may stand in a message."""
    flat = " ".join(text.split())
    return flat if len(flat) <= length else f"{flat[: length - 1]}…"
