"""Tests the peak memory of a process that reads 17 bytes that claim many pixels."""

import os
import subprocess
import sys

import pytest

from conftest import DATA
from facecodec import frozen
from facecodec.container import DEFAULT_MAX_PIXELS, Container, pack

MB = 1 << 20
# Square, and as wide and as high as a file may claim. What takes seconds is tried at a quarter of
# the limit, where less room is left for what grows with the picture.
SIZES = ((5792, 5792), (524288, 64), (64, 524288))
QUARTERS = ((2896, 2896), (524288, 16), (16, 524288))


@pytest.fixture(scope="module")
def files(shipped, tmp_path_factory):
    """Files of the default model that claim sizes but have no content."""
    folder = tmp_path_factory.mktemp("claims")
    mark = bytes.fromhex(shipped.card.fingerprint)
    paths = {}
    for width, height in SIZES + QUARTERS:
        most = DEFAULT_MAX_PIXELS if (width, height) in SIZES else DEFAULT_MAX_PIXELS / 4
        assert 0.99 < width * height / most <= 1
        paths[width, height] = folder / f"{width}x{height}.fic"
        data = pack(Container(mark, 96, width, height, [b"", b""]))
        assert len(data) < 20
        paths[width, height].write_bytes(data)
    return paths


# A process inherits the peak of the process that forked it, so a small one starts each call.
LAUNCHER = """
import resource, subprocess, sys
subprocess.run([sys.executable, "-m", "facecodec", *sys.argv[1:]], stdout=sys.stderr, check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def peak(*arguments: object, **environment: str) -> int:
    """Returns the peak bytes of a call of the command line, including its interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", LAUNCHER, *map(str, arguments)],
        stdout=subprocess.PIPE,
        env={**os.environ, "FACECODEC_THREADS": "1", **environment},
        check=True,
    )
    return 1024 * int(done.stdout)


@pytest.mark.parametrize("size", SIZES)
def test_info_takes_under_100_megabytes_for_any_claim(files, size):
    assert peak("info", files[size]) < 100 * MB


@pytest.mark.parametrize("size", QUARTERS)
def test_verify_takes_under_200_megabytes_for_any_claim(files, size):
    assert peak("verify", files[size]) < 120 * MB


@pytest.mark.parametrize(
    ("size", "threads", "most"), zip(QUARTERS, (1, 2, 3), (270, 200, 200), strict=True)
)
def test_decode_takes_the_picture_and_300_megabytes_for_any_claim(
    files, size, threads, most, tmp_path
):
    """And 120 more for each further thread, where the picture has as many tiles."""
    taken = peak("decode", files[size], "-o", tmp_path / "x.ppm", FACECODEC_THREADS=str(threads))
    assert taken < 3 * size[0] * size[1] + most * MB


def test_a_heatmap_takes_no_more_than_decoding(tmp_path):
    """The file is of the small model, at a quarter of the limit: floats take 12 bytes per pixel."""
    side = 2896
    mark = bytes.fromhex(frozen.read_card(DATA / "tiny-lfic.safetensors").fingerprint)
    (tmp_path / "x.fic").write_bytes(pack(Container(mark, 96, side, side, [b"", b"", b""])))
    drawn = tmp_path / "x.png"
    taken = peak("info", "--heatmap", drawn, tmp_path / "x.fic", FACECODEC_MODELS=str(DATA))
    assert drawn.exists()
    assert taken < 3 * side * side + 200 * MB
