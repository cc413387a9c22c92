"""Output for a replay: it restores a screen, and repeats no act.

A terminal that is asked again would answer again, and what it types is input for whatever runs by
then. One that is told again to ring, to notify, to fill the clipboard, to move its window, to print
or to take a file would do so once more. Each of these becomes as many NUL bytes, which terminals
pass over. Modes that have a terminal report at once when they are set are no modes afterwards.
"""

from __future__ import annotations

import re

from domains.shell.cut import NOISE, seven_bit, unfinished, without_noise

REACH = 256
"""Bytes of the longest sequence that is found wherever it is cut."""

REPORTING = (b"1004", b"2031", b"2048")
"""Private modes with which a terminal tells at once its focus, its colours or its size."""

_CANDIDATE = re.compile(
    rb"\x1b(?!\[[0-;]*+[@-QT-Zd-hj-m])[%(noise)b]*+(?:"  # nearly all move the cursor or colour
    rb"(?P<esc>Z)"
    rb"|\[(?P<csi>[%(noise)b -?]*+[\]RSc|ghimnp-qt-z~])"
    rb"|(?P<osc>\][^\x07\x18\x1a\x1b]++)(?:\x07|\x1b\\)?+"
    rb"|(?P<dcs>P[^\x18\x1a\x1b]++)(?:\x1b\\)?+"
    rb"|(?P<apc>_[%(noise)b]*+G[^\x18\x1a\x1b]*+)(?:\x1b\\)?+)" % {b"noise": NOISE}
)

_ACTS = {
    "esc": re.compile(rb"Z"),  # DECID
    "csi": re.compile(
        rb"[=>]?[0-;]*c"  # DA1, DA2, DA3
        rb"|\??[0-;]*n"  # DSR
        rb"|\??[0-;]*\$p"  # DECRQM
        rb"|[0-;]*\+p"  # DECSR, which is answered
        rb"|[0-;]*x"  # DECREQTPARM
        rb"|>[0-;]*q"  # XTVERSION
        rb"|>(?:0*10[01](?:[:;][0-;]*)?)? q"  # the cursors of kitty
        rb"|\?[0-;]*[Sgmu]"  # XTSMGRAPHICS, XTQFMTKEYS, XTQMODKEYS, the keyboard's flags of kitty
        rb"|[0-;]*t"  # the window, its title's stack, and reports of them
        rb"|\??[0-;]*i"  # printing
        rb"|[0-;]*,~"  # DECPS, a sound
        rb"|[0-;]*y"  # DECTST
        rb"|[0-;]*\*z"  # DECINVM, whatever the macro does
        rb"|0*1[2-5](?:[:;][0-;]*)?\]"  # the virtual consoles of Linux
        rb"|[0-;]*(?:\*y|\$[uw]|&u|,u|\+x)"  # DECRQCRA, -TSR, -PSR, -UPSS, -KT, -PKFM
        rb"|[0-;]*(?:'\||#[RS|]|\"v)"  # DECRQLP, XTREPORTCOLORS, XTTITLEPOS, -SGR, DECRQDE
    ),
    "osc": re.compile(
        rb"\]0*(?:"
        rb"(?!(?:[01278]|66|133|633|697|3008);)[0-9]++;(?:.*[:;=])?\?"  # colours, fonts and more
        rb"|9;(?!4;|9;|12)"  # a notification, but for progress, the folder and marks
        rb"|(?:99|777|9001)(?:;|\Z)"  # notifications and offers
        rb"|(?:52|5522)(?:;|\Z)"  # the clipboard
        rb"|(?:46|55|440|5113|72)[:;]"  # logs, dumps, sounds, files, what is dragged
        rb"|51;"  # calls into an editor around it
        rb"|50;(?:Copy|EndCopy|File|Re(?:port|quest)|Steal)"
        rb"|1337;(?!(?:CursorShape|RemoteHost|CurrentDir|ShellIntegrationVersion|SetUserVar"
        rb"|HighlightCursorLine|UnicodeVersion|SetColors|SetBadgeFormat)=|SetMark\Z"
        rb"|File=(?:[^:]*;)?inline=1(?:;|:))"  # an image is on the screen
        rb"|7771;"  # which glyphs there are
        rb"|6[01](?:;|\Z))",  # XTQALLOWED
        re.DOTALL,
    ),
    "dcs": re.compile(
        rb"P(?:[0-?]*[$+][Qq]"  # DECRQSS, XTGETTCAP, XTGETXRES
        rb"|[0-?]*!z"  # DECDMAC
        rb"|0*1000p"  # tmux's control mode
        rb"|@kitty-)"
    ),
    "apc": re.compile(
        rb"_G(?:[^;]*,)?(?:a=q|t=[st])(?:[,;]|\Z)"  # the graphics of kitty: a question, a loan
        rb"|_G(?!(?:[^;]*,)?(?:q=2|a=[dD])(?:[,;]|\Z))(?:[^;]*,)?[iI]="  # answered
    ),
}
_NUMBER = re.compile(rb"[%b0-9]+" % NOISE)
_MARK = re.compile(rb"[:;$+@pzG]")
"""What comes first of that which makes a string an act."""

