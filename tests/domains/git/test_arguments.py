"""What clients may name."""

from __future__ import annotations

import pytest

from daemon.core.errors import BadRequest
from domains.git.arguments import branch_name, paths, relative_path, remote_url, revision
from domains.git.configuration import local_path, running
from domains.git.failures import redacted
from domains.git.repository import Repository


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("https://example.org/shop.git", "https://example.org/shop.git"),
        ("ssh://git@example.org:22/shop.git", "ssh://git@example.org:22/shop.git"),
        ("git@example.org:shop.git", "git@example.org:shop.git"),
        ("git://127.0.0.1:9418/shop.git", "git://127.0.0.1:9418/shop.git"),
        ("/srv/shop.git", "file:///srv/shop.git"),
        ("/srv/50% off.git", "file:///srv/50%25%20off.git"),
        ("file:///srv/shop.git", "file:///srv/shop.git"),
        ("https://ada@example.org/shop.git", "https://ada@example.org/shop.git"),
    ],
)
def test_addresses_of_known_transports_are_taken(given, url):
    assert remote_url(given) == url


@pytest.mark.parametrize(
    "given",
    [
        "",
        "--upload-pack=x",
        "ext::sh -c x",
        "fd::3",
        "http::https://example.org",
        "ftp://example.org/x",
        "FILE:///srv/x",
        "file://example.org/srv/x",
        "shop.git",
        "../shop.git",
        "C:x",
        "a@b::x",
        "-x@example.org:shop.git",
        "ssh://-oProxyCommand=x/shop.git",
        "ssh://%2doProxyCommand=x/shop.git",
        "ssh://-x@example.org/shop.git",
        "https://example.org%0ahost/shop.git",
        "https://[::1/shop.git",
        "https:///shop.git",
        "https://ada:secret@example.org/shop.git",
        "https://:secret@example.org/shop.git",
        f"https://ghp_{'x' * 36}@example.org/shop.git",
        f"https://{'x' * 64}@example.org/shop.git",
        "https://example.org/a\nb",
        "https://example.org/a\0b",
        "https://example.org/\ud800",
        "x" * 3000,
    ],
)
def test_an_address_that_runs_something_or_holds_a_secret_is_refused(given):
    with pytest.raises(BadRequest) as caught:
        remote_url(given)
    assert "secret" not in caught.value.message


@pytest.mark.parametrize("check", [branch_name, revision, relative_path])
@pytest.mark.parametrize("given", ["", "-", "--all", "-rf", "a\0b", "a\nb", "x" * 5000, "\ud800"])
def test_nothing_reads_as_an_option_or_as_two_things(check, given):
    if check is relative_path and given in ("-", "--all", "-rf", "a\nb", "\ud800"):
        return  # paths go to git's input, where nothing is an option
    with pytest.raises(BadRequest):
        check(given)


@pytest.mark.parametrize(
    "given", ["/etc/passwd", "..", "a/../../b", ".git", ".git/config", "sub/.git/hooks", "a/.GIT"]
)
def test_a_path_stays_among_the_files_of_the_project(given):
    with pytest.raises(BadRequest):
        relative_path(given)
    with pytest.raises(BadRequest):
        paths([given])


@pytest.mark.parametrize("given", ["main", "feature/x", "v1.0", "a-b", "ünï"])
def test_usual_names_are_taken(given):
    assert branch_name(given) == given
    assert paths([given, ".gitignore"]) == f":(literal){given}\0:(literal).gitignore\0".encode()


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("file:///srv/x", "/srv/x"),
        ("file:///srv/a%20b", "/srv/a b"),
        ("file:///srv/x?y#z", "/srv/x?y#z"),
        ("file://srv/x", "//srv/x"),
        ("/srv/x", "/srv/x"),
        ("evil", "/own/evil"),
        ("./a:b", "/own/a:b"),
        ("host:x", None),
        ("https://example.org/x", None),
        ("ext::sh -c x", None),
    ],
)
def test_a_remote_is_on_this_machine_where_git_takes_it_for_a_folder(url, path):
    assert local_path("/own", url) == path


def test_only_keys_that_are_known_as_harmless_are_harmless():
    listing = b"\0".join(
        [
            b"core.bare\nfalse",
            b"core.newer\nx",
            b"remote.a.b.url\nx",
            b"remote.a.b.newer\nx",
            b"remote.x\ny.uploadpack\nx",
            b"branch.main.merge\nx",
            b"branch.main.mergeoptions\n-F x",
            b"submodule.a.update\ncheckout",
            b"submodule.b.update\n!x",
            b"core.worktree\n..",
            b"filter.x.required",
            b"filter.x.clean",
            b"alias.x\n!x",
            b"tool.of.some-body\nx",
            b"url.https://ada:secret@h/.insteadof\nx",
            b"",
        ]
    )
    found = list(running(listing, Repository("/own", "/own/.git", "/own/.git")))
    assert [each.key for each in found] == [
        "core.newer",
        "remote.a.b.newer",
        "remote.x",
        "branch.main.mergeoptions",
        "submodule.b.update",
        "filter.x.clean",
        "url.https://h/.insteadof",
    ]


def test_what_stands_before_the_host_is_never_passed_on():
    said = "fatal: unable to access 'https://ada:a@b:c@example.org/x': https://t0ken@h/y@z"
    assert redacted(said) == "fatal: unable to access 'https://example.org/x': https://h/y@z"
