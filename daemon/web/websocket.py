"""The handshake of a WebSocket, as every door that has one takes it."""

from __future__ import annotations

from aiohttp import web

from daemon.core.errors import BadRequest


async def accept(
    request: web.Request, *, max_bytes: int, protocols: tuple[str, ...] = ()
) -> web.WebSocketResponse:
    """Take a WebSocket in, one whose frames are ours to write and to answer.

    It never compresses, since frames are shared, and a compressor costs a client 300 KB. A message
    over `max_bytes` ends it with 1009. HTTPBadRequest where the request is no handshake.
    """
    ws = web.WebSocketResponse(
        autoclose=False,
        heartbeat=None,
        autoping=False,
        compress=False,
        max_msg_size=max_bytes + 1,
        writer_limit=0,
        protocols=protocols,
    )
    if not _is_handshake(ws, request):
        raise web.HTTPBadRequest(
            reason="this is for WebSocket clients, version 13; read with /api/events",
            headers={"Sec-WebSocket-Version": "13"},
        )
    try:
        await ws.prepare(request)
    except ConnectionError:
        raise BadRequest("the handshake broke off") from None
    return ws


def _is_handshake(ws: web.WebSocketResponse, request: web.Request) -> bool:
    try:
        return bool(ws.can_prepare(request))
    except ValueError:  # a key that is no ASCII
        return False
