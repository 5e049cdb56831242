"""Shared fixtures. Tests that need real faces find them as users do, and skip, saying so,
without.
"""

from __future__ import annotations

import os
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

if "PYTEST_XDIST_WORKER" in os.environ:  # the cores are shared by as many processes already
    os.environ.setdefault("OMP_NUM_THREADS", "1")

DATA = Path(__file__).parent / "data"
TINY = DATA / "tiny.safetensors"
CHECKOUT = Path(__file__).parents[1]
PATIENCE = 900  # seconds until a process is taken to hang; a slow machine is no failure


@pytest.fixture(scope="session")
def tiny() -> Codec:
    return Codec(TINY)


@pytest.fixture(scope="session")
def tiny_map() -> Codec:
    """As tiny, but its hyper-synthesis gives a quality map."""
    return Codec(DATA / "tiny-map.safetensors")


@pytest.fixture(scope="session")
def shipped() -> Codec:
    """The default model."""
    return Codec(frozen.model_path(None))


@pytest.fixture(scope="session")
def faces_root() -> Path:
    """The folder of real data sets, in the layout that docs/data.md describes."""
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
    """The detector is there, and what it finds is kept nowhere but in this test."""
    pytest.importorskip("facenet_pytorch", reason="facenet-pytorch is not installed: make setup")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def needs_faces(finds_faces, faces_root):
    """There are real faces, and the recognisers to measure them with."""
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
    """A small colourful picture, not a multiple of anything."""
    row, column = np.mgrid[0:45, 0:61]
    channels = [128 + 100 * np.sin(row / 9), 2 * row + column / 2, 255 - 3 * column]
    texture = np.random.default_rng(5).integers(-20, 20, (45, 61, 3))
    return np.clip(np.stack(channels, axis=2) + texture, 0, 255).astype(np.uint8)


@pytest.fixture
def on_path(tmp_path, monkeypatch):
    """`facecodec`, of this checkout and Python, is a program that scripts find."""
    program = tmp_path / "bin" / "facecodec"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m facecodec "$@"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(CHECKOUT))


@pytest.fixture
def run_cli(tmp_path):
    """Runs the command line in a process of its own, in tmp_path, with the tiny model beside the
    shipped one.
    """

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
