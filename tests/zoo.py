"""A zoo of repositories: each has something that a reader of git's output gets wrong."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from repositories import Repo

TEXT = "".join(f"line {number}\n" for number in range(12))

NAMES = (
    "plain.txt",
    "two words.txt",
    "-dash",
    "dir/deep/file",
    "tab\tname",
    "new\nline",
    'quo"te',
    "back\\slash",
    "ümläut/日本.txt",
    "🦒",
    " leading",
    "trailing ",
    "a => b",
    "a -> b",
    ":(top)magic",
    "star*",
    "bell\a",
    "diff --git a/x b/x",
    "crlf\r\n.txt",
)
"""Names that are quoted, cut or read as something else where somebody is careless."""

NO_UTF8 = b"latin-\xe9-name"


def names(path: Path) -> Repo:
    """Files of every kind of name: committed, staged, changed and new."""
    repo = Repo(path)
    repo.commit(dict.fromkeys(NAMES, TEXT))
    for number, name in enumerate(NAMES):
        repo.write(name, f"{TEXT}more of {number}\n")
        if number % 3 == 0:
            repo.git("--literal-pathspecs", "add", "--", name)
        repo.write(f"new/{name}", TEXT)
    return repo


def no_utf8(path: Path) -> Repo:
    """Names and contents that are no UTF-8."""
    repo = Repo(path)
    for number in range(2):
        place = path / os.fsdecode(NO_UTF8 + b"%d" % number)
        place.write_bytes(b"caf\xe9\nsecond\n")
        if number == 0:
            repo.commit()
            place.write_bytes(b"caf\xe8\nsecond\n")
    return repo


def renames(path: Path) -> Repo:
    """Files renamed, with and without a change, into folders, and one in place of another."""
    repo = Repo(path)
    repo.commit({f"old {number}": f"{TEXT}{number}\n" for number in range(5)})
    repo.git("mv", "old 0", "new\n0")
    (path / "into").mkdir()
    repo.git("mv", "old 1", "into/new 1")
    repo.write("into/new 1", f"{TEXT}1\nand more\n")
    repo.git("add", "-A")
    repo.git("mv", "old 2", "new 2")
    repo.write("new 2", f"{TEXT}changed again\n")  # not staged
    repo.write("old 2", "something else in its place\n")
    repo.git("rm", "-q", "--cached", "old 3")  # gone from the index, still there
    repo.git("mv", "-f", "old 4", "new 4")
    return repo


def modes(path: Path) -> Repo:
    """Files that become executable, links and files again."""
    repo = Repo(path)
    for name in ("to link", "to script", "staged script", "gone"):
        repo.write(name, f"{name}\n")
    (path / "from link").symlink_to("to script")
    (path / "link moves").symlink_to("nowhere")
    repo.commit()
    (path / "to link").unlink()
    (path / "to link").symlink_to("gone")
    (path / "from link").unlink()
    repo.write("from link", "a file\n")
    (path / "link moves").unlink()
    (path / "link moves").symlink_to("/etc/passwd")
    (path / "staged script").chmod(0o755)
    repo.git("add", "staged script")
    (path / "to script").chmod(0o755)
    (path / "gone").unlink()
    return repo


def contents(path: Path) -> Repo:
    """Binary files, line ends of Windows, no newline at the end, empty ones."""
    repo = Repo(path)
    before = {
        "binary": b"\0\1\2",
        "crlf": "one\r\ntwo\r\nthree\r\n",
        "mixed": "one\r\ntwo\nthree\r",
        "no newline": "one\ntwo",
        "empty": "",
        "spaces": "a b\n",
        "nul late": b"x\n" * 5000 + b"\0\n",
    }
    repo.commit(before)
    for name, content in before.items():
        raw = content if isinstance(content, bytes) else content.encode()
        repo.write(name, raw.replace(b"two", b"zwei") + b"end")
    repo.write("spaces", "a  b \n")
    repo.write("new binary", bytes(range(256)))
    repo.git("add", "-N", "new binary")
    return repo


def unborn(path: Path) -> Repo:
    """No commit yet, and something staged."""
    repo = Repo(path)
    repo.write("staged", TEXT)
    repo.git("add", "staged")
    repo.write("staged", TEXT + "more\n")
    repo.write("new", "")
    return repo


def empty(path: Path) -> Repo:
    """Nothing at all."""
    return Repo(path)


def detached(path: Path) -> Repo:
    """A head on no branch, with tags of both kinds at it."""
    repo = Repo(path)
    repo.commit({"file": TEXT}, "first")
    repo.git("tag", "light")
    repo.git("tag", "-a", "heavy", "-m", "said\n\nat length")
    repo.commit({"file": TEXT * 2}, "second, with a comma\n\nA body\n\nof two paragraphs\n")
    repo.git("checkout", "-q", "heavy")
    repo.write("file", "changed\n")
    return repo


def merged(path: Path) -> Repo:
    """A history that parts, crosses and joins."""
    repo = Repo(path)
    repo.commit({"file": TEXT})
    for number in range(3):
        repo.git("checkout", "-q", "-b", f"side/{number}", "main")
        repo.commit({f"side {number}": TEXT, "dir/x": str(number)}, f"side {number}")
        repo.git("checkout", "-q", "main")
        repo.commit({"file": f"{number}\n{TEXT}"}, f"main {number}")
        repo.git("merge", "-q", "-X", "ours", "-m", f"merge {number}", f"side/{number}")
    repo.git("mv", "file", "renamed")
    repo.commit({"renamed": f"9\n{TEXT}"}, "renamed")
    return repo


def conflicted(path: Path) -> Repo:
    """A merge with every kind of conflict."""
    repo = Repo(path)
    repo.commit({name: f"{TEXT}{name}\n" for name in ("both", "ours gone", "theirs gone", "calm")})
    repo.git("checkout", "-q", "-b", "other")
    repo.git("rm", "-q", "theirs gone")
    repo.commit(
        {"both": "theirs\n" + TEXT, "ours gone": "theirs\n", "added\nby both": "t\n", "calm": "c\n"}
    )
    repo.git("checkout", "-q", "main")
    repo.git("rm", "-q", "ours gone")
    repo.commit({"both": "ours\n" + TEXT, "theirs gone": "ours\n", "added\nby both": "o\n"})
    repo.git("merge", "-q", "other", ok=(1,))
    return repo


def renamed_twice(path: Path) -> Repo:
    """A conflict of two renames of one file: deleted by both, added by us, added by them."""
    repo = Repo(path)
    repo.commit({"file": TEXT})
    repo.git("checkout", "-q", "-b", "other")
    repo.git("mv", "file", "theirs")
    repo.commit()
    repo.git("checkout", "-q", "main")
    repo.git("mv", "file", "ours")
    repo.commit()
    repo.git("merge", "-q", "other", ok=(1,))
    return repo


def submodule(path: Path) -> Repo:
    """Submodules: at another commit, changed inside, with something new inside."""
    inner = Repo(path.parent / f"{path.name}-inner")
    inner.commit({"inside": TEXT})
    repo = Repo(path)
    for name in ("ahead", "dirty", "littered", "calm"):
        repo.git(
            *("-c", "protocol.file.allow=always"),
            *("submodule", "--quiet", "add", str(inner.path), name),
        )
    repo.commit()
    Repo(path / "ahead").commit({"inside": "ahead\n"})
    repo.write("dirty/inside", "dirty\n")
    repo.write("littered/new", "")
    return repo


def stashed(path: Path) -> Repo:
    """Work put aside, with a name and without, on a branch and on none."""
    repo = Repo(path)
    repo.commit({"file": TEXT}, "a subject: with a colon")
    for message in ("", "named: so"):
        repo.write("file", f"{message}\n{TEXT}")
        repo.git("stash", "push", "-q", *(("-m", message) if message else ()))
    repo.git("checkout", "-q", "--detach")
    repo.write("file", "detached\n")
    repo.git("stash", "-q")
    return repo


ZOO: dict[str, Callable[[Path], Repo]] = {
    made.__name__: made
    for made in (
        names,
        no_utf8,
        renames,
        modes,
        contents,
        unborn,
        empty,
        detached,
        merged,
        conflicted,
        renamed_twice,
        submodule,
        stashed,
    )
}
"""What makes each of them, in a folder that does not exist."""


# What may happen to a repository

Change = tuple[Any, ...]

_FILES = st.sampled_from(("plain.txt", "two words.txt", "new\nline", "dir/ümlaut", 'dir/quo"te'))
_CONTENTS = st.sampled_from(
    (
        *(b"", b"one\n", b"one\ntwo", b"one\r\ntwo\r\n", b"\0binary", b"\xff\xfe no utf-8\n"),
        *(f"{TEXT}{number}\n".encode() for number in range(3)),
    )
)

CHANGES: st.SearchStrategy[list[Change]] = st.lists(
    st.one_of(
        st.tuples(st.just("write"), _FILES, _CONTENTS),
        st.tuples(st.just("append"), _FILES, st.sampled_from((b"more\n", b"end", b"\r\n"))),
        st.tuples(st.just("delete"), _FILES),
        st.tuples(st.just("rename"), _FILES, _FILES),
        st.tuples(st.just("link"), _FILES, st.sampled_from(("plain.txt", "/nowhere", "dir"))),
        st.tuples(st.just("chmod"), _FILES, st.sampled_from((0o644, 0o755))),
        st.tuples(st.just("add"), _FILES),
        st.tuples(st.just("unstage"), _FILES),
        st.tuples(st.just("commit")),
    ),
    min_size=3,
    max_size=14,
)


def apply(repo: Repo, changes: list[Change]) -> None:
    """Do to a repository what can be done of this."""
    for number, (what, *args) in enumerate(changes):
        if what == "commit":
            repo.commit(message=f"commit {number}\n\nof a zoo")
        elif what == "add":
            repo.git("add", "--", *args, ok=(0, 1, 128))
        elif what == "unstage":
            repo.git("rm", "-q", "-f", "--cached", "--", *args, ok=(0, 1, 128))
        else:
            _touch(repo, what, repo.path / args[0], *args[1:])


def _touch(repo: Repo, what: str, place: Path, *args: Any) -> None:
    link = place.is_symlink()
    there = place.is_file() or link
    place.parent.mkdir(exist_ok=True)
    if what in ("write", "link") and link:
        place.unlink()
    if what == "write":
        place.write_bytes(args[0])
    elif what == "link":
        place.unlink(missing_ok=True)
        place.symlink_to(args[0])
    elif what == "append" and there and not link:
        place.write_bytes(place.read_bytes() + args[0])
    elif what == "delete" and there:
        place.unlink()
    elif what == "rename" and there:
        (repo.path / args[0]).parent.mkdir(exist_ok=True)
        place.rename(repo.path / args[0])
    elif what == "chmod" and there and not link:
        place.chmod(args[0])
