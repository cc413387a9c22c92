"""The registry: every event and command of the domains it was built from, by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType, ModuleType
from typing import Any, Self, TypeVar

import msgspec

from daemon.core.errors import UnknownEvent
from daemon.core.events import Command, Event

Declared = TypeVar("Declared", bound=type[msgspec.Struct])


class Registry:
    """What exists. Nothing registers itself: whoever needs a registry builds one."""

    def __init__(
        self,
        events: Iterable[type[Event]],
        commands: Iterable[type[Command]],
        nouns: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Index both by wire name; ValueError where a name stands twice.

        `nouns` says what one of a domain's things is called, where it is not as the domain.
        """
        self.events: dict[str, type[Event]] = {}
        self.commands: dict[str, type[Command]] = {}
        for declared in events:
            _add(self.events, declared.__event__.name, declared)
        for asked in commands:
            _add(self.commands, asked.__command__.name, asked)
        self.nouns = {name.split(".")[0]: name.split(".")[0] for name in self.commands} | dict(
            nouns
        )
        self.decoders: dict[str, msgspec.json.Decoder[Any]] = {
            name: msgspec.json.Decoder(cls) for name, cls in self.commands.items()
        }

    @classmethod
    def of(cls, domains: Iterable[ModuleType]) -> Self:
        """Collect what the `events` and `commands` modules of each domain declare."""
        packages = list(domains)
        return cls(
            (found for package in packages for found in _in(package, "events", Event, "__event__")),
            (
                found
                for package in packages
                for found in _in(package, "commands", Command, "__command__")
            ),
            {
                package.__name__.rpartition(".")[2]: package.NOUN
                for package in packages
                if hasattr(package, "NOUN")
            },
        )

    def event(self, name: str, data: object) -> Event:
        """Make a declared event from its name and its wire data (the seed's form)."""
        declared = self.events.get(name)
        if declared is None:
            raise UnknownEvent(f"no domain declares the event {name!r}")
        try:
            return msgspec.convert(data, declared)
        except msgspec.ValidationError as error:
            raise UnknownEvent(f"{name}: {error}") from None


def _add(index: dict[str, Declared], name: str, declared: Declared) -> None:
    if index.setdefault(name, declared) is not declared:
        raise ValueError(f"{name} is declared twice")


def _in(package: ModuleType, module: str, kind: Declared, mark: str) -> Iterator[Declared]:
    for value in vars(getattr(package, module, package)).values():
        if isinstance(value, type) and issubclass(value, kind) and hasattr(value, mark):
            yield value  # type: ignore[misc]
