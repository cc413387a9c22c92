"""Pull requests, asked for through GitHub's own program."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from daemon.core.events import Answer, command
from domains.git.desk import GitCommand

CHANNEL = "git:project:{project_id}"


class PullRequestMade(Answer):
    """The pull request: `url` is its page, and `head` the branch that it is to bring in."""

    url: str
    head: str


@command("git.pull_request", action="write", channel=CHANNEL, answer=PullRequestMade)
class MakePullRequest(GitCommand):
    """Open a pull request on GitHub by `gh`, which must be installed and logged in there.

    It pushes nothing: do that before. `head` is the branch to bring in, or else the current one;
    `base` the one to bring it into, or else the repository's default. `body` is Markdown. A
    `draft` asks nobody for a review.
    """

    title: Annotated[str, Meta(min_length=1, max_length=256, description="Its title: one line.")]
    body: Annotated[str, Meta(max_length=65_536)] = ""
    base: str | None = None
    head: str | None = None
    draft: bool = False
