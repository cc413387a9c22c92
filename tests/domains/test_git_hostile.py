"""Every operation has its turn in folders from somewhere: nothing of theirs is run or followed."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from poisons import (
    KEYS,
    LATER,
    LAYOUTS,
    SECRET,
    USED,
    WAITING,
    Place,
    Poison,
    foreign_pointer,
    poisoned,
    prove,
    switched_off,
)
from repositories import Repo, added, ran
from support import until

from daemon.core.commands import Caller
from daemon.core.errors import AgentcmdError, Conflict
from domains.git.configuration import Use, use_of
from domains.git.desk import GitCommand

FIELDS: dict[str, Any] = {
    "discardId": "1",
    "message": "a message",
    "name": "fresh",
    "newName": "newer",
    "onto": "other",
    "path": "a.txt",
    "revision": "other",
    "revisions": ["other"],
    "title": "a title",
}
"""What a field is given that an operation needs."""

ARGS: dict[str, list[dict[str, Any]]] = {
    "clone": [{"url": "URL", "path": "cloned"}],
    "commit": [{"message": "a message", "all": True}],
    "diff": [{}, {"staged": True}, {"from": "main", "to": "other"}, {"commit": "HEAD"}],
    "discard": [{"paths": ["a.txt"]}],
    "fetch": [{}, {"remote": "origin"}, {"remote": "evil"}],
    "log": [{}, {"paths": ["a.txt"], "follow": True}],
    "ls_remote": [{"remote": "origin"}, {"url": "URL"}, {"remote": "evil"}],
    "pull": [{"remote": "origin", "branch": "main", "rebase": False}],
    "push": [{"remote": "origin", "branch": "main"}, {"remote": "evil", "branch": "main"}],
    "remote_add": [{"name": "more", "url": "URL"}],
    "remote_remove": [{"name": "more"}],
    "remote_set_url": [{"name": "more", "url": "URL"}],
    "reset": [{"mode": "mixed"}],
    "show": [{}, {"path": "a.txt"}],
    "stage": [{"paths": ["a.txt"]}, {"all": True}],
    "stash_save": [{"message": "kept"}],
    "switch": [{"branch": "other"}, {"branch": "main"}],
    "unstage": [{"all": True}],
}
"""Operations that are asked in more ways than with what they need, as far as they exist."""


NAMES_EACH = 5
"""Names that each text of an operation is given; they take turns."""

WORDS = ("message", "title", "body", "startLine")
"""Texts that are no names: they go to git's input."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a repository that every operation finds something to do in."""
    folder = tmp_path_factory.mktemp("base")
    remote = Repo(folder / "remote.git", bare=True)
    repo = Repo(folder / "own")
    repo.git("config", "user.name", "Ada")
    repo.git("config", "user.email", "ada@example.org")
    attributes = "*.txt filter=x diff=x merge=x\n"
    repo.commit({"a.txt": "one\n", ".gitattributes": attributes, "b.bin": b"\0\1"})
    repo.git("branch", "clash")
    repo.git("switch", "-q", "-c", "other")
    repo.commit({"c.txt": "three\n"})
    repo.git("switch", "-q", "clash")
    repo.commit({"a.txt": "clash\n"})
    repo.git("switch", "-q", "main")
    repo.commit({"a.txt": "two\n", "d.txt": "d\n"})
    repo.git("tag", "v1")
    repo.git("remote", "add", "origin", f"file://{remote.path}")
    repo.git("push", "-q", "origin", "other")
    repo.write("d.txt", "stashed\n")
    repo.git("stash", "push", "-q")
    repo.write("b.bin", b"\0\1\2")
    repo.git("add", "b.bin")
    repo.write("a.txt", "changed\n")
    repo.write("untracked", "new\n")
    repo.git("gc", "-q")  # few files: it is copied often
    shutil.rmtree(repo.path / ".git" / "hooks", ignore_errors=True)
    for empty in (repo.path / ".git" / "objects").glob("??"):
        shutil.rmtree(empty)
    return folder


