"""Refs, here and at a remote, as git lists them."""

from __future__ import annotations

from domains.git.commands.remotes import RefMove, RemoteRef, RemoteRefs
from domains.git.desk import Work


async def references(git: Work, remote: str) -> dict[str, str]:
    """Give what a fetch from a remote may move: ref by ref, the object that it names."""
    listed = await git.text(
        "for-each-ref",
        "--format=%(objectname) %(refname) %(symref)",
        f"refs/remotes/{remote}/",
        "refs/tags/",
    )
    fields = (line.split(" ") for line in listed.splitlines())
    return {ref: id_ for id_, ref, symref in fields if not symref}


def moves(before: dict[str, str], after: dict[str, str]) -> list[RefMove]:
    """Tell which refs are somewhere else now."""
    return [
        RefMove(ref=ref, before=before.get(ref), after=after.get(ref))
        for ref in sorted(before.keys() | after.keys())
        if before.get(ref) != after.get(ref)
    ]


def ls_remote_of(output: bytes, limit: int) -> RemoteRefs:
    """Read what `git ls-remote --symref` says; an annotated tag is followed by its commit."""
    head: str | None = None
    found: dict[str, str] = {}
    for line in output.decode(errors="replace").splitlines():
        about, _, ref = line.partition("\t")
        if about.startswith("ref: refs/heads/") and ref == "HEAD":
            head = about.removeprefix("ref: refs/heads/")
        elif ref.startswith(("refs/heads/", "refs/tags/")):
            found[ref.removesuffix("^{}")] = about
    refs = [RemoteRef(ref=ref, commit=id_) for ref, id_ in sorted(found.items())]
    return RemoteRefs(refs=refs[:limit], head=head, truncated=len(refs) > limit)
