"""Files that clients have sent ahead: bounded, ours alone, and still there after a restart."""

from __future__ import annotations

import asyncio
import stat

import pytest

from daemon.core.commands import Caller
from daemon.core.errors import BadRequest, Forbidden, NotFound, RateLimited, TooLarge
from daemon.core.uploads import AT_ONCE, Uploads, UploadSettings, media_type_of

ME = Caller("me", (("write", "*"), ("read", "session:mine")), 9e9)
OTHER = Caller("other", (("write", "*"), ("read", "session:shared")), 9e9)
READER = Caller("me", (("read", "*"),), 9e9)


async def pieces(*parts):
    for part in parts:
        yield part


async def keep(uploads, *parts, caller=ME):
    return await uploads.keep(caller, pieces(*(parts or (b"x" * 100,))))


async def test_a_file_is_kept_for_its_sender_in_a_folder_that_is_ours_alone(tmp_path):
    async with Uploads(tmp_path / "uploads", UploadSettings()) as uploads:
        kept = await keep(uploads, b"GIF8", b"9a", b"rest")
        assert (kept.media_type, kept.size, kept.user) == ("image/gif", 10, "me")
        assert await uploads.read(uploads.find(kept.id, ME)) == b"GIF89arest"
        with pytest.raises(NotFound):
            uploads.find(kept.id, OTHER)
    modes = [stat.S_IMODE(each.stat().st_mode) for each in (tmp_path / "uploads").iterdir()]
    assert modes == [0o600, 0o600]
    assert stat.S_IMODE((tmp_path / "uploads").stat().st_mode) == 0o700


async def test_what_is_shared_is_read_by_who_may_read_the_channel_after_a_restart_too(tmp_path):
    async with Uploads(tmp_path, UploadSettings()) as uploads:
        kept = await keep(uploads)
        await uploads.share(kept, "session:shared")
        await uploads.share(kept, "session:mine")
    async with Uploads(tmp_path, UploadSettings()) as uploads:
        assert uploads.find(kept.id, OTHER).channels == ("session:shared", "session:mine")


@pytest.mark.parametrize(
    "settings",
    [UploadSettings(total_bytes=250), UploadSettings(max_files=2)],
    ids=["size", "count"],
)
async def test_the_oldest_make_room(tmp_path, settings):
    async with Uploads(tmp_path, settings) as uploads:
        first, *later = [await keep(uploads) for _ in range(3)]
        with pytest.raises(NotFound):
            uploads.find(first.id, ME)
        assert [uploads.find(each.id, ME) for each in later] == later
    assert len(list(tmp_path.iterdir())) == 4


async def test_what_is_not_kept_leaves_nothing(tmp_path):
    async def breaks_off():
        yield b"x"
        raise ConnectionError

    async with Uploads(tmp_path, UploadSettings(file_bytes=100)) as uploads:
        for wrong, parts in (
            (TooLarge, pieces(b"x" * 60, b"x" * 60)),
            (BadRequest, pieces()),
            (ConnectionError, breaks_off()),
        ):
            with pytest.raises(wrong):
                await uploads.keep(ME, parts)
        with pytest.raises(Forbidden):
            await uploads.keep(READER, pieces(b"x"))
    assert list(tmp_path.iterdir()) == []


async def test_no_more_than_some_are_taken_at_once(tmp_path):
    go_on = asyncio.Event()

    async def slow():
        yield b"x"
        await go_on.wait()

    async with Uploads(tmp_path, UploadSettings()) as uploads:
        under_way = [asyncio.ensure_future(uploads.keep(ME, slow())) for _ in range(AT_ONCE)]
        await asyncio.sleep(0)
        with pytest.raises(RateLimited):
            await keep(uploads)
        go_on.set()
        await asyncio.gather(*under_way)
        await keep(uploads)


async def test_what_a_killed_daemon_left_is_removed_and_a_strange_note_is_not_believed(tmp_path):
    async with Uploads(tmp_path, UploadSettings()) as uploads:
        kept = await keep(uploads)
    (tmp_path / "half.part").write_bytes(b"x")
    (tmp_path / "alone").write_bytes(b"x")
    (tmp_path / "junk.json").write_text("{")
    (tmp_path / "a.json").write_text(
        '{"id":"../secret","mediaType":"image/png","size":1,"user":"me"}'
    )
    (tmp_path.parent / "secret").write_bytes(b"x")
    async with Uploads(tmp_path, UploadSettings()) as uploads:
        assert uploads.find(kept.id, ME) == kept
        with pytest.raises(NotFound):
            uploads.find("../secret", ME)
    assert sorted(each.name for each in tmp_path.iterdir()) == [kept.id, f"{kept.id}.json"]
    assert (tmp_path.parent / "secret").exists()


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"RIFF\0\0\0\0WEBP", "image/webp"),
        (b"RIFF\0\0\0\0WAVE", "application/octet-stream"),
        (b"<svg onload=", "application/octet-stream"),
        (b"<!doctype html>", "application/octet-stream"),
        (b"", "application/octet-stream"),
    ],
)
def test_an_image_is_told_by_its_first_bytes(head, kind):
    assert media_type_of(head) == kind
