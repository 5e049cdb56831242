"""Shared fixtures. Tests that need real faces find them as users do, and skip without them."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import browsing
from facecodec import frozen
from facecodec.codec import Codec
from faces import draw_face, write_people

if "PYTEST_XDIST_WORKER" in os.environ:  # there is one process per core already
    os.environ.setdefault("OMP_NUM_THREADS", "1")

DATA = Path(__file__).parent / "data"
TINY = DATA / "tiny.safetensors"
CHECKOUT = Path(__file__).parents[1]
PATIENCE = 900  # seconds until a process counts as hanging; a slow machine must not fail


@pytest.fixture(scope="session")
def tiny() -> Codec:
    return Codec(TINY)


@pytest.fixture(scope="session")
def tiny_map() -> Codec:
    """The tiny model, but with a quality map."""
    return Codec(DATA / "tiny-map.safetensors")


def takes_interrupts() -> None:
    """Is a `preexec_fn` for children that get SIGINT.

    Jobs in the background inherit an ignored SIGINT, and continuous integration may be one.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture(scope="session")
def shipped() -> Codec:
    """The default model."""
    return Codec(frozen.model_path(None))


@pytest.fixture(scope="session")
def faces_root() -> Path:
    """The folder of real datasets, in the layout of docs/data.md."""
    given = os.environ.get("FACECODEC_DATA")
    root = Path(given) if given else CHECKOUT.parent / "shared" / "data"
    if not (root / "lfw-deepfunneled").is_dir():
        pytest.skip("no LFW: set FACECODEC_DATA to a folder that holds lfw-deepfunneled")
    return root


@pytest.fixture(scope="session")
def people_root(tmp_path_factory) -> Path:
    """A data folder of drawn people in LFW's layout, two photographs each, four people a split."""
    return write_people(tmp_path_factory.mktemp("people"), people=8, photographs=2)


@pytest.fixture(scope="session")
def photograph() -> Image.Image:
    """A drawn person, 250x250."""
    return Image.fromarray(draw_face(1))


@pytest.fixture
def finds_faces(tmp_path, monkeypatch):
    """Skips without the detector, and gives the test a landmark cache of its own."""
    pytest.importorskip("facenet_pytorch", reason="facenet-pytorch is not installed: make setup")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def needs_faces(finds_faces, faces_root):
    """Skips without real faces and recognisers."""
    if not (faces_root.resolve().parent / "recognizers").is_dir():
        pytest.skip("no recognisers beside the data")


@pytest.fixture(scope="session")
def browser():
    """Real Chromium."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if browsing.CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    with api.sync_playwright() as running:
        browser = browsing.launch(running)
        yield browser
        browser.close()


@pytest.fixture
def picture() -> np.ndarray:
    """A small colourful picture, whose sides are multiples of no block."""
    row, column = np.mgrid[0:45, 0:61]
    channels = [128 + 100 * np.sin(row / 9), 2 * row + column / 2, 255 - 3 * column]
    texture = np.random.default_rng(5).integers(-20, 20, (45, 61, 3))
    return np.clip(np.stack(channels, axis=2) + texture, 0, 255).astype(np.uint8)


@pytest.fixture
def on_path(tmp_path, monkeypatch):
    """Puts this checkout's `facecodec` on the path."""
    program = tmp_path / "bin" / "facecodec"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m facecodec "$@"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(CHECKOUT))


@pytest.fixture
def run_cli(tmp_path):
    """Runs the command line in its own process, in tmp_path, with the tiny and shipped models."""

    def run(
        *args: object, stdin: bytes | None = None, **environment: str
    ) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [sys.executable, "-m", "facecodec", *map(str, args)],
            input=stdin if stdin is not None else b"",
            capture_output=True,
            cwd=tmp_path,
            env={**os.environ, "FACECODEC_MODELS": str(DATA), **environment},
            timeout=PATIENCE,
        )

    return run
