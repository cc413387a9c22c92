"""What git says of a repository is what we say: status, diffs, logs, blame, lists of names."""

from __future__ import annotations

import base64
import itertools
from typing import Any

import git as gitpython
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from repositories import Repo, added
from zoo import CHANGES, TEXT, ZOO, apply

from daemon.client import Client
from daemon.core.errors import BadRequest, NotFound, TooLarge

LETTERS = {
    "added": "A",
    "modified": "M",
    "deleted": "D",
    "renamed": "R",
    "copied": "C",
    "type_changed": "T",
    "unmerged": "U",
    "untracked": "?",
}
CONFLICTS = {
    "both_deleted": "DD",
    "added_by_us": "AU",
    "deleted_by_them": "UD",
    "added_by_them": "UA",
    "deleted_by_us": "DU",
    "both_added": "AA",
    "both_modified": "UU",
}
BLAMED = 9
"""Files of one repository that are blamed: each takes four processes."""

ALL = {"maxFiles": 10_000, "maxBytes": 8 << 20, "maxFileBytes": 4 << 20}


async def ask(client: Client, project: str, operation: str, **asked: Any) -> Any:
    """Look at a project's repository, as a client does that is told nothing of it."""
    return await client.call(f"git.{operation}", {"projectId": project, **asked})


def shown(raw: bytes) -> str:
    return raw.decode(errors="replace")


# What git says itself, in other formats than those that are read


def status_of(repo: Repo) -> set[tuple[str, str, str]]:
    """Read the first version of the format: letters, path, old path."""
    entries = iter(repo.raw("status", "--porcelain=v1", "-z", "-uall").split(b"\0"))
    found = set()
    for entry in entries:
        if entry:
            old = next(entries) if entry[:1] in b"RC" or entry[1:2] in b"RC" else b""
            found.add((entry[:2].decode(), shown(entry[3:]), shown(old)))
    return found


def status_told(files: list[dict]) -> set[tuple[str, str, str]]:
    assert len({file["path"] for file in files}) == len(files)
    found = set()
    for file in files:
        index, tree = file.get("index"), file.get("workTree")
        if "conflict" in file:
            letters = CONFLICTS[file["conflict"]]
        else:
            letters = LETTERS.get(index, " ") + LETTERS.get(tree, " ")
        if tree == "untracked":
            found.add(("??", file["path"], ""))
            letters = letters[0] + " "
        if letters.strip():
            found.add((letters, file["path"], file.get("oldPath", "")))
    return found


def diff_of(repo: Repo, *args: str) -> dict[str, tuple]:
    """Read `--raw` and `--numstat`, each by itself."""
    found: dict[str, tuple] = {}
    args = tuple(arg for arg in args if not arg.startswith("-U"))  # which asks for the patch
    fields = iter(repo.raw("diff", "--raw", "-M", "-z", *args).split(b"\0"))
    for field in fields:
        if field.startswith(b":"):
            old_mode, new_mode, _, _, letter = shown(field[1:]).split(" ")
            old = shown(next(fields))
            path = shown(next(fields)) if letter[0] in "RC" else old
            score = int(letter[1:]) if letter[0] in "RC" else None
            if path in found and found[path][0] == "U":
                letter = "U"
            modes = tuple(None if mode == "000000" else mode for mode in (old_mode, new_mode))
            found[path] = (letter[0], score, *modes, old if old != path else None)
    fields = iter(repo.raw("diff", "--numstat", "-M", "-z", *args).split(b"\0"))
    for field in fields:
        if field:
            added_, deleted, path = shown(field).split("\t", 2)
            if not path:
                next(fields)
                path = shown(next(fields))
            numbers = (None, None) if added_ == "-" else (int(added_), int(deleted))
            found[path] = (*found[path][:5], *numbers)
    return found


def diff_told(diff: dict) -> dict[str, tuple]:
    for file in diff["files"]:
        assert file.get("binary", False) == ("additions" not in file)
    return {
        file["path"]: (
            LETTERS[file["status"]],
            file.get("similarity"),
            file.get("oldMode"),
            file.get("newMode"),
            file.get("oldPath"),
            file.get("additions"),
            file.get("deletions"),
        )
        for file in diff["files"]
    }


