"""A session's messages as text: what it says on standard output, what it does on standard error."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from daemon.cli.printing import complain, pass_on, say, say_json
from daemon.client import Message

SUMMARY = 160
"""Characters of a tool's input that are shown."""

RESULT_LINES = 5
"""Lines of a tool's result that are shown."""

TELLING = ("command", "file_path", "path", "pattern", "url", "query", "description", "prompt")
"""The fields of a tool's input that say what it is about, the best first."""


class View:
    """Prints messages one after the other; re-draws nothing, so it works in a pipe as well."""

    def __init__(self, *, as_json: bool) -> None:
        """Print the wire messages as they are, or text."""
        self._as_json = as_json
        self._midline = False
        self._streamed: set[str] = set()
        self._shown: dict[str, Callable[[dict[str, Any]], None]] = {
            "session.stream_output": self._output,
            "session.message_delta": self._delta,
            "session.message": self._message,
        }

    def show(self, message: Message) -> None:
        """Print one message; blocks while the reader is slow, so call it in a thread."""
        if self._as_json:
            say_json(message.raw + "\n")
            return
        show = self._shown.get(message.type)
        if show is not None:
            show(message.data)

    def note(self, text: str) -> None:
        """Print a line about what happens, on standard error."""
        self._end_line()
        complain(f"{text}\n")

    def _say(self, text: str) -> None:
        say(text)
        self._midline = not text.endswith("\n")

    def _end_line(self) -> None:
        if self._midline:
            self._say("\n")

    def _output(self, data: dict[str, Any]) -> None:
        if data["type"] == "stdout":
            self._end_line()
            pass_on(data["content"])
        elif data["type"] == "stderr":
            pass_on(data["content"], error=True)
        else:
            self.note(f"agentcmd: {data['content'].rstrip()}")

    def _delta(self, data: dict[str, Any]) -> None:
        if data["kind"] == "text":
            self._streamed.add(data["replyId"])
            self._say(data["text"])

    def _message(self, data: dict[str, Any]) -> None:
        message = data["message"]
        indent = "  " if "parentToolUseId" in message else ""
        for block in message["content"]:
            kind = block["type"]
            if kind == "text" and message["role"] == "assistant":
                if message.get("replyId") not in self._streamed and not indent:
                    self._say(block["text"])
                self._end_line()
            elif kind == "tool_use":
                self.note(f"{indent}* {summary(block['name'], block['input'])}")
            elif kind == "tool_result":
                for line in _shortened(block):
                    self.note(f"{indent}  {line}")


def summary(tool: str, given: Any) -> str:
    """Say in one line what a tool is about to do."""
    fields = given if isinstance(given, dict) else {}
    about = next((fields[name] for name in TELLING if name in fields), None)
    text = about if isinstance(about, str) else json.dumps(given, ensure_ascii=False)
    return _cut(f"{tool}: {text}")


def _shortened(block: dict[str, Any]) -> list[str]:
    lines = block["content"].rstrip("\n").split("\n")
    shown = [_cut(line) for line in lines[:RESULT_LINES]]
    if len(lines) > RESULT_LINES:
        shown.append(f"... {len(lines) - RESULT_LINES} more lines")
    if block.get("isError"):
        shown[0] = f"failed: {shown[0]}"
    return shown


def _cut(text: str) -> str:
    """Keep a summary to one line of what can be shown."""
    line = "".join(each if each.isprintable() else " " for each in text)
    return line if len(line) <= SUMMARY else f"{line[:SUMMARY]}..."
