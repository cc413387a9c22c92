"""agentcmd workflow: workflows of the project here, and their runs: started, watched, steered."""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from daemon.cli.connect import add_connection, client
from daemon.cli.drawing import harmless, took
from daemon.cli.job import note, project_root
from daemon.cli.printing import say, say_json
from daemon.cli.run_output import artifacts, logs
from daemon.cli.runs import pairs, run_of, values, whole_run
from daemon.cli.tasks import table
from daemon.cli.watching import watch as watch_run
from daemon.client import Client
from daemon.core.errors import BadRequest, Conflict

Answer = dict[str, Any]

FOLDER = Path(".agent") / "workflows"
"""Where a project has its workflows."""

ENDINGS = (".yaml", ".yml", ".py")

GIVEN: Any = {"nargs": "*", "default": [], "metavar": "ARG=VALUE"}
"""With a default, for argparse calls them required otherwise where something else is missing."""

STATES = ("queued", "running", "waiting", "paused", "ended")

LISTED = 50
ABOUT = 60
"""Characters of what a line of a table says about something."""


def add_commands(commands: Any) -> None:
    """Add `workflow` and its verbs."""
    top = commands.add_parser(
        "workflow", help="run, watch and steer the workflows of the project here"
    )
    verbs = top.add_subparsers(metavar="VERB", required=True)
    _about_workflows(verbs)
    own = verbs.add_parser("runs", help="the newest runs")
    own.add_argument("--state", choices=STATES, help="only those in this state")
    own.add_argument("--workflow", metavar="W", help="only those of one workflow")
    _finish(own, runs, project=True, as_json=True)
    own = _of_a_run(verbs, "show", show, "one run with its steps", as_json=True)
    own = _of_a_run(verbs, "watch", watch, "follow a run; Ctrl-C leaves it running", as_json=True)
    own = _of_a_run(verbs, "approve", approve, "answer a step that waits for an approval")
    own.add_argument("step", nargs="?", metavar="STEP", help="which, where several wait")
    own.add_argument("--reject", action="store_true", help="do not approve it")
    own.add_argument("--comment", metavar="TEXT", help="what to say to that")
    for verb, help_ in (
        ("cancel", "end a run, and all that runs of it"),
        ("pause", "have a run wait before its next step"),
        ("resume", "have a paused run go on"),
    ):
        _of_a_run(verbs, verb, command, help_, verb=verb)
    own = _of_a_run(
        verbs, "retry", retry, "run an ended run again from the step that failed", as_json=True
    )
    own.add_argument("--watch", action="store_true", help="and follow it")
    own = _mixed(verbs, "fork", "begin a new run with the results of this one up to a step")
    own.add_argument("id", metavar="RUN", help="the run, as runs lists it")
    own.add_argument("step", metavar="STEP", help="the first step to run anew")
    own.add_argument("given", help="arguments that are others now, as those of run", **GIVEN)
    own.add_argument("--watch", action="store_true", help="and follow it")
    _finish(own, fork, as_json=True)
    own = _of_a_run(verbs, "logs", logs, "what the steps of a run have written")
    own.add_argument("step", nargs="?", metavar="STEP", help="only this one, without its name")
    own.add_argument("-f", "--follow", action="store_true", help="go on until the run has ended")
    own = _of_a_run(verbs, "send", send, "give a run an event, for a step that waits for it")
    own.add_argument("event", metavar="EVENT", help="its name")
    own.add_argument("data", nargs="?", metavar="JSON", help="its data")
    own = _of_a_run(verbs, "artifacts", artifacts, "the files kept with a run", as_json=True)
    own.add_argument("name", nargs="?", metavar="NAME", help="the one to write into a file")
    own.add_argument("-o", "--output", metavar="FILE", help="which file (NAME here; - is stdout)")


def _about_workflows(verbs: Any) -> None:
    own = verbs.add_parser("list", help="the workflows, and what is wrong with the broken ones")
    _finish(own, list_, project=True, as_json=True)
    own = verbs.add_parser("validate", help="say what is wrong with workflows")
    own.add_argument("what", nargs="?", metavar="NAME|FILE", help="only this one (all)")
    _finish(own, validate, project=True, as_json=True)
    own = _mixed(verbs, "run", "start a run, and follow it; Ctrl-C cancels it")
    own.add_argument("workflow", metavar="NAME", help="the workflow, as list shows it")
    own.add_argument("given", help="arguments: texts as they are, others JSON", **GIVEN)
    own.add_argument("--key", metavar="IDEMPOTENCY", help="start it once only with this key")
    own.add_argument("--detach", action="store_true", help="print its id, and do not follow it")
    _finish(own, run, project=True, as_json=True)


def _mixed(verbs: Any, name: str, help_: str) -> Any:
    """Add a verb whose ARG=VALUEs may stand before and after options."""
    own = verbs.add_parser(name, help=help_)
    parse, mixed = own.parse_known_args, own.parse_known_intermixed_args

    def parse_mixed(args: Any = None, namespace: Any = None) -> Any:
        own.parse_known_args = parse  # by which the other is done
        return mixed(args, namespace)

    own.parse_known_args = parse_mixed
    return own


