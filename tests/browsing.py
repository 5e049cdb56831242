"""Runs the decoder for browsers in a real browser, for tests and benchmarks/browser.py."""

from __future__ import annotations

import base64
import json
import queue
import random
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

from facecodec import container, viewer

CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
FIREFOX = shutil.which("firefox") or shutil.which("firefox-esr")
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
ORIGIN = "http://localhost:8000"  # no server listens there: requests are answered from a folder
LIMIT = 1 << 25  # pixels
KINDS = {".js": "text/javascript", ".html": "text/html", ".json": "application/json"}

# Decodes files in base 64. Returns for each the symbols and pixels in base 64, or the error, and
# the milliseconds.
DECODE = """async ([files, limit, whole]) => {
  const { open, show, FacecodecError } = await import("/facecodec.js");
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const text = (array) => {
    let all = "";
    const view = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
    for (let at = 0; at < view.length; at += 32768) all += String.fromCharCode(...view.subarray(at, at + 32768));
    return btoa(all);
  };
  const results = [];
  for (const each of files) {
    const result = {};
    const started = performance.now();
    try {
      const { image } = await show(bytes(each), limit);
      result.milliseconds = performance.now() - started;
      result.size = [image.height, image.width];
      if (whole) {
        const { codec, file } = await open(bytes(each), limit);
        const symbols = await codec.symbols(file);
        result.pixels = text(image.data);
        result.symbols = Object.fromEntries(
          Object.entries(symbols).map(([name, values]) => [name, text(Int32Array.from(values))]));
      }
    } catch (error) {
      result.error = error.message;
      result.ours = error instanceof FacecodecError;
      result.milliseconds = performance.now() - started;
    }
    results.push(result);
  }
  return results;
}"""


def launch(running: Any) -> Any:
    """Starts Chromium with a running Playwright."""
    return running.chromium.launch(executable_path=CHROMIUM, args=QUIET)


def serve(page: Any, folder: Path) -> None:
    """Answers a page's requests to ORIGIN from a folder, and opens an empty page there."""

    def answer(route: Any) -> None:
        path = folder / unquote(route.request.url.removeprefix(ORIGIN + "/"))
        if not path.is_file():
            route.fulfill(status=404)
        else:
            kind = KINDS.get(path.suffix, "application/octet-stream")
            route.fulfill(body=path.read_bytes(), content_type=kind)

    (folder / "empty.html").write_text("<!doctype html><title>empty</title>")
    page.route(ORIGIN + "/**", answer)
    page.goto(ORIGIN + "/empty.html")


def write_script(folder: Path, models: Iterable[Path]) -> None:
    """Writes the script for pages, with the models that it can decode, as `view --script` does."""
    folder.mkdir(exist_ok=True)
    for name, content in viewer.script(models).items():
        (folder / name).write_bytes(content)


def decode(
    page: Any, files: Sequence[bytes], limit: int = LIMIT, whole: bool = True
) -> list[dict[str, Any]]:
    """Decodes files in the browser.

    Each result has `symbols` by name and `pixels` (H, W, 3), or `error`, and `milliseconds`.
    Without `whole` it has a `size`, but no symbols and pixels.
    """
    return _unpacked(page.evaluate(DECODE, _asked(files, limit, whole)))


def decode_in_firefox(folder: Path, files: Sequence[bytes]) -> list[dict[str, Any]]:
    """Decodes files in Firefox, as `decode` does, with the script in a folder.

    Firefox runs without a library; its page sends the results back.
    """
    answers: queue.Queue[list[dict[str, Any]]] = queue.Queue()

    class Handler(SimpleHTTPRequestHandler):
        def do_POST(self) -> None:
            answers.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Does not log."""

    (folder / "page.html").write_text(
        f"""<!doctype html><meta charset="utf-8"><script type="module">
        const results = await ({DECODE})({json.dumps(_asked(files, LIMIT, True))})
            .catch((error) => [{{ error: String(error) }}]);
        await fetch("/told", {{ method: "POST", body: JSON.stringify(results) }});
        </script>"""
    )
    with (
        ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder)) as server,
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile,
    ):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/page.html"
        running = subprocess.Popen(
            [str(FIREFOX), "-headless", "-no-remote", "-profile", profile, address],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            return _unpacked(answers.get(timeout=300))
        finally:
            running.kill()
            running.wait()
            server.shutdown()


def _asked(files: Sequence[bytes], limit: int, whole: bool) -> list[Any]:
    return [[base64.b64encode(data).decode() for data in files], limit, whole]


def _unpacked(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for result in results:
        if "pixels" in result:
            pixels = np.frombuffer(base64.b64decode(result["pixels"]), np.uint8)
            result["pixels"] = pixels.reshape(*result["size"], 4)[..., :3]
            result["symbols"] = {
                name: np.frombuffer(base64.b64decode(values), "<i4")
                for name, values in result["symbols"].items()
            }
    return results


def mutations(seeds: Sequence[bytes], count: int, seed: int) -> Iterator[bytes]:
    """Yields damaged files. Every second one is changed in one part and has a valid checksum."""
    rng = random.Random(seed)
    parsed = [container.unpack(data) for data in seeds]
    marks = sorted({each.fingerprint for each in parsed})
    for number in range(count):
        if number % 2:
            yield container.pack(_changed(rng.choice(parsed), marks, rng))
        else:
            yield _damaged(rng.choice(seeds), rng)


def _damaged(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        at = rng.randrange(len(changed) + 1)
        part = slice(at, at + rng.choice((0, 1, 1, 4, len(changed))))
        changed[part] = rng.randbytes(rng.choice((0, 1, 1, 4)))
    return bytes(changed)


def _changed(
    parsed: container.Container, marks: list[bytes], rng: random.Random
) -> container.Container:
    streams = list(parsed.streams)
    part = rng.choice(("stream", "stream", "stream", "size", "quality", "model", "count"))
    if part == "stream":
        at = rng.randrange(len(streams))
        streams[at] = _damaged(streams[at], rng)
        return replace(parsed, streams=streams)
    if part == "size":
        sides = (1, 15, 16, 17, 64, 65, 128, rng.randrange(1, 1 << 24))
        return replace(parsed, width=rng.choice(sides), height=rng.choice(sides))
    if part == "quality":
        return replace(parsed, quality_byte=rng.randrange(256))
    if part == "model":
        return replace(parsed, fingerprint=rng.choice(marks))
    return replace(parsed, streams=[rng.choice(streams) for _ in range(rng.randrange(1, 8))])
