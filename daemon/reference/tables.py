"""The reference in Markdown and TOML: the README's tables of events and commands, default.toml."""

from __future__ import annotations

from collections.abc import Iterable

from daemon.core.registry import Registry
from daemon.reference.configuration import AGENT, Key, configuration
from daemon.reference.docstrings import first_line

HEAD = """\
# agentcmd's settings, each with its default. Copy what you change to
# /etc/agentcmd/agentcmd.toml or $XDG_CONFIG_HOME/agentcmd/agentcmd.toml.
# The environment overrides: AGENTCMD_SECTION__KEY, as in AGENTCMD_LOG__LEVEL=debug.
# Written by `python -m daemon.reference`; CI checks that it equals the code.
"""

EXAMPLES = {AGENT: "agents.claude", "task.kinds.NAME": "task.kinds.session"}
"""What stands for tables of which there is one for each name."""


def default_toml() -> str:
    """Write every setting with its sentence and its default, commented out."""
    lines = [HEAD]
    for table in configuration():
        example = EXAMPLES.get(table.name)
        head = f"# [{example}]" if example else f"[{table.name}]"
        lines.append(f"\n# {table.sentence}\n{head}\n")
        lines += _toml_lines(table.keys)
    return "".join(lines)


def _toml_lines(keys: Iterable[Key]) -> list[str]:
    lines = []
    for key in keys:
        choices = f" ({', '.join(key.choices)})" if key.choices else ""
        lines.append(f"# {key.sentence}{choices}\n# {key.name} = {key.default}\n")
    return lines


def tables(registry: Registry) -> str:
    """Write the tables of events and commands, one line of their docstring each."""
    lines = ["\n| event | told on | when |\n| --- | --- | --- |\n"]
    for name, event in sorted(registry.events.items()):
        on = " ".join(f"`{channel.text}`" for channel in event.__event__.channels)
        lines.append(f"| `{name}` | {on or 'the connection'} | {first_line(event)} |\n")
    lines.append("\n| command | needs | does |\n| --- | --- | --- |\n")
    for name, command in sorted(registry.commands.items()):
        info = command.__command__
        on = f" on `{info.channel.text}`" if info.channel else ""
        lines.append(f"| `{name}` | {info.action}{on} | {first_line(command)} |\n")
    return "".join(lines)
