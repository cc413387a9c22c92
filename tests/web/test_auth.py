"""Who may come in, and how far."""

from __future__ import annotations

import asyncio
import base64
import json
import time

import aiohttp
import jwt
import pytest
from support import Socket, written

from daemon.core.commands import Caller
from daemon.core.errors import BadRequest, Forbidden, Unauthorized
from daemon.web.auth import Doorkeeper, Tokens, load_secret, parse_scope, parse_ttl

SECRET = b"s" * 32


def sign(secret=SECRET, algorithm="HS256", **claims):
    return jwt.encode({"sub": "u", "exp": time.time() + 60, **claims}, secret, algorithm)


# Tokens


def test_a_token_comes_back_as_its_caller():
    tokens = Tokens(SECRET)
    caller = tokens.verify(tokens.mint("me", scope="read:session:* write:project:1"))
    assert caller.sub == "me"
    assert caller.grants == (("read", "session:*"), ("write", "project:1"))


def test_user_id_stands_in_for_sub_as_in_the_seed():
    token = jwt.encode({"userId": 7, "exp": time.time() + 60}, SECRET, "HS256")
    assert Tokens(SECRET).verify(token).sub == "7"


BAD_TOKENS = {
    "empty": lambda: "",
    "junk": lambda: "junk",
    "three parts of junk": lambda: "a.b.c",
    "another secret": lambda: sign(b"x" * 32),
    "expired": lambda: sign(exp=time.time() - 1),
    "expires now": lambda: sign(exp=int(time.time())),
    "another algorithm": lambda: sign(b"s" * 64, "HS512"),
    "no algorithm": lambda: jwt.encode({"sub": "u", "exp": time.time() + 60}, None, "none"),
    "unknown action": lambda: sign(scope="fly:session:*"),
    "no channel": lambda: sign(scope="read:session 1"),
    "not yet good": lambda: sign(nbf=time.time() + 30),
    "a begin that is no time": lambda: sign(nbf="now"),
    "a begin that is no number": lambda: sign(nbf=float("nan")),
    "no exp": lambda: jwt.encode({"sub": "u"}, SECRET, "HS256"),
    "no sub": lambda: jwt.encode({"exp": time.time() + 60}, SECRET, "HS256"),
}


@pytest.mark.parametrize("kind", BAD_TOKENS)
def test_a_token_that_is_not_good_now_is_unauthorized(kind):
    with pytest.raises(Unauthorized):
        Tokens(SECRET).verify(BAD_TOKENS[kind]())


@pytest.mark.parametrize("ahead", [2, 3600, "x"])
def test_when_a_token_was_made_is_not_checked(ahead):
    iat = ahead if ahead == "x" else time.time() + ahead
    assert Tokens(SECRET).verify(sign(iat=iat)).sub == "u"


@pytest.mark.parametrize("begin", [-60, 0, 3])
def test_the_clock_that_a_token_begins_by_may_be_some_seconds_ahead(begin):
    assert Tokens(SECRET).verify(sign(nbf=time.time() + begin)).sub == "u"


def test_issuer_and_audience_are_checked_when_configured():
    tokens = Tokens(SECRET, issuer="me", audience="them")
    assert tokens.verify(tokens.mint("u")).sub == "u"
    for claims in ({"iss": "other", "aud": "them"}, {"iss": "me", "aud": "other"}, {}):
        with pytest.raises(Unauthorized):
            tokens.verify(sign(**claims))


@pytest.mark.parametrize(
    ("scope", "action", "channel", "allowed"),
    [
        ("read:session:*", "read", "session:1", True),
        ("read:session:*", "read", "session:*", True),
        ("read:session:*", "write", "session:1", False),
        ("read:session:1", "read", "session:*", False),
        ("read:*", "read", "*", True),
        ("read:workflow:*", "read", "workflow:run:1", True),
        ("read:workflow:*:1", "read", "workflow:run:1", True),
        ("read:workflow:*:1", "read", "workflow:run:2", False),
        ("read:workflow:*:1", "read", "workflow:*", False),
        ("read:session:*", "read", "*", False),
        ("read:session:*", "read", "session", False),
        ("", "read", "session:1", False),
    ],
)
def test_a_grant_reaches_as_far_as_its_pattern(scope, action, channel, allowed):
    caller = Caller("u", parse_scope(scope), 0.0)
    assert caller.may(action, channel) is allowed


