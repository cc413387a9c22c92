"""Messages as every agent's are told: one shape for text, thought, tools and their results."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import Raw

from daemon.core.events import Answer


class Text(Answer, tag="text"):
    """Words."""

    text: str


class Thinking(Answer, tag="thinking"):
    """What the model thought, as far as it shows that."""

    text: str


class ToolUse(Answer, tag="tool_use"):
    """A tool is called; `input` is the tool's own JSON."""

    id: str
    name: str
    input: Raw


class Image(Answer, tag="image"):
    """A picture: its `data` in base64, or an upload (`POST /api/uploads`) by its `upload_id`.

    Events tell `href`, where it can be had, and the data only of a small one that is no upload.
    """

    media_type: str = ""
    data: str = ""
    upload_id: str | None = None
    href: str | None = None


class ToolResult(Answer, tag="tool_result"):
    """What a tool gave back; `images` are the pictures in it, of which `content` has the kinds."""

    tool_use_id: str
    content: str
    is_error: bool = False
    images: list[Image] = msgspec.field(default_factory=list)


Block = Text | Thinking | ToolUse | ToolResult | Image


class Usage(Answer):
    """Tokens; those read from and written to the model's cache are not among the input."""

    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int

    def __add__(self, other: Usage) -> Usage:
        """Add up."""
        return Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cache_read_tokens=self.cache_read_tokens + other.cache_read_tokens,
            cache_write_tokens=self.cache_write_tokens + other.cache_write_tokens,
        )


NO_USAGE = Usage(input_tokens=0, output_tokens=0, cache_read_tokens=0, cache_write_tokens=0)


class Message(Answer):
    """One message, or one block of a reply whose blocks come one by one.

    `id` stays the same wherever the message is told again. Messages with one `reply_id` are one
    reply of the model; with `parent_tool_use_id` it is of a helper that this tool call started.
    """

    id: str
    role: Literal["user", "assistant"]
    content: list[Block]
    model: str | None = None
    reply_id: str | None = None
    parent_tool_use_id: str | None = None


class Permission(Answer):
    """A question that waits for an answer: whether this tool may be used with this input.

    `suggestions` are the agent's own, for an answer that is remembered.
    """

    request_id: str
    tool_name: str
    input: Raw
    suggestions: list[Any] | None = None
    tool_use_id: str | None = None
