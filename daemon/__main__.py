"""From argv to an exit code."""

from __future__ import annotations

import signal
import sys

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # Until all is loaded there is nothing to put in order: Ctrl-C ends it, without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from daemon.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