def test_durations_have_a_unit():
    assert parse_ttl("36500d") == 36_500 * 86_400
    with pytest.raises(BadRequest, match="too long"):
        parse_ttl("36501d")
    assert [parse_ttl(t) for t in ("90s", "30m", "12h", "7d")] == [90, 1800, 43200, 604800]
    for text in ("", "12", "h", "-1h", "0s", "1w", "1h30m"):
        with pytest.raises(BadRequest):
            parse_ttl(text)


def test_the_secret_is_made_once_and_for_us_alone(tmp_path):
    first = load_secret(tmp_path, "", {})
    assert load_secret(tmp_path, "", {}) == first
    assert (tmp_path / "jwt.secret").stat().st_mode & 0o777 == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["jwt.secret"]


def test_a_credential_or_a_configured_file_is_the_secret(tmp_path):
    (tmp_path / "agentcmd-secret").write_text("c" * 40)
    (tmp_path / "own").write_text("o" * 40)
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert load_secret(tmp_path, "", environ) == b"c" * 40
    assert load_secret(tmp_path, str(tmp_path / "own"), environ) == b"o" * 40
    (tmp_path / "own").write_text("short")
    with pytest.raises(BadRequest, match="shorter"):
        load_secret(tmp_path, str(tmp_path / "own"), {})


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({"Host": "127.0.0.1:4100"}, True),
        ({"Host": "localhost"}, True),
        ({"Host": "[::1]:4100"}, True),
        ({"Host": "tools.example"}, True),
        ({"Host": "evil.example"}, False),
        ({"Host": "127.0.0.1.evil.example"}, False),
        ({"Host": ""}, False),
        ({"Host": "localhost:4100", "Origin": "http://localhost:4100"}, True),
        ({"Host": "localhost:4100", "Origin": "http://localhost:3000"}, False),
        ({"Host": "localhost:4100", "Origin": "null"}, False),
        ({"Host": "localhost:4100", "Origin": "https://app.example"}, True),
    ],
)
def test_host_and_origin_are_ours_or_configured(headers, allowed):
    keeper = Doorkeeper(
        bound=["127.0.0.1"], hosts=["tools.example"], origins=["https://app.example"]
    )
    if allowed:
        keeper.check(headers)
    else:
        with pytest.raises(Forbidden):
            keeper.check(headers)


# Connections


async def connect(running, *, headers=None, query="", protocols=()):
    raw = await running.http.ws_connect(
        f"{running.url}/ws{query}", headers=headers or {}, protocols=protocols
    )
    return Socket(raw)


async def test_the_token_is_taken_from_its_four_places(running):
    token = running.token()
    for socket in (
        await connect(running, headers={"Authorization": f"Bearer {token}"}),
        await connect(running, protocols=("agentcmd.v1", f"bearer.{token}")),
        await connect(running, query=f"?token={token}"),
    ):
        hello = await socket.next()
        assert hello["type"] == "global.connected"
        assert hello["data"]["userId"] == "tester"
    socket = await connect(running)
    await socket.send("auth", {"token": token})
    kinds = [(await socket.next())["type"] for _ in range(2)]
    assert kinds == ["global.connected", "global.authenticated"]


async def test_the_header_goes_before_the_query(running):
    good, bad = running.token(), "junk"
    headers = {"Authorization": f"Bearer {bad}"}
    socket = await connect(running, headers=headers, query=f"?token={good}")
    assert (await socket.next())["data"]["code"] == "unauthorized"


@pytest.mark.parametrize(
    "first", ['{"type":"ping"}', "junk", '{"type":"auth","data":{"token":"x"}}', '{"type":"auth"}']
)
async def test_any_first_message_but_a_good_auth_closes_4401(running, first):
    socket = await connect(running)
    await socket.raw.send_str(first)
    message = await socket.next()
    assert (message["type"], message["data"]["code"]) == ("global.error", "unauthorized")
    assert await socket.closed() == 4401


