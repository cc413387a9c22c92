"""Folders from somewhere whose repository would have git run something, or read something outside.

Each is poisoned in its own way. Where that is possible the poison is proved first: git itself, as
one would call it there, runs it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from repositories import ENVIRONMENT, Repo

SECRET = "the-secret-outside"


class Place(NamedTuple):
    """A poisoned project: git that runs what it should not makes the file `mark`."""

    repo: Repo
    mark: Path
    outside: Path

    @property
    def run(self) -> str:
        """Give a shell command that leaves the mark."""
        return f"touch '{self.mark}'; cat"

    def program(self, name: str) -> Path:
        """Write a program that leaves the mark."""
        path = self.repo.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\ntouch '{self.mark}'\nexit 0\n")
        path.chmod(0o755)
        return path

    def config(self, *pairs: str) -> None:
        """Set keys of its configuration: key, value, key, value."""
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            self.repo.git("config", key, value)


class Poison(NamedTuple):
    """What is done to a folder, and a command that proves it where plain git can."""

    name: str
    do: Callable[[Place], None]
    proof: tuple[str, ...] = ()


def configured(key: str, value: str, *proof: str, also: tuple[str, ...] = ()) -> Poison:
    """Poison a key of the configuration; RUN, MARK, EVIL and OUTSIDE stand for what leads there."""

    def do(place: Place) -> None:
        evil = place.program(".evil")
        for name, text in zip((key, *also[::2]), (value, *also[1::2]), strict=True):
            for word, meant in {
                "RUN": place.run,
                "MARK": str(place.mark),
                "EVIL": str(evil),
                "OUTSIDE": str(place.outside),
            }.items():
                text = text.replace(word, meant)  # noqa: PLW2901
            place.config(name, text)

    return Poison(key, do, proof)


SSH = ("remote.origin.url", "ssh://127.0.0.1:1/x")
GIT = ("remote.origin.url", "git://127.0.0.1:1/x")
HTTP = ("remote.origin.url", "http://127.0.0.1:1/x")

KEYS = (
    configured("filter.x.clean", "RUN", "add", "a.txt"),
    configured("filter.x.smudge", "RUN", "checkout", "-f", "other"),
    configured("filter.x.process", "EVIL", "add", "a.txt"),
    configured("diff.x.textconv", "EVIL", "diff"),
    configured("diff.x.command", "EVIL", "diff"),
    configured("diff.external", "EVIL", "diff"),
    configured(
        "merge.x.driver", "EVIL", "-c", "alias.x=!git reset -q --hard; git merge clash", "x"
    ),
    configured("core.sshCommand", "EVIL", "fetch", also=SSH),
    configured("core.gitProxy", "EVIL", "fetch", also=GIT),
    configured("core.askPass", "EVIL"),
    configured("core.attributesFile", "OUTSIDE"),
    configured("core.excludesFile", "OUTSIDE"),
    configured("core.alternateRefsCommand", "EVIL"),
    configured("core.worktree", "OUTSIDE"),
    configured("credential.helper", "!RUN", also=HTTP),
    configured("credential.http://127.0.0.1.helper", "!RUN", also=HTTP),
    configured("remote.origin.uploadpack", "EVIL", "fetch"),
    configured("remote.origin.receivepack", "EVIL", "push", "origin", "main"),
    configured("remote.origin.vcs", "ext", also=("remote.origin.url", "sh -c 'RUN'")),
    configured("remote.origin.proxy", "http://127.0.0.1:1"),
    configured("remote.origin.promisor", "true"),
    configured("remotes.origin", "--upload-pack=EVIL .", "fetch", "origin"),
    configured("url.ext::sh -c EVIL% #.insteadOf", "file:///"),
    configured("http.proxy", "http://127.0.0.1:1"),
    configured("http.cookieFile", "OUTSIDE"),
    configured("http.sslVerify", "false"),
    configured("gpg.program", "EVIL", "commit", "-aqm", "x", also=("commit.gpgsign", "true")),
    configured("gpg.ssh.defaultKeyCommand", "EVIL"),
    configured("gpg.ssh.program", "EVIL", also=("gpg.format", "ssh", "tag.gpgsign", "true")),
    configured("include.path", "OUTSIDE"),
    configured("includeIf.gitdir:/.path", "OUTSIDE"),
    configured("submodule.sub.update", "!RUN"),
    configured("trailer.x.command", "RUN"),
    configured("gc.recentObjectsHook", "EVIL"),
    configured("gc.repackFilterTo", "OUTSIDE"),
    configured("uploadpack.packObjectsHook", "EVIL"),
    configured("hook.x.command", "RUN", also=("hook.x.event", "pre-commit")),
    configured("mailmap.file", "OUTSIDE"),
    configured("diff.orderFile", "OUTSIDE"),
    configured("fetch.bundleURI", "file:///OUTSIDE"),
    configured("fsck.skipList", "OUTSIDE"),
    configured("branch.main.mergeOptions", "-F OUTSIDE"),
    configured("extensions.partialClone", "origin"),
    configured("protocol.ext.allow", "always"),
    configured("lfs.customtransfer.x.path", "EVIL"),
    configured("sendemail.smtpServer", "EVIL"),
    configured("tar.x.command", "EVIL"),
)
"""Keys with which nothing is run at all, or nothing but what only looks."""


def _worktree_config(place: Place) -> None:
    place.config("extensions.worktreeConfig", "true")
    place.repo.write(".git/config.worktree", f'[filter "x"]\n\tclean = "{place.run}"\n')


def _included(place: Place) -> None:
    place.repo.write("more", f'[filter "x"]\n\tclean = "{place.run}"\n')
    place.repo.write(
        ".git/config",
        (place.repo.path / ".git/config").read_text() + "[include]\n\tpath = ../more\n",
    )


def _linked(name: str, target: str = "OUTSIDE") -> Callable[[Place], None]:
    def do(place: Place) -> None:
        path = place.repo.path / ".git" / name
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target.replace("OUTSIDE", str(place.outside)))

    return do


def _foreign(place: Place) -> Repo:
    """Make a repository outside whose content is secret."""
    foreign = Repo(place.outside.parent / "foreign")
    foreign.commit({"a.txt": SECRET})
    return foreign


def _foreign_objects(place: Place) -> None:
    foreign = _foreign(place)
    place.repo.write(".git/objects/info/alternates", f"{foreign.path}/.git/objects\n")
    place.repo.write(".git/refs/heads/other", foreign.git("rev-parse", "HEAD"))


def foreign_pointer(place: Place) -> None:
    shutil.rmtree(place.repo.path / ".git")
    place.repo.write(".git", f"gitdir: {_foreign(place).path}/.git\n")


def _foreign_link(place: Place) -> None:
    shutil.rmtree(place.repo.path / ".git")
    (place.repo.path / ".git").symlink_to(_foreign(place).path / ".git")


def _foreign_common_dir(place: Place) -> None:
    place.repo.write(".git/commondir", f"{_foreign(place).path}/.git\n")


def _foreign_worktree(place: Place) -> None:
    foreign = _foreign(place)
    (place.repo.path / ".git").rename(place.repo.path / "fake")
    place.repo.write(".git", "gitdir: fake\n")
    place.repo.write("fake/commondir", f"{foreign.path}/.git\n")
    place.repo.write("fake/gitdir", f"{place.repo.path}/.git\n")


def _fifo(place: Place) -> None:
    (place.repo.path / ".git" / "config").unlink()
    os.mkfifo(place.repo.path / ".git" / "config")


def _todo(place: Place) -> None:
    folder = ".git/rebase-merge"
    head = place.repo.git("rev-parse", "HEAD")
    for name, content in {
        "git-rebase-todo": f"exec touch '{place.mark}'\n",
        "head-name": "refs/heads/main\n",
        "onto": head,
        "orig-head": head,
        "interactive": "",
        "msgnum": "1",
        "end": "1",
    }.items():
        place.repo.write(f"{folder}/{name}", content)
    place.repo.git("checkout", "-q", "-f", "--detach")


def _submodule(place: Place, *, into: str = "main") -> None:
    """Put a repository with a filter of its own into the work tree, and into a commit."""
    sub = Repo(place.repo.path / "sub")
    sub.commit({"a.txt": "one\n", ".gitattributes": "a.txt filter=x\n"})
    (sub.path / "a.txt").write_text("two\n")
    sub.git("config", "filter.x.clean", place.run)
    if into == "main":
        place.repo.git("add", "sub")
        return
    entry = f"160000 {sub.git('rev-parse', 'HEAD').strip()} 0\tsub\n"
    place.repo.git("checkout", "-q", "-f", into)
    place.repo.git("update-index", "--index-info", stdin=entry.encode())
    place.repo.git("commit", "-q", "-m", "sub")
    place.repo.git("rm", "-q", "--cached", "sub")
    place.repo.git("checkout", "-q", "-f", "main")
    place.repo.write(".gitmodules", '[submodule "sub"]\n\tpath = sub\n\turl = x\n\tignore = none\n')


def _submodule_elsewhere(place: Place) -> None:
    _submodule(place)
    (place.repo.path / "sub" / ".git").rename(place.outside.parent / "elsewhere")
    place.repo.write("sub/.git", f"gitdir: {place.outside.parent}/elsewhere\n")


def _remote_with_hooks(place: Place, *, url: bool = True) -> None:
    evil = Repo(place.repo.path / "evil", bare=True)
    for name in ("pre-receive", "update", "post-receive", "post-update", "reference-transaction"):
        place.program(f"evil/hooks/{name}")
    if url:
        place.config("remote.origin.url", str(evil.path))


def _remote_of_old(place: Place) -> None:
    """Name a remote in a file, as git had it before it had configuration."""
    _remote_with_hooks(place, url=False)
    place.repo.git("remote", "remove", "origin")
    place.repo.write(".git/remotes/origin", f"URL: {place.repo.path}/evil\n")
    place.repo.write(".git/branches/evil", f"{place.repo.path}/evil\n")


def _remote_configured(place: Place) -> None:
    _remote_with_hooks(place)
    shutil.rmtree(place.repo.path / "evil" / "hooks")
    Repo(place.repo.path / "evil", bare=True).git("config", "core.fsmonitor", str(place.mark))
    place.repo.write(
        "evil/config", f'[core]\n\tbare = true\n[uploadpack]\n\tpackObjectsHook = "{place.run}"\n'
    )


LATER = "a submodule of another branch"
"""Only what changes the index may meet it."""

WAITING = "a rebase under way"
"""Only what goes on with it may run it."""

LAYOUTS = (
    Poison("config.worktree", _worktree_config, ("add", "a.txt")),
    Poison("an included file", _included, ("add", "a.txt")),
    Poison("a link instead of the index", _linked("index")),
    Poison("a link instead of the configuration", _linked("config")),
    Poison("a link instead of the message", _linked("COMMIT_EDITMSG")),
    Poison("a link instead of a reflog", _linked("logs/HEAD")),
    Poison("a link instead of a ref", _linked("refs/heads/linked")),
    Poison("a link instead of all refs", _linked("refs/tags", "OUTSIDE/..")),
    Poison("a link instead of packed refs", _linked("packed-refs")),
    Poison("a link instead of what is ignored", _linked("info/exclude")),
    Poison("a link instead of a pack", _linked("objects/pack/pack-1.pack")),
    Poison("alternates", _foreign_objects, ("show", "other:a.txt")),
    Poison("a file .git", foreign_pointer, ("show", "HEAD:a.txt")),
    Poison("a link .git", _foreign_link, ("show", "HEAD:a.txt")),
    Poison("a file commondir", _foreign_common_dir),
    Poison("what looks like a linked worktree", _foreign_worktree),
    Poison("a pipe instead of the configuration", _fifo),
    Poison(WAITING, _todo, ("rebase", "--continue")),
    Poison("a submodule", _submodule, ("status",)),
    Poison(
        LATER,
        lambda place: _submodule(place, into="other"),
        ("-c", "alias.x=!git reset -q --hard; git checkout other", "x"),
    ),
    Poison("a submodule whose repository is elsewhere", _submodule_elsewhere, ("status",)),
)
"""Files with which nothing is run at all."""

HOOKS = (
    "applypatch-msg",
    "commit-msg",
    "fsmonitor-watchman",
    "post-applypatch",
    "post-checkout",
    "post-commit",
    "post-index-change",
    "post-merge",
    "post-rewrite",
    "pre-applypatch",
    "pre-auto-gc",
    "pre-commit",
    "pre-merge-commit",
    "pre-push",
    "pre-rebase",
    "prepare-commit-msg",
    "push-to-checkout",
    "reference-transaction",
    "sendemail-validate",
)


def switched_off(place: Place) -> None:
    """Set all that is switched off, so that git is used all the same."""
    for name in HOOKS:
        place.program(f".git/hooks/{name}")
    evil = str(place.program(".evil"))
    place.config(*("core.fsmonitor", evil, "core.pager", evil, "pager.log", evil))
    place.config(*("core.editor", evil, "sequence.editor", evil))
    place.config(*("commit.gpgSign", "true", "tag.gpgSign", "true", "push.gpgSign", "true"))
    for name in ("status", "commit", "diff", "log", "fetch", "config", "rev-parse"):
        place.config(f"alias.{name}", f"!{evil}")
    place.config("diff.submodule", "diff", "submodule.recurse", "true")


USED = (
    configured("user.signingKey", "OUTSIDE"),
    configured("commit.template", "OUTSIDE"),
    configured("blame.ignoreRevsFile", "OUTSIDE"),
    Poison("hooks and other switches", switched_off, ("status",)),
    Poison("a remote with hooks", _remote_with_hooks, ("push", "origin", "main")),
    Poison(
        "a remote by its folder",
        lambda p: _remote_with_hooks(p, url=False),
        ("push", "evil", "main"),
    ),
    Poison("a remote by a file", _remote_of_old, ("push", "origin", "main")),
    Poison("a remote with a configuration", _remote_configured),
    configured("remote.origin.url", "ext::EVIL"),
    configured("remote.origin.pushurl", "--receive-pack=EVIL"),
)
"""What does not keep git from being used here."""


def poisoned(base: Path, folder: Path, poison: Poison) -> Place:
    """Copy the base and poison it."""
    shutil.copytree(base / "own", folder / "own", symlinks=True)
    outside = folder / "outside"
    outside.write_text(f"{SECRET}\n")
    repo = Repo.__new__(Repo)
    repo.path = folder / "own"
    place = Place(repo, folder / "mark", outside)
    poison.do(place)
    return place


def prove(place: Place, poison: Poison, folder: Path) -> None:
    """See in a copy that git itself would do it."""
    shutil.copytree(place.repo.path, folder / "copy", symlinks=True)
    done = subprocess.run(
        ["git", "-C", str(folder / "copy"), *poison.proof],
        env=ENVIRONMENT,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=30,
        check=False,
    )
    assert place.mark.exists() or SECRET.encode() in done.stdout, (poison.name, done)
    place.mark.unlink(missing_ok=True)
    shutil.rmtree(folder / "copy")
