"""What a push has come to, ref by ref, and what to do about what was rejected."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Literal

import msgspec

from daemon.core.errand import Finished
from daemon.core.errors import Conflict
from domains.git.commands.remotes import PushedRef
from domains.git.failures import redacted
from domains.git.progress import parse_progress

LISTED = 1_000
"""Refs that an error lists."""

SAID = 50
"""Lines of the remote's own words that are passed on."""

State = Literal["pushed", "created", "forced", "deleted", "up_to_date", "rejected"]

_STATES: dict[str, State] = {
    " ": "pushed",
    "*": "created",
    "+": "forced",
    "-": "deleted",
    "=": "up_to_date",
    "!": "rejected",
}

_NEXT = (
    (
        ("(stale info)", "(remote ref updated since checkout)"),
        "it is not where it was expected to be: fetch, and look at what came",
    ),
    (
        ("(fetch first)", "(non-fast-forward)", "(needs force)"),
        "there are commits that are not here: pull first, or replace them by forceWithLease",
    ),
    (("(already exists)",), "such a tag is there, and another one: choose another name"),
    (("[remote rejected]",), "the remote does not allow it; its reason says why"),
)
"""What git gives as the reason, and what can be done."""


_OWN = ("fatal:", "error: src refspec", "error: dst ref")
"""Lines by which git itself says what is wrong with a push."""


def parse_push(output: bytes) -> list[PushedRef]:
    """Read what `git push --porcelain` says: flag, refs and summary, with tabs between them."""
    found = []
    for line in output.decode(errors="replace").splitlines():
        flag, *rest = line.split("\t")
        if flag in _STATES and len(rest) == 2:  # a flag, which may be a blank, and two fields
            reason = rest[1] if rest[1].startswith("[") or "(" in rest[1] else ""
            found.append(
                PushedRef(
                    ref=rest[0].rpartition(":")[2], state=_STATES[flag], reason=redacted(reason)
                )
            )
    return found


def rejected(remote: str, refs: Sequence[PushedRef], wrong: Sequence[PushedRef]) -> Conflict:
    """Make the error of a push of which something was rejected; the rest may have been taken."""
    first = wrong[0]
    what = next(
        (said for signs, said in _NEXT if any(sign in first.reason for sign in signs)),
        "its reason says why",
    )
    more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
    return Conflict(
        f"{remote} has rejected {first.ref}{more}: {what} ({first.reason[:200]})",
        refs=msgspec.to_builtins(refs[:LISTED]),
        rejected=len(wrong),
    )


def said_by_remote(stderr: str) -> list[str]:
    """Give what the remote has to say to who pushes, its progress left out."""
    lines = (line for line in stderr.splitlines() if line.startswith("remote: "))
    said = (line.removeprefix("remote: ").rstrip() for line in lines if not parse_progress(line))
    return [redacted(line)[:500] for line in islice(filter(None, said), SAID)]


def stopped_push(finished: Finished) -> Conflict | None:
    """Make the error of a push that a hook here has stopped: git itself says nothing of why."""
    lines = redacted(finished.stderr).strip().splitlines()
    failed = [line for line in lines if line.startswith("error: failed to push some refs")]
    if not failed or any(line.startswith(_OWN) for line in lines):
        return None
    said = [line for line in lines if line.strip() and line not in failed]
    words = "; ".join(line.strip()[:200] for line in said[-3:]) or "it said nothing"
    return Conflict(f"the pre-push hook has stopped the push: {words}", hook="\n".join(said)[:2000])