def patch_of(repo: Repo, *args: str) -> str:
    """Read the patch, without the lines that say only that a file is in conflict."""
    patch = repo.raw("-c", "core.quotePath=false", "diff", "-M", *args)
    for entry in repo.raw("ls-files", "-u", "-z").split(b"\0"):
        patch = patch.replace(b"* Unmerged path " + entry.partition(b"\t")[2] + b"\n", b"")
    return shown(patch)


def blame_of(repo: Repo, *args: str) -> list[tuple[str, int, str]]:
    """Read who has written each line, where, and the line."""
    found = []
    place = ("", 0)
    for line in repo.raw("blame", "--line-porcelain", *args).split(b"\n")[:-1]:
        if line.startswith(b"\t"):
            found.append((*place, shown(line[1:] + b"\n")))
            place = ("", 0)
        elif not place[0]:
            id_, original, _ = shown(line).split(" ")[:3]
            place = id_, int(original)
    return found


def blame_told(blame: dict) -> list[tuple[str, int, str]]:
    found = []
    for told in blame["lines"]:
        lines = told["text"].split("\n")[:-1]
        assert len(lines) == told["count"]
        assert told["line"] == len(found) + 1
        id_ = blame["commits"][told.get("commit", 0)]["id"]
        found += [(id_, told["originalLine"] + n, line + "\n") for n, line in enumerate(lines)]
    return found


async def compare(client, project: str, repo: Repo) -> None:
    """See that all that is said of a repository is what git says."""
    born = repo.raw("rev-parse", "-q", "--verify", "HEAD", ok=(0, 1)) != b""
    status = await ask(client, project, "status")
    assert status_told(status["files"]) == status_of(repo)
    ways: list[tuple[dict, list[str]]] = [({}, ["--ours"]), ({"staged": True}, ["--cached"])]
    ways.append(({"ignoreWhitespace": True, "contextLines": 0}, ["--ours", "-w", "-U0"]))
    if born:
        ways.append(({"revision": "HEAD"}, ["HEAD"]))
    for asked, args in ways:
        diff = await ask(client, project, "diff", **asked, **ALL)
        known = diff_of(repo, *args)
        if "-w" in args:  # where --raw lists what --numstat leaves out
            known = {path: what for path, what in known.items() if len(what) > 5}
        assert diff_told(diff) == known, args
        assert "".join(file.get("text", "") for file in diff["files"]) == patch_of(repo, *args)
        assert "truncated" not in diff
        assert diff["fileCount"] == len(diff["files"])
    if born:
        await compare_history(client, project, repo)


