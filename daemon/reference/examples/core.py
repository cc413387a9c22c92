"""Examples of what sessions, tasks, terminals, projects and the connection say."""

from __future__ import annotations

from daemon.reference.examples.example import OF_PROJECT, PROJECT_ID, Data, Example

TS = 1767225603.125
"""A time of one event, in Unix seconds."""

SESSION_ID = "01kdwp8x3g9v"
TASK_ID = SESSION_ID

USAGE: Data = {
    "inputTokens": 812,
    "outputTokens": 164,
    "cacheReadTokens": 15200,
    "cacheWriteTokens": 430,
}

PROJECT: Data = {
    "id": PROJECT_ID,
    "name": "shop",
    "path": "/home/ada/shop",
    "createdAt": 1767225000.0,
}

SESSION: Data = {
    "id": SESSION_ID,
    "projectId": PROJECT_ID,
    "agent": "command",
    "state": "queued",
    "cwd": "/home/ada/shop",
    "user": "ada",
    "keepAlive": False,
    "createdAt": 1767225600.5,
    "argv": ["make", "test"],
}

CONVERSATION: Data = {
    "id": "01kdwq0c5t2m",
    "projectId": PROJECT_ID,
    "agent": "claude",
    "state": "ended",
    "cwd": "/home/ada/shop",
    "user": "ada",
    "keepAlive": False,
    "createdAt": 1767225700.0,
    "endedAt": 1767225900.0,
    "end": {"type": "completed", "durationMs": 200000, "exitCode": 0},
    "agentSessionId": "5e0f6d0e-8a1b-4f57-9d7e-3f1f6f0a2b11",
}

TASK: Data = {
    "id": TASK_ID,
    "kind": "session",
    "state": "running",
    "channel": f"session:{SESSION_ID}",
    "user": "ada",
    "createdAt": 1767225600.5,
    "age": 12.25,
    "startedAt": 1767225600.75,
    "pid": 48211,
    "cpuSeconds": 3.5,
    "rssBytes": 73400320,
}

QUESTION: Data = {
    "requestId": "toolu-7",
    "toolName": "Bash",
    "input": {"command": "npm test"},
    "toolUseId": "toolu-7",
}

TERMINAL_ID = "01kdwr2m7q4z8c1h5e"

TERMINAL: Data = {
    "id": TERMINAL_ID,
    "projectId": PROJECT_ID,
    "state": "running",
    "command": ["/bin/bash", "-l"],
    "cwd": "/home/ada/shop",
    "user": "ada",
    "cols": 120,
    "rows": 40,
    "createdAt": 1767225600.5,
    "pid": 48377,
    "byteOffset": 5120,
    "viewers": 1,
}

OF_TERMINAL: Data = {"terminalId": TERMINAL_ID}
TERMINAL_IN_PROJECT: Data = {"terminalId": TERMINAL_ID, "projectId": PROJECT_ID}
OF_SESSION: Data = {"sessionId": SESSION_ID}
IN_PROJECT: Data = {"sessionId": SESSION_ID, "projectId": PROJECT_ID}

MESSAGE: Data = {
    "id": "m-3",
    "role": "assistant",
    "content": [{"type": "text", "text": "Two tests fail; both read the clock."}],
    "model": "claude-sonnet",
    "replyId": "r-2",
}

REQUESTS: dict[str, Data] = {
    "subscribe": {
        "id": 1,
        "type": "subscribe",
        "channel": f"session:{SESSION_ID}",
        "data": {"since": 0},
    },
    "unsubscribe": {"id": 2, "type": "unsubscribe", "channel": f"session:{SESSION_ID}"},
    "ping": {"id": 3, "type": "ping", "data": {"sentAt": 1767225603}},
    "auth": {"id": 4, "type": "auth", "data": {"token": "eyJhbGciOi..."}},
}
"""Whole messages of a client to the connection itself."""

