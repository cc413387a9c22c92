"""Behind a reverse proxy: who asks is not who is connected."""

from __future__ import annotations

import pytest

PROXIES = [
    {"Forwarded": "for=192.0.2.7"},
    {"X-Forwarded-For": "127.0.0.1"},
    {"X-Forwarded-Proto": "https"},
    {"X-Real-IP": "192.0.2.7"},
    {"Via": "1.1 proxy"},
]


@pytest.mark.parametrize("headers", PROXIES, ids=lambda each: next(iter(each)))
@pytest.mark.parametrize("path", ["/metrics", "/docs", "/openapi.json", "/asyncapi.json", "/none"])
async def test_what_a_proxy_hands_on_needs_a_token(running, path, headers):
    async with running.http.get(running.url + path, headers=headers) as answer:
        assert answer.status == 401
        assert (await answer.json())["error"]["code"] == "unauthorized"
    async with running.http.get(running.url + path, headers=headers | running.headers()) as answer:
        assert answer.status == (404 if path == "/none" else 200)


async def test_metrics_want_an_admin_behind_a_proxy(running):
    headers = {"X-Forwarded-For": "127.0.0.1"} | running.headers(scope="read:*")
    async with running.http.get(f"{running.url}/metrics", headers=headers) as answer:
        assert answer.status == 403


async def test_a_ticket_opens_what_a_proxy_hands_on(running):
    url = f"{running.url}/api/tickets"
    async with running.http.post(
        url, json={"path": "/metrics"}, headers=running.headers()
    ) as answer:
        ticket = (await answer.json())["ticket"]
    for status in (200, 401):
        async with running.http.get(
            f"{running.url}/metrics?ticket={ticket}", headers=PROXIES[0]
        ) as answer:
            assert answer.status == status


@pytest.mark.parametrize("headers", PROXIES, ids=lambda each: next(iter(each)))
async def test_health_is_open_to_all(running, headers):
    async with running.http.get(f"{running.url}/health", headers=headers) as answer:
        assert answer.status == 200
