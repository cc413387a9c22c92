"""The agent `claude`: Claude Code over stream-json, one process for a conversation of many turns.

The facts about the program were measured with 2.1.330.
"""

from __future__ import annotations

import itertools
import re
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from daemon.core.errors import BadRequest
from domains.session.agents.adapter import Decision, Invocation, refuse
from domains.session.agents.claude_lines import (
    Assistant,
    ControlCancel,
    ControlRequest,
    Line,
    Result,
    Stream,
    System,
    User,
    blocks_of,
    decode_line,
)
from domains.session.agents.facts import (
    Asked,
    Began,
    Delta,
    Fact,
    NoProtocol,
    Notice,
    Said,
    TurnEnded,
    Withdrawn,
)
from domains.session.commands import Abilities, CreateSession
from domains.session.messages import (
    Image,
    Message,
    Permission,
    Usage,
)

MODES = ("default", "plan", "acceptEdits", "bypassPermissions")

CODES = {
    "invalid_request_error": "invalid_request",
    "authentication_error": "authentication_failed",
    "permission_error": "permission_denied",
    "request_too_large": "too_large",
    "rate_limit_error": "rate_limited",
    "overloaded_error": "overloaded",
}
"""The API's error types whose code here is not `api_error`."""

SUBTYPES = {"error_max_budget_usd": "budget", "error_max_turns": "max_turns"}
"""The results' own kinds of failure."""

IN_FILES = {
    "mcp-config": "--mcp-config",
    "append-system-prompt": "--append-system-prompt-file",
}
"""Options whose values may be secret or long, and those that take a file with the value."""

SYNTHETIC = "<synthetic>"
"""The model of messages that the program writes itself, such as an API error's."""

_encode = msgspec.json.Encoder().encode


CAN = Abilities(
    conversation=True,
    permissions=True,
    interrupt=True,
    resume=True,
    fork=True,
    images=True,
    models=True,
    partial_text=True,
)


@dataclass(frozen=True, slots=True)
class ClaudeAdapter:
    """Runs `claude -p` with JSON lines both ways."""

    name: str = "claude"
    prefixes: Sequence[str] = ("ANTHROPIC_", "CLAUDE_", "DISABLE_", "IS_SANDBOX")
    abilities: Abilities = CAN

    def invocation(self, request: CreateSession, program: str = "") -> Invocation:
        """Write the options as `--flag=value`, so that no value is taken for a flag."""
        refuse(request, "argv")
        if request.permission_mode not in (None, *MODES):
            raise BadRequest(
                f"agent claude has no permissionMode {request.permission_mode!r}; "
                f"there is: {', '.join(MODES)}"
            )
        if request.fork and not request.resume:
            raise BadRequest("fork needs resume, the agent's own id of the conversation to fork")
        argv = [
            program or "claude", "-p", "--output-format=stream-json", "--input-format=stream-json",
            "--verbose", "--include-partial-messages", "--permission-prompt-tool=stdio",
        ]  # fmt: skip
        in_files: dict[int, str] = {}
        for flag, value in (
            ("resume", request.resume),
            ("permission-mode", request.permission_mode),
            ("model", request.model),
            ("max-budget-usd", request.budget_usd),
            ("append-system-prompt", request.system_prompt),
            ("mcp-config", request.mcp_config),
            ("allowed-tools", ",".join(request.allowed_tools or ())),
        ):
            if value:
                if flag in IN_FILES and not (flag == "mcp-config" and _is_path(str(value))):
                    in_files[len(argv)] = IN_FILES[flag]
                argv.append(f"--{flag}={value}")
        if request.fork:
            argv.append("--fork-session")
        # SIGTERM has it ask the model once more and exit 143; SIGINT ends it at once.
        return Invocation(argv=argv, in_files=in_files, keep_input=True, stop_signal=signal.SIGINT)

    def history_folder(self, cwd: str, env: Mapping[str, str]) -> Path | None:
        """Give the folder whose name is the path with a dash for all but letters and digits."""
        base = env.get("CLAUDE_CONFIG_DIR") or f"{env.get('HOME', '')}/.claude"
        return Path(base) / "projects" / re.sub(r"[^A-Za-z0-9]", "-", cwd)

    def dialogue(self) -> ClaudeDialogue:
        """Begin the protocol of one process."""
        return ClaudeDialogue()


CLAUDE = ClaudeAdapter()


def _is_path(mcp_config: str) -> bool:
    return not mcp_config.lstrip().startswith("{")


