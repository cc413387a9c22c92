"""How keys are to be reported: the keyboard protocols of kitty and xterm, as programs set them."""

from __future__ import annotations

STACK = 8
"""Flags that a screen keeps, as kitty does; the oldest goes first."""

Flags = tuple[int, ...]
"""The flags of one screen: what holds without a push, and above it what was pushed."""

Resources = tuple[tuple[int, int], ...]
"""Numbers of xterm's resources for keys, and their values; -1 where one was switched off."""

NONE: Flags = (0,)


def keyboard_step(body: bytes, numbers: list[int]) -> tuple[str, tuple[int, int]] | None:
    """Return what a CSI u with a prefix does to the flags: its name and two numbers."""
    first, second = (*numbers, 0)[:2]
    if body.startswith(b">"):
        return "push", (first & 0x7F, 0)
    if body.startswith(b"<"):
        return "pop", (max(first, 1), 0)
    return ("flags", (first & 0x7F, second)) if body.startswith(b"=") else None


def stepped(flags: Flags, step: str, numbers: tuple[int, int]) -> Flags:
    """Return a screen's flags after a step."""
    first, second = numbers
    if step == "push":
        return (*flags, first)[-STACK:]
    if step == "pop":
        return flags[:-first] if first < len(flags) else NONE
    top = flags[-1]
    changed = {2: top | first, 3: top & ~first}.get(second, first)
    return (*flags[:-1], changed)


def flags_restored(flags: Flags) -> bytes:
    """Return what gives a screen that has none these flags."""
    base = b"\x1b[=%du" % flags[0] if flags[0] else b""
    return base + b"".join(b"\x1b[>%du" % each for each in flags[1:])


def resources_set(resources: Resources, final: bytes, numbers: list[int]) -> Resources:
    """Return the resources after CSI > with this final; without a number all are as at first."""
    now = dict(resources)
    number = numbers[0]
    if final == b"n":
        now[number] = -1
    elif len(numbers) > 1:
        now[number] = numbers[1]
    elif number:
        now.pop(number, None)
    else:
        now.clear()
    return tuple(sorted((key, value) for key, value in now.items() if 0 <= key < 16))


def resources_restored(modifiers: Resources, formats: Resources) -> bytes:
    """Return what sets these resources in a terminal that was just reset."""
    told = [
        b"\x1b[>%dn" % number if value < 0 else b"\x1b[>%d;%dm" % (number, value)
        for number, value in modifiers
    ]
    told += [b"\x1b[>%d;%df" % each for each in formats]
    return b"".join(told)
