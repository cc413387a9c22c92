"""Who may come in, and how far."""

from __future__ import annotations

import asyncio
import json
import time

import jwt
import pytest
from support import Socket

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
    "no exp": lambda: jwt.encode({"sub": "u"}, SECRET, "HS256"),
    "no sub": lambda: jwt.encode({"exp": time.time() + 60}, SECRET, "HS256"),
}


@pytest.mark.parametrize("kind", BAD_TOKENS)
def test_a_token_that_is_not_good_now_is_unauthorized(kind):
    with pytest.raises(Unauthorized):
        Tokens(SECRET).verify(BAD_TOKENS[kind]())


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
    keeper = Doorkeeper(bound="127.0.0.1", hosts=["tools.example"], origins=["https://app.example"])
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
    token = running.token(ttl=1.2)
    expires = jwt.decode(token, options={"verify_signature": False})["exp"]
    socket = await running.ws(token=token)
    assert (await socket.next())["type"] == "global.token_expiring"
    assert (await socket.next())["data"]["code"] == "unauthorized"
    assert abs(time.time() - expires) < 0.5
    assert await socket.closed() == 4401


async def test_a_fresh_token_of_the_same_user_keeps_the_connection(running):
    socket = await running.ws(token=running.token(ttl=0.8))
    await socket.next()
    answer = await socket.call("auth", {"token": running.token("other")})
    assert answer["data"]["code"] == "unauthorized"
    answer = await socket.call("auth", {"token": running.token(ttl=60)})
    assert answer["type"] == "global.authenticated"
    await asyncio.sleep(2.0)  # past the first expiry, which is what is tested
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