class Turns:
    """Gives operations their turn in a project, without the doors between."""

    def __init__(self, running: Any) -> None:
        self._dispatcher = running.daemon._dispatcher
        self._caller = Caller("tester", (("read", "*"), ("write", "*")), float("inf"))
        self.operations = {
            name.partition(".")[2]: declared
            for name, declared in self._dispatcher._registry.commands.items()
            if issubclass(declared, GitCommand)
        }

    def changes(self, key: str) -> bool:
        """Tell whether an operation changes something."""
        return self.operations[key.partition(" ")[0]].__command__.action == "write"

    def some(self, number: int) -> tuple[str, ...]:
        """Name operations of which a few are always there, and each is there for some number."""
        names = list(self.operations)
        turn = [names[(5 * number + each) % len(names)] for each in range(5)]
        return ("log", "status", "fetch", "push", *turn)

    def asked(self, url: str, only: tuple[str, ...]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Give the operations, each with what it needs and in further ways."""
        for name, declared in self.operations.items():
            if only and name not in only:
                continue
            fields = msgspec.structs.fields(declared)
            needed = {f.encode_name for f in fields if f.required} - {"projectId"}
            for given in ARGS.get(name, [{}]):
                said = {field: FIELDS[field] for field in needed - given.keys()}
                yield name, {**said, **{k: url if v == "URL" else v for k, v in given.items()}}

    async def take(self, project: str, url: str, only: tuple[str, ...] = ()) -> dict[str, Any]:
        """Call them one after the other; only refusals that a client is told are good."""
        came: dict[str, Any] = {}
        for name, args in self.asked(url, only):
            key = f"{name} {sorted(args.items())}"
            try:
                given = {**args, "projectId": project}
                answered = self._dispatcher.call_with(f"git.{name}", given, self._caller)
                came[key] = await answered if inspect.isawaitable(answered) else answered
            except AgentcmdError as error:
                came[key] = error
        return came


def shown(came: dict[str, Any]) -> str:
    """Give all that clients have seen."""
    return repr(
        [
            (each.message, each.details) if isinstance(each, AgentcmdError) else each
            for each in came.values()
        ]
    )


async def harmless(
    turns: Turns, project: str, place: Place, base: Path, *only: str
) -> dict[str, Any]:
    """Let the operations have their turn, and see that they did nothing outside."""
    before = sorted(p.name for p in place.outside.parent.iterdir())
    came = await turns.take(project, f"file://{base / 'remote.git'}", only)
    assert not place.mark.exists(), came
    assert place.outside.read_text() == f"{SECRET}\n"
    assert sorted(p.name for p in place.outside.parent.iterdir()) == before
    assert SECRET not in shown(came)
    return came


async def test_nothing_is_run_where_a_folder_would_have_something_run(running, base, tmp_path):
    turns = Turns(running)
    places = {}
    for number, poison in enumerate((*KEYS, *LAYOUTS)):
        folder = tmp_path / str(number)
        place = poisoned(base, folder, poison)
        places[poison] = place

    def proved() -> None:
        for poison, place in places.items():
            if poison.proof:
                prove(place, poison, place.outside.parent)

    await asyncio.to_thread(proved)
    async with running.client() as client:
        projects = {poison: await added(client, places[poison].repo.path) for poison in places}

        only = {poison: turns.some(number) for number, poison in enumerate(KEYS)}
        only |= dict.fromkeys(LAYOUTS, ())

        async def tried(poison: Poison, place: Place) -> None:
            came = await harmless(turns, projects[poison], place, base, *only[poison])
            done = [name for name, each in came.items() if not isinstance(each, AgentcmdError)]
            looked = poison in KEYS and use_of(poison.name.lower()) is Use.ALL
            if poison.name in (LATER, WAITING) or looked:
                done = [name for name in done if turns.changes(name)]
            assert done == [], poison.name
            if poison in KEYS:
                which = "fetch" if looked else "log"
                refused = next(each for name, each in came.items() if name.startswith(which))
                assert refused.details["keys"], (poison.name, refused)

        async with asyncio.TaskGroup() as group:
            for poison, place in places.items():
                group.create_task(tried(poison, place))


@pytest.mark.parametrize("poison", USED, ids=lambda poison: poison.name)
async def test_what_is_switched_off_is_not_run_though_git_is_used(running, base, tmp_path, poison):
    turns = Turns(running)
    place = poisoned(base, tmp_path / "it", poison)
    if poison.proof:
        await asyncio.to_thread(prove, place, poison, place.outside.parent)
    async with running.client() as client:
        project = await added(client, place.repo.path)
        outward = ("fetch", "pull", "push", "ls_remote", "status")
        everything = poison.do is switched_off
        came = await harmless(turns, project, place, base, *(() if everything else outward))
        done = [name for name, each in came.items() if not isinstance(each, AgentcmdError)]
        assert any(name.startswith("status") for name in done)
        if everything:
            assert len(done) > 25, {n: e for n, e in came.items() if n not in done}
            await client.call("project.trust", {"projectId": project})
            await ran(client, project, "status")
            assert place.mark.exists()


async def test_a_folder_with_a_foreign_repository_is_not_made_one_anew(running, base, tmp_path):
    place = poisoned(base, tmp_path / "it", Poison("x", foreign_pointer))
    config = place.outside.parent / "foreign" / ".git" / "config"
    before = config.read_bytes()
    async with running.client() as client:
        project = await added(client, place.repo.path)
        with pytest.raises(Conflict, match="does not name it"):
            await ran(client, project, "init")
        with pytest.raises(Conflict, match="does not name it"):
            await ran(client, project, "clone", url=str(base / "remote.git"), path="sub")
    assert config.read_bytes() == before


async def test_what_a_client_names_is_never_an_option_a_transport_or_a_place_outside(
    running, base, tmp_path
):
    place = poisoned(base, tmp_path / "it", Poison("none", lambda _: None))
    mark = place.mark
    names = [
        f"--upload-pack=touch {mark}",
        f"--output={mark}",
        f"ext::sh -c touch% {mark}",
        f"fd::{mark}",
        "../outside",
        str(place.outside),
        "a.txt\0--all",
        "a\nb",
        "-",
        "--",
        ":(top,attr:x)",
        f"$(touch {mark}); touch {mark}",
        ".git/config",
        "sub/.GIT/hooks/pre-commit",
        "",
    ]
    turns = Turns(running)
    async with running.client() as client:
        project = await added(client, place.repo.path)
        for name, field, each in named(turns, names):
            data = {**field, "projectId": project}
            with suppress(AgentcmdError):
                answered = turns._dispatcher.call_with(f"git.{name}", data, turns._caller)
                if inspect.isawaitable(answered):
                    answered = await answered
                assert SECRET not in repr(answered)
            assert not mark.exists(), (name, data, each)
        assert place.outside.read_text() == f"{SECRET}\n"
        assert sorted(p.name for p in place.outside.parent.iterdir()) == ["outside", "own"]


def named(turns: Turns, names: list[str]) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Give arguments for operations, in which each text in turn is some of these names."""
    turn = itertools.cycle(names)
    for operation, declared in turns.operations.items():
        fields = [f for f in msgspec.structs.fields(declared) if not f.encode_name.endswith("Id")]
        needed = {f.encode_name: FIELDS.get(f.encode_name, "x") for f in fields if f.required}
        for f in fields:
            if f.encode_name in WORDS:
                continue
            kinds = msgspec.inspect.type_info(f.type)
            if "Str" not in repr(kinds):
                continue
            for each in itertools.islice(turn, NAMES_EACH):
                value = [each] if "List" in repr(kinds) else each
                yield operation, {**needed, f.encode_name: value}, each


async def test_an_operation_does_not_take_the_id_of_what_runs_already(running, base, tmp_path):
    place = poisoned(base, tmp_path / "it", Poison("none", lambda _: None))
    async with running.client() as client:
        project = await added(client, place.repo.path)
        asked = {"projectId": project, "agent": "command", "argv": ["sleep", "60"]}
        session = (await client.call("session.create", asked))["sessionId"]
        await until(lambda: getattr(running.daemon._tasks.get(session), "pid", None))
        given = {"projectId": project, "operation": "status", "operationId": session}
        with pytest.raises(Conflict, match="choose another"):
            await client.call("git.run", given)
        task = (await client.call("task.get", {"taskId": session}))["task"]
        assert task["kind"] == "session"
