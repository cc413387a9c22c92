"""The documents: right types, a tag to ask again with, and a page that reaches nothing else."""

from __future__ import annotations

import base64
import hashlib
import json
import re

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from daemon.web import documents


@pytest.fixture
async def client():
    app = web.Application()
    documents.add_routes(app.router)
    async with TestClient(TestServer(app)) as client:
        yield client


@pytest.mark.parametrize(
    ("path", "media", "begins"),
    [
        ("/openapi.json", "application/json", '{\n  "openapi": "3.1'),
        ("/asyncapi.json", "application/json", '{\n  "asyncapi": "3.0'),
        ("/docs", "text/html", "<!doctype html>"),
        ("/docs/", "text/html", "<!doctype html>"),
    ],
)
async def test_each_document_has_its_type_and_is_asked_for_again_each_time(
    client, path, media, begins
):
    response = await client.get(path)
    assert (response.status, response.content_type, response.charset) == (200, media, "utf-8")
    assert response.headers["Cache-Control"] == "no-cache"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert (await response.text()).startswith(begins)
    head = await client.head(path)
    assert head.headers["Content-Length"] == response.headers["Content-Length"]


@pytest.mark.parametrize("path", documents.FILES)
async def test_who_has_it_already_is_given_nothing(client, path):
    tag = (await client.get(path)).headers["ETag"]
    for offered in (tag, f'"other", {tag}', f"W/{tag}", "*"):
        again = await client.get(path, headers={"If-None-Match": offered})
        assert (again.status, await again.read()) == (304, b""), offered
        assert again.headers["ETag"] == tag
        assert "Content-Type" not in again.headers
    changed = await client.get(path, headers={"If-None-Match": '"of yesterday"'})
    assert changed.status == 200


async def test_a_page_may_run_what_stands_in_it_and_nothing_else(client):
    response = await client.get("/docs")
    text = await response.text()
    rules = dict(
        rule.split(" ", 1) for rule in response.headers["Content-Security-Policy"].split("; ")
    )
    assert rules["default-src"] == rules["frame-ancestors"] == rules["base-uri"] == "'none'"
    for kind in ("script", "style"):
        (inside,) = re.findall(f"<{kind}>(.*?)</{kind}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert rules[f"{kind}-src"] == f"'sha256-{digest}'"
    assert not re.search(r"\son\w+=|\sstyle=|javascript:", text)
    of_json = (await client.get("/openapi.json")).headers["Content-Security-Policy"]
    assert of_json.startswith("default-src 'none'; base-uri")


async def test_a_file_is_read_once_and_not_before_it_is_wanted(monkeypatch):
    read = []

    def noted(name, media):
        read.append(name)
        return documents.Document(b"{}", media, "tag", "default-src 'none'")

    monkeypatch.setattr(documents, "read_document", noted)
    app = web.Application()
    documents.add_routes(app.router)
    assert read == []
    async with TestClient(TestServer(app)) as client:
        for path in ("/openapi.json", "/openapi.json", "/docs", "/docs/"):
            response = await client.get(path)
            assert json.loads(await response.text()) == {}
    assert read == ["openapi.json", "index.html"]
