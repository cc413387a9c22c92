"""What git is run with: options before every command, an environment, an ssh that asks nobody."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import PurePath

from daemon.core.environment import child_environment

KIND = "git"
"""What its tasks are called, in `[task.kinds.git]` too."""

ENVIRONMENT = {"LC_ALL": "C.UTF-8"}
"""Words are English. Nobody is asked: no process of ours has a terminal."""

UNTRUSTED = {
    "GIT_EDITOR": "true",
    "GIT_SEQUENCE_EDITOR": "true",
    "GIT_PAGER": "cat",
    "GIT_ALLOW_PROTOCOL": "file:git:http:https:ssh",
    "GIT_PROXY_COMMAND": "",
    "GIT_NO_LAZY_FETCH": "1",
}
"""In a project that is not trusted: nothing that its configuration may name is run."""

NO_PROTOCOL = {"GIT_ALLOW_PROTOCOL": "none"}
"""There too, for commands that go nowhere: what a partial clone lacks is not fetched by them."""

EDITING = frozenset({"cherry-pick", "commit", "merge", "rebase", "revert"})
"""Commands that may open an editor."""

EDITOR = {"GIT_EDITOR": "true", "GIT_SEQUENCE_EDITOR": "true"}
"""What they get: an editor that changes nothing."""

REMOTE = frozenset({"clone", "fetch", "ls-remote", "push", "submodule"})
"""Commands that go to other repositories."""

BATCH = "-o BatchMode=yes"
"""What keeps ssh from asking anybody."""

_FAULT = (
    *("GIT_CONFIG", "GIT_TRACE", "GIT_CURL_VERBOSE", "GIT_EXTERNAL_DIFF", "GIT_DIFF_OPTS"),
    *("GIT_NAMESPACE", "GIT_INDEX", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE"),
    *("GIT_PREFIX", "GIT_QUARANTINE", "GIT_GRAFT_FILE", "GIT_SHALLOW_FILE", "GIT_ATTR_SOURCE"),
    *("GIT_GLOB", "GIT_NOGLOB", "GIT_ICASE", "GIT_REDIRECT", "GIT_TEMPLATE_DIR", "GIT_TEST_"),
)
"""What of the daemon's environment would change what git does or says."""

CONFIGURATION = frozenset({"GIT_CONFIG_GLOBAL", "GIT_CONFIG_NOSYSTEM", "GIT_CONFIG_SYSTEM"})
"""Where the user's own configuration is, as git itself takes it."""

OPTIONS = (
    *("-c", "core.quotePath=false"),
    *("-c", "color.ui=false"),
    *("-c", "color.diff=false"),  # each of them wins over color.ui
    *("-c", "color.status=false"),
    *("-c", "color.branch=false"),
    *("-c", "color.grep=false"),
    *("-c", "color.remote=false"),
    *("-c", "color.transport=false"),
    *("-c", "color.push=false"),
    *("-c", "color.advice=false"),
    *("-c", "log.showSignature=false"),
    *("-c", "gc.autoDetach=false"),  # what goes on behind its back would be killed half-way
    *("-c", "maintenance.autoDetach=false"),
    *("-c", "protocol.ext.allow=never"),
    *("-c", "advice.detachedHead=false"),
    *("-c", "diff.submodule=short"),  # another one runs git inside of submodules
    *("-c", "diff.noprefix=false"),
    *("-c", "diff.mnemonicPrefix=false"),
    *("-c", "submodule.recurse=false"),
)
"""Before every command: the same words and the same behaviour whatever a user has configured."""


def environment(environ: Mapping[str, str], *, trusted: bool = False) -> dict[str, str]:
    """Build git's environment from the daemon's."""
    passed = {
        name: value
        for name, value in child_environment(environ).items()
        if name in CONFIGURATION or not name.startswith(_FAULT)
    }
    return {**passed, **ENVIRONMENT, **({} if trusted else UNTRUSTED)}


def variables(
    environ: Mapping[str, str], args: Sequence[str], *, top: str, trusted: bool, reads: bool
) -> dict[str, str]:
    """Build the environment of one command in the work tree `top`."""
    editor = EDITOR if command_of(args) in EDITING else {}
    locks = {"GIT_OPTIONAL_LOCKS": "0"} if reads else {}
    around = {"GIT_CEILING_DIRECTORIES": top.rpartition("/")[0] or "/"}
    own = environment(environ, trusted=trusted)
    if not trusted and command_of(args) not in REMOTE:
        own |= NO_PROTOCOL
    if command_of(args) == "submodule":  # their addresses are foreign: git's own rules for such
        own.pop("GIT_ALLOW_PROTOCOL", None)
        if "GIT_ALLOW_PROTOCOL" in environ:
            own["GIT_ALLOW_PROTOCOL"] = environ["GIT_ALLOW_PROTOCOL"]
    return {**own, **editor, **locks, **around}


def command_of(args: Sequence[str]) -> str:
    """Return the name of the command, behind options of git itself."""
    at = 0
    while args[at : at + 1] and args[at].startswith("-"):
        at += 2 if args[at] in ("-c", "-C") else 1
    return "".join(args[at : at + 1])


def elsewhere(args: Sequence[str]) -> bool:
    """Return whether a command works in another repository than that of its work tree."""
    return args[:1] == ("-C",) or command_of(args) == "submodule"


def ssh_command(environ: Mapping[str, str], configured: str) -> str:
    """Return the user's own ssh command, as git would choose it, that asks nobody.

    `configured` is `core.sshCommand`, empty where it is not set.
    """
    program = environ.get("GIT_SSH")
    command = environ.get("GIT_SSH_COMMAND") or configured or (program and shlex.quote(program))
    command = command or "ssh"
    try:
        name = PurePath(shlex.split(command)[0]).name.lower().removesuffix(".exe")
    except (IndexError, ValueError):
        name = ""
    if name in ("plink", "tortoiseplink"):
        return f"{command} -batch" if name == "plink" else command
    return f"{command} {BATCH}"