EVENTS: dict[str, Data] = {
    "global.connected": {
        "userId": "ada",
        "connectionId": "c4a91f",
        "serverVersion": "0.1.0",
        "heartbeat": 25.0,
    },
    "global.authenticated": {"userId": "ada", "expiresAt": 1767268800.0},
    "global.token_expiring": {"expiresAt": 1767268800.0},
    "global.pong": {"sentAt": 1767225603},
    "global.error": {
        "code": "not_found",
        "message": "there is no session '12'; ask session.list for those there are",
    },
    "global.subscription_success": {
        "channel": f"session:{SESSION_ID}",
        "epoch": "9f27c05d",
        "offset": 42,
        "oldest": 1,
        "recovered": True,
    },
    "global.subscription_error": {
        "channel": "session:12",
        "code": "not_found",
        "message": "there is no channel session:12",
    },
    "global.unsubscribed": {"channel": f"session:{SESSION_ID}"},
    "global.draining": {"reconnectMs": 1240},
    "project.created": {**OF_PROJECT, "name": "shop", "path": "/home/ada/shop"},
    "project.updated": {**OF_PROJECT, "name": "web shop", "path": "/home/ada/shop"},
    "project.removed": {**OF_PROJECT, "path": "/home/ada/shop"},
    "session.created": {**IN_PROJECT, "session": SESSION},
    "session.updated": {**IN_PROJECT, "state": "queued", "position": 2},
    "session.started": {**IN_PROJECT, "pid": 48211},
    "session.stream_output": {
        **OF_SESSION,
        "content": "ok 1 - cart\nok 2 - checkout\n",
        "type": "stdout",
    },
    "session.message": {**OF_SESSION, "message": MESSAGE},
    "session.message_delta": {
        **OF_SESSION,
        "replyId": "r-2",
        "index": 0,
        "kind": "text",
        "text": "Two tests",
    },
    "session.permission_requested": {**IN_PROJECT, **QUESTION},
    "session.permission_resolved": {
        **IN_PROJECT,
        "requestId": "toolu-7",
        "decision": "allow",
        "user": "ada",
    },
    "session.usage": {**OF_SESSION, "usage": USAGE, "costUsd": 0.0312},
    "session.turn_completed": {
        **IN_PROJECT,
        "stopReason": "end_turn",
        "usage": USAGE,
        "costUsd": 0.0312,
        "durationMs": 8300,
    },
    "session.completed": {**IN_PROJECT, "exitCode": 0, "durationMs": 12640},
    "session.error": {
        **IN_PROJECT,
        "code": "signaled",
        "message": "the program was ended by SIGSEGV",
        "durationMs": 310,
        "signal": 11,
    },
    "session.restarting": {**IN_PROJECT, "delayMs": 1730, "restarts": 2},
    "session.cancelled": {
        **IN_PROJECT,
        "durationMs": 4210,
        "signal": 15,
        "cpuSeconds": 0.4,
        "maxRssBytes": 18_874_368,
    },
    "shell.created": {**TERMINAL_IN_PROJECT, "terminal": TERMINAL},
    "shell.output": {**OF_TERMINAL, "data": "$ make\r\n", "byteOffset": 5120},
    "shell.resized": {**OF_TERMINAL, "cols": 100, "rows": 30},
    "shell.title": {**OF_TERMINAL, "title": "vim README.md", "folder": "/home/ada/shop"},
    "shell.recording_updated": {**TERMINAL_IN_PROJECT, "state": "recording"},
    "shell.error": {
        **TERMINAL_IN_PROJECT,
        "code": "daemon_stopped",
        "message": "the daemon was stopped, and its terminals with it; open a new one",
    },
    "shell.exit": {
        **TERMINAL_IN_PROJECT,
        "exitCode": 0,
        "reason": "exited",
        "durationMs": 93000,
        "cpuSeconds": 1.25,
        "maxRssBytes": 14_680_064,
    },
    "system.guarded": {"reason": "the disk of the state dir has 12 MiB left"},
}
"""The data of every event."""

ONE_PROJECT: Data = {**OF_PROJECT, "project": PROJECT}
ONE_SESSION: Data = {**OF_SESSION, "session": SESSION}
STOPPING: Data = {**OF_SESSION, "state": "working"}
ONE_TASK: Data = {"taskId": TASK_ID, "state": "running", "task": TASK}
ONE_TERMINAL: Data = {**OF_TERMINAL, "terminal": TERMINAL}
AT_TERMINAL: Data = {**OF_TERMINAL, "state": "running", "cols": 120, "rows": 40}
RECORDING: Data = {
    **OF_TERMINAL,
    "path": f"/home/ada/.local/state/agentcmd/recordings/{TERMINAL_ID}.cast",
    "state": "recording",
    "startedAt": 1767225610.0,
    "bytes": 2048,
}
ENDING: Data = {"taskId": TASK_ID, "state": "stopping", "task": {**TASK, "state": "stopping"}}

