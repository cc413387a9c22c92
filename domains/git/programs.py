"""What git is run with: options before every command, and an environment that asks nobody."""

from __future__ import annotations

from collections.abc import Mapping

from daemon.core.environment import child_environment

KIND = "git"
"""What its tasks are called, in `[task.kinds.git]` too."""

ENVIRONMENT = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_EDITOR": "true",
    "GIT_SEQUENCE_EDITOR": "true",
    "GIT_MERGE_AUTOEDIT": "no",
    "GIT_PAGER": "cat",
    "GIT_LITERAL_PATHSPECS": "1",
    "GIT_ALLOW_PROTOCOL": "file:git:http:https:ssh",
    "GIT_PROXY_COMMAND": "",
    "GIT_NO_LAZY_FETCH": "1",
    "LC_ALL": "C.UTF-8",
}
"""Nobody sits there to be asked, no transport runs a program of its own, and words are English."""

SSH = "ssh -o BatchMode=yes"
"""How ssh is called unless the daemon's environment says otherwise: it asks nobody either."""

_FAULT = (
    *("GIT_CONFIG", "GIT_TRACE", "GIT_CURL_VERBOSE", "GIT_EXTERNAL_DIFF", "GIT_DIFF_OPTS"),
    *("GIT_NAMESPACE", "GIT_INDEX", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE"),
    *("GIT_PREFIX", "GIT_QUARANTINE", "GIT_GRAFT_FILE", "GIT_SHALLOW_FILE", "GIT_ATTR_SOURCE"),
    *("GIT_GLOB", "GIT_NOGLOB", "GIT_ICASE", "GIT_REDIRECT", "GIT_TEMPLATE_DIR", "GIT_TEST_"),
)
"""What of the daemon's environment would change what git does or says."""

OPTIONS = (
    *("-c", "core.quotePath=false"),
    *("-c", "color.ui=false"),
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


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Build git's environment from the daemon's."""
    passed = {
        name: value
        for name, value in child_environment(environ).items()
        if not name.startswith(_FAULT)
    }
    return {"GIT_SSH_COMMAND": SSH, **passed, **ENVIRONMENT}