class ClaudeDialogue:
    """Understands one process; remembers only what a later line needs of an earlier one."""

    def __init__(self) -> None:
        """Begin before the first line."""
        self._numbers = itertools.count(1)
        self._writing: dict[str | None, str] = {}
        self._cost = 0.0
        self._error: str | None = None
        self._readers: dict[type[Line], Callable[[Any], Sequence[Fact]]] = {
            System: self._system,
            Stream: self._delta,
            Assistant: self._assistant,
            User: lambda line: self._spoken("user", line),
            ControlRequest: self._request,
            ControlCancel: lambda line: (Withdrawn(request_id=line.request_id),),
            Result: lambda line: (self._ended(line),),
        }

    # What it says

    def parse(self, line: bytes) -> Sequence[Fact]:
        """Understand one line; what is of the protocol but tells us nothing gives no fact."""
        if not line or line.isspace():
            return ()
        try:
            line.decode()
            found = decode_line(line)
        except msgspec.ValidationError:
            return ()  # of another type, or of a newer version; the transcript has it
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return (NoProtocol(line),)
        read = self._readers.get(type(found))
        return read(found) if read is not None else ()

    def _system(self, line: System) -> Sequence[Fact]:
        if line.subtype == "init":
            return (Began(session_id=line.session_id, model=line.model),)
        if line.subtype == "api_retry":
            return (Notice(text=_retry(line)),)
        return ()

    def _request(self, line: ControlRequest) -> Sequence[Fact]:
        asks = line.request.subtype == "can_use_tool"
        return (Asked(permission=_permission(line)),) if asks else ()

    def _delta(self, line: Stream) -> Sequence[Fact]:
        event, parent = line.event, line.parent_tool_use_id
        if event.type == "message_start" and event.message is not None:
            self._writing[parent] = event.message.id
        if event.delta is None or event.type != "content_block_delta":
            return ()
        reply = self._writing.get(parent, "")
        if event.delta.text:
            text = event.delta.text
            return (Delta(reply_id=reply, index=event.index, kind="text", text=text),)
        if event.delta.thinking:
            text = event.delta.thinking
            return (Delta(reply_id=reply, index=event.index, kind="thinking", text=text),)
        return ()

    def _assistant(self, line: Assistant) -> Sequence[Fact]:
        if line.is_api_error_message or line.error:
            self._error = line.error  # the turn's result says the same, as the error it is
            return ()
        return self._spoken("assistant", line)

    def _spoken(self, role: str, line: Assistant | User) -> Sequence[Fact]:
        blocks = blocks_of(line.message.content)
        if not blocks:
            return ()
        model = line.message.model
        message = Message(
            id=line.uuid or line.message.id or f"line-{next(self._numbers)}",
            role="assistant" if role == "assistant" else "user",
            content=blocks,
            model=model if model and model != SYNTHETIC else None,
            reply_id=line.message.id or None,
            parent_tool_use_id=line.parent_tool_use_id,
        )
        return (Said(message=message),)

    def _ended(self, line: Result) -> TurnEnded:
        tokens = line.usage
        usage = Usage(
            input_tokens=tokens.input_tokens,
            output_tokens=tokens.output_tokens,
            cache_read_tokens=tokens.cache_read_input_tokens,
            cache_write_tokens=tokens.cache_creation_input_tokens,
        )
        error, self._error = self._error, None
        interrupted = line.terminal_reason.startswith("aborted")
        code, message = (None, None) if interrupted else _failure(line, error)
        return TurnEnded(
            stop_reason="interrupted" if interrupted else "error" if code else "end_turn",
            usage=usage,
            cost_usd=self._cost_of(line),
            duration_ms=round(line.duration_ms),
            result=line.result if not code else "",
            code=code,
            message=message,
            fatal=code in ("budget", "resume_failed"),
        )

    def _cost_of(self, line: Result) -> float:
        """Give the turn's cost: the total accumulates, over resumed conversations as well."""
        before, self._cost = self._cost, line.total_cost_usd
        if line.model_usage_since_last_result is not None:
            return sum(used.cost_usd for used in line.model_usage_since_last_result.values())
        return max(0.0, line.total_cost_usd - before)

    # What it is told

    def message(self, content: str, images: Sequence[Image]) -> bytes:
        """Write a user's message."""
        blocks: list[dict[str, object]] = [
            {
                "type": "image",
                "source": {"type": "base64", "media_type": each.media_type, "data": each.data},
            }
            for each in images
        ]
        if content or not blocks:
            blocks.append({"type": "text", "text": content})
        return _line(
            {
                "type": "user",
                "message": {"role": "user", "content": blocks},
                "session_id": "",
                "parent_tool_use_id": None,
            }
        )

    def decide(self, permission: Permission, decision: Decision) -> bytes:
        """Write the answer to a permission."""
        answer: dict[str, object]
        if decision.allow:
            updated = decision.updated_input
            answer = {
                "behavior": "allow",
                "updatedInput": permission.input if updated is None else updated,
            }
            if decision.remember and permission.suggestions is not None:
                answer["updatedPermissions"] = permission.suggestions
        else:
            answer = {"behavior": "deny", "message": decision.message or "The user said no."}
        response = {
            "subtype": "success",
            "request_id": permission.request_id,
            "response": answer,
        }
        return _line({"type": "control_response", "response": response})

    def interrupt(self) -> bytes:
        """Write the request to end the turn."""
        return _line(
            {
                "type": "control_request",
                "request_id": f"interrupt-{next(self._numbers)}",
                "request": {"subtype": "interrupt"},
            }
        )


def _line(value: object) -> bytes:
    """Encode one line; a malformed one would kill the program."""
    return _encode(value) + b"\n"


def _permission(line: ControlRequest) -> Permission:
    return Permission(
        request_id=line.request_id,
        tool_name=line.request.tool_name,
        input=line.request.input.copy(),
        suggestions=line.request.permission_suggestions,
        tool_use_id=line.request.tool_use_id,
    )


def _retry(line: System) -> str:
    what = f"{line.error_status} " if line.error_status else ""
    return (
        f"the API failed ({what}{line.error or 'unknown'}); trying again in "
        f"{line.retry_delay_ms / 1000:.1f} s, {line.attempt} of {line.max_retries}"
    )


def _failure(line: Result, error: str | None) -> tuple[str | None, str | None]:
    """Give code and sentence of what went wrong; an error may call itself a success."""
    if not line.is_error and line.subtype == "success":
        return None, None
    message = "; ".join(line.errors) or line.result or f"the turn ended with {line.subtype}"
    code = "agent_error"
    if line.subtype in SUBTYPES:
        code = SUBTYPES[line.subtype]
        message += "; a session with a higher budgetUsd goes on" * (code == "budget")
    elif line.subtype == "error_during_execution" and line.num_turns == 0:
        code = "resume_failed"
    elif error == "model_not_found":
        code = error
    elif line.api_error:
        code = "connection_failed"
    elif line.api_error_type:
        code = CODES.get(line.api_error_type, "api_error")
    return code, message
