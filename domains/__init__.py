"""The domains: each is a folder that declares its events and commands, and a service."""

from __future__ import annotations

from domains import file, git, project, session, shell, system, task, workflow

DOMAINS = (project, git, file, session, shell, workflow, task, system)
"""In the order in which they open; a domain may need those before it."""
