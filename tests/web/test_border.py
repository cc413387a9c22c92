"""What is around every request: its id, its failures, and pages of other origins."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

PAGE = "https://tools.example"


@pytest.fixture
async def allowing(start_daemon):
    """Run a daemon that allows the page."""
    return await start_daemon(SERVER__ORIGINS=PAGE)


async def test_every_answer_has_the_id_of_its_request(running):
    for path in ("/health", "/nothing", "/api/sessions", "/api/events?channel=project:none"):
        async with running.http.get(running.url + path) as response:
            assert response.headers["X-Request-Id"]
    async with running.http.ws_connect(running.url + "/ws") as ws:
        assert ws._response.headers["X-Request-Id"]


@pytest.mark.parametrize(
    ("brought", "kept"), [("deploy-7.3", True), ("", False), ("x" * 65, False), ("a b", False)]
)
async def test_a_client_may_bring_an_id_of_its_own(running, brought, kept):
    headers = {"X-Request-Id": brought}
    async with running.http.get(f"{running.url}/health", headers=headers) as response:
        assert (response.headers["X-Request-Id"] == brought) is kept


async def test_a_failure_here_is_told_by_the_id_that_the_log_has(running, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(running.daemon._dispatcher, "call_with", broken)
    headers = {**running.headers(), "X-Request-Id": "mine"}
    with capture_logs() as lines:
        async with running.http.get(f"{running.url}/api/sessions", headers=headers) as response:
            error = (await response.json())["error"]
    assert (response.status, error["code"]) == (500, "internal")
    assert error["details"]["errorId"] == "mine"
    (logged,) = (line for line in lines if line["event"] == "internal")
    assert logged["error_id"] == "mine"


async def test_debug_tells_each_request_and_never_its_query(running):
    with capture_logs() as lines:
        async with running.http.get(f"{running.url}/api/sessions?token=secret") as response:
            assert response.status == 401
    (line,) = (line for line in lines if line["event"] == "request")
    assert (line["method"], line["path"], line["status"]) == ("GET", "/api/sessions", 401)
    assert "secret" not in repr(lines)


async def test_an_allowed_page_may_ask_first_and_read_the_answer(allowing):
    asks = {
        "Origin": PAGE,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    url = f"{allowing.url}/api/sessions"
    async with allowing.http.options(url, headers=asks) as response:
        assert response.status == 204
        assert response.headers["Access-Control-Allow-Origin"] == PAGE
        assert "POST" in response.headers["Access-Control-Allow-Methods"]
        assert "Authorization" in response.headers["Access-Control-Allow-Headers"]
    async with allowing.http.get(url, headers={**allowing.headers(), "Origin": PAGE}) as response:
        assert response.status == 200
        assert response.headers["Access-Control-Allow-Origin"] == PAGE
        assert response.headers["Vary"] == "Origin"


async def test_no_other_page_is_told_anything(allowing):
    for origin in ("https://evil.example", "null"):
        asks = {"Origin": origin, "Access-Control-Request-Method": "GET"}
        async with allowing.http.options(f"{allowing.url}/health", headers=asks) as response:
            assert response.status == 403
            assert "Access-Control-Allow-Origin" not in response.headers
    async with allowing.http.get(f"{allowing.url}/health") as response:
        assert "Access-Control-Allow-Origin" not in response.headers


async def test_a_method_that_is_not_served_says_which_are(running):
    async with running.http.put(f"{running.url}/health") as response:
        assert response.status == 405
        assert "GET" in response.headers["Allow"]
        assert (await response.json())["error"]["code"] == "bad_request"
