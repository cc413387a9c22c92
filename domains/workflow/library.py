"""The workflows of a project: found in its folder, read when they have changed, broken ones too."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from daemon.core.errors import BadRequest, NotFound
from domains.workflow import yaml_file
from domains.workflow.commands import Workflow, WorkflowProblem
from domains.workflow.definition import Definition

FOLDER = Path(".agent") / "workflows"

ENDINGS: dict[str, Literal["yaml", "python"]] = {".yaml": "yaml", ".yml": "yaml", ".py": "python"}

MOST = 1000
"""Workflow files that are looked at in one project, and how many are kept as read."""

MOST_NAMES = 10_000
"""Names of files and folders that are looked at in one project."""

DEEPEST = 20
"""Folders in one another."""

FILE_BYTES = 1 << 20

KEPT_BYTES = 16 << 20
"""Of text, at about: how much is kept as read."""


class Source(NamedTuple):
    """A workflow's file as it is now."""

    id: str
    path: str
    language: Literal["yaml", "python"]
    text: bytes
    problem: str = ""
    """Why it is not read, where it is not."""


Read = Callable[[Source], Definition]
"""Reads a file of one language; BadRequest says what is wrong with it."""


class Library:
    """Finds and reads workflows; what was read is kept as long as the file is the same."""

    def __init__(self, readers: dict[str, Read] | None = None) -> None:
        """Read YAML, and what else there are readers for."""
        self._readers: dict[str, Read] = {"yaml": _read_yaml, **(readers or {})}
        self._kept: dict[tuple[str, bytes], Definition] = {}
        self._kept_bytes = 0

    async def sources(self, root: str) -> list[Source]:
        """Find the files of a project."""
        return await asyncio.to_thread(_find, Path(root))

    async def need(self, root: str, workflow: str) -> Source:
        """Find one by its id; NotFound lists what there is."""
        found = await asyncio.to_thread(_find, Path(root), workflow)
        for each in found:
            if each.id == workflow:
                return each
        known = ", ".join(each.id for each in found[:20]) or "none"
        raise NotFound(
            f"there is no workflow {workflow[:80]!r} in {FOLDER} of this project; there is: {known}"
        )

    def kept(self, workflow: str, text: bytes) -> Source:
        """Give the file that a run had last, which was kept with it.

        It stands where it stood, so that one in Python finds the modules beside it.
        """
        language: Literal["yaml", "python"] = "python" if _is_python(text) else "yaml"
        ending = "py" if language == "python" else "yaml"
        return Source(workflow, str(FOLDER / f"{workflow}.{ending}"), language, text)

    def read(self, source: Source) -> Definition:
        """Read one; BadRequest says what is wrong with it."""
        if source.problem:
            raise BadRequest(f"{source.path}: {source.problem}")
        key = (source.path, source.text)
        known = self._kept.get(key)
        if known is None:
            if len(source.text) > FILE_BYTES:
                raise BadRequest(f"{source.path} is larger than {FILE_BYTES} bytes")
            known = self._readers[source.language](source)
            if len(self._kept) >= MOST or self._kept_bytes + len(source.text) > KEPT_BYTES:
                self._kept.clear()
                self._kept_bytes = 0
            self._kept[key] = known
            self._kept_bytes += len(source.text)
        return known

    def described(self, source: Source) -> Workflow:
        """Tell about one, or what is wrong with it."""
        try:
            found = self.read(source)
        except BadRequest as error:
            return Workflow(
                id=source.id,
                path=source.path,
                language=source.language,
                problem=error.message,
                problems=[
                    WorkflowProblem(
                        line=each["line"],
                        message=each["message"],
                        allowed=list(each.get("allowed", ())),
                    )
                    for each in error.details.get("problems", ())
                ],
            )
        return Workflow(
            id=found.id,
            path=found.path,
            language=found.language,
            name=found.name,
            description=found.description,
            args=found.args,
            required=list(found.required),
            phases=list(found.phases),
        )


def _read_yaml(source: Source) -> Definition:
    return yaml_file.parse(source.text, id=source.id, path=source.path)


def _find(root: Path, only: str | None = None) -> list[Source]:
    """Read the files, or that of one workflow; links that lead out of the project are passed over.

    So is what begins with `_` or `.`: modules that workflows import, and what editors leave. A name
    that is no Unicode is told, and asked for, with signs in place of what is none.
    """
    folder, real = root / FOLDER, root.resolve()  # a folder above the project may be a link
    if not folder.resolve().is_relative_to(real):
        return [_whole_folder("it is a link that leads out of the project")]
    found: dict[str, Source] = {}
    more: list[Source] = []
    for path in _files(folder):
        if path is None:
            more.append(_whole_folder("it holds too much: what comes behind is not looked at"))
            break
        language = ENDINGS[path.suffix]
        text, why = b"", ""
        name = _sayable(path.relative_to(folder).with_suffix(""))
        try:
            if not path.is_file() or not path.resolve().is_relative_to(real):
                continue
            if only in (None, name):  # together they may be large
                with path.open("rb") as file:
                    text = file.read(FILE_BYTES + 1)
        except FileNotFoundError:  # it has gone just now
            continue
        except OSError as error:
            why = f"it cannot be read: {error.strerror}"
        told = _sayable(path.relative_to(root))
        if name in found:
            why = f"{found[name].path} is the workflow of this name"
            more.append(Source(name, told, language, text, why))
        else:
            found[name] = Source(name, told, language, text, why)
    return [*found.values(), *more]


def _files(folder: Path) -> Iterator[Path | None]:
    """Yield the files that may be workflows, sorted by their paths; None where there are too many.

    Links to folders are not followed.
    """
    names = 0
    found: list[Path] = []
    for at, folders, files in os.walk(folder):
        names += len(folders) + len(files)
        deep = len(Path(at).parts) - len(folder.parts) >= DEEPEST
        folders[:] = [] if deep else sorted(name for name in folders if name[0] not in "_.")
        inner = (Path(at, name) for name in files if name[0] not in "_.")
        found += [path for path in inner if path.suffix in ENDINGS]
        if names > MOST_NAMES or len(found) > MOST:
            yield from sorted(found)[:MOST]
            yield None
            return
    yield from sorted(found)


def _whole_folder(why: str) -> Source:
    """Return what stands in the list for all that cannot be listed."""
    return Source(str(FOLDER), str(FOLDER), "yaml", b"", why)


def _sayable(path: Path) -> str:
    """Give a name as text that JSON can hold, whatever bytes it is made of."""
    return os.fsencode(path).decode(errors="replace")


def _is_python(text: bytes) -> bool:
    """Tell the two languages apart: no YAML file of ours has a line that begins so."""
    return any(line.startswith((b"@workflow", b"async def ")) for line in text.splitlines())
