"""Tests the compact image as PNG, with an untrained network, whose compact image is a thumbnail."""

import io

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch", reason="the 'train' extra is not installed")
pytest.importorskip("compressai", reason="the 'train' extra is not installed")

import torch

from facecodec.codec import Codec, open_container
from facecodec.container import pack
from facecodec.errors import FormatError
from facecodec.families.compact_png import STEPS, step_of
from facecodec.networks.compact_png import build
from fresh import beside_network, model_of

SMALL = {"fine": 24, "coarse": 32, "blocks": (1, 1, 1, 1)}


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return build(span=1.0, **SMALL)


@pytest.fixture(scope="module")
def codec(network, tmp_path_factory) -> Codec:
    return Codec(model_of(network, "compact-png", tmp_path_factory.mktemp("models")))


@pytest.mark.parametrize("quality", range(1, 9))
def test_files_hold_what_the_network_gives(network, codec, picture, quality):
    data, coded, error = beside_network(network, codec, picture, quality)
    assert error < 2
    if STEPS[quality - 1][0] == 16:  # where the network sees the same padding
        assert 8 * len(open_container(data).streams[0]) == pytest.approx(
            coded.y_bits.item(), rel=0.05
        )


def test_a_fresh_networks_compact_image_is_a_thumbnail(codec, picture):
    parsed = open_container(codec.encode(picture[:40, :56], 8))
    compact = np.asarray(Image.open(io.BytesIO(parsed.streams[0])), float)
    means = picture[:40, :56].reshape(5, 8, 7, 8, 3).mean((1, 3))
    assert np.abs(compact - means).max() < 12  # of 24 components of 192


@pytest.mark.parametrize("size", [(1, 1), (15, 17), (300, 20), (130, 67)])
def test_any_size_comes_back_with_its_size(codec, size):
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    for quality in (1, 8):
        assert np.asarray(codec.decode(codec.encode(pixels, quality))).shape == (*size, 3)


def test_a_quality_between_two_steps_takes_the_nearest(codec, picture):
    assert [step_of(32 * q) for q in range(8)] == list(STEPS)
    streams = [open_container(codec.encode(picture, q)).streams for q in (3, 3.4, 3.6, 4)]
    assert streams[0] == streams[1] != streams[2] == streams[3]


def test_what_is_no_compact_image_is_refused(codec, picture):
    parsed = open_container(codec.encode(picture, 2))

    def refuses(match: str, stream: bytes) -> None:
        parsed.streams[0] = stream
        for read in (codec.decode, lambda data: codec.symbols(open_container(data))):
            with pytest.raises(FormatError, match=match):
                read(pack(parsed))

    whole = parsed.streams[0]
    buffer = io.BytesIO()
    Image.open(io.BytesIO(whole)).resize((9, 9)).save(buffer, "PNG")
    refuses("not RGB of", buffer.getvalue())
    buffer = io.BytesIO()
    Image.open(io.BytesIO(whole)).save(buffer, "JPEG")
    refuses("damaged", buffer.getvalue())
    refuses("damaged", whole[: len(whole) // 2])
    refuses("damaged", b"")
    odd = np.asarray(Image.open(io.BytesIO(whole))).copy()
    odd[0, 0] = 7  # between two of the 64 levels
    buffer = io.BytesIO()
    Image.fromarray(odd).save(buffer, "PNG")
    refuses("values that 6 bits do not give", buffer.getvalue())


def test_the_compact_image_can_be_taken_out(codec, picture, run_cli, tmp_path):
    Image.fromarray(picture).save(tmp_path / "face.png")
    models = str(codec.card.path.parent)
    assert run_cli("encode", "face.png", "-m", "fresh", FACECODEC_MODELS=models).returncode == 0
    done = run_cli("info", "face.fic", "--extract", "out", FACECODEC_MODELS=models)
    assert done.returncode == 0, done.stderr
    stream = open_container((tmp_path / "face.fic").read_bytes()).streams[0]
    assert (tmp_path / "out/face-compact.png").read_bytes() == stream
    assert run_cli("encode", "face.png", "-m", "tiny", "-f").returncode == 0
    done = run_cli("info", "face.fic", "--extract", "out")
    assert (done.returncode, b"contains no image file" in done.stderr) == (1, True)