async def compare_history(client, project: str, repo: Repo) -> None:
    """Compare the log with GitPython's commits, and the blame of files with git's own."""
    log = (await ask(client, project, "log"))["commits"]
    with gitpython.Repo(repo.path) as theirs:
        commits = list(theirs.iter_commits("HEAD"))
        assert [commit["id"] for commit in log] == [commit.hexsha for commit in commits]
        for told, commit in zip(log, commits, strict=True):
            assert told["parents"] == [parent.hexsha for parent in commit.parents]
            for who, date, zone in (
                ("author", commit.authored_date, commit.author_tz_offset),
                ("committer", commit.committed_date, commit.committer_tz_offset),
            ):
                person = getattr(commit, who)
                assert told[who] == {
                    "name": person.name,
                    "email": person.email,
                    "time": date,
                    **({"utcOffset": -zone // 60} if zone else {}),
                }
            body = told.get("body", "")
            message = told["subject"] + (f"\n\n{body}" if body else "")
            assert message == commit.message.rstrip("\n")
    for raw in repo.raw("ls-files", "-z", "--stage").split(b"\0")[:BLAMED]:
        about, _, name = raw.partition(b"\t")
        path = shown(name)
        if not about.startswith(b"100") or not about.endswith(b"0") or "\ufffd" in path:
            continue
        if repo.raw("ls-tree", "HEAD", "--", name) == b"":
            continue
        told = await ask(client, project, "blame", path=path, revision="HEAD", limit=20_000)
        assert blame_told(told) == blame_of(repo, "HEAD", "--", path)
        if (repo.path / path).is_file() and not (repo.path / path).is_symlink():
            told = await ask(client, project, "blame", path=path, limit=20_000)
            assert blame_told(told) == blame_of(repo, "--", path)


@pytest.mark.parametrize("animal", ZOO)
async def test_what_is_said_of_each_of_the_zoo_is_what_git_says(running, tmp_path, animal):
    repo = ZOO[animal](tmp_path / animal)
    async with running.client() as client:
        await compare(client, await added(client, repo.path), repo)


@settings(
    max_examples=10,
    deadline=None,
    database=None,
    phases=[Phase.generate],  # to make a failure smaller takes minutes
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(changes=CHANGES)
async def test_what_is_said_after_any_changes_is_what_git_says(running, tmp_path, changes):
    repo = Repo(tmp_path / f"own {len(list(tmp_path.iterdir()))}")
    apply(repo, changes)
    async with running.client() as client:
        await compare(client, await added(client, repo.path), repo)


async def test_a_log_is_paged_both_ways_while_commits_arrive(running, tmp_path):
    repo = Repo(tmp_path / "own")
    repo.grow(3_000)
    ids = repo.git("rev-list", "HEAD").split()
    async with running.client() as client:
        project = await added(client, repo.path)
        pages, cursors, cursor = [], [], None
        while True:
            page = await ask(client, project, "log", limit=700, **cursor or {})
            pages.append([commit["id"] for commit in page["commits"]])
            cursors.append(page.get("previousCursor"))
            if len(pages) == 2:
                repo.commit({"new": "on top"})
            assert page["tip"] == ids[0]
            if "nextCursor" not in page:
                break
            cursor = {"cursor": page["nextCursor"]}
        assert list(itertools.chain(*pages)) == ids
        assert cursors[0] is None
        back = []
        while "previousCursor" in page:
            page = await ask(client, project, "log", limit=500, cursor=page["previousCursor"])
            assert "nextCursor" in page
            back = [commit["id"] for commit in page["commits"]] + back
        assert back + pages[-1] == ids
        here = await ask(client, project, "log", limit=500, cursor=cursors[1])
        there = await ask(client, project, "log", limit=700, cursor=here["nextCursor"])
        assert [commit["id"] for commit in here["commits"] + there["commits"]] == ids[200:1400]
        newer = await ask(client, project, "log", revision=f"{page['tip']}..HEAD")
        assert [commit["subject"] for commit in newer["commits"]] == ["a commit"]
        for wrong in ({"cursor": cursors[1], "grep": "x"}, {"cursor": "W10"}, {"cursor": "?"}):
            with pytest.raises(BadRequest, match="cursor"):
                await ask(client, project, "log", **wrong)


async def test_a_log_is_of_paths_people_words_and_times(running, tmp_path):
    repo = ZOO["merged"](tmp_path / "own")
    repo.git("-c", "user.name=Bob (x.*)", "commit", "-q", "--allow-empty", "-m", "Any.thing")
    env = ("-c", "log.follow=false", "log", "--format=%H")
    one = "--author=Ada"
    async with running.client() as client:
        project = await added(client, repo.path)

        async def told(**asked) -> list[str]:
            page = await ask(client, project, "log", **asked)
            return [commit["id"] for commit in page["commits"]]

        for asked, args in (
            ({"author": "ada"}, (one,)),
            ({"author": "ADA@"}, (one,)),
            ({"author": "a.a"}, ("--author=nobody",)),
            ({"grep": "MERGE"}, ("--grep=merge",)),
            ({"grep": "y.t"}, ("--grep=Any",)),
            ({"grep": ".*"}, ("--grep=nothing like it",)),
            ({"author": "ada", "grep": "side"}, (one, "--grep=side", "--all-match")),
            ({"paths": ["dir", "renamed"]}, ("--", "dir", "renamed")),
            ({"paths": ["renamed"], "follow": True}, ("--follow", "--", "renamed")),
            ({"revision": "side/0..side/2"}, ("side/0..side/2",)),
            ({"revision": "side/0...main~1"}, ("side/0...main~1",)),
            ({"since": 1767323045}, ("--since=2026-01-02T03:04:05+00:00",)),
            ({"since": 1767323046}, ("--since=2026-01-02T03:04:06+00:00",)),
            ({"until": 1767323044}, ("--until=2026-01-02T03:04:04+00:00",)),
            ({"until": 1767323045}, ("--until=2026-01-02T03:04:05+00:00",)),
        ):
            assert await told(**asked) == repo.git(*env, *args).split(), asked
        assert len(await told(paths=["renamed"], follow=True)) > 4
        pages, page = [], {"nextCursor": None}
        while "nextCursor" in page:  # which git itself pages wrongly
            cursor = {"cursor": page["nextCursor"]} if page["nextCursor"] else {}
            asked = {"paths": ["renamed"], "follow": True, "limit": 2}
            page = await ask(client, project, "log", **asked, **cursor)
            pages += [commit["id"] for commit in page["commits"]]
        assert pages == await told(paths=["renamed"], follow=True)
        refs = {
            ref for c in (await ask(client, project, "log"))["commits"] for ref in c.get("refs", ())
        }
        assert {"HEAD", "refs/heads/main", "refs/heads/side/0"} <= refs
        with pytest.raises(BadRequest, match="one file"):
            await told(follow=True)
        with pytest.raises(NotFound):
            await told(revision="nowhere")


async def test_a_diff_is_between_any_two_and_of_one_commit(running, tmp_path):
    repo = ZOO["merged"](tmp_path / "own")
    async with running.client() as client:
        project = await added(client, repo.path)
        for asked, args in (
            ({"from": "side/0", "to": "side/2"}, ("side/0", "side/2")),
            ({"from": "side/0"}, ("side/0", "HEAD")),
            ({"from": "side/0", "to": "main", "mergeBase": True}, ("side/0...main",)),
            ({"commit": "HEAD"}, ("HEAD~1", "HEAD")),
            ({"commit": "HEAD~1"}, ("HEAD~2", "HEAD~1")),  # a merge
            ({"commit": "side/1", "paths": ["dir"]}, ("side/1~1", "side/1", "--", "dir")),
            ({"commit": "side/1", "paths": ["none"]}, ("side/1", "side/1")),
            ({"revision": "side/0", "paths": ["dir/x"]}, ("side/0", "--", "dir/x")),
            ({"staged": True, "revision": "side/0"}, ("--cached", "side/0")),
        ):
            diff = await ask(client, project, "diff", **asked)
            assert diff_told(diff) == diff_of(repo, *args), asked
            assert "".join(file["text"] for file in diff["files"]) == patch_of(repo, *args)
            short = await ask(client, project, "diff", **asked, statOnly=True)
            assert diff_told(short) == diff_told(diff)
            assert not any("text" in file for file in short["files"])
        root = await ask(client, project, "diff", commit=":/a commit")
        assert [file["path"] for file in root["files"]] == ["file"]
        for wrong in (
            {"from": "main", "commit": "main"},
            {"to": "main"},
            {"staged": True, "commit": "main"},
            {"revision": "--output=/tmp/x"},
            {"paths": ["../x"]},
        ):
            with pytest.raises(BadRequest):
                await ask(client, project, "diff", **wrong)
        with pytest.raises(NotFound):
            await ask(client, project, "diff", revision="nowhere")


async def test_what_is_told_is_bounded_and_says_so(running, tmp_path):
    repo = Repo(tmp_path / "own")
    repo.commit(dict.fromkeys("abcd", TEXT))
    for number, name in enumerate("abcd"):
        repo.write(name, TEXT.replace("line", f"row {number}") * 200)
    repo.write("a", "one long line" * 100_000)
    for number in range(20):
        repo.write(f"new/{number}")
    async with running.client() as client:
        project = await added(client, repo.path)
        status = await ask(client, project, "status", limit=6)
        assert len(status["files"]) == 6
        assert status["truncated"]
        assert status["summary"]["counts"] == {"unstaged": 4, "untracked": 20}
        folded = await ask(client, project, "status", untracked="normal")
        assert folded["files"][-1] == {"path": "new/", "workTree": "untracked"}
        bare = await ask(client, project, "status", untracked="none")
        assert [file["path"] for file in bare["files"]] == ["a", "b", "c", "d"]
        diff = await ask(client, project, "diff", maxFiles=3, maxFileBytes=1_000, maxBytes=1_500)
        assert diff["fileCount"] == 4
        assert diff["truncated"]
        assert diff["additions"] == 1 + 3 * 2400
        assert [file["truncated"] for file in diff["files"]] == [True, True, True]
        sizes = [len(file.get("text", "")) for file in diff["files"]]
        assert sizes[0] < 500  # the line that is too long is left out whole
        assert 900 < sizes[1] <= 1_000
        assert sum(sizes) <= 1_500
        assert all(file["text"].endswith("\n") for file in diff["files"])
        repo.write("big", b"".join(b"%04000d\n" % number for number in range(10_000)))
        repo.git("add", "big")
        diff = await ask(client, project, "diff", staged=True)
        assert (diff["files"][0]["additions"], diff["files"][0]["truncated"]) == (10_000, True)
        repo.git("commit", "-q", "-m", "big")
        blame = await ask(client, project, "blame", path="big", limit=3, startLine=9)
        assert [told["text"][3996:4000] for told in blame["lines"]] == ["0008"]
        assert blame["nextLine"] == 12
        blame = await ask(client, project, "blame", path="big", startLine=2, endLine=5)
        assert (blame["lines"][0]["count"], "nextLine" in blame) == (4, False)
        repo.commit({"wide": "w" * (5 << 20)})
        with pytest.raises(TooLarge, match="line 1"):
            await ask(client, project, "blame", path="wide")


async def test_a_commit_is_shown_and_a_file_as_it_was(running, tmp_path):
    repo = ZOO["detached"](tmp_path / "own")
    repo.git("stash", "-q")
    for raw in (b"caf\xc3\xa9\n", b"caf\xe9\n", b"\0\1"):
        repo.commit({"new\nline": raw})
    (repo.path / "link").symlink_to("/etc/passwd")
    repo.commit()
    async with running.client() as client:
        project = await added(client, repo.path)
        shown = await ask(client, project, "show", revision="heavy")  # a tag, of a commit
        assert shown["commit"]["id"] == repo.git("rev-parse", "heavy^0").strip()
        assert shown["diff"]["files"][0]["newMode"] == "100644"
        second = await ask(client, project, "show", revision="main", contextLines=0)
        assert second["commit"]["subject"] == "second, with a comma"
        assert second["commit"]["body"] == "A body\n\nof two paragraphs"
        assert second["diff"]["additions"] == 12

        async def file(revision: str, path: str, **asked):
            answer = await ask(client, project, "show", revision=revision, path=path, **asked)
            return answer["file"]

        text = await file("HEAD~3", "new\nline")
        assert (text["content"], text["encoding"], text["size"]) == ("café\n", "utf-8", 6)
        assert (await file("HEAD~3", "new\nline", maxBytes=4))["content"] == "caf"
        assert (await file("HEAD~3", "new\nline", maxBytes=4))["truncated"]
        for revision, raw in (("HEAD~2", b"caf\xe9\n"), ("HEAD~1", b"\0\1")):
            told = await file(revision, "new\nline")
            assert (base64.b64decode(told["content"]), told["encoding"]) == (raw, "base64")
        link = await file("HEAD", "link")
        assert (link["mode"], link["content"]) == ("120000", "/etc/passwd")
        for revision, path in (("HEAD", "nowhere"), ("nowhere", "file")):
            with pytest.raises(NotFound):
                await file(revision, path)
        for revision, path in (("--batch", "file"), ("HEAD", ".git/config"), ("HEAD", "../x")):
            with pytest.raises(BadRequest):
                await file(revision, path)
        with pytest.raises(NotFound):
            await ask(client, project, "show", revision="HEAD:link")


async def test_a_blame_tells_where_lines_come_from(running, tmp_path):
    repo = ZOO["merged"](tmp_path / "own")
    repo.write("renamed", f"mine\n{(repo.path / 'renamed').read_text()}")
    for name in ("empty", "of two\nlines"):
        repo.write(name)
        repo.git("add", name)
    async with running.client() as client:
        project = await added(client, repo.path)
        blame = await ask(client, project, "blame", path="renamed")
        table = blame["commits"]
        assert table[0]["uncommitted"]
        assert {told["path"] for told in table} == {"renamed", "file"}
        assert blame["lines"][0] == {
            "commit": 0,
            "line": 1,
            "originalLine": 1,
            "count": 1,
            "text": "mine\n",
        }
        ended = await ask(client, project, "blame", path="renamed", startLine=15)
        assert ended["lines"] == []
        for name in ("empty", "of two\nlines"):
            assert (await ask(client, project, "blame", path=name))["lines"] == []
        with pytest.raises(BadRequest, match="has only 14 lines"):
            await ask(client, project, "blame", path="renamed", startLine=1_000)
        for wrong in ({"path": "nowhere"}, {"path": "renamed", "revision": "nowhere"}):
            with pytest.raises(NotFound):
                await ask(client, project, "blame", **wrong)
        for wrong in ({"path": "--help/../x"}, {"path": "renamed", "revision": "--contents=/x"}):
            with pytest.raises(BadRequest):
                await ask(client, project, "blame", **wrong)


async def test_branches_tags_remotes_and_stashes_are_listed(running, tmp_path):
    repo = ZOO["detached"](tmp_path / "own")
    repo.git("checkout", "-q", "-f", "main")
    origin = Repo(tmp_path / "origin", bare=True)
    repo.git("remote", "add", "origin", str(origin.path))
    repo.git("push", "-q", "origin", "main~1:refs/heads/main", "main:refs/heads/gone")
    repo.git("remote", "add", "secret", "https://ada:hunter2@example.org/x.git")
    repo.git("remote", "set-url", "--add", "--push", "secret", "https://token@example.org/y.git")
    repo.git("remote", "set-head", "origin", "main")
    repo.git("branch", "-q", "-u", "origin/main")
    for name, upstream in (("lost", "origin/gone"), ("a,b", "main")):
        repo.git("branch", "-q", name, "HEAD~1")
        repo.git("branch", "-q", "-u", upstream, name)
    repo.git("push", "-q", "origin", ":gone")
    repo.git("worktree", "add", "-q", str(tmp_path / "tree\nof lines"), "lost")
    for message in ("named: so", ""):
        repo.write("file", message or "x")
        repo.git("stash", "push", "-q", *(("-m", message) if message else ()))
    async with running.client() as client:
        project = await added(client, repo.path)
        told = (await ask(client, project, "branch_list", remote=True))["branches"]
        branches = {branch.pop("name"): branch for branch in told}
        heads = {"main": "HEAD", "lost": "HEAD~1", "a,b": "HEAD~1", "origin/main": "HEAD~1"}
        assert branches.keys() == heads.keys()
        for name, at in heads.items():
            assert branches[name]["head"] == repo.git("rev-parse", at).strip()
        main = branches["main"]
        assert (main["current"], main["worktree"]) == (True, str(repo.path))
        assert (main["upstream"], main["ahead"], main["behind"]) == ("origin/main", 1, 0)
        assert branches["lost"]["gone"]
        assert branches["lost"]["worktree"] == str(tmp_path / "tree\nof lines")
        assert (branches["a,b"]["upstream"], branches["a,b"]["behind"]) == ("main", 1)
        assert branches["origin/main"]["remote"]
        few = await ask(client, project, "branch_list", limit=2)
        assert (len(few["branches"]), few["truncated"]) == (2, True)

        tags = {tag["name"]: tag for tag in (await ask(client, project, "tag_list"))["tags"]}
        first = repo.git("rev-parse", "main~1").strip()
        assert {tag["target"] for tag in tags.values()} == {first}
        assert "annotated" not in tags["light"]
        assert tags["heavy"]["message"] == "said\n\nat length"
        assert tags["heavy"]["tagger"]["email"] == "ada@example.org"

        remotes = {r["name"]: r for r in (await ask(client, project, "remote_list"))["remotes"]}
        assert remotes["origin"]["fetchUrl"] == str(origin.path)
        assert remotes["secret"]["fetchUrl"] == "https://example.org/x.git"
        assert remotes["secret"]["pushUrls"] == ["https://example.org/y.git"]

        stashes = (await ask(client, project, "stash_list"))["stashes"]
        assert [stash["index"] for stash in stashes] == [0, 1]
        assert [stash["branch"] for stash in stashes] == ["main", "main"]
        assert stashes[0]["message"].endswith("second, with a comma")
        assert stashes[1]["message"] == "named: so"
        assert stashes[1]["commit"] == repo.git("rev-parse", "stash@{1}").strip()
        assert (await ask(client, project, "status"))["summary"]["stashes"] == 2


async def test_before_the_first_commit_there_is_nothing_and_no_error(running, tmp_path):
    repo = ZOO["unborn"](tmp_path / "own")
    async with running.client() as client:
        project = await added(client, repo.path)
        assert await ask(client, project, "log") == {"commits": []}
        whole = await ask(client, project, "diff", revision="HEAD")
        assert [(file["path"], file["additions"]) for file in whole["files"]] == [("staged", 13)]
        for operation in ("branch_list", "tag_list", "remote_list", "stash_list"):
            (listed,) = (await ask(client, project, operation)).values()
            assert listed == []
