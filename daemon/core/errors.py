"""Every error the outside can see: one tree, a stable code each.

    AgentcmdError                     internal
    ├── Unauthorized                  unauthorized
    ├── Forbidden                     forbidden
    ├── NotFound                      not_found
    ├── BadMessage                    bad_message
    ├── BadRequest                    bad_request
    │   └── UnknownEvent              bad_request
    ├── InvalidChannel                invalid_channel
    ├── UnknownCommand                unknown_command
    ├── Conflict                      conflict
    ├── RateLimited                   rate_limited
    ├── TooLarge                      too_large
    └── Unavailable                   unavailable
        └── SpawnFailed               unavailable

The message is one sentence for a person and says what to do next; it never carries a secret or a
traceback. Clients branch on the code, which never changes.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, ClassVar


class AgentcmdError(Exception):
    """Something that a client may be told, with its stable code and HTTP status."""

    code: ClassVar[str] = "internal"
    status: ClassVar[HTTPStatus] = HTTPStatus.INTERNAL_SERVER_ERROR

    def __init__(self, message: str, **details: Any) -> None:
        """Keep the sentence, and the facts that a program may want beside it."""
        super().__init__(message)
        self.message = message
        self.details = details


class Unauthorized(AgentcmdError):
    """The token is missing, expired or not ours."""

    code = "unauthorized"
    status = HTTPStatus.UNAUTHORIZED


class Forbidden(AgentcmdError):
    """The token is good, but its scope does not reach this."""

    code = "forbidden"
    status = HTTPStatus.FORBIDDEN


class NotFound(AgentcmdError):
    """No such channel, project, session, task or route."""

    code = "not_found"
    status = HTTPStatus.NOT_FOUND


class BadMessage(AgentcmdError):
    """A WebSocket message that is not a JSON object with a string `type`."""

    code = "bad_message"
    status = HTTPStatus.BAD_REQUEST


class BadRequest(AgentcmdError):
    """A well-formed message whose contents do not fit what was asked for."""

    code = "bad_request"
    status = HTTPStatus.BAD_REQUEST


class UnknownEvent(BadRequest):
    """An event that no domain declares."""


class InvalidChannel(AgentcmdError):
    """A channel name that does not parse."""

    code = "invalid_channel"
    status = HTTPStatus.BAD_REQUEST


class UnknownCommand(AgentcmdError):
    """A command that no domain declares; the message lists what exists."""

    code = "unknown_command"
    status = HTTPStatus.NOT_FOUND


class Conflict(AgentcmdError):
    """The thing exists, but is in a state that does not allow this."""

    code = "conflict"
    status = HTTPStatus.CONFLICT


class RateLimited(AgentcmdError):
    """More messages, connections or subscriptions than the limit allows."""

    code = "rate_limited"
    status = HTTPStatus.TOO_MANY_REQUESTS


class TooLarge(AgentcmdError):
    """A body over the documented limit."""

    code = "too_large"
    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE


class Unavailable(AgentcmdError):
    """The daemon cannot do this now (draining, disk full, out of descriptors); try again later."""

    code = "unavailable"
    status = HTTPStatus.SERVICE_UNAVAILABLE


class SpawnFailed(Unavailable):
    """The program could not be started; `errno` and the sentence say why."""


def error_classes() -> tuple[type[AgentcmdError], ...]:
    """Every error with its code, for the reference and for clients that map codes back."""
    found: list[type[AgentcmdError]] = []
    pending: list[type[AgentcmdError]] = [AgentcmdError]
    while pending:
        cls = pending.pop(0)
        found.append(cls)
        pending.extend(cls.__subclasses__())
    return tuple(found)
