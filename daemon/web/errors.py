"""The one place where a failure becomes what a client is told."""

from __future__ import annotations

import errno
import secrets

import structlog

from daemon.core.errors import AgentcmdError, Unavailable

log = structlog.get_logger(__name__)

OUT_OF = {errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EDQUOT, errno.ENOMEM}
"""What the machine has run out of: the client may try again, nobody made a mistake."""


def as_agentcmd_error(error: Exception, *, where: str) -> AgentcmdError:
    """Give expected errors as they are; log any other, and tell only its `errorId`.

    Over HTTP that is the request's id, which all its lines in the log have.
    """
    if isinstance(error, AgentcmdError):
        return error
    if isinstance(error, OSError) and error.errno in OUT_OF:
        log.error("unavailable", where=where, error=str(error))
        return Unavailable(f"the machine has run out of something: {error.strerror}")
    error_id = structlog.contextvars.get_contextvars().get("request") or secrets.token_hex(6)
    log.error("internal", where=where, error_id=error_id, exc_info=error)
    return AgentcmdError(
        f"something went wrong here; the log has it under {error_id}", errorId=error_id
    )
