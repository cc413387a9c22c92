"""Reads what git says of its progress."""

from __future__ import annotations

import re
from typing import NamedTuple

from domains.git.events import Progress

_COUNTED = re.compile(
    r"(?:remote: )?([A-Z][\w ]{0,80}): {1,20}(\d{1,3})% \((\d{1,15})/(\d{1,15})\)"
)
_STEP = re.compile(r"(Rebasing) \((\d{1,15})/(\d{1,15})\)")
_COUNTING = re.compile(r"(?:remote: )?([A-Z][\w ]{0,80}): {1,20}(\d{1,15})\b(?!%)")


class Stage(NamedTuple):
    """A stage of an operation, and how far it is."""

    stage: str
    progress: Progress


def parse_progress(line: str) -> Stage | None:
    """Read one line of standard error; None where it tells no progress.

    Not by GitPython's RemoteProgress: it passes over the stages that it does not know, among them
    `Updating files`, which is half of a large clone.
    """
    found = _COUNTED.match(line)
    if found:
        stage, percentage, current, total = found.groups()
        return Stage(
            stage,
            Progress(current=int(current), total=int(total), percentage=float(percentage)),
        )
    found = _STEP.match(line)
    if found:
        stage, current, total = found[1], int(found[2]), int(found[3])
        share = round(100 * current / total, 1) if total else None
        return Stage(stage, Progress(current=current, total=total, percentage=share))
    found = _COUNTING.match(line)
    if found:
        stage, current = found.groups()
        return Stage(stage, Progress(current=int(current), total=None, percentage=None))
    return None
