"""The process of a workflow in Python: runs its file, and has its steps done by the daemon.

It is run as a file (`python -P runner.py`), so that nothing of the project stands in for our own
modules, and without the other domains, which take long to import.
"""

from __future__ import annotations

import asyncio
import linecache
import os
import sys
import traceback
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if __name__ == "__main__":
    _ours = ModuleType("domains")
    _ours.__path__ = [str(Path(__file__).resolve().parents[1])]
    sys.modules["domains"] = _ours

import msgspec

from domains.workflow.python_wire import (
    HERE,
    LINE_BYTES,
    OPEN,
    Answer,
    Begin,
    Call,
    Done,
    Drop,
    End,
    Failed,
    Options,
    Progress,
    Said,
    Start,
    Stop,
    Told,
)
from domains.workflow.sdk import MARK, Run, StepError

if TYPE_CHECKING:
    from domains.workflow.python_calls import Work

MODULE = "workflow_file"
"""What the file is called as a module."""

FRAMES = 8
"""Lines of a traceback that are told."""

PACE = 0.1
"""Seconds until it is said how far steps are, once for all that they have told meanwhile."""

MESSAGE = 2000
"""Characters of an error's message that are told."""

DEEPER = 300
"""Levels that are left for the daemon in what is said: nested to the limit it could not be read."""

_decode = msgspec.json.Decoder(Told).decode


class Daemon:
    """The daemon as seen from here: asked over one pipe, heard over another."""

    def __init__(self, heard: int, said: int, path: str) -> None:
        """Read from one descriptor and write to the other; `path` is that of the file."""
        self._heard = heard
        self._said = said
        self._path = path
        self._rest: list[bytes] = []
        self._numbers = count(1)
        self._open: dict[int, asyncio.Queue[Told]] = {}
        self._limits: dict[int, asyncio.Timeout] = {}
        self._slots = asyncio.Semaphore(OPEN)
        self._blocks = 0
        self._loop = asyncio.get_running_loop()
        self._progress: dict[int, Progress] = {}
        self._telling = False
        self._forked = False
        os.register_at_fork(after_in_child=self._let_go)

    def listen(self) -> None:
        """Hear the rest as it comes."""
        os.set_blocking(self._heard, False)
        self._loop.add_reader(self._heard, self._hear)

    def _let_go(self) -> None:
        """Keep a fork from the pipes: what it reads is not for it, and its end is not the run's."""
        self._forked = True
        nowhere = os.open(os.devnull, os.O_RDWR)
        for number in (self._heard, self._said):
            os.dup2(nowhere, number, inheritable=False)

    def say(self, said: Said) -> None:
        """Write a line; it waits as long as the daemon does not read."""
        if self._forked:
            os.write(2, b"a fork of the workflow's process ends by os._exit(), and has no steps\n")
            os._exit(1)
        line = memoryview(_line(said))
        while line:
            line = line[os.write(self._said, line) :]

    async def ask(
        self,
        kind: str,
        step_id: str,
        fields: dict[str, Any],
        options: Options,
        phase: str | None,
        work: Work | None,
    ) -> Answer:
        """Have a step done, `work` where it is done here; StepError where it failed."""
        if asyncio.get_running_loop() is not self._loop:  # nobody would wake it with the answer
            raise RuntimeError(
                f"step {step_id} is asked for in another thread: "
                "asyncio.run_coroutine_threadsafe() asks for it on the loop of the workflow"
            )
        number = next(self._numbers)
        call = Call(number, step_id, kind, fields, options, phase)
        if kind not in HERE:
            async with self._slots:
                return await self._converse(call, work)
        if self._blocks >= OPEN:  # these may wait for one another, so none is made to wait
            raise StepError("too_many_open", f"step {step_id}: {OPEN} are open", None, step_id)
        self._blocks += 1
        try:
            return await self._converse(call, work)
        finally:
            self._blocks -= 1

    async def _converse(self, call: Call, work: Work | None) -> Answer:
        told = self._open[call.number] = asyncio.Queue()
        cause: BaseException | None = None
        try:
            self.say(call)
            while True:
                heard = await told.get()
                if isinstance(heard, Answer):
                    break
                if isinstance(heard, Begin) and work is not None:
                    cause = await self._do(heard, work)
        except asyncio.CancelledError:
            self.say(Drop(call.number))
            raise
        finally:
            del self._open[call.number]
        if heard.raises:
            code, message = heard.code or "failed", heard.message or "it failed"
            raise StepError(code, message, heard.result, heard.step_id) from cause
        return heard

    async def _do(self, begin: Begin, work: Work) -> BaseException | None:
        """Do here what a step does, and say what it came to; gives why it failed."""
        limit = self._limits[begin.number] = asyncio.timeout(None)
        try:
            async with limit:
                result = await work(partial(self._progressed, begin.number, limit))
            self._say_progress()
            self.say(End(begin.number, begin.attempt, result))
        except TimeoutError as error:
            if limit.expired():  # the daemon knows, for it has said so
                return None
            return self._failed(begin, error)
        except Exception as error:  # noqa: BLE001  # whatever it is, it is the step's
            return self._failed(begin, error)
        finally:
            del self._limits[begin.number]
        return None

    def _progressed(
        self, number: int, limit: asyncio.Timeout, current: float, total: float | None
    ) -> None:
        """Note how far a step is, from whichever thread; it is said soon."""
        if self._limits.get(number) is not limit:  # a thread goes on that took too long
            return
        self._progress[number] = Progress(number, current, total)
        if not self._telling:
            self._telling = True
            with suppress(RuntimeError):  # the workflow is over
                self._loop.call_soon_threadsafe(self._loop.call_later, PACE, self._say_progress)

    def _say_progress(self) -> None:
        self._telling = False
        while self._progress:  # threads go on writing to it
            self.say(self._progress.popitem()[1])

    def _failed(self, begin: Begin, error: Exception) -> Exception:
        failed = _of_a_step(error)
        code, message = (
            failed.code if failed else "exception",
            described(failed or error, self._path),
        )
        self._say_progress()
        self.say(End(begin.number, begin.attempt, None, code, message))
        return error

    def _hear(self) -> None:
        chunk = os.read(self._heard, 1 << 16)
        if not chunk:
            os._exit(1)  # the daemon is gone, and with it whoever wants to know
        first, *more = chunk.split(b"\n")
        self._rest.append(first)
        for part in more:
            line, self._rest = b"".join(self._rest), [part]
            self._take(_decode(line))

    def _take(self, told: Told) -> None:
        if isinstance(told, Stop):
            if (limit := self._limits.get(told.number)) is not None:
                limit.reschedule(asyncio.get_running_loop().time())
        elif (waits := self._open.get(told.number)) is not None:
            waits.put_nowait(told)


