"""The close codes of the WebSocket: why a connection has ended, for clients to act on."""

from __future__ import annotations

from enum import IntEnum
from typing import Self

PROTOCOL_ERROR, ABNORMAL, NO_TEXT = 1002, 1006, 1007
"""What a broken rule, an end without a goodbye and text that is no UTF-8 are called (RFC 6455)."""


class CloseCode(IntEnum):
    """A code with what it means to a client; those from 4400 on are this daemon's own."""

    meaning: str

    def __new__(cls, code: int, meaning: str) -> Self:
        """Keep the meaning beside the number."""
        member = int.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        return member

    NORMAL = 1000, "The client said goodbye, or was silent for longer than `[web] peer_timeout`."
    TOO_BIG = 1009, "A message was larger than `[web] max_message_bytes`."
    RESTART = 1012, "The daemon stops; reconnect after the `reconnectMs` of `global.draining`."
    BAD_MESSAGE = 4400, "The third message that was no JSON object with a string `type`."
    UNAUTHORIZED = 4401, "The token is missing, bad or expired; do not reconnect without a new one."
    REFUSED = 4403, "The Host or the Origin is not served here; do not reconnect."
    NO_PROGRESS = 4408, "Data waited and nothing was taken; reconnect and resume by `since`."
    TOO_MANY = 4409, "There are `[web] max_connections` connections; try again later."
    RATE_LIMIT = 4429, "A second's worth of messages came over `[web] messages_per_second`."