_ENDED_BY_BELL = re.compile(rb"\x1b[%b]*+\][^\x07\x18\x1a\x1b]*+\x07" % NOISE)

_QUIET = bytes(0 if byte in (5, 7) else byte for byte in range(256))
"""ENQ, which is a query, and BEL."""


def silenced(before: bytes, data: bytes, after: bytes) -> bytes:
    """Return `data` with NUL bytes in the place of its queries and acts.

    `before` is the beginning of the sequence within which `data` begins, and `after` are the
    `REACH` bytes that come after it, or what there is. An act that cut off a sequence leaves a
    string terminator in front of its NUL bytes, lest what follows completes that sequence. A string
    that is longer than `REACH`, or has no end yet, is made one that means nothing: were it blanked,
    its end might be shown as text.
    """
    view = before + data + after
    if b"\x1b" not in view and b"\xc2" not in view and b"\x05" not in data and b"\x07" not in data:
        return data
    plain = seven_bit(view)
    silent = bytearray(view.translate(_QUIET))
    if b"\x07" in view:
        for string in _ENDED_BY_BELL.finditer(plain):
            silent[string.end() - 1] = 7
    ended = -1  # where a whole candidate did: one that follows at once cuts off nothing
    for found in _CANDIDATE.finditer(plain):
        kind = found.lastgroup or ""
        text = without_noise(found[kind])
        if _ACTS[kind].match(text):
            _blank(silent, found, found.start(kind), follows=found.start() == ended)
        elif kind == "csi" and text[:1] == b"?" and text[-1:] == b"h":
            _blank_reports(silent, found)
        whole = kind in {"csi", "esc"} or found[0].endswith((b"\x07", b"\\"))
        ended = found.end() if whole else -1
    return bytes(silent[len(before) : len(before) + len(data)])


def _blank(silent: bytearray, found: re.Match[bytes], string: int, *, follows: bool) -> None:
    start, end = found.span()
    if found.lastgroup in {"osc", "dcs", "apc"}:
        ended = end < len(silent) or found[0].endswith((b"\x07", b"\\"))
        mark = _MARK.search(found.string, string, end)
        if mark and not (ended and end - start <= REACH):
            silent[mark.start()] = ord("x")
            return
    silent[start:end] = bytes(end - start)
    if found.lastgroup == "csi" and end - start > REACH:
        silent[end - 1] = 0x18  # CAN: its beginning may have been told already
    if not follows and unfinished(found.string, start) < start:
        silent[start : start + 2] = b"\x1b\\"


def _blank_reports(silent: bytearray, found: re.Match[bytes]) -> None:
    """Make of modes that report one that does not exist, and leave others that are set with it."""
    for number in _NUMBER.finditer(found.string, *found.span("csi")):
        if without_noise(number[0]).lstrip(b"0") in REPORTING:
            silent[number.start() : number.end()] = bytes(len(number[0]))
