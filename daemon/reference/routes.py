"""What is served over HTTP, one `Route` each: every command in its place, and the fixed doors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from daemon.core.errors import AgentcmdError, error_classes
from daemon.core.events import Answer, Attachment, Command, Content
from daemon.core.health import Health
from daemon.core.registry import Registry
from daemon.reference.docstrings import first_line, rest
from daemon.reference.schemas import Schema
from daemon.web.rest import CREATING, HISTORY_LIMIT
from daemon.web.tickets import TicketIssued, TicketRequest
from daemon.web.uploads import UploadKept

JSON = "application/json"
ANY = "*/*"
"""An image is what it is, anything else `application/octet-stream`."""

DOOR = "door"
"""Tag of what is no command of a domain."""

OFFSET: Schema = {"type": "integer", "minimum": 0, "maximum": 10**18 - 1}
ID: Schema = {"type": "string", "pattern": r"^[A-Za-z0-9_.\-]{1,128}$"}
CHANNEL: Schema = {"type": "string", "pattern": r"^[a-z*][A-Za-z0-9_.:*\-]*$"}

READING = (400, 401, 403, 404, 409, 413, 500, 503)
WRITING = (400, 401, 403, 404, 409, 413, 429, 500, 503)
"""What any command may be refused with; a POST has a body, which may be too large."""


class EventMessage(Answer):
    """An event as every door tells it; AsyncAPI has the data of each type."""

    channel: str
    type: str
    data: dict[str, Any]
    offset: int
    ts: float


class HistoryPage(Answer):
    """A page of a channel's history: the events after `since`, the oldest first."""

    channel: str
    epoch: str
    oldest: int
    offset: int
    next: int
    events: list[EventMessage]


class Parameter(NamedTuple):
    """One parameter of a path or a query."""

    name: str
    place: str
    sentence: str
    schema: Schema
    required: bool = False


class Reply(NamedTuple):
    """One good answer; `content` is a structure of JSON, or a schema of another `media`."""

    status: int
    sentence: str
    content: type | Schema | None = None
    media: str = JSON


class Route(NamedTuple):
    """One thing that HTTP serves; `grant` says what a token needs, where it needs more than be.

    `file` has the media types of a body that is a file.
    """

    name: str
    method: str
    path: str
    tag: str
    summary: str
    replies: tuple[Reply, ...]
    refusals: tuple[int, ...]
    description: str = ""
    parameters: tuple[Parameter, ...] = ()
    body: type | None = None
    file: tuple[str, ...] = ()
    command: type[Command] | None = None
    id_field: str = ""
    grant: str = ""
    anybody: bool = False


OPEN = (403, 500)
"""Refusals of what needs no token: a strange Host or Origin, and our own failures."""

TEXT: Schema = {"type": "string"}
OBJECT: Schema = {"type": "object"}
ON_CHANNEL = Parameter("channel", "path", "A channel, as in `session:ID`.", CHANNEL, required=True)
UNCHANGED = Reply(304, "It is what the `ETag` in `If-None-Match` stands for.")

