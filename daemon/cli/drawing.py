"""Draws a run into so many rows of so many columns: what matters most stays where not all fits."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from daemon.cli.timeline import Step, Timeline

SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
TURN = 0.1
"""Seconds that each of its pictures is shown."""

MARKS = {
    "completed": "✓",
    "failed": "✗",
    "skipped": "-",
    "waiting": "?",
    "retrying": "↻",
    "cancelled": "■",
    "pending": "·",
}

BOLD, DIM, RED, GREEN, YELLOW, CYAN = "1", "2", "31", "32", "33", "36"

COLOURS = {
    "completed": GREEN,
    "failed": RED,
    "waiting": YELLOW,
    "retrying": YELLOW,
    "paused": YELLOW,
    "running": CYAN,
    "skipped": DIM,
    "pending": DIM,
}

BAR = 16
"""Columns of a progress bar, where there is room."""

ALL = 6
"""Finished items of a for-each that are shown one by one; more are a number."""

SPOKEN = 3
"""Lines of output of what runs, and of what has failed."""

LEAST = 6
"""Columns that a name keeps at least; what stands behind it goes first."""

_SEQUENCES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI
    r"|\x1b[\]PX^_].*?(?:\x07|\x1b\\|$)"  # control strings
    r"|\x1b[ -/]*[0-~]?"
    r"|\x9b[0-?]*[ -/]*[@-~]"
)


_CONTROLS = {number: f"\\u{number:04x}" for number in range(0x7F, 0xA0)}


@dataclass(slots=True)
class Row:
    """One row: pieces with their colours; the smaller its weight, the longer it stays."""

    pieces: list[tuple[str, str]]
    weight: int
    step: bool = False


def draw(run: Timeline, width: int, height: int, now: float, notice: str = "") -> list[str]:
    """Draw a run as it stands `now`, in Unix seconds: at most so many rows, none of them wider.

    `notice` is a line about the connection. Colours are SGR sequences, and each row ends without.
    """
    rows = [_head(run, width, now)]
    if notice:
        rows.append(Row([(notice, YELLOW)], 0))
    rows += _phases(run, width, now)
    rows += _remarks(run)
    rows += _foot(run)
    return [_painted(row, width) for row in _fitting(rows, max(0, height))]


def _fitting(rows: Sequence[Row], height: int) -> list[Row]:
    """Leave out the lightest rows, of equals the earlier, and say how many steps are left out."""
    if len(rows) <= height:
        return list(rows)
    by_weight = sorted(range(len(rows)), key=lambda n: (rows[n].weight, -n))
    kept = sorted(by_weight[: max(0, height - 1)])
    gone = [n for n in range(len(rows)) if n not in set(kept)]
    left_out = sum(rows[n].step for n in gone)
    if not left_out or height < 3:  # what is missing is output, or there is no room to say it
        return [rows[n] for n in sorted(by_weight[:height])]
    said = Row([(f"  ... {left_out} more step{'s' if left_out > 1 else ''}", DIM)], 0)
    first = next(n for n in gone if rows[n].step)
    before = [rows[n] for n in kept if n < first]
    return [*before, said, *(rows[n] for n in kept if n > first)]


# The run


def _head(run: Timeline, width: int, now: float) -> Row:
    state = outcome(run)
    bits = [(state, f"{BOLD};{COLOURS.get(state, '')}".rstrip(";"))]
    if run.position is not None:
        bits.append((f"place {run.position}", ""))
    until = run.elapsed_from + run.end["durationMs"] / 1000 if run.end else now
    bits.append((took(until - run.elapsed_from), ""))
    if run.cost:
        bits.append((f"${run.cost:.4f}", ""))
    bits.append((run.id, DIM))
    return Row(_set(0, "", "", (harmless(run.name), BOLD), bits, width), -1)


def outcome(run: Timeline) -> str:
    """Say where a run stands, or what it came to."""
    return str(run.end["type"]) if run.end else run.state


def _foot(run: Timeline) -> Iterator[Row]:
    if run.end is None:
        if run.state == "paused":
            yield Row([(f"paused; agentcmd workflow resume {run.id}", YELLOW)], 1)
        return
    if run.end.get("output") is not None:
        output = json.dumps(run.end["output"], ensure_ascii=False)
        yield Row([(harmless(output), "")], 1)
    if run.end["type"] == "failed":
        yield Row([(harmless(run.end.get("message") or "it failed"), RED)], 0)
    if run.end["type"] != "completed":
        yield Row([(f"once more: agentcmd workflow retry {run.id}", DIM)], 3)


def _remarks(run: Timeline) -> Iterator[Row]:
    for level, message in run.remarks:
        colour = {"error": RED, "warning": YELLOW}.get(level, "")
        yield Row([("! " if colour else "* ", colour), (harmless(message), "")], 2 if colour else 5)
    for name, size in run.artifacts.items():
        yield Row([("+ ", GREEN), (f"{harmless(name)}  {size_of(size)}", "")], 5)


def _phases(run: Timeline, width: int, now: float) -> Iterator[Row]:
    """Give the steps, each phase with a line before its first."""
    phase: str | None = None
    shown = set()
    for step in run.top:
        if step.phase is not None and step.phase != phase:
            phase = step.phase
            shown.add(phase)
            yield _phase(run, phase, width)
        yield from _step(run, step, 1 if step.phase else 0, width, now)
    if run.end is None:
        for name in run.declared:
            if name not in shown:
                yield _phase(run, name, width)


def _phase(run: Timeline, name: str, width: int) -> Row:
    seconds = run.phases.get(name)
    begun = name in run.phases
    colour = BOLD if name == run.phase else "" if begun else DIM
    bits = [] if seconds is None else [(took(seconds), DIM)]
    weight = 1 if name == run.phase else 4
    return Row(_set(0, "", "", (harmless(name), colour), bits, width), weight)


# A step


def _step(run: Timeline, step: Step, depth: int, width: int, now: float) -> Iterator[Row]:
    failed = step.state == "failed" and not step.continued
    weight = 1 if step.is_open else 2 if failed else 6 if "/" in step.id else 5
    mark, colour = MARKS.get(step.state, " "), COLOURS.get(step.state, "")
    if step.state == "running":
        mark = SPINNER[int(now / TURN) % len(SPINNER)]
    elif step.state == "failed" and step.continued:
        mark, colour = "!", YELLOW
    name = step.name or step.own_id
    if step.item is not None:
        name = f"[{step.item}] {name}"
    label = (harmless(name), DIM if step.state in ("skipped", "pending") else "")
    hidden, inner = _within(step)
    bits = list(_bits(step, now))
    yield Row(_set(depth, mark, colour, label, bits, width), weight, step=True)
    yield from _about(run, step, depth)
    if hidden:
        text = f"{hidden} done" if step.is_open else f"{hidden} more"
        if not _counts(step):
            yield Row([(_indent(depth + 1) + text, DIM)], 6)
    for each in inner:
        yield from _step(run, each, depth + 1, width, now)


def _counts(step: Step) -> bool:
    return step.kind == "for-each"


def _within(step: Step) -> tuple[int, list[Step]]:
    """Give how many of its steps are not shown, and those that are."""
    finished = [each for each in step.inner if _is_dull(each)]
    if len(finished) <= ALL:
        return 0, step.inner
    return len(finished), [each for each in step.inner if not _is_dull(each)]


def _is_dull(step: Step) -> bool:
    return step.state in ("completed", "skipped") or (step.state == "failed" and step.continued)


def _bits(step: Step, now: float) -> Iterator[tuple[str, str]]:
    """Give what stands behind the name, the most important first."""
    if step.state == "retrying":
        left = max(0.0, (step.until or now) - now)
        yield f"try {step.attempt} in {took(left)}", YELLOW
        return
    if step.state == "skipped":
        yield "skipped", DIM
        return
    if step.is_open and step.progress is not None and not _counts(step):
        yield from _progress(step)
    if step.kind == "for-each" and (step.is_open or step.inner):
        yield _counted(step), ""
    if step.state == "waiting":
        yield "waiting" if step.until is None else f"waiting, {took(step.until - now)} left", YELLOW
    if step.duration is not None:
        yield took(step.duration), DIM
    elif step.is_open:
        yield took(now - step.started), DIM
    if isinstance(step.result, dict) and step.result.get("costUsd"):
        yield f"${step.result['costUsd']:.4f}", DIM
    if step.attempt > 1:
        yield f"try {step.attempt}", DIM


def _progress(step: Step) -> Iterator[tuple[str, str]]:
    progress = step.progress or {}
    current, total = progress.get("current", 0), progress.get("total")
    share = progress.get("percentage")
    if share is None and total:
        share = 100 * current / total
    if share is None:
        yield f"{current:g}", CYAN
        return
    share = min(100.0, max(0.0, float(share)))
    full = round(BAR * share / 100)
    yield f"{share:.0f} %", CYAN
    yield f"[{'█' * full}{'░' * (BAR - full)}]", CYAN


def _counted(step: Step) -> str:
    """Say how many items of a for-each are done, and of how many where that is known."""
    items: dict[str | None, list[Step]] = {}
    for each in step.inner:
        items.setdefault(each.item, []).append(each)
    most = max(map(len, items.values()), default=0)
    done = sum(
        len(steps) == most and not any(each.is_open for each in steps) for steps in items.values()
    )
    total = None
    if isinstance(step.result, dict):
        total = step.result.get("items")
    elif step.progress is not None:
        total = step.progress.get("total")
    if step.state == "completed" and total is not None:
        done = total
    return f"{done} done" if total is None else f"{done} of {total:g} done"


def _about(run: Timeline, step: Step, depth: int) -> Iterator[Row]:
    """Give the lines below a step: what it waits for, why it failed, what it says."""
    indent = _indent(depth + 1)
    if step.state == "waiting" and step.waits_for == "approval":
        if step.message:
            yield Row([(indent + harmless(step.message), BOLD)], 1)
        yield Row([(f"{indent}agentcmd workflow approve {run.id} {step.id}", CYAN)], 1)
        yield Row([(f"{indent}(or with --reject)", DIM)], 6)
    elif step.state == "waiting" and step.waits_for == "event":
        event = harmless(step.event or "EVENT")
        yield Row([(f"{indent}agentcmd workflow send {run.id} {event} [JSON]", CYAN)], 1)
    elif step.state in ("failed", "retrying") and step.message:
        weight = 6 if step.continued else 2
        yield Row([(indent + harmless(step.message), RED if weight == 2 else DIM)], weight)
    if step.state in ("running", "retrying", "failed"):
        lines = step.output(SPOKEN)
        for number, line in enumerate(lines, 1):
            last = number == len(lines) and step.is_open
            weight = 3 if last else 7 if step.continued else 4
            yield Row([(f"{indent}│ ", DIM), (harmless(last_drawn(line)), DIM)], weight)


# Text


def _indent(depth: int) -> str:
    return "  " * depth


def _set(
    depth: int,
    mark: str,
    colour: str,
    label: tuple[str, str],
    bits: Sequence[tuple[str, str]],
    width: int,
) -> list[tuple[str, str]]:
    """Set a name and what stands behind it in a row: the last of that go first, then the name."""
    before = _indent(min(depth, max(0, width // 8))) + (f"{mark} " if mark else "")
    text, style = label
    room = width - width_of(before)
    bits = list(bits)
    least = min(LEAST, width_of(text))
    while bits and least + sum(2 + width_of(bit) for bit, _ in bits) > room:
        bits.pop()
    text = cut(text, room - sum(2 + width_of(bit) for bit, _ in bits))
    pieces = [(before, colour), (text, style)]
    for bit, paint in bits:
        pieces += [("  ", ""), (bit, paint)]
    return pieces


def _painted(row: Row, width: int) -> str:
    """Give a row as text, cut to the width."""
    painted, room = [], width
    for text, colour in row.pieces:
        text = cut(text, room)  # noqa: PLW2901  # what of it fits
        room -= width_of(text)
        if text:
            painted.append(f"\x1b[{colour}m{text}\x1b[m" if colour else text)
    return "".join(painted)


def harmless(text: str) -> str:
    """Give text as one line that does nothing to a terminal: without colours, controls or bells."""
    if text.isascii() and text.isprintable():
        return text
    line = _SEQUENCES.sub("", text).expandtabs(8)
    return "".join(
        each if each.isprintable() else "" if unicodedata.category(each) == "Cf" else " "
        for each in line
    )


def harmless_json(text: str) -> str:
    """Give JSON that does nothing to a terminal: it may hold DEL and C1 controls as they are."""
    return text if text.isascii() and "\x7f" not in text else text.translate(_CONTROLS)


def last_drawn(line: str) -> str:
    """Give what stood there last of a line that was redrawn with carriage returns."""
    parts = [part for part in line.split("\r") if part.strip()]
    return parts[-1] if parts else ""


def cut(text: str, width: int) -> str:
    """Cut text to so many columns; what is longer ends with an ellipsis."""
    if width <= 0:
        return ""
    if text.isascii():
        return text if len(text) <= width else f"{text[: width - 1]}…"
    if width_of(text) <= width:
        return text
    kept, room = [], width - 1
    for each in text:
        room -= _columns(each)
        if room < 0:
            break
        kept.append(each)
    return "".join(kept) + "…"


def width_of(text: str) -> int:
    """Count the columns that printable text takes, rather one too many than one too few."""
    return len(text) if text.isascii() else sum(map(_columns, text))


def _columns(character: str) -> int:
    if character == "\ufe0f":  # makes a picture of what comes before, which may be wider
        return 1
    if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def took(seconds: float) -> str:
    """Say how long something took, or takes."""
    seconds = max(0.0, seconds)
    if seconds < 59.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h {whole % 3600 // 60:02}m"
    return f"{whole // 86400}d {whole % 86400 // 3600:02}h"


def size_of(count: float) -> str:
    """Say a number of bytes."""
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
