"""Real agents for the tests: fetched once into a cache, run offline against the model server."""

from __future__ import annotations

from pathlib import Path

import npm

CLAUDE = "@anthropic-ai/claude-code-linux-x64@2.1.330"
"""The package that the facts in domains/session/agents/claude.py were measured with."""

OFFLINE = {
    "DISABLE_AUTOUPDATER": "1",
    "DISABLE_TELEMETRY": "1",
    "DISABLE_ERROR_REPORTING": "1",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "CLAUDE_CODE_MAX_RETRIES": "1",
    "ANTHROPIC_API_KEY": "of-no-account",
}


def claude_program() -> Path:
    """Give the program, installed the first time it is asked for."""
    name = CLAUDE.rpartition("@")[0]
    return npm.package(CLAUDE) / "node_modules" / name / "claude"


def claude_settings(url: str, home: Path) -> dict[str, str]:
    """Settings of a daemon whose claude asks the model server at `url`."""
    home.mkdir(exist_ok=True)
    env = {**OFFLINE, "ANTHROPIC_BASE_URL": url, "HOME": str(home)}
    return {
        "AGENTS__CLAUDE__PATH": str(claude_program()),
        **{f"AGENTS__CLAUDE__ENV__{name}": value for name, value in env.items()},
    }