def _of_a_run(verbs: Any, name: str, run: Any, help_: str, **more: Any) -> Any:
    own = verbs.add_parser(name, help=help_)
    own.add_argument("id", metavar="RUN", help="the run, as runs lists it")
    _finish(own, run, **more)
    return own


def _finish(
    own: Any, run: Any, *, project: bool = False, as_json: bool = False, **more: Any
) -> None:
    if project:
        own.add_argument("--project", metavar="ID", help="the project (that of this folder)")
    if as_json:
        own.add_argument("--json", action="store_true", help="print JSON")
    add_connection(own)
    own.set_defaults(run=run, **more)


# Workflows


async def list_(args: argparse.Namespace) -> int:
    """List the workflows."""
    async with client(args) as daemon:
        about = {"projectId": args.project or await _project_here(daemon)}
        workflows = (await daemon.call("workflow.list", about))["workflows"]
    if args.json:
        _print_json(workflows)
        return 0
    rows = [("NAME", "FILE", "ARGUMENTS", "ABOUT")]
    rows += [
        (
            harmless(each["id"]),
            harmless(each["path"]),
            " ".join(_arguments(each)) or "-",
            _cut(f"! {each['problem']}" if "problem" in each else _described(each)),
        )
        for each in workflows
    ]
    say(table(rows))
    return 0


def _arguments(workflow: Answer) -> Iterator[str]:
    for name in workflow.get("args", {}):
        yield name if name in workflow.get("required", ()) else f"[{name}]"


def _described(workflow: Answer) -> str:
    return str(workflow.get("description") or workflow.get("name") or "-")


async def validate(args: argparse.Namespace) -> int:
    """Say what is wrong with workflows, in lines as compilers write them."""
    path, name = _meant(args.what)
    asked: Answer = {} if name is None else {"workflow": name}
    if path is not None:
        asked["text"] = await asyncio.to_thread(_text, path)
        asked["language"] = "python" if path.suffix == ".py" else "yaml"
    async with client(args) as daemon:
        asked["projectId"] = args.project or await _project_here(daemon)
        found = (await daemon.call("workflow.validate", asked))["workflows"]
    broken = [each for each in found if "problem" in each or each.get("problems")]
    if args.json:
        _print_json(found)
        return 1 if broken else 0
    for each in found:
        named = each["path"] if path is None else str(path)
        for line in _problems(each, named) if each in broken else (f"{named}: good",):
            say(harmless(line) + "\n")
    if not found:
        note(f"there is no workflow in {FOLDER}")
    return 1 if broken else 0


def _problems(workflow: Answer, named: str) -> Iterable[str]:
    """Give a line for each problem, or for the one that was told."""
    for each in workflow.get("problems", ()):
        allowed = f"; allowed: {', '.join(each['allowed'])}" if each.get("allowed") else ""
        yield f"{named}:{each.get('line', 1)}: {each['message']}{allowed}"
    if not workflow.get("problems"):
        problem = workflow["problem"]
        within = problem.startswith(f"{workflow['path']}:")
        yield named + problem.removeprefix(workflow["path"]) if within else f"{named}:1: {problem}"


def _meant(what: str | None) -> tuple[Path | None, str | None]:
    """Give the file that is meant, or the name of the workflow."""
    if what is None or not (what.endswith(ENDINGS) or Path(what).is_file()):
        return None, what
    return Path(what), Path(what).stem[:200]


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise BadRequest(f"{path} is no UTF-8 text: {error.reason} at byte {error.start}") from None


# Runs


async def run(args: argparse.Namespace) -> int:
    """Start a run, and end as it ends."""
    given = pairs(args.given)

    async def begin(daemon: Client) -> Answer:
        project = args.project or await _project_here(daemon)
        asked: Answer = {
            "projectId": project,
            "workflow": args.workflow,
            "args": await values(daemon, project, args.workflow, given),
        }
        if args.key:
            asked["idempotencyKey"] = args.key
        return await daemon.call("workflow.start", asked)

    async def begin_and_tell(daemon: Client) -> str:
        return str((await begin(daemon))["runId"])

    if not args.detach:
        return await watch_run(args, begin_and_tell, cancels=True)
    async with client(args) as daemon:
        _print_begun(await begin(daemon), as_json=args.json)
    return 0


async def watch(args: argparse.Namespace) -> int:
    """Follow a run."""
    return await _watch(args, args.id)


async def _watch(args: argparse.Namespace, run_id: str) -> int:
    async def known(_: Client) -> str:
        return run_id

    return await watch_run(args, known)


