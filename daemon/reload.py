"""New settings for a daemon that runs: what can be taken at once is, and the rest is named."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from daemon.core.bus import EventBus
from daemon.core.guard import Guard
from daemon.core.task import Tasks
from daemon.settings import Settings
from daemon.web.auth import Doorkeeper

Taker = Callable[[Settings], None]


class Reloaded(NamedTuple):
    """The keys that differ from before: taken now, or only by the next start."""

    taken: tuple[str, ...]
    left: tuple[str, ...]


def reload(old: Settings, new: Settings, takers: Mapping[str, Taker]) -> Reloaded:
    """Give each change to who can take it.

    `takers` have the keys that they take, as `log.level`, or the beginning of some, as `guard.`;
    each is called once at most, with all of the new settings.
    """
    taken: list[str] = []
    left: list[str] = []
    called: set[str] = set()
    for key in changes(old, new):
        name = next((name for name in takers if key == name or _begins(key, name)), None)
        if name is None:
            left.append(key)
            continue
        taken.append(key)
        if name not in called:
            called.add(name)
            takers[name](new)
    return Reloaded(tuple(taken), tuple(left))


def takers_of(
    *, doorkeeper: Doorkeeper, tasks: Tasks, bus: EventBus, guard: Guard, settings: Settings
) -> dict[str, Taker]:
    """Say what a running daemon takes, and how; the table of agents is changed where it is."""

    def log_level(new: Settings) -> None:
        logging.getLogger().setLevel(new.log.level.upper())
        bus.debug = new.log.level == "debug"

    def web_names(new: Settings) -> None:
        doorkeeper.allow(hosts=new.server.hosts, origins=new.server.origins)

    def agents(new: Settings) -> None:
        settings.agents.clear()
        settings.agents.update(new.agents)

    def watch(new: Settings) -> None:
        guard.settings = new.guard

    return {
        "log.level": log_level,
        "server.hosts": web_names,
        "server.origins": web_names,
        "task.max_running": lambda new: tasks.slots.resize(new.task.max_running),
        "guard.": watch,
        "agents.": agents,
    }


def with_taken(old: Settings, new: Settings, taken: Iterable[str]) -> Settings:
    """Give the settings that now hold: the old ones but for what was taken."""
    holding, wanted = msgspec.to_builtins(old), msgspec.to_builtins(new)
    for section, _, key in (name.partition(".") for name in taken):
        if section != "agents":  # whose table was changed where it is
            holding[section][key] = wanted[section][key]
    return msgspec.structs.replace(msgspec.convert(holding, Settings), agents=old.agents)


def changes(old: Settings, new: Settings) -> list[str]:
    """List the keys of which the values differ, as `section.key`."""
    before, after = (dict(_flat(msgspec.to_builtins(each))) for each in (old, new))
    keys = [*before, *(key for key in after if key not in before)]
    return [key for key in keys if before.get(key) != after.get(key)]


def _begins(key: str, name: str) -> bool:
    return name.endswith(".") and key.startswith(name)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
