"""A step that runs a command: a supervised task whose output is told and kept."""

from __future__ import annotations

import asyncio
import os
from typing import Literal, cast

import msgspec

from daemon.core.environment import child_environment
from daemon.core.ids import new_id
from daemon.core.program import Program
from daemon.core.spawner import start_time
from daemon.core.task import Task, Tasks, TaskSettings
from daemon.core.text import TextStream
from domains.workflow.definition import Json, is_too_deep
from domains.workflow.endings import out
from domains.workflow.events import StepOutput
from domains.workflow.failures import StepFailure
from domains.workflow.live import LiveRun
from domains.workflow.progress import progress_of
from domains.workflow.steps.marks import Marks

KIND = "step"
"""What its task is called, in `[task.kinds.step]` too."""

KEPT = 256 << 10
"""Characters of each stream that later steps can use: the last ones."""

PIECES = 4096
"""Of a stream, until they are put together."""

Stream = Literal["stdout", "stderr"]


SHELLS = {"sh": ["sh", "-e", "-c"], "bash": ["bash", "-eo", "pipefail", "-c"]}
"""How shells are called that have names here; the text is the last argument."""


def argv_of(shell: str | list[str], text: str) -> list[str]:
    """Return the arguments of a program by which a shell reads a text."""
    return [*(SHELLS[shell] if isinstance(shell, str) else shell), text]


def search_path(shell: str | list[str], own: str) -> str:
    """Return where a shell is looked for: a step's own PATH is for what its text calls.

    So it is found whatever that PATH is; one that is written out is looked for there first.
    """
    ours = os.environ.get("PATH", os.defpath)
    return f"{ours}:{own}" if isinstance(shell, str) else f"{own}:{ours}"


class Commands:
    """Runs commands for runs."""

    def __init__(self, tasks: Tasks, settings: TaskSettings) -> None:
        """Run them as these tasks, with the limits of their kind."""
        self._tasks = tasks
        self._limits = settings.of(KIND)

    async def run(self, live: LiveRun, step_id: str, fields: dict[str, Json]) -> Json:
        """Have `shell` read the text of `run`; another exit code than 0 is a failure."""
        self._tasks.require_open()
        run = live.run
        shell = fields.get("shell") or "sh"
        env = child_environment(os.environ, configured=live.definition.env, given=fields.get("env"))
        program = Program(
            argv=argv_of(shell, fields["run"]),
            path=search_path(shell, env.get("PATH", os.defpath)),
            cwd=live.folder(fields.get("cwd")),
            env=env,
        )
        owner = _Owner(live, step_id)
        task = Task(
            id_=new_id(),
            kind=KIND,
            channel=f"workflow:run:{run.id}",
            user=run.user,
            program=program,
            owner=owner,
            limits=self._limits,
        )
        self._tasks.start(task)
        try:
            await asyncio.shield(owner.over)
        except asyncio.CancelledError:
            task.stop()
            await out(owner.over)  # nothing of it runs when the run is told as ended
            raise
        return owner.result(task)


class _LastPart:
    """The last characters of a text that comes in pieces, which may be many and small."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._size = 0

    def add(self, piece: str) -> None:
        self._pieces.append(piece)
        self._size += len(piece)
        if self._size > 2 * KEPT or len(self._pieces) > PIECES:
            self._join()

    def text(self) -> str:
        self._join()
        return self._pieces[0]

    def _join(self) -> None:
        self._pieces = ["".join(self._pieces)[-KEPT:]]
        self._size = len(self._pieces[0])


class _Owner:
    """The owner of one command's task."""

    def __init__(self, live: LiveRun, step_id: str) -> None:
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._live = live
        self._step_id = step_id
        self._kept = {"stdout": _LastPart(), "stderr": _LastPart()}
        self._written: dict[Stream, int] = {"stdout": 0, "stderr": 0}
        self._marks: dict[Stream, Marks] = {"stdout": Marks(), "stderr": Marks()}
        self._texts: dict[Stream, TextStream] = {
            "stdout": TextStream(lambda text: self._tell("stdout", text)),
            "stderr": TextStream(lambda text: self._tell("stderr", text)),
        }

    def queued(self, place: int) -> None:
        """Wait for a slot as all else that runs."""

    def started(self, task: Task) -> None:
        """Write down which process it is, before it is waited for."""
        pid = cast(int, task.pid)
        self._live.timeline.note(self._step_id, pid=pid, pid_started=start_time(pid))

    def output(self, stream: str, data: bytes) -> None:
        """Tell a chunk; what waits of the other stream goes first, so that order is kept."""
        for name, text in self._texts.items():
            if name != stream:
                text.flush()
        self._texts[cast(Stream, stream)].feed(data)
        if (share := self._marks[cast(Stream, stream)].feed(data)) is not None:
            self._live.timeline.progress(self._step_id, progress_of(share, 100))

    def ended(self, task: Task) -> None:
        """Tell the rest."""
        del task
        for text in self._texts.values():
            text.close()
        self.over.set_result(None)

    def _tell(self, stream: Stream, text: str) -> None:
        offset = self._written[stream]
        self._written[stream] = offset + len(text.encode())
        self._kept[stream].add(text)
        self._live.bus.emit(
            StepOutput(
                run_id=self._live.run.id,
                step_id=self._step_id,
                stream=stream,
                content=text,
                offset=offset,
                attempt=self._live.timeline[self._step_id].attempt,
            )
        )

    def _json(self, text: str) -> dict[str, Json]:
        """Return standard output as JSON, or why nobody can tell whether it is that."""
        written = self._written["stdout"]
        if written == len(text.encode()):
            return _parsed(text)
        return {
            "jsonProblem": f"standard output has {written:,} bytes, of which the last {KEPT:,} "
            "characters are kept, so it is not read as JSON: have the step write it to a file"
        }

    def result(self, task: Task) -> Json:
        """Give what it came to, or raise why it failed."""
        self._live.timeline.note(self._step_id, output_bytes=sum(self._written.values()))
        code = task.exit.code if task.exit else None
        kept: dict[str, str] = {name: part.text() for name, part in self._kept.items()}
        result: dict[str, Json] = {
            "exitCode": code,
            "stdout": kept["stdout"],
            "stderr": kept["stderr"],
        }
        sizes = {name: len(text.encode()) for name, text in kept.items()}
        if any(size > sizes[name] for name, size in self._written.items()):
            result["truncated"] = True
        result |= self._json(kept["stdout"])
        if task.reason == "exited" and code == 0:
            return result
        if task.reason == "exited":
            raise StepFailure("exit", f"it exited with code {code}", result=result)
        if task.failure is not None:
            raise StepFailure(task.failure.code, task.failure.message, permanent=True)
        number = task.exit.signal if task.exit else None
        why = f"signal {number} killed it" if task.reason == "signaled" else f"it was {task.reason}"
        raise StepFailure(task.reason or "lost", why, result=result)


def _parsed(text: str) -> dict[str, Json]:
    """Read standard output as JSON, where a list or an object is all that it is."""
    if text[:1] not in "[{" and text.lstrip()[:1] not in ("[", "{"):
        return {}
    try:
        found = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return {}
    return {} if is_too_deep(found) else {"json": found}