async def test_who_says_nothing_is_closed_4401(start_daemon):
    running = await start_daemon(AUTH__TIMEOUT="0.2")
    socket = await connect(running)
    assert (await socket.next())["data"]["code"] == "unauthorized"
    assert await socket.closed() == 4401


async def test_a_short_token_is_warned_at_once_and_ends_at_its_expiry(running):
    token = running.token(ttl=2)
    expires = jwt.decode(token, options={"verify_signature": False})["exp"]
    socket = await running.ws(token=token)
    assert (await socket.next())["type"] == "global.token_expiring"
    assert (await socket.next())["data"]["code"] == "unauthorized"
    assert 0 <= time.time() - expires < 5
    assert await socket.closed() == 4401


async def test_a_fresh_token_of_the_same_user_keeps_the_connection(running):
    socket = await running.ws(token=running.token(ttl=2))
    await socket.next()
    answer = await socket.call("auth", {"token": running.token("other")})
    assert answer["data"]["code"] == "unauthorized"
    answer = await socket.call("auth", {"token": running.token(ttl=60)})
    assert answer["type"] == "global.authenticated"
    await asyncio.sleep(2.2)  # past the first expiry, which is what is tested
    assert (await socket.call("ping"))["type"] == "global.pong"


async def test_a_narrower_token_ends_what_it_does_not_reach(running):
    async with running.client() as client:
        created = await client.call("session.create", {"agent": "command", "argv": ["true"]})
    channel = f"session:{created['sessionId']}"
    socket = await running.ws()
    await socket.call("subscribe", channel=channel)
    await socket.call("subscribe", channel="project:*")
    await socket.call("auth", {"token": running.token(scope="read:project:*")})
    ended = await socket.next()
    assert ended["type"] == "global.subscription_error"
    assert ended["data"] == {
        "channel": channel,
        "code": "forbidden",
        "message": "the fresh token does not reach this channel",
    }


async def test_outside_the_scope_is_forbidden_whether_it_exists_or_not(running):
    async with running.client() as client:
        created = await client.call("session.create", {"agent": "command", "argv": ["true"]})
    socket = await running.ws(token=running.token(scope="read:project:*"))
    for session in (created["sessionId"], "none"):
        answer = await socket.call("subscribe", channel=f"session:{session}")
        assert answer["data"]["code"] == "forbidden"
        answer = await socket.call("session.get", {"sessionId": session})
        assert answer["data"]["code"] == "forbidden"
    answer = await socket.call("subscribe", channel="*")
    assert answer["data"]["code"] == "forbidden"


@pytest.mark.parametrize(
    ("scope", "code"),
    [
        ("write:project:*", None),
        ("write:project:scratch", "forbidden"),
        ("read:project:* write:session:*", "forbidden"),
    ],
)
async def test_creating_without_a_project_needs_the_grant_on_all_of_them(running, scope, code):
    socket = await running.ws(token=running.token(scope=scope))
    answer = await socket.call("session.create", {"agent": "command", "argv": ["true"]})
    assert answer["data"].get("code") == code


async def test_no_token_reaches_the_log(start_daemon, tmp_path):
    from daemon.log import FILE_NAME, logging_to

    with logging_to(tmp_path, level="debug", file_bytes=1 << 20, files=1, quiet=True):
        running = await start_daemon()
        token = running.token()
        for socket in (
            await connect(running, query=f"?token={token}"),
            await connect(running, protocols=(f"bearer.{token}",)),
            await connect(running, protocols=("agentcmd.v1", f"bearer.{token}")),
        ):
            await socket.next()
            await socket.raw.close()
        async with running.http.get(f"{running.url}/api/nothing?token={token}") as response:
            assert response.status == 404
    written = (tmp_path / "log" / FILE_NAME).read_text()
    assert "connection.closed" in written
    assert token not in written
    for line in written.splitlines():
        json.loads(line)


# What a hostile or clumsy client offers as a token


def junk_header(text):
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode() + ".e30.x"


