"""Sockets that systemd hands over: served as they are, kept by others, and told where they are."""

from __future__ import annotations

import http.client
import json
import os
import socket

import pytest
from service_manager import beginning, listening_line

from daemon import home
from daemon.listening import Place, hosts_of


@pytest.fixture
def serve(tmp_path):
    """Start a daemon on sockets; what is left of it is killed with the test."""
    with beginning(tmp_path / "state") as start:
        yield start


@pytest.fixture
def tcp():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


@pytest.fixture
def unix(tmp_path):
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "u.sock"))
        listening.listen()
        yield listening


def ask(connection, host):
    """Ask for /health over an open connection, without waiting for the answer."""
    connection.sendall(f"GET /health HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())


def answer(connection):
    connection.settimeout(30)
    response = http.client.HTTPResponse(connection)
    response.begin()
    return response.status, json.loads(response.read())


def connected(listening):
    client = socket.socket(listening.family)
    client.connect(listening.getsockname())
    return client


def test_a_tcp_socket_is_served_and_told_as_the_url(serve, tcp, tmp_path):
    port = tcp.getsockname()[1]
    process = serve(tcp)
    assert listening_line(process) == f"http://127.0.0.1:{port}"
    address = home.discover(tmp_path / "state")
    assert (address.url, address.socket) == (f"http://127.0.0.1:{port}", "")
    for host, status in ((f"127.0.0.1:{port}", 200), ("localhost", 200), ("evil.example", 403)):
        with connected(tcp) as client:
            ask(client, host)
            assert answer(client)[0] == status


def test_a_unix_socket_is_served_and_stays_where_it_is(serve, unix, tmp_path):
    path = tmp_path / "u.sock"
    process = serve(unix)
    assert listening_line(process) == f"unix:{path}"
    address = home.discover(tmp_path / "state")
    assert (address.url, address.socket) == ("", str(path))
    with connected(unix) as client:
        ask(client, "localhost")
        assert answer(client)[1]["pid"] == process.pid
    process.terminate()
    assert process.wait(30) == 0
    assert path.exists()


def test_several_sockets_are_one_daemon(serve, tcp, unix, tmp_path):
    process = serve(tcp, unix, LISTEN_FDNAMES="agentcmd.socket:agentcmd.socket")
    url = listening_line(process)
    address = home.discover(tmp_path / "state")
    assert (address.url, address.socket) == (url, str(tmp_path / "u.sock"))
    for each in (tcp, unix):
        with connected(each) as client:
            ask(client, "localhost")
            assert answer(client)[1]["pid"] == process.pid


def test_what_is_handed_over_goes_before_what_is_configured(serve, tcp):
    process = serve(tcp, AGENTCMD_SERVER__HOST="0.0.0.0", AGENTCMD_SERVER__PORT="1")
    assert listening_line(process) == f"http://127.0.0.1:{tcp.getsockname()[1]}"


@pytest.mark.parametrize("family", ["tcp", "unix"])
def test_who_comes_while_no_daemon_is_there_is_answered_by_the_next(serve, request, family):
    listening = request.getfixturevalue(family)
    first = serve(listening)
    listening_line(first)
    first.kill()
    first.communicate()
    with connected(listening) as client:
        ask(client, "localhost")
        second = serve(listening)
        status, told = answer(client)
    assert (status, told["pid"]) == (200, second.pid)


def test_a_drain_leaves_who_comes_to_the_next_daemon(serve, tcp):
    first = serve(tcp)
    listening_line(first)
    first.terminate()
    assert first.wait(30) == 0
    with connected(tcp) as client:
        ask(client, "localhost")
        second = serve(tcp)
        assert answer(client)[1]["pid"] == second.pid


@pytest.mark.parametrize("what", ["datagram", "not listening", "file", "abstract", "missing"])
def test_what_cannot_be_listened_on_is_one_line(serve, tmp_path, what):
    given, environ = [], {"LISTEN_FDNAMES": "agentcmd.socket"}
    if what == "datagram":
        given = [socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)]
        given[0].bind(str(tmp_path / "d"))
    elif what == "not listening":
        given = [socket.socket()]
        given[0].bind(("127.0.0.1", 0))
    elif what == "abstract":
        given = [socket.socket(socket.AF_UNIX)]
        given[0].bind(f"\0agentcmd-{os.getpid()}")
        given[0].listen()
    elif what == "missing":
        environ["LISTEN_FDS"] = "1"
    else:
        given = [(tmp_path / "file").open("w")]
    process = serve(*given, **environ)
    out, err = process.communicate(timeout=30)
    for each in given:
        each.close()
    assert (process.returncode, out, err.count("\n")) == (2, "", 1)
    assert "descriptor 3 (agentcmd.socket)" in err
    assert "ListenStream=" in err


def test_hosts_are_the_addresses_as_a_header_has_them(tcp, unix):
    with socket.socket(socket.AF_INET6) as six:
        six.bind(("::1", 0))
        assert hosts_of([tcp, unix, six]) == ("127.0.0.1", "[::1]")
    assert str(Place(path="/run/x")) == "unix:/run/x"
