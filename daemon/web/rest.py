"""HTTP: every command as a resource, history, events, health and metrics."""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from daemon.core import frames
from daemon.core.channel_log import ChannelLog
from daemon.core.channels import is_id, is_pattern, parse_channel
from daemon.core.commands import Caller, Dispatcher
from daemon.core.errors import BadRequest, NotFound, Unauthorized
from daemon.core.events import Attachment, Content
from daemon.core.health import Health
from daemon.core.journal import Journal
from daemon.core.registry import Registry
from daemon.web.answers import json_answer
from daemon.web.auth import Admission, is_forwarded
from daemon.web.border import check_conditions, read_body
from daemon.web.http_connection import while_client_stays
from daemon.web.metrics import Sample, exposition
from daemon.web.public_path import PublicPath
from daemon.web.sse import EventStreams
from daemon.web.tickets import TicketRequest, Tickets
from daemon.web.uploads import harmless

HISTORY_LIMIT = 1000
HISTORY_BYTES = 1 << 20
"""Most events, and about the most bytes, of one page of history."""

CREATING = ("create", "add")
"""Commands that make a resource: POST on the collection, answered with 201 and Location."""


class Rest:
    """The HTTP side of the daemon."""

    def __init__(
        self,
        *,
        registry: Registry,
        dispatcher: Dispatcher,
        journal: Journal,
        admission: Admission,
        tickets: Tickets,
        streams: EventStreams,
        public: PublicPath,
        health: Callable[[], Health],
        metrics: Callable[[], Iterable[Sample]],
    ) -> None:
        """Serve these; the routes come with `add_routes`."""
        self._dispatcher = dispatcher
        self._journal = journal
        self._admission = admission
        self._tickets = tickets
        self._streams = streams
        self._public = public
        self._health = health
        self._metrics = metrics
        self._commands = registry.commands
        self._nouns = registry.nouns
        self._domains = {noun.many: domain for domain, noun in registry.nouns.items()} | {
            noun.one: domain for domain, noun in registry.nouns.items()
        }

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Put the routes."""
        router.add_get("/health", self._get_health)
        router.add_get("/metrics", self._get_metrics)
        router.add_get("/api/events", self._get_events, allow_head=False)  # it has no end
        router.add_get("/api/channels/{channel}/history", self._get_history)
        router.add_get("/api/channels/{channel}/events/{offset}", self._get_whole)
        router.add_post("/api/tickets", self._post_ticket)
        router.add_get("/api/{resource}", self._get_list)
        router.add_get("/api/{resource}/{id}", self._get_one)
        router.add_get("/api/{resource}/{id}/{command}", self._get_part)
        router.add_post("/api/{resource}", self._create)
        router.add_post("/api/{resource}/{command}", self._post)
        router.add_post("/api/{resource}/{id}/{command}", self._post)

    # Open doors

    async def _get_health(self, _: web.Request) -> web.Response:
        health = self._health()
        return json_answer(health, status=503 if health.status in ("starting", "draining") else 200)

    async def _get_metrics(self, request: web.Request) -> web.Response:
        if not _from_here(request) or is_forwarded(request.headers):
            self._caller(request).require("admin", "global")
        return web.Response(text=exposition(self._metrics()), content_type="text/plain")

    # Channels

    async def _get_events(self, request: web.Request) -> web.StreamResponse:
        return await self._streams.handle(request, self._caller(request))

    async def _get_history(self, request: web.Request) -> web.Response:
        where = self._channel(request)
        since = _number(request, "since", 0)
        limit = min(_number(request, "limit", HISTORY_LIMIT), HISTORY_LIMIT)
        after = max(since, where.oldest - 1)
        framed: list[bytes] = []
        if after < where.flushed:
            framed = await self._journal.page(where, after, HISTORY_BYTES)
        framed = framed[: min(limit, max(0, where.flushed - after))]
        events = b",".join(frames.payload(each) for each in framed)
        head = {
            "channel": where.name,
            "epoch": where.epoch,
            "oldest": where.oldest,
            "offset": where.flushed,
            "next": after + len(framed),
        }
        body = b'%b,"events":[%b]}' % (frames.encode(head)[:-1], events)
        return web.Response(body=body, content_type="application/json")

    async def _get_whole(self, request: web.Request) -> web.Response:
        where = self._channel(request)
        text = request.match_info["offset"]
        offset = int(text) if text.isascii() and text.isdigit() and len(text) <= 12 else 0
        if not where.oldest <= offset <= where.flushed:
            raise NotFound(f"{where.name} keeps the offsets {where.oldest} to {where.flushed}")
        body = await self._journal.whole(where, offset)
        if body is None:
            page = await self._journal.page(where, offset - 1, 1)
            body = frames.payload(page[0]) if page else b""
        if not body:
            raise NotFound(f"{where.name} no longer keeps the offset {offset}")
        return web.Response(body=body, content_type="application/json")

    def _channel(self, request: web.Request) -> ChannelLog:
        caller = self._caller(request)
        name = parse_channel(request.match_info["channel"])
        caller.require("read", name)
        where = None if is_pattern(name) else self._journal.get(name)
        if where is None:
            raise NotFound(f"there is no channel {name}")
        return where

    # Tickets

    async def _post_ticket(self, request: web.Request) -> web.Response:
        caller = self._caller(request)
        try:
            asked = msgspec.convert(await _body(request), TicketRequest)
        except msgspec.ValidationError as error:
            raise BadRequest(f"the body does not fit: {error}") from None
        return json_answer(
            self._tickets.issue(caller, self._public.inner(asked.path) or asked.path), status=201
        )

    # Commands

    async def _get_list(self, request: web.Request) -> web.StreamResponse:
        return await self._read(request, "list")

    async def _get_one(self, request: web.Request) -> web.StreamResponse:
        return await self._read(request, "get")

    async def _get_part(self, request: web.Request) -> web.StreamResponse:
        return await self._read(request, request.match_info["command"])

    async def _read(self, request: web.Request, verb: str) -> web.StreamResponse:
        caller = self._caller(request)
        declared = self._commands.get(f"{self._domain(request)}.{verb}")
        if declared is None or declared.__command__.action != "read":
            raise NotFound(f"there is no {request.path[:200]} to read; commands are POSTed")
        return await self._run(request, caller, verb, dict(request.query))

    async def _create(self, request: web.Request) -> web.StreamResponse:
        caller = self._caller(request)  # who is nobody has no body read
        domain = self._domain(request)
        verb = next((verb for verb in CREATING if f"{domain}.{verb}" in self._commands), "create")
        return await self._run(request, caller, verb, await _body(request))

    async def _post(self, request: web.Request) -> web.StreamResponse:
        caller = self._caller(request)
        return await self._run(request, caller, request.match_info["command"], await _body(request))

    async def _run(
        self, request: web.Request, caller: Caller, verb: str, data: dict[str, Any]
    ) -> web.StreamResponse:
        domain = self._domain(request)
        noun = self._nouns[domain]
        name = f"{domain}.{verb}"
        for credential in ("token", "ticket"):
            data.pop(credential, None)
        if "id" in request.match_info:
            id_ = request.match_info["id"]
            if not is_id(id_):
                raise NotFound(f"there is no {noun.key} {id_[:80]!r}")
            data[f"{noun.key}Id"] = id_
        if request.method == "POST":
            answered = self._dispatcher.call(name, frames.encode(data), caller)
        else:
            answered = self._dispatcher.call_with(name, data, caller)
        if isinstance(answered, msgspec.Struct):
            answer = answered
        elif self._dispatcher.looks(name):  # nobody else needs its answer
            answer = await while_client_stays(request, answered)
        else:
            answer = await answered
        if isinstance(answer, Attachment) and request.method == "GET":
            check_conditions(request)
            return _file(answer)
        if isinstance(answer, Content) and request.method == "GET":
            body = base64.b64decode(answer.data)
            return web.Response(body=body, headers=harmless(answer.media_type))
        if verb not in CREATING:
            return json_answer(answer)
        id_ = getattr(answer, f"{noun.key}_id", "")
        location = f"{self._public.before(request)}/api/{noun.many}/{id_}"
        return json_answer(answer, status=201, headers={"Location": location})

    def _domain(self, request: web.Request) -> str:
        resource = request.match_info["resource"]
        domain = self._domains.get(resource)
        if domain is None:
            known = ", ".join(sorted(f"/api/{noun.many}" for noun in self._nouns.values()))
            raise NotFound(f"there is no /api/{resource[:80]}; there is: {known}")
        return domain

    def _caller(self, request: web.Request) -> Caller:
        caller = self._admission.caller(request)
        if caller is None:
            raise Unauthorized("a token is needed: send 'Authorization: Bearer $(agentcmd token)'")
        return caller


def _file(answer: Attachment) -> web.FileResponse:
    """Send the file that an answer is about."""
    path = Path(answer.path)
    if not path.is_file():
        raise NotFound(f"the file {path.name} was removed")
    disposition = f'attachment; filename="{path.name}"'
    headers = {
        "Content-Type": answer.media_type,
        "Content-Disposition": disposition,
        "X-Content-Type-Options": "nosniff",
    }
    return web.FileResponse(path, headers=headers)


async def _body(request: web.Request) -> dict[str, Any]:
    """Read a JSON object; an empty body is an empty one."""
    raw = await read_body(request)
    if not raw.strip():
        return {}
    try:
        return msgspec.json.decode(raw, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"the body is not a JSON object: {error}") from None


def _number(request: web.Request, name: str, default: int) -> int:
    text = request.query.get(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise BadRequest(f"{name} is a whole number from 0")
    return int(text)


def _from_here(request: web.Request) -> bool:
    """Tell whether a request comes over a Unix socket or from a loopback address."""
    if not request.remote:
        return True
    try:
        return ipaddress.ip_address(request.remote).is_loopback
    except ValueError:
        return False
