"""Examples of workflows, their runs, and what happens in these."""

from __future__ import annotations

from daemon.reference.examples.example import OF_PROJECT, PROJECT_ID, Data, Example

RUN_ID = "01kdx2c9q4m7t1v5bz"
OF_RUN: Data = {"runId": RUN_ID}
IN_PROJECT: Data = {**OF_RUN, **OF_PROJECT}
OF_STEP: Data = {**OF_RUN, "stepId": "test"}

RUN: Data = {
    "id": RUN_ID,
    "projectId": PROJECT_ID,
    "workflow": "review",
    "name": "Implement and review",
    "state": "running",
    "user": "ada",
    "createdAt": 1767226000.0,
    "digest": "sha256:9f2c4e6a8b0d1f3e5c7a",
    "args": {"spec": "a dark mode"},
    "startedAt": 1767226000.25,
    "phase": "implement",
    "phases": ["implement", "review"],
    "cwd": "/home/ada/shop",
}

STEP: Data = {
    "id": "test",
    "kind": "run",
    "state": "completed",
    "startedAt": 1767226010.0,
    "phase": "implement",
    "endedAt": 1767226024.5,
    "result": {"exitCode": 0, "stdout": "12 passed\n", "stderr": ""},
    "outputBytes": 10,
}

WORKFLOW: Data = {
    "id": "review",
    "path": ".agent/workflows/review.yaml",
    "language": "yaml",
    "name": "Implement and review",
    "args": {"spec": {"type": "string"}},
    "required": ["spec"],
    "phases": ["implement", "review"],
}

STATE: Data = {**OF_RUN, "state": "running"}

EVENTS: dict[str, Data] = {
    "workflow.run.created": {**IN_PROJECT, "run": RUN},
    "workflow.run.started": IN_PROJECT,
    "workflow.run.updated": {**IN_PROJECT, "state": "waiting"},
    "workflow.run.completed": {**IN_PROJECT, "durationMs": 184000},
    "workflow.run.failed": {
        **IN_PROJECT,
        "code": "exit",
        "message": "step test: it exited with code 1",
        "durationMs": 24000,
        "stepId": "test",
    },
    "workflow.run.cancelled": {**IN_PROJECT, "durationMs": 12000, "user": "ada"},
    "workflow.run.paused": {**IN_PROJECT, "user": "ada"},
    "workflow.run.resumed": {**IN_PROJECT, "user": "ada"},
    "workflow.run.phase.started": {**OF_RUN, "phase": "implement"},
    "workflow.run.phase.completed": {**OF_RUN, "phase": "implement", "durationMs": 92000},
    "workflow.run.step.started": {**OF_STEP, "kind": "run", "phase": "implement"},
    "workflow.run.step.progress": {
        **OF_STEP,
        "progress": {"current": 6, "total": 12, "percentage": 50.0},
    },
    "workflow.run.step.output": {
        **OF_STEP,
        "stream": "stdout",
        "content": "12 passed\n",
        "offset": 0,
    },
    "workflow.run.step.completed": {
        **OF_STEP,
        "durationMs": 14500,
        "result": {"exitCode": 0, "stdout": "12 passed\n", "stderr": ""},
    },
    "workflow.run.step.failed": {
        **OF_STEP,
        "code": "exit",
        "message": "it exited with code 1",
        "durationMs": 14500,
        "continued": True,
        "result": {"exitCode": 1, "stdout": "1 failed\n", "stderr": ""},
    },
    "workflow.run.step.skipped": {
        **OF_RUN,
        "stepId": "fix",
        "reason": "its condition does not hold: steps.test.exitCode != 0",
    },
    "workflow.run.step.retrying": {
        **OF_STEP,
        "attempt": 2,
        "delayMs": 5000,
        "message": "it exited with code 1",
    },
    "workflow.run.step.waiting": {
        **IN_PROJECT,
        "stepId": "ship",
        "waitsFor": "approval",
        "message": "Open the pull request?",
    },
    "workflow.run.annotation": {
        **OF_RUN,
        "message": "interrupted when the daemon ended: it runs again, as attempt 2",
        "level": "warning",
    },
    "workflow.run.artifact": {
        **OF_RUN,
        "stepId": "report",
        "name": "coverage.html",
        "size": 48211,
        "href": f"/api/runs/{RUN_ID}/artifact?name=coverage.html",
    },
}

COMMANDS: dict[str, Example] = {
    "workflow.list": Example(OF_PROJECT, {"workflows": [WORKFLOW]}),
    "workflow.validate": Example({**OF_PROJECT, "workflow": "review"}, {"workflows": [WORKFLOW]}),
    "workflow.start": Example(
        {**OF_PROJECT, "workflow": "review", "args": {"spec": "a dark mode"}},
        {**OF_RUN, "run": RUN, "created": True},
    ),
    "workflow.runs": Example({**OF_PROJECT, "limit": 20}, {"runs": [RUN]}),
    "workflow.get": Example(OF_RUN, {**OF_RUN, "run": RUN, "steps": [STEP]}),
    "workflow.cancel": Example(OF_RUN, {**OF_RUN, "state": "ended"}),
    "workflow.pause": Example(OF_RUN, {**OF_RUN, "state": "paused"}),
    "workflow.resume": Example(OF_RUN, STATE),
    "workflow.retry": Example(OF_RUN, STATE),
    "workflow.fork": Example(
        {**OF_RUN, "stepId": "test"},
        {
            "runId": "01kdx3d0r5n8u2w6c0",
            "run": {**RUN, "id": "01kdx3d0r5n8u2w6c0", "parent": RUN_ID},
        },
    ),
    "workflow.approve": Example(
        {**OF_RUN, "stepId": "ship", "approved": True, "comment": "Well done"}, STATE
    ),
    "workflow.send_event": Example(
        {**OF_RUN, "event": "deployed", "data": {"version": "1.4.0"}}, STATE
    ),
    "workflow.artifact": Example(
        {**OF_RUN, "name": "coverage.html"},
        {
            **OF_RUN,
            "name": "coverage.html",
            "size": 48211,
            "path": f"/home/ada/.local/state/agentcmd/artifacts/{RUN_ID}/coverage.html",
        },
    ),
}