COMMANDS: dict[str, Example] = {
    "project.add": Example({"path": "/home/ada/shop"}, ONE_PROJECT),
    "project.get": Example(OF_PROJECT, ONE_PROJECT),
    "project.list": Example({}, {"projects": [PROJECT]}),
    "project.capabilities": Example(
        OF_PROJECT,
        {
            **OF_PROJECT,
            "git": True,
            "workflows": ["review.yaml"],
            "agents": ["claude", "command"],
        },
    ),
    "project.rename": Example(
        {**OF_PROJECT, "name": "our shop"},
        {**OF_PROJECT, "project": {**PROJECT, "name": "our shop"}},
    ),
    "project.trust": Example(OF_PROJECT, {**OF_PROJECT, "project": {**PROJECT, "trusted": True}}),
    "project.remove": Example(OF_PROJECT, ONE_PROJECT),
    "session.create": Example(
        {"agent": "command", "argv": ["make", "test"], "projectId": PROJECT_ID}, ONE_SESSION
    ),
    "session.import": Example(
        {"agent": "claude", "projectId": PROJECT_ID}, {"sessions": [CONVERSATION], "known": 3}
    ),
    "session.list": Example({"state": "queued", "limit": 20}, {"sessions": [SESSION]}),
    "session.get": Example(OF_SESSION, ONE_SESSION),
    "session.messages": Example(
        {**OF_SESSION, "limit": 1}, {**OF_SESSION, "messages": [MESSAGE], "nextCursor": "3"}
    ),
    "session.image": Example(
        {**OF_SESSION, "messageId": "m-4", "index": 0},
        {"mediaType": "image/png", "data": "iVBORw0KGgo="},
    ),
    "session.transcript": Example(
        OF_SESSION, {**OF_SESSION, "content": '{"type":"system","subtype":"init"}\n'}
    ),
    "session.send_message": Example(
        {**OF_SESSION, "content": "And now the docs"}, {**OF_SESSION, "messageId": "m-4"}
    ),
    "session.interrupt": Example(OF_SESSION, STOPPING),
    "session.resume": Example(OF_SESSION, {**OF_SESSION, "state": "queued"}),
    "session.respond_permission": Example(
        {**OF_SESSION, "requestId": "toolu-7", "decision": "allow"}, {"requestId": "toolu-7"}
    ),
    "session.input": Example({**OF_SESSION, "data": "yes\n", "end": True}, STOPPING),
    "session.cancel": Example(OF_SESSION, STOPPING),
    "session.kill": Example(OF_SESSION, STOPPING),
    "shell.create": Example({"projectId": PROJECT_ID, "cols": 120, "rows": 40}, ONE_TERMINAL),
    "shell.list": Example({"projectId": PROJECT_ID}, {"terminals": [TERMINAL]}),
    "shell.get": Example(OF_TERMINAL, ONE_TERMINAL),
    "shell.input": Example({**OF_TERMINAL, "data": "make\r"}, AT_TERMINAL),
    "shell.resize": Example({**OF_TERMINAL, "cols": 120, "rows": 40}, AT_TERMINAL),
    "shell.signal": Example({**OF_TERMINAL, "signal": "SIGINT"}, AT_TERMINAL),
    "shell.ack": Example({**OF_TERMINAL, "offset": 5120}, AT_TERMINAL),
    "shell.close": Example(
        OF_TERMINAL, {**OF_TERMINAL, "exitCode": None, "reason": "closed", "signal": 1}
    ),
    "shell.record": Example({**OF_TERMINAL, "maxBytes": 1048576}, RECORDING),
    "shell.stop_recording": Example(OF_TERMINAL, {**RECORDING, "state": "ended"}),
    "shell.recording": Example(OF_TERMINAL, RECORDING),
    "system.status": Example(
        {},
        {
            "status": "ok",
            "version": "0.1.0",
            "pid": 47100,
            "uptime": 86400.5,
            "startedAt": 1767139200.0,
            "tasks": 1,
            "queued": 0,
            "connections": 2,
            "journal": "ok",
            "guard": "ok",
        },
    ),
    "system.stop": Example({}, {"tasks": 1}),
    "task.list": Example({}, {"tasks": [TASK]}),
    "task.get": Example({"taskId": TASK_ID}, ONE_TASK),
    "task.cancel": Example({"taskId": TASK_ID}, ENDING),
    "task.kill": Example({"taskId": TASK_ID}, ENDING),
}
"""What each command is given and answers."""
