"""The dispatch table: a command's name to the one function that carries it out."""

from __future__ import annotations

import base64
import inspect
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, TypeVar

import msgspec

from daemon.core.channels import covers
from daemon.core.errors import BadRequest, Forbidden, UnknownCommand
from daemon.core.events import Command
from daemon.core.registry import Registry

AnyHandler = TypeVar("AnyHandler", bound=Callable[..., Any])
Answered = msgspec.Struct | Awaitable[msgspec.Struct]


class Caller(msgspec.Struct, frozen=True):
    """Who asks: the token's `sub`, what it grants, and until when (Unix seconds).

    `connection` is the id of the subscriber that asks; empty where none stays, as over HTTP.
    """

    sub: str
    grants: tuple[tuple[str, str], ...]
    expires_at: float
    connection: str = ""

    def may(self, action: str, channel: str) -> bool:
        """Tell whether the token grants `action` on all of a channel or pattern."""
        for granted, on in self.grants:  # asked with every key at a terminal
            if granted == action and (on == "*" or covers(on, channel)):
                return True
        return False

    def require(self, action: str, channel: str) -> None:
        """Raise Forbidden unless the token grants it, whether the channel exists or not."""
        if not self.may(action, channel):
            raise Forbidden(
                f"this token does not grant {action}:{channel}; "
                f"ask for one with --scope '{action}:{channel}'"
            )


def handles(declared: type[Command]) -> Callable[[AnyHandler], AnyHandler]:
    """Mark the method that carries a command out: `(self, command, caller) -> Answer`.

    A plain method answers at once and in order; a coroutine runs as a task of its own, so that a
    long one does not hold up what the same client says next.
    """

    def note(method: AnyHandler) -> AnyHandler:
        method.__handles__ = declared  # type: ignore[attr-defined]
        return method

    return note


def handlers_of(
    service: object,
) -> Iterator[tuple[type[Command], Callable[[Any, Caller], Answered]]]:
    """Find what a service handles, and by what: its marked methods, and those of its `parts`."""
    for part in (service, *getattr(service, "parts", ())):
        for _, method in inspect.getmembers(part, inspect.ismethod):
            declared: type[Command] | None = getattr(method, "__handles__", None)
            if declared is not None:
                yield declared, method


def as_bytes(data: str, encoding: str) -> bytes:
    """Give the bytes that a command's `data` stands for, as UTF-8 or in base64; else BadRequest."""
    try:
        return base64.b64decode(data, validate=True) if encoding == "base64" else data.encode()
    except UnicodeEncodeError:
        raise BadRequest("the data holds half a character; send bytes as base64") from None
    except ValueError as error:  # binascii.Error, and what is not ASCII
        raise BadRequest(f"the data is not base64: {error}") from None


class Dispatcher:
    """Decodes, authorises and carries out commands, whatever door they came through."""

    def __init__(self, registry: Registry, *, ready: Callable[[], None]) -> None:
        """Take the declared commands; `ready` raises Unavailable while nothing may be changed."""
        self._registry = registry
        self._ready = ready
        self._handlers: dict[str, Callable[[Command, Caller], Answered]] = {}

    def bind(self, service: object) -> None:
        """Take a service's marked methods, and those of its `parts`."""
        self._handlers |= {
            declared.__command__.name: method for declared, method in handlers_of(service)
        }

    def check(self) -> None:
        """Stop the start where a declared command has no handler."""
        missing = sorted(self._registry.commands.keys() - self._handlers.keys())
        if missing:
            raise LookupError(f"no service handles {', '.join(missing)}")

    def call(self, name: str, data: bytes | msgspec.Raw, caller: Caller) -> Answered:
        """Carry out one command given as JSON; every refusal is an AgentcmdError."""
        declared = self.declared(name)
        try:
            decoded = self._registry.decoders[name].decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BadRequest(_explained(declared, error)) from None
        return self.run(decoded, caller)

    def call_with(self, name: str, data: Mapping[str, Any], caller: Caller) -> Answered:
        """Carry out one command given as values, in which numbers may be written as text."""
        declared = self.declared(name)
        try:
            decoded = msgspec.convert(data, declared, strict=False)
        except msgspec.ValidationError as error:
            raise BadRequest(_explained(declared, error)) from None
        return self.run(decoded, caller)

    def knows(self, name: str) -> bool:
        """Tell whether a domain declares a command of this name."""
        return name in self._registry.commands

    def cost(self, name: str) -> float:
        """Tell what one of these counts against the messages a second."""
        found = self._registry.commands.get(name)
        return found.__command__.cost if found else 1.0

    def looks(self, name: str) -> bool:
        """Return whether it changes nothing, so that it may end with whoever has asked."""
        return self._registry.commands[name].__command__.action == "read"

    def silent(self, name: str) -> bool:
        """Tell whether its `.ok` is sent only to those who asked with an id."""
        return self._registry.commands[name].__command__.silent

    def declared(self, name: str) -> type[Command]:
        """Find a command; UnknownCommand lists what exists, of its domain where that does."""
        found = self._registry.commands.get(name)
        if found is None:
            every = sorted(self._registry.commands)
            domain = f"{name.partition('.')[0]}."
            known = ", ".join([each for each in every if each.startswith(domain)] or every)
            raise UnknownCommand(f"there is no command {name[:80]!r}; there is: {known}")
        return found

    def run(self, decoded: Command, caller: Caller) -> Answered:
        """Carry out one decoded command for a caller whose grants reach it."""
        info = decoded.__command__
        if info.channel is not None:
            caller.require(info.action, info.channel.of(decoded))
        if info.action == "write" and not info.urgent:
            self._ready()
        return self._handlers[info.name](decoded, caller)


def _explained(declared: type[Command], error: Exception) -> str:
    """Say what does not fit, and for an unknown field what there is."""
    known = ", ".join(declared.__struct_encode_fields__) or "none"
    hint = f"; there is: {known}" if "unknown field" in str(error) else ""
    return f"{declared.__command__.name}: {error}{hint}"
