"""The lines that Claude Code writes, as far as they are understood here, and their blocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Raw, Struct

from domains.session.messages import Block, Image, Text, Thinking, ToolResult, ToolUse


class Line(Struct, tag_field="type"):
    """A line of output; `type` need not be its first key."""


class System(Line, tag="system"):
    """A note of the program itself: `init` begins a turn, `api_retry` tells of one."""

    subtype: str = ""
    session_id: str = ""
    model: str = ""
    attempt: int = 0
    max_retries: int = 0
    retry_delay_ms: float = 0
    error_status: int | None = None
    error: str | None = None


class Spoken(Struct):
    """The message of an `assistant` or `user` line."""

    content: str | list[Raw]
    id: str = ""
    model: str = ""


class Assistant(Line, tag="assistant"):
    """One content block of a reply; blocks of one reply share the id of their message."""

    message: Spoken
    uuid: str = ""
    parent_tool_use_id: str | None = None
    error: str | None = None
    is_api_error_message: bool = False


class User(Line, tag="user"):
    """What the model is told: a tool's result, or a note of the program."""

    message: Spoken
    uuid: str = ""
    parent_tool_use_id: str | None = None


class Piece(Struct):
    """What is new of a block."""

    type: str = ""
    text: str = ""
    thinking: str = ""


class StreamMessage(Struct):
    """The reply that a stream begins with."""

    id: str = ""


class StreamEvent(Struct):
    """One event of the API's own stream."""

    type: str = ""
    index: int = 0
    delta: Piece | None = None
    message: StreamMessage | None = None


class Stream(Line, tag="stream_event"):
    """An event of the API's stream, passed on."""

    event: StreamEvent
    parent_tool_use_id: str | None = None


class Tokens(Struct):
    """What a turn has used."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_input_tokens: int = 0
    cache_creation_input_tokens: int = 0


class ModelUsage(Struct, rename={"cost_usd": "costUSD"}):
    """What one model has cost since the last result."""

    cost_usd: float = 0.0


class Result(Line, tag="result"):
    """The turn's terminal event; an API's error is a `success` with `is_error`."""

    subtype: str = ""
    is_error: bool = False
    total_cost_usd: float = 0.0
    usage: Tokens = msgspec.field(default_factory=Tokens)
    model_usage_since_last_result: dict[str, ModelUsage] | None = None
    duration_ms: float = 0.0
    num_turns: int = 0
    result: str = ""
    errors: list[str] = msgspec.field(default_factory=list)
    terminal_reason: str = ""
    api_error_type: str | None = None
    api_error: str | None = None


class Request(Struct):
    """What the program asks of its driver."""

    subtype: str = ""
    tool_name: str = ""
    input: Raw = Raw(b"{}")
    permission_suggestions: list[Any] | None = None
    tool_use_id: str | None = None


class ControlRequest(Line, tag="control_request"):
    """A question, answered by a `control_response` with its id."""

    request_id: str
    request: Request


class ControlCancel(Line, tag="control_cancel_request"):
    """A question that is no longer asked."""

    request_id: str


decode_line: Callable[[bytes], Line] = msgspec.json.Decoder(
    System | Assistant | User | Stream | Result | ControlRequest | ControlCancel
).decode


class Source(Struct, frozen=True):
    """The data of a picture."""

    media_type: str = ""
    data: str = ""


class ContentBlock(Struct):
    """Any content block: the fields of all kinds."""

    type: str
    text: str = ""
    thinking: str = ""
    id: str = ""
    name: str = ""
    input: Raw = Raw(b"{}")
    tool_use_id: str = ""
    content: str | list[Raw] = ""
    is_error: bool | None = None
    source: Source = Source()


_decode_block = msgspec.json.Decoder(ContentBlock).decode


def blocks_of(content: str | list[Raw]) -> list[Block]:
    """Give the blocks of a message; kinds that have no form here are left out."""
    if isinstance(content, str):
        return [Text(text=content)] if content else []
    found = (_block(raw) for raw in content)
    return [block for block in found if block is not None]


def _block(raw: Raw) -> Block | None:
    """Understand one block; None for a kind that has no form here."""
    try:
        block = _decode_block(raw)
    except msgspec.DecodeError:
        return None
    form = FORMS.get(block.type)
    return form(block) if form is not None else None


def _tool_use(block: ContentBlock) -> Block:
    return ToolUse(id=block.id, name=block.name, input=block.input.copy())


def _tool_result(block: ContentBlock) -> Block:
    return ToolResult(
        tool_use_id=block.tool_use_id,
        content=_plain(block.content),
        is_error=bool(block.is_error),
        images=_images(block.content),
    )


FORMS: dict[str, Callable[[ContentBlock], Block]] = {
    "text": lambda block: Text(text=block.text),
    "thinking": lambda block: Thinking(text=block.thinking),
    "tool_use": _tool_use,
    "server_tool_use": _tool_use,
    "tool_result": _tool_result,
    "image": lambda block: Image(media_type=block.source.media_type, data=block.source.data),
}


def _images(content: str | list[Raw]) -> list[Image]:
    """Return the pictures of a tool's result that came with their data."""
    if isinstance(content, str):
        return []
    return [each for each in blocks_of(content) if isinstance(each, Image) and each.data]


def _plain(content: str | list[Raw]) -> str:
    """Give a tool's result as text; a picture in it is named."""
    if isinstance(content, str):
        return content
    texts = []
    for block in blocks_of(content):
        if isinstance(block, Text):
            texts.append(block.text)
        elif isinstance(block, Image):
            texts.append(f"[{block.media_type or 'image'}]")
    return "\n".join(texts)
