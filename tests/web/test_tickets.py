"""Tickets: what lets a browser in without a token in the URL."""

from __future__ import annotations

import json

import pytest
from support import written

from daemon.core.commands import Caller
from daemon.core.errors import BadRequest, RateLimited, Unauthorized
from daemon.web.tickets import LIFETIME, MAX_TICKETS, Tickets

ANYBODY = Caller("tester", (("read", "*"),), 10_000.0)


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


async def ticket(running, path, **token):
    async with running.http.post(
        f"{running.url}/api/tickets", json={"path": path}, headers=running.headers(**token)
    ) as response:
        assert response.status == 201
        return await response.json()


def test_a_ticket_lets_its_caller_in_once():
    tickets = Tickets(Clock())
    issued = tickets.issue(ANYBODY, "/ws")
    assert tickets.redeem(issued.ticket, "/ws") is ANYBODY
    with pytest.raises(Unauthorized, match="used"):
        tickets.redeem(issued.ticket, "/ws")


def test_a_ticket_is_for_one_path_and_is_used_up_where_it_is_wrong():
    tickets = Tickets(Clock())
    issued = tickets.issue(ANYBODY, "/ws")
    with pytest.raises(Unauthorized, match="another path"):
        tickets.redeem(issued.ticket, "/api/events")
    with pytest.raises(Unauthorized):
        tickets.redeem(issued.ticket, "/ws")


def test_a_ticket_expires_and_never_outlives_its_token():
    clock = Clock()
    tickets = Tickets(clock)
    late = tickets.issue(ANYBODY, "/ws")
    assert late.expires_at == clock.now + LIFETIME
    clock.now += LIFETIME
    with pytest.raises(Unauthorized, match="expired"):
        tickets.redeem(late.ticket, "/ws")
    assert tickets.issue(Caller("x", (), clock.now + 1), "/ws").expires_at == clock.now + 1


def test_tickets_that_nobody_uses_are_bounded_and_forgotten():
    clock = Clock()
    tickets = Tickets(clock)
    for _ in range(MAX_TICKETS):
        tickets.issue(ANYBODY, "/ws")
    with pytest.raises(RateLimited):
        tickets.issue(ANYBODY, "/ws")
    clock.now += LIFETIME
    tickets.issue(ANYBODY, "/ws")
    assert len(tickets._waiting) == 1


@pytest.mark.parametrize("path", ["", "ws", "/ws?x=1", "/ws#x", "/" + "x" * 3000])
def test_what_is_no_path_is_refused(path):
    with pytest.raises(BadRequest):
        Tickets().issue(ANYBODY, path)


async def test_a_websocket_opens_with_a_ticket_and_ends_with_the_token_behind_it(running):
    issued = await ticket(running, "/ws", user="ann", ttl=0.8)
    async with running.http.ws_connect(f"{running.url}/ws?ticket={issued['ticket']}") as ws:
        hello = await ws.receive_json()
        assert (hello["type"], hello["data"]["userId"]) == ("global.connected", "ann")
        while not ws.closed:
            await ws.receive(30)
        assert ws.close_code == 4401
    async with running.http.ws_connect(f"{running.url}/ws?ticket={issued['ticket']}") as again:
        refusal = await again.receive_json()
        assert refusal["data"]["code"] == "unauthorized"
        assert "POST /api/tickets" in refusal["data"]["message"]


async def test_events_and_downloads_open_with_a_ticket(running):
    await written(running, 3)
    issued = await ticket(running, "/api/events")
    url = f"{running.url}/api/events?channel=session:1&since=0&ticket={issued['ticket']}"
    async with running.http.get(url) as response:
        assert response.status == 200
        async for line in response.content:
            if line.startswith(b"data:"):
                assert json.loads(line[5:])["offset"] == 1
                break
    path = "/api/channels/session:1/events/2"
    issued = await ticket(running, path)
    async with running.http.get(f"{running.url}{path}?ticket={issued['ticket']}") as response:
        assert (await response.json())["offset"] == 2
    async with running.http.get(f"{running.url}{path}?ticket={issued['ticket']}") as response:
        assert response.status == 401


async def test_a_ticket_grants_what_its_token_grants(running):
    await written(running, 1)
    issued = await ticket(running, "/api/events", scope="read:project:*")
    url = f"{running.url}/api/events?channel=session:1&ticket={issued['ticket']}"
    async with running.http.get(url) as response:
        assert response.status == 403


async def test_a_ticket_is_asked_for_with_a_token_and_a_path(running):
    for headers, body, status, code in (
        ({}, {"path": "/ws"}, 401, "unauthorized"),
        (running.headers(), {}, 400, "bad_request"),
        (running.headers(), {"path": 7}, 400, "bad_request"),
        (running.headers(), {"path": "/ws", "uses": 2}, 400, "bad_request"),
    ):
        url = f"{running.url}/api/tickets"
        async with running.http.post(url, json=body, headers=headers) as response:
            assert (response.status, (await response.json())["error"]["code"]) == (status, code)
