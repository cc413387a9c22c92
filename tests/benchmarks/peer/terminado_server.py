"""terminado on tornado as its documentation has it: a terminal for each WebSocket.

Runs its arguments in each terminal; prints its port; ends with its stdin.
"""

from __future__ import annotations

import asyncio
import logging
import sys

from terminado import TermSocket, UniqueTermManager
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application


async def main() -> None:
    """Serve until stdin ends."""
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # tells each send to one that has left
    manager = UniqueTermManager(shell_command=sys.argv[1:])
    sockets = bind_sockets(0, "127.0.0.1")
    server = HTTPServer(Application([("/websocket", TermSocket, {"term_manager": manager})]))
    server.add_sockets(sockets)
    sys.stdout.write(f"{sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.readline)
    await manager.shutdown()


asyncio.run(main())
