"""Output without its queries, for a replay: a terminal that is asked again would answer again.

What it types is input for whatever runs by then. So each query becomes as many NUL bytes, which
terminals pass over. Focus reports (private mode 1004) count as one: xterm.js tells the focus at
once when they are switched on.
"""

from __future__ import annotations

import re

from domains.shell.cut import NOISE, seven_bit, unfinished

REACH = 256
"""Bytes of the longest query that is found wherever it is cut."""

_CANDIDATE = re.compile(
    (
        rb"\x1b[%(noise)b]*+(?:Z"  # DECID
        rb"|\[(?P<csi>[%(noise)b]*+\?[%(noise)b -?]*+[ghm]|[%(noise)b -?]*+[SR|cnp-qt-y])"
        rb"|(?P<osc>\][%(noise)b0-9]*+;[^\x07\x18\x1a\x1b]*+)(?:\x07|\x1b\\)?+"
        rb"|(?P<dcs>P[%(noise)b0-?]*+[$+][^\x18\x1a\x1b]*+)(?:\x1b\\)?+"
        rb"|(?P<apc>_[%(noise)b]*+G[^\x18\x1a\x1b]*+)(?:\x1b\\)?+)"
    )
    % {b"noise": NOISE}
)