ODD_TOKENS = {
    "bytes that are no text": lambda: "\udcff.a.b",
    "a header nested deeply": lambda: junk_header(b"[" * 100_000),
    "a header that is a list": lambda: junk_header(b"[]"),
    "a header without alg": lambda: junk_header(b"{}"),
    "alg None": lambda: junk_header(b'{"alg":"None"}'),
    "a NUL": lambda: "a\0.b.c",
    "an exp for ever": lambda: sign(exp=10**400),
    "an exp that is text": lambda: sign(exp="tomorrow"),
    "an exp that is a list": lambda: sign(exp=[1]),
    "an empty sub": lambda: sign(sub=""),
    "a sub that is a list": lambda: sign(sub=["u"]),
    "a sub that is true": lambda: sign(sub=True),
    "a scope that is a list": lambda: sign(scope=["read:*"]),
    "a scope that is a number": lambda: sign(scope=7),
    "not before later": lambda: sign(nbf=time.time() + 60),
}


@pytest.mark.parametrize("kind", ODD_TOKENS)
def test_an_odd_token_is_unauthorized_with_a_sentence(kind):
    with pytest.raises(Unauthorized, match=r"^the token .+") as found:
        Tokens(SECRET).verify(ODD_TOKENS[kind]())
    assert len(found.value.message) < 300


def test_a_token_without_scope_may_nothing():
    caller = Tokens(SECRET).verify(sign())
    assert not any(caller.may(action, "session:1") for action in ("read", "write", "admin"))


def test_sub_goes_before_user_id():
    assert Tokens(SECRET).verify(sign(userId="other")).sub == "u"


def test_the_algorithm_is_that_of_the_configuration():
    secret = b"s" * 64
    tokens = Tokens(secret, algorithm="HS512")
    assert tokens.verify(tokens.mint("u")).sub == "u"
    with pytest.raises(Unauthorized):
        tokens.verify(sign(secret, "HS256"))


@pytest.mark.parametrize(
    ("scope", "asked", "allowed"),
    [
        ("*", "session:1", True),
        ("*", "*", True),
        ("session:*", "session:1:2:3", True),
        ("workflow:run:*", "workflow:run:1", True),
        ("workflow:run:*", "workflow:*", False),
        ("workflow:run:*", "workflow:other:1", False),
        ("workflow:*:1", "workflow:run:1:2", False),
        ("workflow:*:*", "workflow:run:1", True),
        ("workflow:*:*", "workflow:run", False),
        ("session:1", "session:10", False),
        ("session:1", "session:1:2", False),
        ("session:1", "session:*", False),
        ("global", "global", True),
        ("global", "session:1", False),
    ],
)
def test_a_star_is_one_segment_or_at_the_end_the_rest(scope, asked, allowed):
    assert Caller("u", parse_scope(f"read:{scope}"), 0.0).may("read", asked) is allowed


@pytest.mark.parametrize(
    "scope", ["read", "read:", "fly:*", "read:a b", "READ:*", "read:session:**", "*", "*:*"]
)
def test_a_scope_that_does_not_parse_names_the_part(scope):
    with pytest.raises(BadRequest, match="is no grant"):
        parse_scope(scope)


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({"Host": "TOOLS.example:443"}, True),
        ({"Host": "other.example"}, True),
        ({"Host": "127.8.9.1"}, True),
        ({"Host": "[::1"}, True),
        ({"Host": "[fe80::1]"}, False),
        ({"Host": "localhost.evil.example"}, False),
        ({"Host": "evil@localhost"}, False),
        ({"Host": "10.0.0.1"}, False),
        ({}, False),
        ({"Host": "localhost", "Origin": "http://["}, False),
        ({"Host": "localhost", "Origin": "http://[::1"}, False),
        ({"Host": "localhost", "Origin": ""}, False),
        ({"Host": "localhost", "Origin": "localhost"}, False),
        ({"Host": "localhost", "Origin": "http://localhost.evil.example"}, False),
        ({"Host": "localhost", "Origin": "http://LOCALHOST"}, True),
        ({"Host": "localhost", "Origin": "HTTPS://APP.example/"}, True),
        ({"Host": "localhost", "Origin": "http://app.example"}, False),
    ],
)
def test_odd_hosts_and_origins_are_answered_too(headers, allowed):
    keeper = Doorkeeper(
        bound=["127.0.0.1"],
        hosts=["tools.example", "Other.Example"],
        origins=["https://App.example"],
    )
    if allowed:
        keeper.check(headers)
    else:
        with pytest.raises(Forbidden):
            keeper.check(headers)


