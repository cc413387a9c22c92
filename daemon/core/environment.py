"""What of the daemon's environment a child gets: an allow-list, never our secrets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

NAMES = frozenset({
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ", "TERM", "TMPDIR", "SSH_AUTH_SOCK",
})  # fmt: skip
PREFIXES = ("LC_", "XDG_", "GIT_")
SUFFIXES = ("_PROXY", "_proxy")
NEVER = frozenset({
    "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_COMMON_DIR", "GIT_CONFIG", "GIT_CONFIG_COUNT",
    "GIT_CONFIG_PARAMETERS", "GIT_DIR", "GIT_GRAFT_FILE", "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE", "GIT_INTERNAL_SUPER_PREFIX", "GIT_NAMESPACE", "GIT_NO_REPLACE_OBJECTS",
    "GIT_OBJECT_DIRECTORY", "GIT_PREFIX", "GIT_QUARANTINE_PATH", "GIT_REPLACE_REF_BASE",
    "GIT_SHALLOW_FILE", "GIT_WORK_TREE", "CLAUDECODE",
})  # fmt: skip
"""Git's would have it act on the daemon's repository: `git rev-parse --local-env-vars`."""


def child_environment(
    environ: Mapping[str, str],
    *,
    prefixes: Sequence[str] = (),
    configured: Mapping[str, str] | None = None,
    given: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Build a child's environment.

    `prefixes` are the agent's own, `configured` comes from its section of the settings, `given`
    from the command; later ones win.
    """
    allowed = (*PREFIXES, *prefixes)
    passed = {
        name: value
        for name, value in environ.items()
        if (name in NAMES or name.startswith(allowed) or name.endswith(SUFFIXES))
        and name not in NEVER
    }
    return {**passed, **(configured or {}), **(given or {})}
