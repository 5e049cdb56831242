"""Tests channel slices with a small network whose slices depend on each other."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="the 'train' extra is not installed")
pytest.importorskip("compressai", reason="the 'train' extra is not installed")

import torch

from facecodec.codec import Codec, open_container
from facecodec.exact import GAIN_FRACTION
from facecodec.families import hyperlatent, sliced
from facecodec.networks.sliced import build
from fresh import beside_network, model_of

SMALL = {
    "slices": (4, 8, 20),
    "fine": 24,
    "coarse": 32,
    "hyper": 8,
    "hyper_width": 16,
    "features": 12,
    "context": 16,
    "span": 4.0,  # so that there are hardly any escapes
}


def fresh(**options) -> torch.nn.Module:
    """Returns an untrained network whose slices and quality map have an effect."""
    torch.manual_seed(0)
    network = build(**SMALL | options)
    with torch.no_grad():
        network.h_s[-1].weight[-1].normal_(0, 0.3)
        network.h_a[4].weight.mul_(10)
        for predict in network.predict:
            predict[-1].weight.normal_(0, 0.1)
        for block in (*network.g_a.modules(), *network.g_s.modules()):
            if hasattr(block, "mix"):
                block.mix[-1].weight.normal_(0, 0.01)
    return network.eval()


@pytest.fixture(scope="module")
def network():
    return fresh(blocks=(1, 1))


@pytest.fixture(scope="module")
def codec(network, tmp_path_factory) -> Codec:
    return Codec(model_of(network, "sliced", tmp_path_factory.mktemp("models")))


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    from skimage import data

    return np.ascontiguousarray(data.astronaut()[:300, 60:333])


@pytest.mark.parametrize("quality", [1, 4.5, 8])
def test_files_hold_what_the_network_gives(network, codec, photo, quality):
    data, coded, error = beside_network(network, codec, photo, quality)
    assert error < 1
    z, y = open_container(data).streams
    assert 8 * len(y) == pytest.approx(coded.y_bits.item(), rel=0.03, abs=64)
    assert 8 * len(z) == pytest.approx(coded.z_bits.item(), rel=0.05, abs=64)


def test_the_quality_differs_from_place_to_place(codec, photo):
    symbols = codec.symbols(open_container(codec.encode(photo, 4)))
    assert len(np.unique(symbols.qualities)) > 4


@pytest.mark.parametrize("size", [(1, 1), (17, 33), (600, 40), (40, 1300)])
def test_any_size_comes_back(codec, size):
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    data = codec.encode(pixels, 4)
    codec.check(data, pixels)
    assert codec.decode(data).size == size[::-1]
    parsed = open_container(data)
    assert codec.count_escapes(parsed) == codec.symbols(parsed).escapes


def test_what_was_not_rounded_is_what_a_fine_file_holds(codec, photo):
    parsed = open_container(codec.encode(photo, 8))
    size = (parsed.height, parsed.width)
    held = codec.family.decode_latents(parsed.streams, size, parsed.quality_byte)
    whole = codec.family.unrounded(photo)
    assert held.shape == whole.shape
    gains = codec.family.gains["y_gain"].T[:, codec.symbols(parsed).qualities]
    steps = 2.0**GAIN_FRACTION / gains
    assert np.all(np.abs(held - whole)[:-1] <= 0.51 * steps)


def test_later_slices_depend_on_earlier_ones(codec, photo):
    parsed = open_container(codec.encode(photo, 5))
    family, size = codec.family, (parsed.height, parsed.width)
    (z, _), tables = family.z.decode(parsed.streams[0], (19, 18), 128), []
    for change in (0, 1):
        source = sliced.from_stream(sliced.Decoder(family.tables, parsed.streams[1]))

        def changed(block, part, table, means, source=source, change=change):
            return source(block, part, table, means) + change * (part.start == 0)

        block = family.block(z, *sliced.places((19, 18))[0], 128)
        tables.append([each.tables for each in family.code(block, changed)])
    assert size == (300, 273)
    assert np.array_equal(tables[0][0], tables[1][0])
    assert not np.array_equal(tables[0][1], tables[1][1])


def test_what_z_says_does_not_depend_on_the_block(codec):
    latent = codec.family.z
    z = np.random.default_rng(2).integers(-50, 50, (latent.channels, 12, 40))
    whole = latent.predict(z, slice(0, 48), slice(0, 160), 100)
    part = latent.predict(z, slice(16, 32), slice(64, 128), 100)
    np.testing.assert_array_equal(part, whole[:, 16:32, 64:128])
    assert latent.h_s.margin < 10
    assert sliced.BLOCK[0] == hyperlatent.BAND * hyperlatent.HYPER


def test_a_deeper_network_starts_as_the_shallower_one(network):
    deep = build(**SMALL, blocks=(3, 2))
    deep.load_state_dict(deep.adopted(network.state_dict()))
    x, quality = torch.rand(1, 3, 64, 64), torch.tensor([3.0])
    with torch.no_grad():
        expected, found = (each(x, quality) for each in (network, deep))
    torch.testing.assert_close(found.x_hat, expected.x_hat)
    torch.testing.assert_close(found.y_bits, expected.y_bits)
