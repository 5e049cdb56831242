"""Tests `facecodec view`: what its server gives and refuses, and the page that it writes."""

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from conftest import DATA, takes_interrupts
from facecodec.cli import serve


@pytest.fixture
def viewing(tmp_path):
    """A running `facecodec view`, whose browser stays open, and the address that it prints."""
    browser = 'sh -c "sleep 30" %s'
    environment = {**os.environ, "FACECODEC_MODELS": str(DATA), "BROWSER": browser}
    running = subprocess.Popen(
        [sys.executable, "-m", "facecodec", "view", str(DATA / "smooth-q4.fic")],
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        preexec_fn=takes_interrupts,
    )
    line = running.stderr.readline()
    found = re.search(r"http://127\.0\.0\.1:(\d+)(/[\w-]+/)", line)
    assert found, line
    yield running, int(found[1]), found[2]
    running.kill()
    running.wait()
    running.stderr.close()


def ask(port: int, path: str, **headers: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path, headers={k.replace("_", "-"): v for k, v in headers.items()})
    status = connection.getresponse().status
    connection.close()
    return status


def test_only_the_page_is_served_and_only_to_who_knows_the_token(viewing):
    running, port, path = viewing
    assert ask(port, path) == 200
    for other in ("/", "/alive", "/wrong/", path[:-2] + "/", path + "?", path + "smooth-q4.fic"):
        assert ask(port, other) == 403, other
    for other in (path + "../../etc/passwd", path + "%2e%2e/", "/etc/passwd", "//etc/passwd"):
        assert ask(port, other) == 403, other
    for origin in ("http://example.org", "null", f"http://localhost:{port}"):
        assert ask(port, path, Origin=origin) == 403
        assert ask(port, path + "alive", Origin=origin) == 403
    assert ask(port, path, Host="example.org") == 403
    assert ask(port, path, Sec_Fetch_Site="cross-site") == 403
    running.send_signal(signal.SIGINT)
    assert running.wait(60) == 0


@pytest.fixture
def serving():
    """A server in this process."""
    with serve.PageServer(lambda alive: b"x" * (1 << 24)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="the system does not say whose")
@pytest.mark.parametrize(
    ("family", "address"), [("AF_INET", "127.0.0.1"), ("AF_INET6", "::ffff:127.0.0.1")]
)
def test_the_user_behind_a_connection_is_known(serving, family, address):
    with socket.socket(getattr(socket, family)) as client:
        client.connect((address, serving.server_port))
        own = "127.0.0.1", client.getsockname()[1]
        assert serve.owner_of(own, serving.server_port) == os.getuid()
        assert serve.owner_of(own, 1) is None


def test_other_users_get_nothing_though_they_know_the_token(serving, monkeypatch):
    """They can read the token in the list of processes, among the browser's arguments."""
    port, path = serving.server_port, serving.page_path
    assert ask(port, path) == 200
    monkeypatch.setattr(serve, "owner_of", lambda client, port: os.getuid() + 12345)
    assert ask(port, path) == 403
    assert ask(port, serving.alive_path) == 403


def test_who_hangs_up_or_says_nothing_costs_nothing(serving, monkeypatch, capfd):
    assert serve._Handler.timeout  # seconds
    monkeypatch.setattr(serve._Handler, "timeout", 0.5)
    request = f"GET {{}} HTTP/1.1\r\nHost: {serving.host}\r\n\r\n"
    address = ("127.0.0.1", serving.server_port)
    with socket.create_connection(address) as page, socket.create_connection(address) as silent:
        page.sendall(request.format(serving.alive_path).encode())
        assert page.recv(12) == b"HTTP/1.0 200"
        with socket.create_connection(address) as hasty:
            hasty.sendall(request.format(serving.page_path).encode())
            assert hasty.recv(12) == b"HTTP/1.0 200"
        silent.settimeout(60)
        assert silent.recv(1) == b""  # it was left
        assert serving._open == 1  # and the page was not
    assert capfd.readouterr().err == ""


def test_the_server_ends_when_its_page_is_closed(viewing, browser):
    running, port, path = viewing
    page = browser.new_page()
    page.goto(f"http://127.0.0.1:{port}{path}")
    page.locator("canvas").wait_for()
    assert running.poll() is None
    page.close()
    assert running.wait(20) == 0


def test_a_page_is_written_whole_and_not_over_another(run_cli, tmp_path):
    assert run_cli("view", DATA / "smooth-q4.fic", "-o", "page.html").returncode == 0
    assert b"Content-Security-Policy" in (tmp_path / "page.html").read_bytes()
    assert b"exists" in run_cli("view", DATA / "flat-q1.fic", "-o", "page.html").stderr


def test_a_script_is_not_written_over_another(run_cli, tmp_path):
    command = ("view", DATA / "smooth-q4.fic", "--script", "site")
    assert run_cli(*command).returncode == 0
    (tmp_path / "site/models.json").write_text("mine")
    done = run_cli(*command)
    assert (done.returncode, b"exists: -f overwrites it" in done.stderr) == (1, True)
    assert (tmp_path / "site/models.json").read_text() == "mine"
    assert run_cli(*command, "-f").returncode == 0
    assert (tmp_path / "site/models.json").read_text() != "mine"
