"""What is written about the code, written by the code: default.toml and the README's tables.

`python -m daemon.reference` writes both; with `--check` it fails where they differ, as in CI.
"""

from __future__ import annotations

import argparse
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from daemon.app import build_registry
from daemon.core.registry import Registry
from daemon.core.section import Section
from daemon.settings import Settings

ROOT = Path(__file__).parent.parent
BEGIN, END = "<!-- reference: begin -->", "<!-- reference: end -->"

HEAD = """\
# agentcmd's settings, each with its default. Copy what you change to
# /etc/agentcmd/agentcmd.toml or $XDG_CONFIG_HOME/agentcmd/agentcmd.toml.
# The environment overrides: AGENTCMD_SECTION__KEY, as in AGENTCMD_LOG__LEVEL=debug.
# Written by `python -m daemon.reference`; CI checks that it equals the code.
"""

AGENT_EXAMPLE = """
# One table for each agent, by name.
# [agents.claude]
"""


def default_toml() -> str:
    """Write every setting with its sentence and its default, commented out."""
    lines = [HEAD]
    defaults = Settings()
    for name, kind in get_type_hints(Settings).items():
        if isinstance(kind, type) and issubclass(kind, Section):
            lines.append(f"\n# {inspect.getdoc(kind)}\n[{name}]\n")
            lines += _keys(kind, getattr(defaults, name))
    agent = get_args(get_type_hints(Settings)["agents"])[1]
    lines.append(AGENT_EXAMPLE)
    lines += _keys(agent, agent())
    return "".join(lines)


def _keys(kind: type[Section], defaults: Section) -> Iterator[str]:
    for key, hint in get_type_hints(kind, include_extras=True).items():
        value = getattr(defaults, key)
        yield f"# {_sentence(hint)}{_allowed(hint)}\n# {key} = {_toml(value)}\n"


def _sentence(hint: Any) -> str:
    told = [meta.description for meta in _metas(hint) if meta.description]
    if not told:
        raise LookupError(f"a setting has no sentence: {hint}")
    return str(told[0])


def _metas(hint: Any) -> list[Meta]:
    return [meta for meta in getattr(hint, "__metadata__", ()) if isinstance(meta, Meta)]


def _allowed(hint: Any) -> str:
    bare = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    choices = [str(choice) for choice in get_args(bare) if isinstance(choice, str)]
    return f" ({', '.join(choices)})" if choices else ""


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{}"
    return msgspec.json.encode(value).decode()


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


def first_line(declared: type) -> str:
    """Give the first line of a docstring; LookupError where there is none of its own."""
    text = declared.__dict__.get("__doc__")
    if not text:
        raise LookupError(f"{declared.__name__} has no docstring")
    line = inspect.cleandoc(text).split("\n")[0]
    for field in msgspec.structs.fields(declared):
        line = line.replace(f"`{field.name}`", f"`{field.encode_name}`")  # as it is on the wire
    return line


def written(root: Path) -> dict[Path, str]:
    """Give every file that the code writes, with what should stand in it."""
    readme = root / "README.md"
    text = readme.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return {
        root / "config" / "default.toml": default_toml(),
        readme: f"{before}{BEGIN}\n{tables(build_registry())}\n{END}{after}",
    }


def main() -> int:
    """Write the files, or check them."""
    parser = argparse.ArgumentParser(prog="python -m daemon.reference", description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail where a file differs")
    args = parser.parse_args()
    stale = []
    for path, text in written(ROOT).items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(path.name)
            if not args.check:
                path.write_text(text, encoding="utf-8")
    if stale and args.check:
        sys.stderr.write(f"stale: {', '.join(stale)}; run 'python -m daemon.reference'\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
