"""The agents: one adapter a file, which turns a request into a program and its lines into facts."""

from __future__ import annotations

from domains.session.agents.adapter import Adapter
from domains.session.agents.claude import CLAUDE
from domains.session.agents.command import COMMAND

ADAPTERS: dict[str, Adapter] = {each.name: each for each in (COMMAND, CLAUDE)}
"""Every agent that a session can be created with, by name."""
