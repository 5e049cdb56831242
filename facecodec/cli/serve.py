"""Serves one page to one user.

The server listens on the loopback address, answers only this user's processes that know the token,
and runs as long as the page is open. The token alone does not suffice: other users can read it
among the arguments of the browser's process.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import secrets
import socket
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

LINGER = 3.0  # seconds to wait after the last page was closed, so that it can be reloaded


class PageServer(ThreadingHTTPServer):
    """Serves the page that `make_page` returns, and answers every other address with 403.

    `make_page` takes the address to which an open page must keep a connection.
    """

    daemon_threads = True

    def __init__(self, make_page: Callable[[str], bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.host = f"127.0.0.1:{self.server_port}"
        token = secrets.token_urlsafe(24)
        self.page_path, self.alive_path = f"/{token}/", f"/{token}/alive"
        self.page = make_page(self.alive_path)
        self._open = 0
        self._lock = threading.Lock()

    @property
    def address(self) -> str:
        return f"http://{self.host}{self.page_path}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignores that a browser has hung up."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)

    def opened(self) -> None:
        with self._lock:
            self._open += 1

    def closed(self) -> None:
        """Ends the server after LINGER seconds, unless a page is open then."""
        with self._lock:
            self._open -= 1
        threading.Timer(LINGER, self._end_if_alone).start()

    def _end_if_alone(self) -> None:
        if self._open == 0:
            self.shutdown()


class _Handler(BaseHTTPRequestHandler):
    server: PageServer
    server_version, sys_version = "facecodec", ""
    timeout = 30  # seconds, after which an idle connection is closed

    def do_GET(self) -> None:
        # Another site's page can reach the loopback address, even by another name. Then its origin
        # or host differs.
        trusted = (
            owner_of(self.client_address, self.server.server_port) in (None, _user(), 0)
            and self.headers.get("Host") == self.server.host
            and self.headers.get("Origin") in (None, f"http://{self.server.host}")
            and self.headers.get("Sec-Fetch-Site") in (None, "none", "same-origin")
        )
        if trusted and self._asks_for(self.server.page_path):
            self._send(200, "text/html; charset=utf-8", self.server.page)
        elif trusted and self._asks_for(self.server.alive_path):
            self._stay()
        else:
            self._send(403, "text/plain", b"403\n")

    def _asks_for(self, path: str) -> bool:
        return hmac.compare_digest(self.path.encode(), path.encode())

    def _stay(self) -> None:
        """Keeps the connection until the page is closed."""
        self.server.opened()
        self.connection.settimeout(None)
        try:
            self._send(200, "text/event-stream", b": here\n\n", ends=False)
            self.wfile.flush()
            self.rfile.read(1)  # the page never sends anything, so this returns when it is closed
        except OSError:
            pass
        finally:
            self.server.closed()

    def _send(self, status: int, kind: str, content: bytes, ends: bool = True) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if ends:
            self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Security-Policy", "frame-ancestors 'none'")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Does not log."""


def _user() -> int | None:
    return os.getuid() if sys.platform != "win32" else None


def owner_of(client: tuple[str, int], port: int) -> int | None:
    """Returns the user whose process is connected from `client` to a port of the loopback address.

    Returns None on systems that do not tell; Linux does, in /proc/net.
    """
    number = int.from_bytes(socket.inet_aton(client[0]), sys.byteorder)
    ends = f"{number:08X}:{client[1]:04X}", f":{port:04X}"
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError), open(table) as lines:
            for line in lines:
                _, own, other, _, _, _, _, user, *_ = line.split()
                if own.endswith(ends[0]) and other.endswith(ends[1]):
                    return int(user)
    return None
