"""What the daemon and a workflow's process say to each other: a line of JSON each."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

LINE_BYTES = 8 << 20
"""The longest line; more than a step's fields or its result ever need."""

OPEN = 1000
"""Steps that are under way at once in one run; twice as many with those that have others inside."""

ID = r"[A-Za-z0-9_\-]{1,64}"
"""What one step is called; where it is inside of another, that one's id stands before it."""

STEP_ID = rf"^{ID}(#[0-9]{{1,6}})?(/({ID}(#[0-9]{{1,6}})?|[0-9]{{1,6}}))*$"

OWN = "workflow"
"""What the output of the process is told as; no step is called so."""

HERE = frozenset({"for-each", "parallel", "python"})
"""Kinds of steps that are done in the process itself; the daemon notes what came of them."""

Json = Any
Text = Annotated[str, Meta(max_length=1 << 20)]
Word = Annotated[str, Meta(min_length=1, max_length=4096)]
Seconds = Annotated[float, Meta(ge=0, le=366 * 86_400)]
Amount = Annotated[float, Meta(ge=0)]
Variables = dict[str, str]


class Options(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """What may be said of every step; without `check` the run goes on when it has failed."""

    name: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    timeout: Annotated[float, Meta(gt=0, le=366 * 86_400)] | None = None
    retries: Annotated[int, Meta(ge=0, le=100)] = 0
    backoff: Seconds = 1.0
    check: bool = True
    on_interrupt: Literal["rerun", "fail", "ask"] = "rerun"


# What each kind of step takes: the fields that its YAML twin has when it is rendered.


class _Fields(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    pass


class RunFields(_Fields):
    """Those of a command; `shell` is a name, or a program with its arguments before the text."""

    run: Text
    shell: (
        Literal["sh", "bash"] | Annotated[list[Word], Meta(min_length=1, max_length=50)] | None
    ) = None
    cwd: Word | None = None
    env: Variables | None = None


class AgentFields(_Fields):
    """Those of an agent's turn; `resume` is the id of a session that goes on."""

    agent: Word
    prompt: Annotated[Text, Meta(min_length=1)]
    resume: Word | None = None
    model: Word | None = None
    permission_mode: Word | None = None
    allowed_tools: list[Word] | None = None
    system_prompt: Text | None = None
    budget_usd: Annotated[float, Meta(gt=0)] | None = None
    cwd: Word | None = None
    env: Variables | None = None


class GitFields(_Fields):
    """Those of an operation of git, `operation` among what it takes."""

    git: dict[str, Json]


class ApproveFields(_Fields):
    """Those of a question."""

    approve: Annotated[Text, Meta(min_length=1)]
    otherwise: Literal["fail", "approve", "reject"] = "fail"


class WaitForFields(_Fields):
    """Those of a wait for an event."""

    wait_for: Word
    match: Annotated[str, Meta(min_length=1, max_length=8192)] | None = None


class SleepFields(_Fields):
    """Those of a wait for a moment."""

    sleep: Seconds


class WorkflowFields(_Fields):
    """Those of a run of another workflow."""

    workflow: Word
    args: dict[str, Json] | None = None


class ArtifactFields(_Fields):
    """Those of a file that is kept."""

    artifact: Word
    name: Word | None = None


class AnnotationFields(_Fields):
    """Those of a remark."""

    annotation: Text
    level: Literal["info", "warning", "error"] = "info"


FIELDS: dict[str, type[msgspec.Struct]] = {
    "run": RunFields,
    "agent": AgentFields,
    "git": GitFields,
    "approve": ApproveFields,
    "wait-for": WaitForFields,
    "sleep": SleepFields,
    "workflow": WorkflowFields,
    "artifact": ArtifactFields,
    "annotation": AnnotationFields,
    "for-each": _Fields,
    "parallel": _Fields,
    "python": _Fields,
}

# What the process says


class Call(msgspec.Struct, tag="call", tag_field="do", omit_defaults=True):
    """It wants a step; `number` is what all else about it bears."""

    number: int
    id: Annotated[str, Meta(pattern=STEP_ID, max_length=1000)]
    kind: str
    fields: dict[str, Json]
    options: Options
    phase: str | None = None


class End(msgspec.Struct, tag="end", tag_field="do", omit_defaults=True):
    """A step that is done here has come to this; `code` is there where it failed."""

    number: int
    attempt: int
    result: Json = None
    code: str | None = None
    message: str = ""


class Progress(msgspec.Struct, tag="progress", tag_field="do", omit_defaults=True):
    """How far a step is that is done here."""

    number: int
    current: Amount
    total: Amount | None = None


class Drop(msgspec.Struct, tag="drop", tag_field="do"):
    """Nobody waits for a step any more."""

    number: int


class Done(msgspec.Struct, tag="done", tag_field="do"):
    """The workflow has come to its end."""

    output: Json = None


class Failed(msgspec.Struct, tag="failed", tag_field="do", omit_defaults=True):
    """The workflow has failed; `step_id` is the step for which it did, where it did for one."""

    code: str
    message: str
    step_id: str | None = None


Said = Call | End | Progress | Drop | Done | Failed

# What the daemon says


class Start(msgspec.Struct):
    """The first line: the file, and what the workflow is given. `path` is the file in `cwd`."""

    source: str
    path: str
    run_id: str
    project_id: str
    cwd: str
    attempt: int
    args: dict[str, Json]
    phases: list[str]


class Begin(msgspec.Struct, tag="begin", tag_field="do"):
    """A step is to be done here now."""

    number: int
    attempt: int


class Stop(msgspec.Struct, tag="stop", tag_field="do"):
    """What is done here of a step has taken too long."""

    number: int


class Answer(msgspec.Struct, tag="answer", tag_field="do", omit_defaults=True):
    """What a step came to; with `raises` it is an error."""

    number: int
    result: Json = None
    code: str | None = None
    message: str | None = None
    step_id: str | None = None
    raises: bool = False


Told = Begin | Stop | Answer
