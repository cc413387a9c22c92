"""Files read: encodings, ranges, lines, limits."""

from __future__ import annotations

import base64
import os

import pytest
from filed import sha256

from daemon.core.errors import BadRequest, NotFound, TooLarge
from domains.file.commands.looking import ReadFile
from domains.file.disk.reading import read
from domains.file.texts import detect


@pytest.mark.parametrize(
    ("data", "encoding", "text"),
    [
        (b"", "utf-8", ""),
        ("één\n".encode(), "utf-8", "één\n"),
        (b"\xef\xbb\xbfhi", "utf-8-bom", "hi"),
        ("\ufeffhé".encode("utf-16-le"), "utf-16-le-bom", "hé"),
        ("\ufeffhé".encode("utf-16-be"), "utf-16-be-bom", "hé"),
        ("café €".encode("cp1252"), "windows-1252", "café €"),
        (b"caf\xe9 \x81", "iso-8859-1", "café \x81"),
        (b"\x1b[31mred\x1b[0m", "utf-8", "\x1b[31mred\x1b[0m"),
    ],
)
async def test_an_encoding_is_found_out_and_written_back_byte_for_byte(plain, data, encoding, text):
    (plain.path / "f").write_bytes(data)
    found = await plain.ask("read", "f")
    assert (found["encoding"], found["content"]) == (encoding, text)
    assert (found["hash"], found["size"], found["length"]) == (sha256(data), len(data), len(data))
    await plain.ask("write", "f", content=text, encoding=encoding, expected=found["hash"])
    assert (plain.path / "f").read_bytes() == data


async def test_binary_is_refused_as_text_and_given_as_base64(plain):
    data = bytes(range(256))
    (plain.path / "f").write_bytes(data)
    with pytest.raises(BadRequest, match="base64"):
        await plain.ask("read", "f")
    found = await plain.ask("read", "f", encoding="base64")
    assert base64.b64decode(found["content"]) == data
    await plain.ask("write", "g", content=found["content"], encoding="base64")
    assert (plain.path / "g").read_bytes() == data
    with pytest.raises(BadRequest, match="not utf-8"):
        await plain.ask("read", "f", encoding="utf-8")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le-bom", "utf-16-be", "windows-1252"])
def test_ranges_one_behind_the_other_give_the_whole_text(tmp_path, encoding):
    text = "a€é𝄞z\r\n" * 9 if encoding != "windows-1252" else "a€éz\r\n" * 9
    python = {"utf-16-le-bom": "utf-16-le", "windows-1252": "cp1252"}.get(encoding, encoding)
    data = (b"\xff\xfe" if encoding.endswith("bom") else b"") + text.encode(python)
    (tmp_path / "f").write_bytes(data)
    for size in range(1, 12):
        offset, got, raw = 0, "", b""
        while True:
            asked = ReadFile(
                project_id="p", path="f", encoding=encoding, offset=offset, length=size
            )
            part = read(str(tmp_path), ["f"], asked, most=1 << 20, hashed=0)
            assert part.offset == offset
            assert part.length > 0
            got, raw = got + part.content, raw + data[offset : offset + part.length]
            offset += part.length
            if not part.truncated:
                break
        assert (got, raw) == (text, data)


@pytest.mark.parametrize("offset", range(12))
def test_a_range_from_within_a_character_begins_at_the_next(tmp_path, offset):
    data = "a€𝄞é".encode()  # begin at 0, 1, 4 and 8
    (tmp_path / "f").write_bytes(data)
    asked = ReadFile(project_id="p", path="f", offset=offset)
    part = read(str(tmp_path), ["f"], asked, most=1 << 20, hashed=0)
    assert (
        part.offset == next(at for at in (0, 1, 4, 8, 10, 11) if at >= min(offset, 10))
        or offset > 10
    )
    assert part.content.encode() == data[part.offset :]


async def test_lines_are_read_by_number(plain):
    (plain.path / "f").write_text("".join(f"line {n}\n" for n in range(1, 101)))
    found = await plain.ask("read", "f", fromLine=10, lines=2)
    assert (found["content"], found["lines"], found["truncated"]) == ("line 10\nline 11\n", 2, True)
    assert (plain.path / "f").read_bytes()[found["offset"] :].startswith(b"line 10\n")
    assert (await plain.ask("read", "f", fromLine=100))["content"] == "line 100\n"
    beyond = await plain.ask("read", "f", fromLine=101)
    assert (beyond["content"], beyond["lines"]) == ("", 0)
    (plain.path / "wide").write_text("ab\ncd\nef", "utf-16")
    wide = await plain.ask("read", "wide", fromLine=2)
    assert (wide["content"], wide["lines"]) == ("cd\nef", 2)
    for wrong in ({"lines": 3}, {"fromLine": 1, "offset": 1}):
        with pytest.raises(BadRequest):
            await plain.ask("read", "f", **wrong)


async def test_line_endings_and_mode_are_told(plain):
    for text, kind in (("a\r\nb", "crlf"), ("a\rb", "cr"), ("a\r\nb\n", "mixed"), ("a\n", "lf")):
        (plain.path / "f").write_bytes(text.encode())
        found = await plain.ask("read", "f")
        assert (found["content"], found["lineEndings"]) == (text, kind)
    (plain.path / "f").chmod(0o640)
    assert (await plain.ask("read", "f"))["mode"] == "0640"


async def test_a_large_file_is_read_in_parts_with_its_hash_when_asked(plain):
    path = plain.path / "sparse"
    with path.open("wb") as file:
        file.write(b"begin")
        file.truncate(1 << 30)
    with pytest.raises(TooLarge, match="offset and length"):
        await plain.ask("read", "sparse", encoding="base64")
    part = await plain.ask("read", "sparse", encoding="base64", offset=0, length=1 << 40)
    assert (part["length"], part["truncated"]) == (1 << 20, True)
    assert "hash" not in part
    os.truncate(path, 20 << 20)
    asked = await plain.ask("read", "sparse", encoding="base64", length=5, hash=True)
    assert base64.b64decode(asked["content"]) == b"begin"
    assert asked["hash"] == sha256(path.read_bytes())


async def test_what_is_not_there_or_no_file_is_said(plain):
    (plain.path / "folder").mkdir()
    with pytest.raises(NotFound, match="no gone"):
        await plain.ask("read", "gone")
    with pytest.raises(NotFound):
        await plain.ask("read", "gone/too")
    with pytest.raises(BadRequest, match=r"file\.tree"):
        await plain.ask("read", "folder")
    with pytest.raises(NotFound):
        await plain.client.call("file.read", {"projectId": "none", "path": "f"})


def test_text_is_told_from_what_is_none():
    assert detect(b"plain \xe2\x82", complete=False) == "utf-8"
    assert detect(b"plain \xe2\x82", complete=True) == "windows-1252"
    assert detect(b"nul\0", complete=True) is None
    assert detect(b"\xff\xfe\0\0a\0\0\0", complete=True) is None
    assert detect(bytes(range(128, 256)) + b"\x01", complete=True) is None
