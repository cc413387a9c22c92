"""Examples of what agents do to files: turns compared and taken back, work trees of their own."""

from __future__ import annotations

from daemon.reference.examples.core import IN_PROJECT, OF_SESSION, SESSION_ID
from daemon.reference.examples.example import Data, Example

BRANCH = f"agentcmd/{SESSION_ID}"

EVENTS: dict[str, Data] = {
    "session.workspace_released": {
        **IN_PROJECT,
        "path": f"/home/ada/.local/state/agentcmd/worktrees/shop-3f9c1a/{SESSION_ID}",
        "branch": BRANCH,
        "removed": False,
        "reason": "its branch has commits that are nowhere else",
    },
}

COMMANDS: dict[str, Example] = {
    "session.diff": Example(
        {**OF_SESSION, "turn": 2},
        {
            **OF_SESSION,
            "turn": 2,
            "older": "8c1f0d7a9b3e5f2d4c6a8b0e1f3d5c7a9b1e3f5d",
            "newer": "2b4d6f8a0c1e3f5d7b9a8c6e4f2d0b1a3c5e7f9d",
            "files": [
                {"path": "shop/cart.py", "status": "modified", "additions": 1, "deletions": 1}
            ],
            "patch": "diff --git a/shop/cart.py b/shop/cart.py\n--- a/shop/cart.py\n"
            "+++ b/shop/cart.py\n@@ -1 +1 @@\n-total = 0\n+total = sum(prices)\n",
        },
    ),
    "session.restore": Example(
        {**OF_SESSION, "turn": 2}, {**OF_SESSION, "written": 1, "removed": 0}
    ),
}
