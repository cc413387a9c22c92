"""Who may come in: JWTs with scopes, and the Host and Origin of a request."""

from __future__ import annotations

import contextlib
import ipaddress
import math
import os
import re
import secrets
import time
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from aiohttp import web
from multidict import MultiMapping

from daemon.core.channels import parse_channel
from daemon.core.commands import Caller
from daemon.core.errors import BadRequest, Forbidden, InvalidChannel, Unauthorized
from daemon.core.section import Seconds, Section, described
from daemon.web.http_connection import authenticate
from daemon.web.tickets import Tickets

ACTIONS = ("read", "write", "admin")
EVERYTHING = "read:* write:* admin:*"
CREDENTIAL = "agentcmd-secret"
"""Name of the systemd credential that holds the secret (LoadCredential=)."""

SECRET_NAME = "jwt.secret"  # noqa: S105  # a file's name
SECRET_BYTES = 32
"""RFC 7518, section 3.2: a key for HS256 has at least the size of the hash."""

TOKEN_BYTES = 16 << 10
"""Longest token that is read; who may do much has a short one."""

NBF_LEEWAY = 10.0
"""Seconds that the clock of whoever made a token may be ahead of ours."""

SUBPROTOCOL = "agentcmd.v1"
BEARER = "bearer."
OTHER_SITES = ("cross-site", "same-site")
"""What browsers say of another page's requests (Sec-Fetch-Site); other ports are the same site."""

PAGES = ("/", "/health", "/docs", "/docs/", "/openapi.json", "/asyncapi.json")
"""What is open to all: it changes nothing, and holds nothing."""

FORWARDED = ("Forwarded", "Via", "X-Real-IP", "X-Client-IP", "True-Client-IP", "CF-Connecting-IP")
"""Headers of a reverse proxy, with every `X-Forwarded-`: who asks is not who is connected."""

CALLER = web.RequestKey("caller", Caller)
"""Where a request keeps whose it is: a ticket is redeemed once."""

_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]", "::1"})
_TTL = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class AuthSettings(Section):
    """How tokens are verified."""

    algorithm: Annotated[
        Literal["HS256", "HS384", "HS512"],
        described("The one signature algorithm that is accepted"),
    ] = "HS256"
    secret_file: Annotated[
        str, described("File with the secret; empty: a credential or jwt.secret in the state dir")
    ] = ""
    issuer: Annotated[str, described("`iss` that a token must carry; empty: any")] = ""
    audience: Annotated[str, described("`aud` that a token must carry; empty: any")] = ""
    timeout: Annotated[
        Seconds, described("Seconds that a new connection has for a whole request and its token")
    ] = 10.0
    warning: Annotated[
        Seconds, described("Seconds before the expiry at which the client is warned")
    ] = 60.0


class Tokens:
    """Makes and verifies tokens with one secret and one algorithm, pinned by configuration."""

    def __init__(
        self, secret: bytes, *, algorithm: str = "HS256", issuer: str = "", audience: str = ""
    ) -> None:
        """Hold the secret; it is never shown again."""
        self._secret = secret
        self._algorithm = algorithm
        self._issuer = issuer
        self._audience = audience

    def mint(self, user: str, *, scope: str = EVERYTHING, ttl: float = 43_200.0) -> str:
        """Make a token for `ttl` seconds; BadRequest when the scope does not parse."""
        import jwt  # noqa: PLC0415  # 2 MB that an idle daemon does without

        parse_scope(scope)
        now = time.time()
        # Whole seconds, as everybody writes them; PyJWT cuts off the rest when it verifies.
        exp = math.ceil(now + ttl)
        claims: dict[str, Any] = {"sub": user, "scope": scope, "iat": int(now), "exp": exp}
        if self._issuer:
            claims["iss"] = self._issuer
        if self._audience:
            claims["aud"] = self._audience
        return jwt.encode(claims, self._secret, self._algorithm)

    def verify(self, token: str) -> Caller:
        """Read a token; Unauthorized, with what to do, when it is not good now."""
        import jwt  # noqa: PLC0415

        if len(token) > TOKEN_BYTES:
            raise Unauthorized(f"the token is not valid: it has {TOKEN_BYTES} bytes at most")
        try:
            claims = jwt.decode(
                token,
                self._secret,
                algorithms=[self._algorithm],
                issuer=self._issuer or None,
                audience=self._audience or None,
                options={
                    "require": ["exp"],
                    "verify_aud": bool(self._audience),
                    "verify_sub": False,
                    "verify_iat": False,  # clocks differ, and RFC 7519 asks for no check
                    "verify_nbf": False,  # which has a leeway of its own
                },
            )
        except jwt.ExpiredSignatureError:
            raise Unauthorized("the token has expired: make one with 'agentcmd token'") from None
        except jwt.InvalidTokenError as error:
            raise Unauthorized(f"the token is not valid ({error})") from None
        except (UnicodeError, OverflowError, RecursionError):
            raise Unauthorized("the token is not valid: it cannot be read as a JWT") from None
        if not _has_begun(claims.get("nbf")):
            raise Unauthorized("the token is not valid yet (nbf)")
        sub = claims.get("sub", claims.get("userId"))
        if not isinstance(sub, str | int) or isinstance(sub, bool) or not str(sub):
            raise Unauthorized("the token names no user: it needs a sub")
        scope = claims.get("scope") or ""
        try:
            grants = parse_scope(scope if isinstance(scope, str) else repr(scope))
            # As PyJWT reads it: a part of a second does not count.
            return Caller(str(sub), grants, float(int(claims["exp"])))
        except (BadRequest, OverflowError) as error:
            raise Unauthorized(f"the token is not valid ({error})") from None


