"""Output without its queries, for a replay: a terminal that is asked again would answer again.

What it types is input for whatever runs by then. So a query becomes as many NUL bytes, which
terminals pass over. Switching the focus reports on (private mode 1004) counts as one: xterm.js
tells at once whether it has the focus.
"""

from __future__ import annotations

import re

from domains.shell.cut import NOISE, seven_bit, unfinished, without_noise

REACH = 256
"""Bytes of the longest query that is found wherever it is cut."""

_CANDIDATE = re.compile(
    rb"\x1b(?!\[[0-;]*+[@-QT-Zd-m])[%(noise)b]*+(?:"  # nearly all move the cursor or colour
    rb"(?P<esc>Z)"
    rb"|\[(?P<csi>[%(noise)b -?]*+[RSc|ghmnp-qt-y])"
    rb"|(?P<osc>\][^\x07\x18\x1a\x1b]*+)(?:\x07|\x1b\\)?+"
    rb"|(?P<dcs>P[%(noise)b0-?]*+[$+][^\x18\x1a\x1b]*+)(?:\x1b\\)?+"
    rb"|(?P<apc>_[%(noise)b]*+G[^\x18\x1a\x1b]*+)(?:\x1b\\)?+)" % {b"noise": NOISE}
)

_QUERIES = {
    "esc": re.compile(rb"Z"),  # DECID
    "csi": re.compile(
        rb"[=>]?[0-;]*c"  # DA1, DA2, DA3
        rb"|\??[0-;]*n"  # DSR
        rb"|\??[0-;]*\$p"  # DECRQM
        rb"|[0-;]*x"  # DECREQTPARM
        rb"|>[0-;]*q"  # XTVERSION
        rb"|\?[0-;]*[Sgmu]"  # XTSMGRAPHICS, XTQFMTKEYS, XTQMODKEYS, the keyboard's flags of kitty
        rb"|0*(?:1[1345689]|2[01])(?:[:;][0-;]*)?t"  # the window
        rb"|[0-;]*(?:\*y|\$[uw]|&u)"  # DECRQCRA, DECRQTSR, DECRQPSR, DECRQUPSS
        rb"|[0-;]*(?:'\||#[RS|]|\"v)"  # DECRQLP, XTREPORTCOLORS, XTTITLEPOS, -SGR, DECRQDE
    ),
    "osc": re.compile(
        rb"\]0*(?:"
        rb"(?:[345]|1[0-9]|2[12]|5[02]|99|176|1337);(?:.*[:;=])?\?"  # colours, fonts, the clipboard
        rb"|1337;(?:Capabilities|Report|RequestUpload)"
        rb"|5522;.*type=read"
        rb"|6[01](?:;|\Z))",  # XTQALLOWED
        re.DOTALL,
    ),
    "dcs": re.compile(rb"P[0-?]*[$+][Qq]"),  # DECRQSS, XTGETTCAP, XTGETXRES
    "apc": re.compile(rb"_G(?:[^;]*,)?a=q(?:[,;]|\Z)"),  # the graphics of kitty
}
_FOCUS = re.compile(rb"\?(?:[0-;]*[:;])?0*1004(?:[:;][0-;]*)?h")
_NUMBER = re.compile(rb"[%b0-9]+" % NOISE)
_MARK = re.compile(rb"[;$+G]")
"""What comes first of that which makes a string a query."""


def silenced(before: bytes, data: bytes, after: bytes) -> bytes:
    """Give `data` with NUL bytes in the place of its queries.

    `before` and `after` are what comes before and after it, `REACH` bytes of each or what there is.
    A query that cut off a sequence leaves a string terminator in front of its NUL bytes, lest what
    follows completes that sequence. A string that is longer than `REACH`, or has no end yet, is
    made one that means nothing: were it blanked, its end might be shown as text.
    """
    view = before + data + after
    if b"\x1b" not in view and b"\xc2" not in view and b"\x05" not in data:
        return data
    view = view.replace(b"\x05", b"\0")  # ENQ
    plain = seven_bit(view)
    silent = bytearray(view)
    for found in _CANDIDATE.finditer(plain):
        kind = found.lastgroup or ""
        text = without_noise(found[kind])
        if _QUERIES[kind].match(text):
            _blank(silent, found, found.start(kind))
        elif kind == "csi" and _FOCUS.match(text):
            _blank_focus(silent, found)
    return bytes(silent[len(before) : len(before) + len(data)])


def _blank(silent: bytearray, found: re.Match[bytes], string: int) -> None:
    start, end = found.span()
    ended = end < len(silent) or found[0].endswith((b"\x07", b"\\"))
    mark = _MARK.search(found.string, string, end)
    if found.lastgroup in {"osc", "dcs", "apc"} and mark and not (ended and end - start <= REACH):
        silent[mark.start()] = ord("x")
        return
    silent[start:end] = bytes(end - start)
    if unfinished(found.string, start) < start:
        silent[start : start + 2] = b"\x1b\\"


def _blank_focus(silent: bytearray, found: re.Match[bytes]) -> None:
    """Make of mode 1004 one that does not exist, and leave the others that are set with it."""
    for number in _NUMBER.finditer(found.string, *found.span("csi")):
        if without_noise(number[0]).lstrip(b"0") == b"1004":
            silent[number.start() : number.end()] = bytes(len(number[0]))
