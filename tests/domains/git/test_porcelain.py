"""What git prints is read as it is meant, whatever the names are."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.core.errors import TooLarge
from domains.git.commits import read_blame, read_commits, unquoted
from domains.git.diffs import Limits, read_diff
from domains.git.porcelain import (
    BRANCH_FIELDS,
    TAG_FIELDS,
    minutes,
    read_branches,
    read_remotes,
    read_stashes,
    read_status,
    read_tags,
)

ID = b"5f2d9c0e8b7a61534f2e1d0c9b8a7f6e5d4c3b2a"
NONE = b"0" * 40
LIMITS = Limits(files=100, file_bytes=1_000, all_bytes=10_000)

NAMES = st.binary(min_size=1, max_size=20).map(
    lambda raw: raw.replace(b"\0", b"\n").replace(b"/", b"\t")
)


def changed(letters: bytes, path: bytes, kind: bytes = b"1", score: bytes = b"") -> bytes:
    fields = [kind, letters, b"N...", b"100644", b"100644", b"100644", ID, ID]
    return b" ".join([*fields, *([score] if score else []), path])


def status(*entries: bytes) -> bytes:
    return b"".join(entry + b"\0" for entry in entries)


def test_a_file_that_left_the_index_and_is_still_there_is_told_once():
    reading = read_status(status(changed(b"D.", b"a b"), b"? a b", b"? c"), limit=10)
    told = [(file.path, file.index, file.work_tree) for file in reading.files]
    assert told == [("a b", "deleted", "untracked"), ("c", None, "untracked")]
    assert (reading.counts.staged, reading.counts.untracked) == (1, 2)
    assert not reading.truncated


def test_conflicts_come_first_and_are_told_within_the_limit():
    conflict = b" ".join(
        [b"u", b"UD", b"N...", *[b"100644"] * 3, b"000000", ID, ID, NONE, b"both sides"]
    )
    entries = [changed(b".M", b"%d" % number) for number in range(5)]
    reading = read_status(status(*entries, conflict, b"? new"), limit=3)
    assert [file.path for file in reading.files] == ["both sides", "0", "1"]
    assert reading.files[0].conflict == "deleted_by_them"
    assert reading.truncated
    counts = reading.counts
    assert (counts.unstaged, counts.conflicted, counts.untracked) == (5, 1, 1)
    assert not read_status(status(*entries), limit=5).truncated
    assert read_status(status(*entries, b"? new"), limit=5).truncated


def test_a_rename_a_mode_and_a_submodule_are_told_with_what_is_new():
    entries = status(
        changed(b"RM", b"new name", b"2", b"R087"),
        b"old name",
        b"1 .T N... 100644 100644 120000 " + ID + b" " + ID + b" now a link",
        b"1 .M SC.U 160000 160000 160000 " + ID + b" " + ID + b" sub",
    )
    renamed, linked, sub = read_status(entries, limit=10).files
    assert (renamed.old_path, renamed.similarity) == ("old name", 87)
    assert (renamed.index, renamed.work_tree) == ("renamed", "modified")
    assert (renamed.head_mode, linked.index_mode, linked.work_tree_mode) == (
        None,
        "100644",
        "120000",
    )
    assert sub.submodule is not None
    assert (sub.submodule.commit_changed, sub.submodule.modified) == (True, False)
    assert sub.submodule.untracked


@given(st.lists(NAMES, max_size=5))
@settings(max_examples=50)
def test_whatever_a_name_is_it_is_told_or_said_to_be_lossy(names):
    reading = read_status(status(*(b"? " + name for name in names)), limit=10)
    for name, file in zip(names, reading.files, strict=True):
        assert file.lossy or file.path.encode() == name
        assert "\ufffd" in file.path or not file.lossy


@given(st.lists(NAMES, max_size=4, unique=True))
@settings(max_examples=50)
def test_each_part_of_a_patch_is_found_by_its_name(names):
    raw = b"".join(b":100644 100644 " + ID + b" " + NONE + b" M\0" + name + b"\0" for name in names)
    counts = b"".join(b"1\t0\t" + name + b"\0" for name in names)
    parts = [
        b"diff --git %s %s\n@@ -0,0 +1 @@\n+%d\n"
        % (quoted(b"a/" + name), quoted(b"b/" + name), number)
        for number, name in enumerate(names)
    ]
    diff = read_diff(raw + counts + (b"\0" + b"".join(parts) if names else b""), LIMITS)
    assert [file.text for file in diff.files] == [part.decode(errors="replace") for part in parts]
    assert (diff.additions, diff.file_count) == (len(names), len(names))


def quoted(name: bytes) -> bytes:
    """Write a name as git-config(1) has it at core.quotePath, with that set to false."""
    plain = {7: b"a", 8: b"b", 9: b"t", 10: b"n", 11: b"v", 12: b"f", 13: b"r"}
    plain |= {34: b'"', 92: b"\\"}
    out = b""
    for each in name:
        if each in plain:
            out += b"\\" + plain[each]
        elif each < 32 or each == 127:
            out += b"\\%03o" % each
        else:
            out += bytes([each])
    assert unquoted(b'"' + out + b'"') == name
    return name if out == name else b'"' + out + b'"'


def test_a_line_of_a_file_is_no_beginning_of_another():
    raw = b":100644 100644 " + ID + b" " + NONE + b" M\0f\0" + b"1\t0\tf\0\0"
    text = b"diff --git a/f b/f\n@@ -1 +1,2 @@\n diff --git a/f b/f\n+* Unmerged path f\n"
    (file,) = read_diff(raw + text, LIMITS).files
    assert file.text == text.decode()


def test_what_is_cut_off_of_a_diff_is_said():
    raw = b"".join(b":100644 100644 " + ID + b" " + NONE + b" M\0%d\0" % n for n in range(3))
    counts = b"".join(b"1\t0\t%d\0" % n for n in range(3))
    part = b"diff --git a/%d b/%d\n@@ -0,0 +1 @@\n+%d\n"
    parts = [part % (n, n, n) for n in range(3)]
    output = raw + counts + b"\0" + b"".join(parts)
    diff = read_diff(output[: -len(parts[2]) - 3], LIMITS, whole=False)
    assert [(file.path, file.truncated) for file in diff.files] == [
        ("0", False),
        ("1", True),
        ("2", True),
    ]
    assert diff.additions == 3
    with pytest.raises(TooLarge, match="name paths"):
        read_diff(output[: len(raw)], LIMITS, whole=False)
    with pytest.raises(TooLarge, match="name paths"):
        read_diff(output[: len(raw) - 1], LIMITS, whole=False)


def test_a_commit_of_nobody_and_without_words_is_one():
    fields = [ID, b"", b"", b"", b"", b"", b"", b"", b"", b"", b"", b"", b""]
    (commit,) = read_commits(b"\0".join(fields) + b"\0\0", 1)
    assert (commit.parents, commit.subject, commit.refs) == ([], "", [])
    decorated = b"HEAD -> refs/heads/a,b, tag: refs/tags/v1, grafted, refs/remotes/o/m"
    fields[10] = decorated
    (commit,) = read_commits(b"\0".join(fields) + b"\0\0", 1)
    assert commit.refs == ["HEAD", "refs/heads/a,b", "refs/tags/v1", "refs/remotes/o/m"]


def test_a_blame_is_cut_between_lines_and_counts_what_it_tells():
    about = (
        b"author Ada\nauthor-mail <a@x>\nauthor-time 5\nauthor-tz -0130\nsummary s\nfilename f\n"
    )
    output = ID + b" 3 1 2\n" + about + b"\tone\n" + ID + b" 4 2\n\ttwo\n" + ID + b" 9 3 1\n\tth"
    blame = read_blame(output, limit=10)
    (lines,) = blame.lines
    assert (lines.line, lines.original_line, lines.count, lines.text) == (1, 3, 2, "one\ntwo\n")
    assert (blame.told, blame.more) == (2, False)
    assert blame.commits[0].author.utc_offset == -90
    assert read_blame(output, limit=1).more
    wide = ID + b" 1 1 1\n" + about + b"\t" + b"w" * 20_000 + b"\n"
    assert read_blame(wide, limit=1).lines[0].truncated


def test_names_of_a_repository_are_read():
    row = {"refname": "refs/heads/x", "upstream": "refs/remotes/o/x", "committerdate:unix": "5"}
    rows = [
        {**row, "upstream:track,nobracket": "ahead 2, behind 3", "worktreepath": "/a\n/b"},
        {**row, "refname": "refs/remotes/o/HEAD", "symref": "refs/remotes/o/x"},
        {**row, "upstream:track,nobracket": "gone"},
        {**row, "upstream": "", "HEAD": "*"},
    ]
    printed = "".join(
        "".join(row.get(field, "") + "\0" for field in BRANCH_FIELDS) + "\n" for row in rows
    )
    ahead, gone, alone = read_branches(printed.encode())
    assert (ahead.ahead, ahead.behind, ahead.worktree) == (2, 3, "/a\n/b")
    assert (gone.gone, gone.ahead, gone.upstream) == (True, None, "o/x")
    assert (alone.current, alone.upstream, alone.ahead) == (True, None, None)
    tag = {"refname": "refs/tags/t", "objecttype": "tag", "*objecttype": "tree"}
    printed = "".join(tag.get(field, "") + "\0" for field in TAG_FIELDS) + "\n"
    (told,) = read_tags(printed.encode())
    assert (told.target_type, told.tagger, told.time) == ("tree", None, None)


def test_remotes_are_told_without_what_is_secret():
    said = (
        "a\thttps://u:p@h/x y.git (fetch) [blob:none]\na\thttps://u:p@h/x y.git (push)\nodd\n"
        "b\tgit@h:x.git (fetch)\nb\tone (push)\nb\ttwo (push)"
    )
    first, second = read_remotes(said)
    assert (first.fetch_url, first.push_urls) == ("https://h/x y.git", ["https://h/x y.git"])
    assert (second.fetch_url, second.push_urls) == ("git@h:x.git", ["one", "two"])


def test_a_stash_says_where_it_was_made():
    said = ("WIP on main: 1234567 a: b", "On x/y: a: b", "On (no branch): m", "something else")
    printed = "".join(f"{ID.decode()}\0p q\x005\0{words}\0\0" for words in said)
    told = [(stash.branch, stash.message) for stash in read_stashes(printed.encode())]
    assert told == [
        ("main", "1234567 a: b"),
        ("x/y", "a: b"),
        (None, "m"),
        (None, "something else"),
    ]


def test_a_time_zone_is_read():
    assert [minutes(zone) for zone in ("+0130", "-0800", "", "CET")] == [90, -480, 0, 0]
