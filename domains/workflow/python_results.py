"""What the steps of a workflow in Python come to, as its code sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from domains.workflow.python_wire import Answer


class StepError(Exception):
    """A step has failed; `result` is what it came to all the same."""

    def __init__(
        self, code: str, message: str, result: Any = None, step_id: str | None = None
    ) -> None:
        """Say why, and which."""
        super().__init__(message)
        self.code = code
        self.message = message
        self.result = result
        self.step_id = step_id


@dataclass(frozen=True, slots=True)
class CommandResult:
    """What a command has said. `exit_code` is -1 where it was ended; `code` says why it failed.

    `stdout` and `stderr` are without the newlines at their ends, as `$(...)` is; the `raw` ones
    have them. `truncated` tells whether the beginning of a long one is missing. `json` is standard
    output where that is a list or an object; `json_problem` says why a long one is not read.
    """

    exit_code: int
    stdout: str = ""
    stderr: str = ""
    json: Any = None
    truncated: bool = False
    code: str | None = None
    message: str | None = None
    stdout_raw: str = ""
    stderr_raw: str = ""
    json_problem: str | None = None


@dataclass(frozen=True, slots=True)
class AgentResult:
    """What an agent came to; its conversation goes on with `session=result.session_id`."""

    session_id: str | None
    result: str | None = None
    usage: Any = None
    cost_usd: float | None = None
    exit_code: int | None = None
    code: str | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True)
class Approval:
    """What somebody has answered."""

    approved: bool
    user: str | None = None
    comment: str | None = None


# What a step came to, as its method gives it


def plain(answer: Answer) -> Any:
    """Give what it is."""
    return answer.result


def _about(answer: Answer) -> dict[str, Any]:
    return answer.result if isinstance(answer.result, dict) else {}


def command(answer: Answer) -> CommandResult:
    """Give that of a command."""
    about = _about(answer)
    code = about.get("exitCode")
    out, err = about.get("stdout", ""), about.get("stderr", "")
    return CommandResult(
        exit_code=-1 if code is None else code,
        stdout=out.rstrip("\n"),
        stderr=err.rstrip("\n"),
        stdout_raw=out,
        stderr_raw=err,
        json_problem=about.get("jsonProblem"),
        json=about.get("json"),
        truncated=about.get("truncated", False),
        code=answer.code,
        message=answer.message,
    )


def agent(answer: Answer) -> AgentResult:
    """Give that of an agent."""
    about = _about(answer)
    return AgentResult(
        session_id=about.get("sessionId"),
        result=about.get("result"),
        usage=about.get("usage"),
        cost_usd=about.get("costUsd"),
        exit_code=about.get("exitCode"),
        code=answer.code,
        message=answer.message,
    )


def approval(answer: Answer) -> Approval:
    """Give that of a question."""
    about = _about(answer)
    return Approval(about.get("approved", False), about.get("user"), about.get("comment"))


def data(answer: Answer) -> Any:
    """Give the data of the event."""
    return _about(answer).get("data")


def output(answer: Answer) -> Any:
    """Give what the other workflow has returned."""
    return _about(answer).get("output")