@pytest.mark.parametrize("path", ["/ws", "/health", "/api/sessions", "/nothing"])
@pytest.mark.parametrize(
    "headers", [{"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Origin": "http://["}]
)
async def test_a_foreign_host_or_origin_is_403_before_anything_else(running, path, headers):
    async with running.http.get(running.url + path, headers=headers) as response:
        assert response.status == 403
        assert (await response.json())["error"]["code"] == "forbidden"


async def test_a_foreign_origin_is_refused_in_the_handshake(running):
    headers = running.headers() | {"Origin": "http://evil.example"}
    with pytest.raises(aiohttp.WSServerHandshakeError) as found:
        await running.http.ws_connect(f"{running.url}/ws", headers=headers)
    assert found.value.status == 403
    headers["Origin"] = running.url
    async with running.http.ws_connect(f"{running.url}/ws", headers=headers) as ws:
        assert (await Socket(ws).next())["type"] == "global.connected"


# The four places


async def first_of(running, **options):
    socket = await connect(running, **options)
    message = await socket.next()
    await socket.raw.close()
    return message["data"].get("userId", message["data"].get("code"))


async def test_each_place_goes_before_those_after_it(running):
    by = {name: running.token(name) for name in ("header", "subprotocol", "query")}
    everywhere = {
        "headers": {"Authorization": f"Bearer {by['header']}"},
        "protocols": ("agentcmd.v1", f"bearer.{by['subprotocol']}"),
        "query": f"?token={by['query']}",
    }
    assert await first_of(running, **everywhere) == "header"
    del everywhere["headers"]
    assert await first_of(running, **everywhere) == "subprotocol"
    del everywhere["protocols"]
    assert await first_of(running, **everywhere) == "query"


async def test_a_bad_token_is_not_made_good_by_a_later_place(running):
    good = running.token()
    for places in (
        {"protocols": ("agentcmd.v1", "bearer.junk"), "query": f"?token={good}"},
        {"headers": {"Authorization": "Bearer junk"}, "protocols": (f"bearer.{good}",)},
        {"query": "?token="},
        {"protocols": ("agentcmd.v1", "bearer.")},
    ):
        assert await first_of(running, **places) == "unauthorized"


async def test_the_chosen_subprotocol_is_never_the_token(running):
    token = running.token()
    socket = await connect(running, protocols=(f"bearer.{token}", "agentcmd.v1"))
    assert socket.raw.protocol == "agentcmd.v1"
    await socket.raw.close()


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "Bearer "])
async def test_the_scheme_is_read_in_any_case(running, scheme):
    headers = {"Authorization": f"{scheme} {running.token()}"}
    assert await first_of(running, headers=headers) == "tester"


@pytest.mark.parametrize("token", [b"\xff.a.b", b"junk", b"\xc3\xa9.e30.x"])
async def test_bytes_as_a_token_are_refused_as_any_other(raw, token):
    socket = await raw(token=token)
    message = await socket.next()
    assert (message["type"], message["data"]["code"]) == ("global.error", "unauthorized")
    assert await socket.next() == {"type": "close", "code": 4401}
    request = (
        b"GET /api/sessions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %b\r\n\r\n" % token
    )
    http = await raw(request=request)
    assert (await http.reader.readline()).startswith(b"HTTP/1.1 401 ")


async def test_an_answer_to_auth_repeats_its_id_and_channel(running):
    for token, types in (
        (running.token(), ["global.connected", "global.authenticated"]),
        ("junk", ["global.error"]),
    ):
        socket = await connect(running)
        await socket.send("auth", {"token": token}, id="first", channel="session:1")
        messages = [await socket.next() for _ in types]
        assert [m["type"] for m in messages] == types
        assert messages[-1]["id"] == "first"
        assert messages[-1]["channel"] == "session:1"
        await socket.raw.close()


async def test_nothing_is_told_or_done_before_auth(running):
    socket = await connect(running)
    await socket.send("subscribe", channel="project:scratch", id=4)
    message = await socket.next()
    assert (message["data"]["code"], message["id"]) == ("unauthorized", 4)
    assert await socket.closed() == 4401