def first(heard: int) -> Start:
    """Wait for the first line; the daemon says nothing more before it is asked."""
    line = b""
    while not line.endswith(b"\n"):
        chunk = os.read(heard, 1 << 16)
        if not chunk:
            sys.exit("it is started by the daemon only")
        line += chunk
    return msgspec.json.decode(line, type=Start)


def _written(value: Any) -> Any:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"JSON cannot hold a {type(value).__name__}; give texts, numbers, lists, dicts")


_encode = msgspec.json.Encoder(enc_hook=_written).encode


def _line(said: Said) -> bytes:
    inner: Any = said
    for _ in range(DEEPER):
        inner = [inner]
    line: bytes = _encode(inner)[DEEPER:-DEEPER] + b"\n"
    if len(line) > LINE_BYTES:
        raise ValueError(f"it has {len(line):,} bytes as JSON; at most {LINE_BYTES:,} can be kept")
    return line


def described(error: BaseException, path: str) -> str:
    """Say what an error is, and where in the file it came up."""
    if isinstance(error, StepError):
        return _sayable(str(error)[:MESSAGE])
    text = "".join(traceback.format_exception_only(error)).strip()
    frames = [each for each in traceback.extract_tb(error.__traceback__) if each.filename == path]
    where = [f"  {each.filename}:{each.lineno} in {each.name}: {each.line}" for each in frames]
    return _sayable("\n".join([text[:MESSAGE], *where[-FRAMES:]]))


def _sayable(text: str) -> str:
    """Give text that JSON can hold: a file name that is no UTF-8 may be in it."""
    return text.encode(errors="backslashreplace").decode()


def load(start: Start) -> Callable[..., Awaitable[Any]]:
    """Run the file's text and give the workflow in it."""
    full = Path(start.cwd, start.path)
    sys.path[:0] = [str(full.parent), start.cwd]
    lines = start.source.splitlines(keepends=True)
    linecache.cache[start.path] = (len(start.source), None, lines, start.path)
    module = ModuleType(MODULE)
    module.__file__ = str(full)
    sys.modules[MODULE] = module
    code = compile(start.source, start.path, "exec", dont_inherit=True)
    exec(code, module.__dict__)  # noqa: S102  # this is what it is for
    found = {
        id(each): each  # it may have two names
        for each in vars(module).values()
        if getattr(each, MARK, False) is True and getattr(each, "__module__", "") == MODULE
    }
    if len(found) != 1:
        raise ImportError(f"it has {len(found) or 'no'} functions with @workflow; it needs one")
    function: Callable[..., Awaitable[Any]] = next(iter(found.values()))
    return function


async def run(daemon: Daemon, start: Start) -> None:
    """Run the workflow, and say what it came to."""
    daemon.listen()
    try:
        function = load(start)
    except BaseException as error:  # noqa: BLE001  # whatever it is, it is the file's
        daemon.say(Failed("broken_definition", described(error, start.path)))
        _print(error, start.path)
        return
    try:
        daemon.say(Done(await function(Run(daemon, start), **start.args)))
    except BaseException as error:  # noqa: BLE001  # sys.exit() is no good end either
        failed = _of_a_step(error)
        if failed is not None:
            daemon.say(Failed(failed.code, described(failed, start.path), failed.step_id))
            return
        daemon.say(Failed("exception", described(error, start.path)))
        _print(error, start.path)


def _of_a_step(error: BaseException) -> StepError | None:
    """Give the failure of a step that an error is, or that a TaskGroup has put into a group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error if isinstance(error, StepError) else None


def _print(error: BaseException, path: str) -> None:
    """Show an error as Python does, from the file on."""
    shown = error.__traceback__
    while shown is not None and shown.tb_frame.f_code.co_filename != path:
        shown = shown.tb_next
    traceback.print_exception(type(error), error, shown or error.__traceback__)


def main() -> None:
    """Keep the pipes to the daemon to ourselves, and run the workflow."""
    heard, said = os.dup(0), os.dup(1)
    with open(os.devnull, "rb") as nothing:  # noqa: PTH123
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)  # what the workflow and its programs print is none of ours
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    start = first(heard)

    async def converse() -> None:
        await run(Daemon(heard, said, start.path), start)

    asyncio.run(converse())


if __name__ == "__main__":
    main()
