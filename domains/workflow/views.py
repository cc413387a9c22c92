"""What expressions see of steps: `steps.ID`, whatever became of the step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from domains.workflow.commands import StepRecord
from domains.workflow.definition import NESTED, Json, Step

NO_JSON = f"standard output is no list or object in JSON of up to {NESTED} levels"

_EMPTY: Mapping[str, Mapping[str, Json]] = {
    "run": {"exitCode": None, "stdout": "", "stderr": ""},
}
"""Fields of kinds whose steps have not come to anything; all others are null."""


class StepView(dict[str, Json]):
    """The fields of a step; of one that came to nothing all are null, whatever they are called."""

    def __init__(self, fields: Mapping[str, Json], *, is_empty: bool, **absent: str) -> None:
        """Hold these; `absent` says for a key why it is not there."""
        super().__init__(fields)
        self.absent = absent
        self._is_empty = is_empty

    def __missing__(self, key: str) -> None:
        """Return null where there cannot be anything; KeyError otherwise."""
        if not self._is_empty:
            raise KeyError(key)


def view(record: StepRecord) -> StepView:
    """Return what later steps can say of a step: its status, and what it came to."""
    about: dict[str, Any] = {"status": record.state, **_EMPTY.get(record.kind, {})}
    absent = {}
    if isinstance(record.result, dict):
        about |= record.result
    elif record.result is not None:
        about["result"] = record.result
    if record.kind == "run":
        for name in ("stdout", "stderr"):
            raw = about[name]
            about |= {f"{name}Raw": raw, name: without_newlines(raw)}
        absent["json"] = about.get("jsonProblem", NO_JSON)
    if record.message is not None:
        about["message"] = record.message
    return StepView(about, is_empty=record.result is None, **absent)


def without_newlines(text: str) -> str:
    """Return an output as `$(...)` gives it: without the newlines at its end."""
    return text.rstrip("\n")


def never_begun(steps: Iterable[Step]) -> Iterator[tuple[str, StepView]]:
    """Yield the steps of a block that was left out, those of blocks in it too."""
    for step in steps:
        yield step.id, view(StepRecord(id=step.id, kind=step.kind, state="skipped", started_at=0.0))
        if step.kind == "parallel":
            yield from never_begun(step.steps)
