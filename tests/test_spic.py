"""Tests the quantised autoencoder with an untrained network."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="the 'train' extra is not installed")
pytest.importorskip("compressai", reason="the 'train' extra is not installed")

import torch

from facecodec import frozen
from facecodec.codec import Codec, open_container
from facecodec.container import pack
from facecodec.errors import FormatError, ModelError
from facecodec.networks.spic import build
from fresh import beside_network, card, model_of

SMALL = {"fine": 24, "coarse": 32, "blocks": (1, 1), "latents": 32, "coarsest": 300.0, "span": 1e6}


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return build(**SMALL)


@pytest.fixture(scope="module")
def model(network, tmp_path_factory):
    return model_of(network, "spic", tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def codec(model) -> Codec:
    return Codec(model)


@pytest.mark.parametrize("quality", [1, 4.5, 8])
def test_files_hold_what_the_network_gives(network, codec, picture, quality):
    data, coded, error = beside_network(network, codec, picture, quality)
    assert error < 1
    assert 8 * len(open_container(data).streams[0]) == pytest.approx(
        coded.y_bits.item(), rel=0.03, abs=64
    )


@pytest.mark.parametrize("size", [(1, 1), (15, 17), (300, 20)])
def test_any_size_keeps_its_size(codec, size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    for quality in (1, 8):
        data = codec.encode(image, quality)
        codec.check(data, image)
        assert np.asarray(codec.decode(data)).shape == image.shape


def test_coarser_steps_take_fewer_bytes(codec, picture):
    sizes = [len(codec.encode(picture, q)) for q in range(1, 9)]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1] / 2


def test_a_stream_that_no_encoder_writes_is_refused(codec, picture):
    parsed = open_container(codec.encode(picture, 4))
    parsed.streams[0] += b"\0"
    with pytest.raises(FormatError):
        codec.decode(pack(parsed))


@pytest.mark.parametrize("name", ["y_table", "step", "table_counts"])
def test_malformed_models_are_refused(network, tmp_path, name):
    tensors = network.frozen()
    tensors[name] = (
        np.zeros_like(tensors[name])[:3] if name == "y_table" else np.zeros_like(tensors[name])
    )
    path = tmp_path / "bad.safetensors"
    frozen.save(path, card("spic"), tensors)
    with pytest.raises(ModelError, match="malformed"):
        Codec(path)
