"""A model server on loopback: speaks the Messages API and answers as the prompt's script says.

The prompt of a turn is `script: ` and a JSON list with one item for each request of that turn. An
item is a list of blocks (`{"text": ...}`, `{"thinking": ...}`, `{"tool": name, "input": {...}}`,
`{"repeat": N, "text": ...}`), or what goes wrong: `{"status": 529}`, `{"drop": true}`,
`{"stall": seconds}`. Any other prompt is answered with itself.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import Any, Self

from aiohttp import web

ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    529: "overloaded_error",
}
SCRIPT = "script: "
PIECE = 1000
"""Characters of one delta."""

INPUT_TOKENS, OUTPUT_TOKENS = 100, 10
"""What every answer claims to have used."""


class Model:
    """The server; `requests` has the decoded body of every request that asked for an answer."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self._numbers = itertools.count(1)
        self._port = 0

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=64 << 20)
        app.router.add_post("/v1/messages", self._messages)
        app.router.add_post("/v1/messages/count_tokens", self._count)
        app.router.add_route("*", "/{rest:.*}", self._nothing)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    async def _nothing(self, _: web.Request) -> web.Response:
        return web.json_response({})

    async def _count(self, _: web.Request) -> web.Response:
        return web.json_response({"input_tokens": INPUT_TOKENS})

    async def _messages(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        self.requests.append(asked)
        step = _step(asked["messages"])
        if isinstance(step, dict) and "stall" in step:
            await asyncio.sleep(step["stall"])
            step = [{"text": "late"}]
        if isinstance(step, dict) and "status" in step:
            kind = ERRORS[step["status"]]
            error = {"type": kind, "message": step.get("message", f"the script says {kind}")}
            return web.json_response({"type": "error", "error": error}, status=step["status"])
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        dropped = isinstance(step, dict)
        blocks = [{"text": "half a sen"}] if dropped else step
        await self._stream(answer, asked.get("model", ""), blocks, dropped=dropped)
        if dropped and request.transport is not None:
            request.transport.abort()
        return answer

    async def _stream(
        self, answer: web.StreamResponse, model: str, blocks: list[dict[str, Any]], *, dropped: bool
    ) -> None:
        async def send(kind: str, **data: Any) -> None:
            body = json.dumps({"type": kind, **data})
            await answer.write(f"event: {kind}\ndata: {body}\n\n".encode())

        usage = {"input_tokens": INPUT_TOKENS, "output_tokens": 1}
        message = {
            "id": f"msg_{next(self._numbers):06}",
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage,
        }
        await send("message_start", message=message)
        for index, block in enumerate(blocks):
            start, deltas = self._block(block)
            await send("content_block_start", index=index, content_block=start)
            for delta in deltas:
                await send("content_block_delta", index=index, delta=delta)
            if dropped:
                return
            await send("content_block_stop", index=index)
        reason = "tool_use" if any("tool" in block for block in blocks) else "end_turn"
        await send(
            "message_delta",
            delta={"stop_reason": reason, "stop_sequence": None},
            usage={"output_tokens": OUTPUT_TOKENS},
        )
        await send("message_stop")

    def _block(self, block: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        if "tool" in block:
            start = {
                "type": "tool_use",
                "id": f"toolu_{next(self._numbers):06}",
                "name": block["tool"],
                "input": {},
            }
            text = json.dumps(block.get("input", {}))
            return start, [{"type": "input_json_delta", "partial_json": text}]
        if "thinking" in block:
            deltas = [
                {"type": "thinking_delta", "thinking": part} for part in _parts(block["thinking"])
            ]
            deltas.append({"type": "signature_delta", "signature": "c2lnbmVk"})
            return {"type": "thinking", "thinking": "", "signature": ""}, deltas
        text = block["text"] * block.get("repeat", 1)
        return (
            {"type": "text", "text": ""},
            [{"type": "text_delta", "text": part} for part in _parts(text)],
        )


def script(*steps: Any) -> str:
    """Write a prompt: one item for each request of the turn."""
    return SCRIPT + json.dumps(steps)


def _parts(text: str) -> list[str]:
    return [text[at : at + PIECE] for at in range(0, len(text), PIECE)]


def _step(messages: list[dict[str, Any]]) -> Any:
    """Find the item of the last script that is due: one for every answer since."""
    for at in range(len(messages) - 1, -1, -1):
        for text in _texts(messages[at]):
            if messages[at]["role"] == "user" and text.startswith(SCRIPT):
                # Only the JSON: the program may add text of its own behind it.
                steps, _ = json.JSONDecoder().raw_decode(text[len(SCRIPT) :])
                done = sum(each["role"] == "assistant" for each in messages[at + 1 :])
                return steps[done] if done < len(steps) else [{"text": "the script has ended"}]
    said = [text for each in messages if each["role"] == "user" for text in _texts(each)]
    return [{"text": f"you said: {said[-1] if said else 'nothing'}"}]


def _texts(message: dict[str, Any]) -> list[str]:
    content = message["content"]
    if isinstance(content, str):
        return [content]
    return [block["text"] for block in content if block.get("type") == "text"]