async def test_binary_as_the_first_message_is_unauthorized(running):
    socket = await connect(running)
    await socket.raw.send_bytes(b'{"type":"auth"}')
    assert (await socket.next())["data"]["code"] == "unauthorized"
    assert await socket.closed() == 4401


async def test_pings_before_auth_are_answered_and_do_not_buy_time(start_daemon, raw_to):
    running = await start_daemon(AUTH__TIMEOUT="1.5")
    begun = time.monotonic()
    socket = await raw_to(running, token=b"")
    socket.send("hello", opcode=9)
    assert await socket.frame() == (10, b"hello")
    assert (await socket.next())["data"]["code"] == "unauthorized"
    assert 1.4 < time.monotonic() - begun < 10
    assert await socket.next() == {"type": "close", "code": 4401}


async def test_too_large_a_first_message_is_closed_with_1009(raw):
    socket = await raw(token=b"")
    socket.send('{"type":"auth","data":{"token":"' + "x" * 3_000_000 + '"}}')
    assert await socket.next() == {"type": "close", "code": 1009}


# Expiry


async def test_the_warning_comes_before_the_expiry_as_configured(start_daemon):
    running = await start_daemon(AUTH__WARNING="2")
    token = running.token(ttl=3.5)
    exp = jwt.decode(token, options={"verify_signature": False})["exp"]
    socket = await running.ws(token=token)
    message = await socket.next()
    assert message["type"] == "global.token_expiring"
    assert message["data"] == {"expiresAt": exp}
    assert 0 < exp - time.time() < 2.1
    assert (await socket.next())["data"]["code"] == "unauthorized"
    assert time.time() >= exp
    assert await socket.closed() == 4401


async def test_a_renewal_is_refused_when_it_is_no_good_and_the_old_token_stays(running):
    socket = await running.ws(token=running.token(ttl=1000))
    expired = jwt.encode(
        {"sub": "tester", "exp": time.time() - 1},
        load_secret(running.daemon.state_dir, "", {}),
        "HS256",
    )
    for token in ("", "junk", expired, running.token("somebody-else")):
        answer = await socket.call("auth", {"token": token})
        assert (answer["type"], answer["data"]["code"]) == ("global.error", "unauthorized")
    answer = await socket.call("auth", {})
    assert answer["data"]["code"] == "bad_request"
    assert (await socket.call("project.list"))["type"] == "project.list.ok"


async def test_a_renewal_changes_what_may_be_done(running):
    socket = await running.ws(token=running.token(scope="read:project:*"))
    answer = await socket.call("project.add", {"path": "/tmp"})
    assert answer["data"]["code"] == "forbidden"
    answer = await socket.call("auth", {"token": running.token(scope="write:project:*", ttl=100)})
    assert answer["data"]["userId"] == "tester"
    assert 0 < answer["data"]["expiresAt"] - time.time() <= 101
    assert (await socket.call("project.add", {"path": "/tmp"}))["type"] == "project.add.ok"
    answer = await socket.call("project.get", {"projectId": "scratch"})
    assert answer["data"]["code"] == "forbidden"


async def test_a_narrower_token_ends_wildcards_and_replays_too(running):
    await written(running, 3000, size=2000)
    socket = await running.ws()
    for channel in ("*", "session:*", "project:scratch"):
        await socket.call("subscribe", channel=channel)
    await socket.send("subscribe", {"since": 0}, channel="session:1")
    await socket.send("auth", {"token": running.token(scope="read:project:*")}, id="renewal")
    ended = set()
    while len(ended) < 3:
        message = await socket.next()
        if message["type"] == "global.subscription_error":
            assert message["data"]["code"] == "forbidden"
            ended.add(message["channel"])
    assert ended == {"*", "session:*", "session:1"}
    await written(running, 5)
    assert (await socket.call("ping"))["type"] == "global.pong"
    await socket.send("ping")
    assert (await socket.next())["type"] == "global.pong"


# Grants


