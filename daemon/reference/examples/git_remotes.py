"""Examples of git with other repositories."""

from __future__ import annotations

from daemon.reference.examples.example import OF_PROJECT, Data, Example

URL = "https://git.example.org/shop.git"

BEFORE = "1c7e2a9b4d6f8035a1b2c3d4e5f60718293a4b5c"
AFTER = "5f2d9c0e8b7a61534f2e1d0c9b8a7f6e5d4c3b2a"

EVENTS: dict[str, Data] = {}

COMMANDS: dict[str, Example] = {
    "git.clone": Example(
        {**OF_PROJECT, "url": URL, "path": "vendor/shop", "depth": 1, "recurse": True},
        {"path": "vendor/shop", "head": AFTER, "branch": "main", "submodules": 1},
    ),
    "git.submodule_update": Example(
        {**OF_PROJECT, "paths": ["vendor/cart"], "recurse": True},
        {"submodules": [{"path": "vendor/cart", "commit": AFTER, "before": BEFORE}], "count": 1},
    ),
    "git.fetch": Example(
        {**OF_PROJECT, "remote": "origin", "prune": True},
        {
            "remote": "origin",
            "updated": [
                {"ref": "refs/remotes/origin/main", "before": BEFORE, "after": AFTER},
                {"ref": "refs/remotes/origin/old", "before": BEFORE},
            ],
            "updatedCount": 2,
        },
    ),
    "git.pull": Example(
        {**OF_PROJECT, "rebase": True},
        {
            "remote": "origin",
            "branch": "main",
            "commit": AFTER,
            "commits": 3,
            "rebased": True,
            "summary": {"head": AFTER, "branch": "main", "upstream": "origin/main", "ahead": 1},
        },
    ),
    "git.push": Example(
        {**OF_PROJECT, "branch": "total", "setUpstream": True, "forceWithLease": BEFORE},
        {
            "remote": "origin",
            "refs": [
                {
                    "ref": "refs/heads/total",
                    "state": "forced",
                    "reason": "1c7e2a9...5f2d9c0 (forced update)",
                }
            ],
            "said": ["Create a pull request for 'total': https://git.example.org/shop/new/total"],
        },
    ),
    "git.gc": Example(
        OF_PROJECT, {"before": 48_340_992, "after": 12_582_912, "loose": 0, "packs": 1}
    ),
    "git.remote_add": Example(
        {**OF_PROJECT, "name": "origin", "url": URL}, {"name": "origin", "url": URL}
    ),
    "git.remote_remove": Example({**OF_PROJECT, "name": "origin"}, {"name": "origin"}),
    "git.remote_set_url": Example(
        {**OF_PROJECT, "name": "origin", "url": "git@git.example.org:shop.git"},
        {"name": "origin", "url": "git@git.example.org:shop.git"},
    ),
    "git.ls_remote": Example(
        {**OF_PROJECT, "remote": "origin"},
        {
            "head": "main",
            "refs": [
                {"ref": "refs/heads/main", "commit": AFTER},
                {"ref": "refs/tags/v1.0", "commit": BEFORE},
            ],
        },
    ),
}
