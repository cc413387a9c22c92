"""Opens pull requests by `gh`, where the daemon finds it."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import Mapping

from daemon.core.commands import Caller, handles
from daemon.core.environment import child_environment
from daemon.core.errand import Asked, Finished
from daemon.core.errors import AgentcmdError, BadRequest, Conflict, Unavailable
from domains.git.arguments import branch_name
from domains.git.commands.pull_requests import MakePullRequest, PullRequestMade
from domains.git.configuration import SWITCHED_OFF
from domains.git.desk import Desk, Work
from domains.git.failures import SHOWN, redacted
from domains.git.programs import environment, ssh_command

PREFIXES = ("GH_", "GITHUB_")
"""What is gh's own in the daemon's environment: its token among it, which git does not get."""

NOT_PASSED = frozenset({"GH_DEBUG", "GH_FORCE_TTY", "GH_REPO"})
"""What would have it print what it sends, ask somebody, or work in another repository."""

ENVIRONMENT = {
    "GH_PROMPT_DISABLED": "1",
    "GH_NO_UPDATE_NOTIFIER": "1",
    "GH_SPINNER_DISABLED": "1",
    "NO_COLOR": "1",
}
"""Nobody sits there to be asked, and its output is read by a program."""

_URL = re.compile(r"https?://\S+")

_NO_LINE = re.compile(r"[\x00-\x1f\x7f]")


class PullRequests:
    """What asks others to take in a branch."""

    def __init__(self, desk: Desk) -> None:
        """Work at this desk."""
        self._desk = desk

    @handles(MakePullRequest)
    async def make(self, command: MakePullRequest, caller: Caller) -> PullRequestMade:
        """Open a pull request."""
        title = _one_line(command.title)
        base = branch_name(command.base) if command.base is not None else None
        head = branch_name(command.head) if command.head is not None else None
        body = _encoded(command.body)
        async with self._desk.at_work(command, caller) as git:
            gh = await asyncio.to_thread(shutil.which, "gh", path=os.environ.get("PATH", ""))
            if gh is None or not gh.startswith("/"):  # none of a folder that it happens to be in
                raise Unavailable(
                    "there is no gh where the daemon looks: install GitHub's program and run 'gh "
                    "auth login' as the daemon's user, or open the pull request on the web"
                )
            if head is None:
                head = await git.text("symbolic-ref", "--quiet", "--short", "HEAD", ok=(0, 1))
            if not head:
                raise Conflict("the head is detached: switch to a branch, or say head")
            args = [f"--title={title}", f"--head={head}", "--body-file=-"]
            args += [f"--base={base}"] if base else []
            args += ["--draft"] if command.draft else []
            finished = await self._desk.errands.run(
                [gh, "pr", "create", *args],
                Asked(git.id, git.channel, git.user),
                cwd=git.root,
                env=_environment(os.environ, git),
                stdin=body,
                limit=1 << 20,
            )
            found = _URL.findall(finished.stdout.decode(errors="replace"))
            if finished.code or not found:
                raise _explained(finished, head)
            return PullRequestMade(url=found[-1], head=head)


def _environment(environ: Mapping[str, str], git: Work) -> dict[str, str]:
    """Build gh's environment; the git that it runs is as careful as ours."""
    own = {
        name: value
        for name, value in child_environment(environ, prefixes=PREFIXES).items()
        if name.startswith(PREFIXES) and name not in NOT_PASSED
    }
    switched = () if git.trusted else SWITCHED_OFF[1::2]
    options = {"GIT_CONFIG_COUNT": str(len(switched))}
    for number, option in enumerate(switched):
        key, _, value = option.partition("=")
        options |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    ours = {
        **environment(environ, trusted=git.trusted),
        "GIT_SSH_COMMAND": ssh_command(environ, ""),
    }
    return {**own, **ours, **options, **ENVIRONMENT}


def _explained(finished: Finished, head: str) -> AgentcmdError:
    """Make the error of a gh that has failed; its exit code 4 is about who it is."""
    said = redacted(finished.stderr).strip()[-SHOWN:]
    if finished.code == 4 or "gh auth login" in said:
        return Unavailable(
            "gh is not logged in: run 'gh auth login' as the daemon's user, or give the daemon a "
            "GH_TOKEN",
            gh=said,
        )
    if "already exists" in said:
        url = _URL.search(said)
        where = f": {url[0]}" if url else ""
        return Conflict(f"there is a pull request for {head} already{where}", gh=said)
    if re.search("must first push|No commits between|sha can't be blank|not a branch", said):
        return Conflict(f"GitHub does not have what {head} would bring in: push it first", gh=said)
    if re.search("could not resolve|error connecting|timeout|TLS", said):
        return Unavailable(f"GitHub cannot be reached: {said.splitlines()[0][:300]}", gh=said)
    first = said.splitlines()[0][:300] if said else "it said nothing"
    return Conflict(f"gh refused: {first}", gh=said)


def _one_line(text: str) -> str:
    if not text.strip() or _NO_LINE.search(text):
        raise BadRequest("a title is one line")
    _encoded(text)
    return text


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise BadRequest("the text holds half a character") from None
