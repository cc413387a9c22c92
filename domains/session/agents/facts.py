"""What an agent's parser finds in a line of its protocol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from domains.session.messages import Message, Permission, Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Began:
    """The agent takes up a conversation, which can be resumed by its `session_id`."""

    session_id: str
    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A message is whole."""

    message: Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """A piece of a text that is still being written; its whole follows in `Said`."""

    reply_id: str
    index: int
    kind: Literal["text", "thinking"]
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The agent waits for a permission."""

    permission: Permission


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawn:
    """The agent no longer waits for this permission."""

    request_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something that the user should know, as a sentence."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnEnded:
    """The turn is over: the protocol's terminal event.

    `usage` and `cost_usd` are the turn's own. `code` and `message` say what went wrong; where
    `fatal`, no further turn can go better.
    """

    stop_reason: Literal["end_turn", "interrupted", "error"]
    usage: Usage
    cost_usd: float
    duration_ms: int
    result: str = ""
    code: str | None = None
    message: str | None = None
    fatal: bool = False


@dataclass(frozen=True, slots=True)
class NoProtocol:
    """A line that is none of the protocol's: a warning, a banner."""

    line: bytes


Fact = Began | Said | Delta | Asked | Withdrawn | Notice | TurnEnded | NoProtocol
