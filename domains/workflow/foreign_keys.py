"""Keys of GitHub Actions, GitLab and others, and what is written here in their place."""

from __future__ import annotations

from collections.abc import Mapping

_NO_JOBS = "there are no jobs: steps stand at the top of the file, and parallel runs some at once"
_MATRIX = "for-each goes through a list, with max-parallel items at once"
_HERE = "everything runs on this machine, in the project's folder"

FILE: Mapping[str, str] = {
    "on": "a run is begun by workflow.start or agentcmd workflow run, as from a timer",
    "jobs": _NO_JOBS,
    "run-name": "it is called name",
    "inputs": "they are called args",
    "inputs_schema": "they are called args",
    "params": "they are called args",
    "parameters": "they are called args",
    "defaults": "env stands at the top; shell and cwd stand at each step",
    "permissions": _HERE,
    "runs-on": _HERE,
    "strategy": _MATRIX,
    "matrix": _MATRIX,
    "outputs": "a later step reads steps.ID.stdout or steps.ID.json",
    "variables": "they are called env",
    "vars": "they are called env",
    "environment": "it is called env",
    "stages": "they are called phases",
    "tasks": "they are called steps",
    "timeout": "it is called timeout-minutes",
    "shell": "it stands at each step with run",
    "working-directory": "cwd stands at each step",
}
"""At the top of a file."""

STEP: Mapping[str, str] = {
    "uses": "there are no actions: run a command, or workflow for another workflow",
    "with": "run has env, workflow has args, git and others have theirs behind their own key",
    "needs": "steps run one after another; parallel runs those inside of it at once",
    "depends-on": "steps run one after another; parallel runs those inside of it at once",
    "depends_on": "steps run one after another; parallel runs those inside of it at once",
    "runs-on": _HERE,
    "container": _HERE,
    "image": _HERE,
    "services": _HERE,
    "working-directory": "it is called cwd",
    "working_directory": "it is called cwd",
    "workdir": "it is called cwd",
    "dir": "it is called cwd",
    "strategy": _MATRIX,
    "matrix": _MATRIX,
    "with_items": _MATRIX,
    "foreach": "it is called for-each",
    "loop": _MATRIX,
    "outputs": "a later step reads steps.ID.stdout or steps.ID.json",
    "script": "it is called run",
    "command": "it is called run",
    "commands": "they stand behind run: |",
    "cmd": "it is called run",
    "cmds": "they stand behind run: |",
    "when": "it is called if",
    "condition": "it is called if",
    "stage": "it is called phase",
    "environment": "it is called env",
    "timeout": "it is called timeout-minutes",
    "timeout_in_minutes": "it is called timeout-minutes",
    "retry": "it is called retries",
    "ignore_errors": "it is called continue-on-error",
    "allow_failure": "it is called continue-on-error",
    "continue_on_error": "it is called continue-on-error",
    "approval": "it is called approve",
    "inputs": "they are called args, with workflow",
}
"""At a step."""
