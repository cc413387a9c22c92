"""Events: what happened, declared once, beside its domain.

One declaration gives the type, the validation, the channels, the JSON Schema and the reference:

    @event("session.completed", "session:{session_id}", "project:{project_id}")
    class SessionCompleted(Event):
        \"\"\"The process ended by itself.\"\"\"

        session_id: str
        project_id: str
        exit_code: int
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import ClassVar, TypeVar, dataclass_transform

import msgspec

_TEMPLATE = re.compile(r"([a-z:]*)\{([a-z_]+)\}")


class ChannelTemplate:
    """A channel name with one field of the event in it: `session:{session_id}`."""

    __slots__ = ("field", "prefix", "text")

    def __init__(self, text: str) -> None:
        """Split the text once; ValueError where it is not `prefix:{field}` or a plain name."""
        self.text = text
        self.prefix, self.field = text, ""
        if "{" in text:
            found = _TEMPLATE.fullmatch(text)
            if found is None:
                raise ValueError(f"a channel template ends in one {{field}}, not {text!r}")
            self.prefix, self.field = found.groups()

    def of(self, event: Event | Command) -> str:
        """Fill in the field of one event or command."""
        return f"{self.prefix}{getattr(event, self.field)}" if self.field else self.prefix

    def __repr__(self) -> str:
        """Read as the text it was made from."""
        return f"ChannelTemplate({self.text!r})"


class EventInfo(msgspec.Struct, frozen=True):
    """What `@event` notes on a class."""

    name: str
    channels: tuple[ChannelTemplate, ...]


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(msgspec.field,))
class Event(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """Something that happened. Fields are snake_case here and camelCase on the wire."""

    __event__: ClassVar[EventInfo]


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(msgspec.field,))
class Answer(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """What a command answers with."""


class Attachment(Answer):
    """What a command answers with that is a file at `path`: HTTP sends the file itself."""

    media_type: ClassVar[str]
    """What the file is, as in `text/plain`."""

    path: str


class Content(Answer):
    """What a command answers with that is bytes: `data` in base64, over HTTP the bytes."""

    media_type: str
    data: str


class CommandInfo(msgspec.Struct, frozen=True):
    """What `@command` notes on a class."""

    name: str
    action: str
    channel: ChannelTemplate | None
    answer: type[Answer]
    silent: bool = False
    cost: float = 1.0
    urgent: bool = False


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(msgspec.field,))
class Command(
    msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, forbid_unknown_fields=True
):
    """Something that a client asks for."""

    __command__: ClassVar[CommandInfo]


AnyEvent = TypeVar("AnyEvent", bound=type[Event])
AnyCommand = TypeVar("AnyCommand", bound=type[Command])


def event(name: str, *channels: str) -> Callable[[AnyEvent], AnyEvent]:
    """Declare an event: its dotted name and the channels that it is told on."""

    def note(cls: AnyEvent) -> AnyEvent:
        cls.__event__ = EventInfo(name, tuple(ChannelTemplate(text) for text in channels))
        return cls

    return note


def command(
    name: str,
    *,
    action: str,
    answer: type[Answer],
    channel: str | None = None,
    silent: bool = False,
    cost: float = 1.0,
    urgent: bool = False,
) -> Callable[[AnyCommand], AnyCommand]:
    """Declare a command: its dotted name, the grant that it needs, and what it answers with.

    `action` (read, write or admin) must be granted on `channel`. Without a channel the handler
    itself asks the caller, because only it can tell what the command is about. A `silent` one is
    answered with `.ok` only where its message had an id. `cost` is what it counts against the
    messages a second: less than 1 for what clients send with every key. An `urgent` one is carried
    out also while the disk takes nothing: it may be what makes room.
    """

    def note(cls: AnyCommand) -> AnyCommand:
        template = ChannelTemplate(channel) if channel else None
        cls.__command__ = CommandInfo(name, action, template, answer, silent, cost, urgent)
        return cls

    return note