@pytest.mark.parametrize(
    ("scope", "type_", "data", "code"),
    [
        ("read:*", "session.cancel", {"sessionId": "x"}, "forbidden"),
        ("write:*", "session.get", {"sessionId": "x"}, "forbidden"),
        ("write:session:*", "session.cancel", {"sessionId": "x"}, "not_found"),
        ("write:session:y", "session.cancel", {"sessionId": "x"}, "forbidden"),
        ("read:session:*", "session.get", {"sessionId": "*"}, "not_found"),
        ("read:session:x", "session.get", {"sessionId": "*"}, "forbidden"),
        ("write:* read:*", "system.stop", {}, "forbidden"),
        ("admin:session:*", "system.stop", {}, "forbidden"),
        ("write:project:x", "project.add", {"path": "/tmp"}, "forbidden"),
        ("write:project:x", "project.remove", {"projectId": "scratch"}, "forbidden"),
        ("write:project:x", "project.remove", {"projectId": "x"}, "not_found"),
        ("read:session:*", "system.status", {}, "forbidden"),
        ("read:global", "system.status", {}, None),
        ("", "project.list", {}, None),
    ],
)
async def test_a_command_needs_its_grant(running, scope, type_, data, code):
    socket = await running.ws(token=running.token(scope=scope))
    answer = await socket.call(type_, data)
    assert answer["data"].get("code") == code
    if code == "forbidden":
        assert "--scope" in answer["data"]["message"]


async def test_lists_hold_only_what_the_token_may_read(running, tmp_path):
    (tmp_path / "one").mkdir()
    async with running.client() as client:
        added = await client.call("project.add", {"path": str(tmp_path / "one")})
        made = [
            (await client.call("session.create", {"agent": "command", "argv": ["true"]}))
            for _ in range(3)
        ]
    wanted = made[1]["sessionId"]
    scope = f"read:project:{added['projectId']} read:session:{wanted}"
    socket = await running.ws(token=running.token(scope=scope))
    projects = (await socket.call("project.list"))["data"]["projects"]
    assert [p["id"] for p in projects] == [added["projectId"]]
    listed = (await socket.call("session.list", {"limit": 1}))["data"]
    assert [s["id"] for s in listed["sessions"]] == [wanted]
    assert "nextCursor" not in listed


async def test_whoever_may_use_one_project_learns_of_no_other_folder(running, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "theirs").mkdir()
    async with running.client() as client:
        mine = await client.call("project.add", {"path": str(tmp_path / "mine")})
        await client.call("project.add", {"path": str(tmp_path / "theirs")})
    token = running.token(scope=f"write:project:{mine['projectId']}")
    socket = await running.ws(token=token)
    create = {"agent": "command", "argv": ["true"]}
    for folder in ("theirs", "nowhere", "."):
        answer = await socket.call("session.create", {**create, "cwd": str(tmp_path / folder)})
        assert answer["data"]["code"] == "forbidden", folder
    for project in ("scratch", "none", "*"):
        answer = await socket.call("session.create", {**create, "projectId": project})
        assert answer["data"]["code"] == "forbidden", project
    answer = await socket.call("session.create", {**create, "cwd": str(tmp_path / "mine")})
    assert answer["type"] == "session.create.ok"


async def test_no_secret_reaches_the_log_by_any_door(start_daemon, tmp_path):
    from daemon.log import FILE_NAME, logging_to

    with logging_to(tmp_path, level="debug", file_bytes=1 << 20, files=1, quiet=True):
        running = await start_daemon()
        good, bad = running.token(), "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.c2VjcmV0LXNpZ25hdHVyZQ"
        for token in (good, bad):
            header = {"Authorization": f"Bearer {token}"}
            for path in ("/api/sessions", "/api/nothing", "/health", "/api/events", "/ws", "/a%zz"):
                for where in ({"headers": header}, {"params": {"token": token}}):
                    async with running.http.get(running.url + path, **where):
                        pass
            socket = await connect(running)
            await socket.send("auth", {"token": token})
            await socket.send("auth", {"token": token})
            await socket.next()
            await socket.raw.close()
            socket = await connect(running, query=f"?token={token}&token={token}")
            await socket.send(token)
            await socket.raw.send_str(token)
            await socket.next()
            await socket.raw.close()
    text = (tmp_path / "log" / FILE_NAME).read_text()
    assert "connection.opened" in text
    assert good not in text
    assert "c2VjcmV0LXNpZ25hdHVyZQ" not in text
    assert good.rpartition(".")[2] not in text
    assert load_secret(tmp_path / "state", "", {}).decode() not in text
    assert "Traceback" not in text
