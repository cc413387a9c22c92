"""The agents: one adapter a file, which turns a request into a program."""

from __future__ import annotations

from domains.session.agents.adapter import Adapter
from domains.session.agents.command import COMMAND

ADAPTERS: dict[str, Adapter] = {COMMAND.name: COMMAND}
"""Every agent that a session can be created with, by name."""
