"""`facecodec view`: what its server gives and refuses, and the page that it writes."""

import http.client
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

DATA = Path(__file__).parent / "data"


@pytest.fixture
def viewing(tmp_path):
    """A running `facecodec view`, whose browser is /bin/true, and the address that it prints."""
    environment = {**os.environ, "FACECODEC_MODELS": str(DATA), "BROWSER": "true"}
    running = subprocess.Popen(
        [sys.executable, "-m", "facecodec", "view", str(DATA / "smooth-q4.fic")],
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
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
    assert running.wait(10) == 0


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
