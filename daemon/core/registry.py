"""The registry: every event and command of the domains it was built from, by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType, ModuleType
from typing import Any, NamedTuple, Self, TypeVar

import msgspec

from daemon.core.errors import UnknownEvent
from daemon.core.events import Command, Event

Declared = TypeVar("Declared", bound=type[msgspec.Struct])


class Noun(NamedTuple):
    """What one of a domain's things is called, in `terminalId` and in `/api/terminals/{id}`.

    `many` is the resource over HTTP; `key` is whose id that is, where it is another thing's.
    """

    one: str
    many: str
    key: str

    @classmethod
    def of(cls, one: str, *, many: str = "", key: str = "") -> Self:
        """Call the thing this, and its resource and key as follows from it."""
        return cls(one, many or f"{one}s", key or one)


class Registry:
    """What exists. Nothing registers itself: whoever needs a registry builds one."""

    def __init__(
        self,
        events: Iterable[type[Event]],
        commands: Iterable[type[Command]],
        nouns: Mapping[str, Noun] = MappingProxyType({}),
    ) -> None:
        """Index both by wire name; ValueError where a name stands twice.

        `nouns` says what a domain's things are called, where that does not follow from its name.
        """
        self.events: dict[str, type[Event]] = {}
        self.commands: dict[str, type[Command]] = {}
        for declared in events:
            _add(self.events, declared.__event__.name, declared)
        for asked in commands:
            _add(self.commands, asked.__command__.name, asked)
        domains = {name.split(".")[0] for name in self.commands}
        self.nouns = {domain: Noun.of(domain) for domain in domains} | dict(nouns)
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


def _in(package: ModuleType, name: str, kind: Declared, mark: str) -> Iterator[Declared]:
    """Find what is declared in a module of a package, and below it where that is one itself."""
    module = getattr(package, name, package)
    for value in vars(module).values():
        if isinstance(value, type) and issubclass(value, kind) and hasattr(value, mark):
            yield value  # type: ignore[misc]
        elif isinstance(value, ModuleType) and value.__name__.startswith(f"{module.__name__}."):
            yield from _in(module, value.__name__.rpartition(".")[2], kind, mark)