def _has_begun(nbf: object) -> bool:
    """Return whether a token is good by its `nbf`, of the clock of another machine."""
    if nbf is None:
        return True
    if isinstance(nbf, bool) or not isinstance(nbf, int | float):
        return False
    return nbf <= time.time() + NBF_LEEWAY  # False for NaN


def parse_scope(scope: str) -> tuple[tuple[str, str], ...]:
    """Read `ACTION:CHANNEL_PATTERN ...`; BadRequest names the part that does not parse."""
    grants = []
    for part in scope.split():
        action, _, pattern = part.partition(":")
        if action not in ACTIONS:
            raise BadRequest(
                f"{part!r} is no grant: use ACTION:CHANNEL_PATTERN with read, write or admin, "
                "as in read:session:*"
            )
        try:
            grants.append((action, parse_channel(pattern)))
        except InvalidChannel as error:
            raise BadRequest(f"{part!r} is no grant: {error.message}") from None
    return tuple(grants)


LONGEST_TTL = 36_500 * 86_400.0
"""Seconds; further away there are no dates that every program can tell."""


def parse_ttl(text: str) -> float:
    """Read a duration such as 90s, 30m, 12h or 7d; gives seconds."""
    found = _TTL.fullmatch(text)
    if found is None or float(found[1]) <= 0:
        raise BadRequest(f"{text!r} is no duration: use a number with s, m, h or d, as in 12h")
    seconds = float(found[1]) * _UNITS[found[2]]
    if seconds > LONGEST_TTL:
        raise BadRequest(f"{text[:40]!r} is too long: 36500d at most, which are a hundred years")
    return seconds


