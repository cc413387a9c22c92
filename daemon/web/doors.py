"""All doors in one web application: WebSocket, Socket.IO, Server-Sent Events and HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator

from aiohttp import web

from daemon.core.commands import Dispatcher
from daemon.core.fanout import Fanout, Subscriber
from daemon.core.health import Health
from daemon.core.journal import Journal
from daemon.core.registry import Registry
from daemon.core.supervisor import Supervisor
from daemon.core.uploads import Uploads
from daemon.web import documents, metrics
from daemon.web.auth import Admission, AuthSettings, Doorkeeper, Tokens
from daemon.web.border import Border
from daemon.web.gateway import Gateway
from daemon.web.metrics import Sample
from daemon.web.peer import WebSettings
from daemon.web.public_path import PublicPath
from daemon.web.requests import Requests
from daemon.web.rest import Rest
from daemon.web.socketio import SocketIo
from daemon.web.sse import EventStreams
from daemon.web.subscriptions import Subscriptions
from daemon.web.tickets import Tickets
from daemon.web.uploads import UploadRoutes


class Doors:
    """What clients come in by; they share a border, an admission and a count of connections."""

    def __init__(
        self,
        *,
        web_settings: WebSettings,
        auth_settings: AuthSettings,
        doorkeeper: Doorkeeper,
        public: PublicPath,
        tokens: Tokens,
        registry: Registry,
        dispatcher: Dispatcher,
        journal: Journal,
        fanout: Fanout,
        supervisor: Supervisor,
        uploads: Uploads,
        health: Callable[[], Health],
        samples: Callable[[], Iterable[Sample]],
    ) -> None:
        """Put them together; `samples` are the metrics of what is behind them."""
        self._settings = web_settings
        self._samples = samples
        tickets = Tickets()
        admission = Admission(tokens, tickets)
        self.requests = Requests(
            settings=web_settings,
            tokens=tokens,
            subscriptions=Subscriptions(journal, fanout, limit=web_settings.max_subscriptions),
            dispatcher=dispatcher,
            supervisor=supervisor,
        )
        self.gateway = Gateway(
            web_settings=web_settings,
            auth_settings=auth_settings,
            tokens=tokens,
            admission=admission,
            fanout=fanout,
            requests=self.requests,
            crowded=self._crowded,
        )
        self.socketio = SocketIo(
            web_settings=web_settings,
            auth_settings=auth_settings,
            tokens=tokens,
            fanout=fanout,
            requests=self.requests,
            crowded=self._crowded,
        )
        self.streams = EventStreams(journal, fanout, web_settings, crowded=self._crowded)
        rest = Rest(
            registry=registry,
            dispatcher=dispatcher,
            journal=journal,
            admission=admission,
            tickets=tickets,
            streams=self.streams,
            public=public,
            health=health,
            metrics=self._metrics,
        )
        supervisor.start(self.gateway.run(), name="gateway")
        self.application = web.Application(client_max_size=web_settings.max_message_bytes)
        Border(doorkeeper, admission).surround(self.application)
        UploadRoutes(
            uploads, admission, before=public.before, patience=web_settings.stall_timeout
        ).add_routes(self.application.router)
        rest.add_routes(self.application.router)
        documents.add_routes(self.application.router)
        self.application.router.add_get("/ws", self.gateway.handle, allow_head=False)
        if web_settings.socketio:
            self.socketio.add_routes(self.application.router)
            supervisor.start(self.socketio.run(), name="socketio")

    @property
    def connections(self) -> int:
        """Return how many clients with a token are connected, whatever their door."""
        return self.gateway.authenticated + len(self.streams.open) + len(self.socketio.peers)

    def drain(self) -> None:
        """Warn every client that the daemon stops."""
        self.gateway.drain()
        self.socketio.drain()

    async def close(self) -> None:
        """Give the last answers, and end every connection."""
        self.streams.close()
        await self.requests.finish()
        await asyncio.gather(self.gateway.close(), self.socketio.close())

    def _crowded(self) -> bool:
        """Tell whether there are as many connections as there may be."""
        return self.connections >= self._settings.max_connections

    def _metrics(self) -> Iterator[Sample]:
        gateway, socketio = self.gateway, self.socketio
        doors: dict[str, Iterable[Subscriber]] = {
            "websocket": [each for each in gateway.connections if each.caller is not None],
            "socketio": socketio.peers,
            "events": self.streams.open,
        }
        behind = 0
        for door, open_ in doors.items():
            yield Sample(metrics.CONNECTIONS, len(list(open_)), (door,))
            behind += sum(1 for each in open_ if each.behind)
        for door, open_ in doors.items():
            followed = sum(len(each.channels) + len(each.patterns) for each in open_)
            yield Sample(metrics.SUBSCRIPTIONS, followed, (door,))
        yield Sample(metrics.BEHIND, behind)
        yield Sample(metrics.SLOW_CLOSES, gateway.slow_closes + socketio.slow_closes)
        yield Sample(metrics.SENT_BYTES, gateway.sent_bytes + socketio.sent_bytes)
        yield Sample(metrics.COMMANDS, self.requests.under_way)
        yield from self._samples()