async def runs(args: argparse.Namespace) -> int:
    """List runs."""
    wanted = {"state": args.state, "workflow": args.workflow, "limit": LISTED}
    async with client(args) as daemon:
        wanted["projectId"] = args.project or await _project_here(daemon)
        found = await daemon.call(
            "workflow.runs", {name: value for name, value in wanted.items() if value is not None}
        )
    if args.json:
        _print_json(found["runs"])
        return 0
    rows = [("ID", "WORKFLOW", "STATE", "AGE", "TOOK", "COST", "USER")]
    rows += [
        (
            each["id"],
            harmless(each["workflow"]),
            each["end"]["type"] if "end" in each else each["state"],
            took(time.time() - each["createdAt"]),
            took(each["end"]["durationMs"] / 1000) if "end" in each else "-",
            f"${each['costUsd']:.4f}" if each.get("costUsd") else "-",
            harmless(each["user"]),
        )
        for each in found["runs"]
    ]
    say(table(rows))
    return 0


async def show(args: argparse.Namespace) -> int:
    """Tell about one run."""
    async with client(args) as daemon:
        run, steps = await whole_run(daemon, args.id)
    if args.json:
        _print_json({**run, "steps": steps})
        return 0
    fields = [
        (name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
        for name, value in run.items()
    ]
    say(table([(name, harmless(value)) for name, value in fields]))
    if steps:
        rows = [("STEP", "KIND", "STATE", "TRY", "TOOK", "ABOUT"), *map(_row, steps)]
        say("\n" + table(rows))
    return 0


def _row(step: Answer) -> tuple[str, ...]:
    until = step.get("endedAt")
    ran = until is not None and step["state"] != "skipped"
    result = step.get("result")
    about = step.get("message")
    if about is None and result is not None:
        about = json.dumps(result, ensure_ascii=False)
    return (
        harmless(step["id"]),
        step["kind"],
        step["state"] + (" (the run went on)" if step.get("continued") else ""),
        str(step.get("attempt", 1)),
        took(until - step["startedAt"]) if ran else "-",
        _cut(about or step.get("name") or ""),
    )


async def approve(args: argparse.Namespace) -> int:
    """Answer what a step waits for."""
    asked: Answer = {"runId": args.id, "approved": not args.reject}
    if args.step:
        asked["stepId"] = args.step
    if args.comment:
        asked["comment"] = args.comment
    async with client(args) as daemon:
        await daemon.call("workflow.approve", asked)
    return 0


async def command(args: argparse.Namespace) -> int:
    """Carry out a command that needs the run alone."""
    async with client(args) as daemon:
        await daemon.call(f"workflow.{args.verb}", {"runId": args.id})
    return 0


async def retry(args: argparse.Namespace) -> int:
    """Run again from the step that failed."""
    async with client(args) as daemon:
        answer = await daemon.call("workflow.retry", {"runId": args.id})
    if args.watch:
        return await _watch(args, args.id)
    if args.json:
        _print_json(answer)
    return 0


async def fork(args: argparse.Namespace) -> int:
    """Begin a new run from a step of another; what is not given stays as it was there."""
    asked: Answer = {"runId": args.id, "stepId": args.step}
    given = pairs(args.given)
    async with client(args) as daemon:
        if given:
            earlier = await run_of(daemon, args.id)
            project, workflow = earlier["projectId"], earlier["workflow"]
            replaced = await values(daemon, project, workflow, given)
            asked["args"] = {**earlier.get("args", {}), **replaced}
        answer = await daemon.call("workflow.fork", asked)
    if args.watch:
        return await _watch(args, answer["runId"])
    _print_begun(answer, as_json=args.json)
    return 0


async def send(args: argparse.Namespace) -> int:
    """Give a run an event."""
    asked: Answer = {"runId": args.id, "event": args.event}
    if args.data is not None:
        try:
            asked["data"] = json.loads(args.data)
        except RecursionError:
            raise BadRequest("the data is nested too deeply to be read") from None
        except ValueError as error:
            raise BadRequest(f"the data is not JSON: {error}") from None
    async with client(args) as daemon:
        await daemon.call("workflow.send_event", asked)
    return 0


# Words


async def _project_here(daemon: Client) -> str:
    """Find the project of this folder; a git root or a folder with workflows becomes one."""
    root = project_root(Path.cwd())
    if not (root / ".git").exists():
        around = (root, *root.parents)
        root = next((each for each in around if (each / FOLDER).is_dir()), root)
    for each in (await daemon.call("project.list"))["projects"]:
        if each["path"] == str(root.resolve()):
            return str(each["id"])  # found without the right to add one
    if not ((root / ".git").exists() or (root / FOLDER).is_dir()):
        raise Conflict(f"{root} has no {FOLDER}: go to a project, or name one by --project")
    return str((await daemon.call("project.add", {"path": str(root)}))["projectId"])


def _print_begun(answer: Answer, *, as_json: bool) -> None:
    if as_json:
        _print_json(answer)
    else:
        say(answer["runId"] + "\n")


def _print_json(value: Any) -> None:
    say_json(json.dumps(value, ensure_ascii=False) + "\n")


def _cut(text: str) -> str:
    line = harmless(text)
    return line if len(line) <= ABOUT else f"{line[: ABOUT - 3]}..."