def load_secret(state_dir: Path, configured: str, environ: Mapping[str, str]) -> bytes:
    """Read the secret: configured file, systemd credential, or the state dir's own, made once."""
    if configured:
        return read_secret(Path(configured).expanduser())
    if directory := environ.get("CREDENTIALS_DIRECTORY"):
        credential = Path(directory) / CREDENTIAL
        if credential.is_file():
            return read_secret(credential)
    own = state_dir / SECRET_NAME
    made = state_dir / f".{SECRET_NAME}.{os.getpid()}"
    if not own.exists():
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with os.fdopen(os.open(made, flags, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(SECRET_BYTES))
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(made, own)  # whoever is first wins; never a half-written secret
        made.unlink()
    return read_secret(own)


def read_secret(path: Path) -> bytes:
    """Read a secret from a file; BadRequest says what is wrong with it."""
    try:
        secret = path.read_bytes().strip()
    except OSError as error:
        raise BadRequest(f"cannot read the secret {path}: {error.strerror}") from None
    if len(secret) < SECRET_BYTES:
        raise BadRequest(
            f"the secret {path} is shorter than {SECRET_BYTES} bytes; "
            "put a backup in its place, or move it away to have a new one made (issued tokens "
            "end with it)"
        )
    return secret


def token_of(headers: MultiMapping[str], query: Mapping[str, str]) -> str | None:
    """Find the token of a request: header, WebSocket subprotocol, query; in this order."""
    kind, _, token = headers.get("Authorization", "").partition(" ")
    if kind.lower() == "bearer" and token:
        return token.strip()
    # One list, though it may stand in several lines (RFC 6455, section 11.3.4).
    offered = ",".join(headers.getall("Sec-WebSocket-Protocol", []))
    for part in offered.split(","):
        if part.strip().startswith(BEARER):
            return part.strip().removeprefix(BEARER)
    return query.get("token")


class Admission:
    """Tells whose request it is, by its token or by a ticket for its path."""

    def __init__(self, tokens: Tokens, tickets: Tickets) -> None:
        """Verify with these."""
        self._tokens = tokens
        self._tickets = tickets

    def caller(self, request: web.Request) -> Caller | None:
        """Give the caller, None where the request brings nothing; Unauthorized when it is bad."""
        known: Caller | None = request.get(CALLER)
        if known is not None:
            return known
        token, ticket = token_of(request.headers, request.query), request.query.get("ticket")
        if token is not None:
            caller = self._tokens.verify(token)
        elif ticket is not None:
            caller = self._tickets.redeem(ticket, request.path)
        else:
            return None
        request[CALLER] = caller
        authenticate(request)
        return caller


class Doorkeeper:
    """Refuses requests that come from another web site or under another name (DNS rebinding)."""

    def __init__(
        self, *, bound: Iterable[str], hosts: Collection[str], origins: Collection[str]
    ) -> None:
        """Know the names under which the daemon may be called; `bound` are its addresses."""
        names = {name.lower() for name in bound}
        self._own = _LOOPBACK_NAMES | names | {f"[{name}]" for name in names}
        self.allow(hosts=hosts, origins=origins)

    def allow(self, *, hosts: Collection[str], origins: Collection[str]) -> None:
        """Allow these names and these pages, instead of those before."""
        self._hosts = self._own | {name.lower() for name in hosts}
        self._origins = {origin.rstrip("/").lower() for origin in origins}

    def check(self, headers: Mapping[str, str]) -> None:
        """Raise Forbidden for a Host or an Origin that is not ours."""
        host = headers.get("Host", "")
        if _name_of(host) not in self._hosts and not _is_loopback(_name_of(host)):
            raise Forbidden(
                f"the host {host[:80]!r} is not served here; add it to [server] hosts to allow it"
            )
        if self.from_elsewhere(headers):
            origin = headers["Origin"]
            if origin.rstrip("/").lower() not in self._origins:
                raise Forbidden(
                    f"the origin {origin[:80]!r} is not allowed; "
                    "add it to [server] origins to allow it"
                )

    def check_site(self, request: web.Request) -> None:
        """Raise Forbidden for what a page of another site has its browser send without an Origin.

        Images, scripts and forms carry none. Pages may be opened from anywhere; so may what a
        ticket opens, which whoever wrote the link has asked for.
        """
        site = request.headers.get("Sec-Fetch-Site", "").strip().lower()
        if site not in OTHER_SITES or "Origin" in request.headers:  # which has been checked
            return
        if request.path in PAGES or (
            request.path.startswith("/api/") and "ticket" in request.query
        ):
            return
        raise Forbidden("a page of another site asks; add its origin to [server] origins, use CORS")

    @staticmethod
    def from_elsewhere(headers: Mapping[str, str]) -> bool:
        """Tell whether a page of another origin than our own host asks."""
        origin = headers.get("Origin")
        return origin is not None and _netloc_of(origin) != headers.get("Host", "").lower()


def is_forwarded(headers: MultiMapping[str]) -> bool:
    """Return whether a reverse proxy hands a request on."""
    if any(name in headers for name in FORWARDED):
        return True
    return any(name.lower().startswith("x-forwarded-") for name in headers)


def _name_of(host: str) -> str:
    """Cut the port off a Host header."""
    if host.startswith("["):
        return host.partition("]")[0].lower() + "]"
    return host.partition(":")[0].lower()


def _netloc_of(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False
