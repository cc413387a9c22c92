"""Behind a path prefix: what we point to leads back to us."""

from __future__ import annotations

import json

import pytest
from aiohttp.test_utils import make_mocked_request
from support import emit_lines

from daemon.core.errors import BadRequest
from daemon.web.public_path import PublicPath, normal_base

BODY = {"agent": "command", "argv": ["true"]}


async def created(running, path="/api/sessions", **headers):
    """Create a session; gives its Location."""
    async with running.http.post(
        running.url + path, json=BODY, headers=running.headers() | headers
    ) as answer:
        assert answer.status == 201
        return answer.headers["Location"]


@pytest.mark.parametrize("base", ["/agents", "/a/b.c/", "/x~y"])
async def test_the_base_path_is_taken_off_and_put_before_what_we_point_to(start_daemon, base):
    running = await start_daemon(SERVER__BASE_PATH=base)
    base = base.rstrip("/")
    for path in (f"{base}/api/sessions", "/api/sessions"):  # the proxy may take it off, or not
        location = await created(running, path)
        assert location.startswith(f"{base}/api/sessions/")
        async with running.http.get(running.url + location, headers=running.headers()) as answer:
            assert answer.status == 200
    async with running.http.get(f"{running.url}{base}/docs") as answer:
        assert answer.status == 200
    for path in (f"{base}x/docs", f"{base}{base}/docs", f"{base}//docs"):
        async with running.http.get(running.url + path) as answer:
            assert answer.status == 404


async def test_every_door_is_there_under_the_base_path(start_daemon):
    running = await start_daemon(SERVER__BASE_PATH="/agents")
    base = f"{running.url}/agents"
    ws = await running.http.ws_connect(f"{base}/ws", headers=running.headers())
    assert json.loads((await ws.receive()).data)["type"] == "global.connected"
    async with running.http.get(f"{base}/socket.io/?EIO=4&transport=polling") as answer:
        assert answer.status == 200
    url = f"{base}/api/events?channel=project:scratch&since=0"
    async with running.http.get(url, headers=running.headers()) as answer:
        assert (answer.status, await answer.content.readline()) == (200, b"retry: 1000\n")
    url = f"{base}/api/tickets"
    for path in ("/agents/api/sessions", "/api/sessions"):
        async with running.http.post(url, json={"path": path}, headers=running.headers()) as answer:
            ticket = (await answer.json())["ticket"]
        async with running.http.get(f"{base}/api/sessions?ticket={ticket}") as answer:
            assert answer.status == 200


async def test_what_an_event_points_to_has_the_base_path(start_daemon):
    running = await start_daemon(SERVER__BASE_PATH="/agents", JOURNAL__EVENT_BYTES="8192")
    emit_lines(running, 1, size=20_000)
    await running.daemon._journal.flushed()
    ws = await running.ws()
    await ws.send("subscribe", {"since": 0}, channel="session:1")
    (told,) = [m for m in await ws.until("session.stream_output") if "offset" in m]
    href = told["data"]["href"]
    assert href.startswith("/agents/api/channels/")
    async with running.http.get(running.url + href, headers=running.headers()) as answer:
        assert len((await answer.json())["data"]["content"]) > 20_000


@pytest.mark.parametrize(
    ("said", "before"),
    [
        ("/agents", "/agents"),
        ("/agents/", "/agents"),
        ("/outer, /inner", "/outer/inner"),
        ("//evil.example", ""),
        ("/\\evil.example", ""),
        ("/..", ""),
        ("/a/../b", ""),
        ("https://evil.example", ""),
        ("/a?b", ""),
        ("/" + "x" * 300, ""),
    ],
)
async def test_a_trusted_proxy_says_what_it_has_taken_off(running, said, before):
    location = await created(running, **{"X-Forwarded-Prefix": said})
    assert location.startswith(f"{before}/api/sessions/")


async def test_a_proxy_that_is_not_trusted_says_nothing(start_daemon):
    running = await start_daemon(SERVER__TRUSTED_PROXIES="10.0.0.0/8")
    location = await created(running, **{"X-Forwarded-Prefix": "/agents"})
    assert location.startswith("/api/sessions/")


def test_a_prefix_in_front_of_the_base_path_counts_where_the_base_path_came():
    public = PublicPath("/agents", ["unix"])
    headers = {"X-Forwarded-Prefix": "/site"}
    came = public.stripped(make_mocked_request("GET", "/agents/ws?a=/agents/b", headers=headers))
    assert (came.path_qs, public.before(came)) == ("/ws?a=/agents/b", "/site/agents")
    bare = public.stripped(make_mocked_request("GET", "/ws", headers=headers))
    assert (bare.path, public.before(bare)) == ("/ws", "/site")


@pytest.mark.parametrize("base", ["agents", "//x", "/..", "/a b", "http://x", "/a?b"])
def test_what_is_no_path_is_no_base_path(base):
    with pytest.raises(BadRequest, match="base_path"):
        normal_base(base)


def test_what_is_no_network_is_no_proxy():
    with pytest.raises(BadRequest, match="trusted_proxies"):
        PublicPath("", ["proxy.example"])