DOORS = (
    Route(
        name="health",
        method="GET",
        path="/health",
        tag=DOOR,
        summary="Tell how the daemon is; needs no token.",
        replies=(
            Reply(200, "It serves, or is degraded: it serves, but the disk refuses.", Health),
            Reply(503, "It starts or drains.", Health),
        ),
        refusals=OPEN,
        anybody=True,
    ),
    Route(
        name="metrics",
        method="GET",
        path="/metrics",
        tag=DOOR,
        summary="Tell the metrics, as Prometheus reads them.",
        description="Open on loopback; from elsewhere, and with a header of a reverse proxy, a "
        "token with `admin` is needed.",
        replies=(Reply(200, "Prometheus text format 0.0.4.", TEXT, "text/plain"),),
        refusals=(401, 403, 500),
        grant="admin on global, from elsewhere than loopback",
        anybody=True,
    ),
    Route(
        name="events",
        method="GET",
        path="/api/events",
        tag=DOOR,
        summary="Stream channels as Server-Sent Events, without end.",
        description="Each `data:` is a message as WebSocket clients get it. Each `id:` resumes all "
        "channels after it, as `Last-Event-ID`. `since` is one offset for all channels. A resumed "
        "stream goes on without channels that have gone, each a `global.subscription_error`.",
        replies=(Reply(200, "The stream.", TEXT, "text/event-stream"),),
        refusals=(400, 401, 403, 404, 429, 500, 503),
        parameters=(
            Parameter(
                "channel",
                "query",
                "The channels or patterns to follow, each as a parameter of its own.",
                {"type": "array", "items": CHANNEL, "minItems": 1},
                required=True,
            ),
            Parameter("since", "query", "Begin after this offset; without it, live.", OFFSET),
        ),
        grant="read on each channel",
    ),
    Route(
        name="history",
        method="GET",
        path="/api/channels/{channel}/history",
        tag=DOOR,
        summary="Read a page of a channel's history.",
        description="A page ends at its limit, or at about 1 MiB. The last page has no events, "
        "and its `next` is where you are.",
        replies=(Reply(200, "The page.", HistoryPage),),
        refusals=(400, 401, 403, 404, 500),
        parameters=(
            ON_CHANNEL,
            Parameter("since", "query", "The events after this offset.", OFFSET | {"default": 0}),
            Parameter(
                "limit",
                "query",
                f"Most events of the page; more than {HISTORY_LIMIT} count as {HISTORY_LIMIT}.",
                OFFSET | {"default": HISTORY_LIMIT},
            ),
        ),
        grant="read on the channel",
    ),
    Route(
        name="event",
        method="GET",
        path="/api/channels/{channel}/events/{offset}",
        tag=DOOR,
        summary="Read one event whole, however large.",
        description="The `href` of an event that was cut (`truncated` is true) leads here.",
        replies=(Reply(200, "The event.", EventMessage),),
        refusals=(400, 401, 403, 404, 500),
        parameters=(
            ON_CHANNEL,
            Parameter("offset", "path", "The event's offset.", OFFSET, required=True),
        ),
        grant="read on the channel",
    ),
    Route(
        name="ticket",
        method="POST",
        path="/api/tickets",
        tag=DOOR,
        summary="Get a ticket, so that no token need stand in a URL.",
        description="It opens the one path that it was asked for, once, within 30 seconds, with "
        "what the token grants: add it as `?ticket=`.",
        replies=(Reply(201, "The ticket.", TicketIssued),),
        refusals=(400, 401, 403, 413, 429, 500),
        body=TicketRequest,
    ),
    Route(
        name="upload",
        method="POST",
        path="/api/uploads",
        tag=DOOR,
        summary="Send a file that is larger than a message: its bytes as the body.",
        description="Or a form (`multipart/form-data`) with it. Name it as `uploadId` in an image "
        "of `session.create` or `session.send_message`, at any door. The largest file is that of "
        "`[upload] file_bytes`; the oldest files make room for newer ones.",
        replies=(Reply(201, "It is kept.", UploadKept),),
        refusals=(400, 401, 403, 413, 429, 500, 503),
        grant="any write",
        file=("application/octet-stream", "multipart/form-data"),
    ),
    Route(
        name="uploaded",
        method="GET",
        path="/api/uploads/{id}",
        tag=DOOR,
        summary="Read an upload: an image as what it is, anything else as bytes to save.",
        description="For its sender, and for those who may read a session that it was sent to.",
        replies=(Reply(200, "The file itself.", TEXT, ANY),),
        refusals=(401, 403, 404, 500),
        parameters=(Parameter("id", "path", "The id of the upload.", ID, required=True),),
    ),
    Route(
        name="openapi",
        method="GET",
        path="/openapi.json",
        tag=DOOR,
        summary="Describe this HTTP interface (OpenAPI 3.1).",
        replies=(Reply(200, "This document.", OBJECT), UNCHANGED),
        refusals=OPEN,
        anybody=True,
    ),
    Route(
        name="asyncapi",
        method="GET",
        path="/asyncapi.json",
        tag=DOOR,
        summary="Describe all messages of `/ws` (AsyncAPI 3.0).",
        replies=(Reply(200, "The AsyncAPI document.", OBJECT), UNCHANGED),
        refusals=OPEN,
        anybody=True,
    ),
    Route(
        name="docs",
        method="GET",
        path="/docs",
        tag=DOOR,
        summary="Show all of this as a page for people, which works offline.",
        replies=(Reply(200, "The page.", TEXT, "text/html"), UNCHANGED),
        refusals=OPEN,
        anybody=True,
    ),
)
"""Every route that is no command."""


def routes(registry: Registry) -> Iterator[Route]:
    """Yield every route: the doors, then the commands by name."""
    yield from DOORS
    for _, command in sorted(registry.commands.items()):
        yield command_route(registry, command)


def command_route(registry: Registry, command: type[Command]) -> Route:
    """Place a command where `daemon.web.rest` serves it."""
    info = command.__command__
    domain, _, verb = info.name.partition(".")
    noun = registry.nouns[domain]
    creates = verb in CREATING
    id_field = f"{noun.key}_id" if f"{noun.key}_id" in command.__struct_fields__ else ""
    reads = info.action == "read" and (bool(id_field) or verb == "list")
    path = f"/api/{noun.many}"
    if creates:
        id_field = ""
    elif id_field:
        path += "/{id}" if verb == "get" else f"/{{id}}/{verb}"
    elif verb != "list":
        path += f"/{verb}"
    return Route(
        name=info.name,
        method="GET" if reads else "POST",
        path=path,
        tag=domain,
        summary=first_line(command),
        description=rest(command),
        replies=(_reply(info.answer, creates=creates, reads=reads),),
        refusals=READING if reads else WRITING,
        parameters=(Parameter("id", "path", f"The id of the {noun.key}.", ID, required=True),)
        if id_field
        else (),
        body=None if reads else command,
        command=command,
        id_field=id_field,
        grant=grant_of(command),
    )


def _reply(answer: type[Answer], *, creates: bool, reads: bool) -> Reply:
    if reads and issubclass(answer, Attachment):
        return Reply(200, "The file itself.", TEXT, answer.media_type)
    if reads and issubclass(answer, Content):
        return Reply(200, "The bytes themselves.", TEXT, ANY)
    return Reply(201 if creates else 200, first_line(answer), answer)


def grant_of(command: type[Command]) -> str:
    """Say what a token must grant for a command."""
    info = command.__command__
    return f"{info.action} on {info.channel.text if info.channel else 'what it is about'}"


def refusals() -> dict[int, list[type[AgentcmdError]]]:
    """Give the errors that have a code of their own, by HTTP status."""
    found: dict[int, list[type[AgentcmdError]]] = {}
    for error in error_classes():
        if "code" in vars(error):  # others only say more precisely what their parent's code says
            found.setdefault(int(error.status), []).append(error)
    return dict(sorted(found.items()))
