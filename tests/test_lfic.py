"""Tests regionally adaptive pooling with a network whose regions take all three levels."""

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch", reason="the 'train' extra is not installed")
pytest.importorskip("compressai", reason="the 'train' extra is not installed")

import torch

from facecodec import frozen
from facecodec.codec import Codec, open_container
from facecodec.container import pack
from facecodec.errors import FormatError, ModelError
from facecodec.families.lfic import DROP, KEEP, POOL
from facecodec.networks.lfic import build
from fresh import beside_network, card, model_of

SMALL = {
    "fine": 24,
    "coarse": 32,
    "blocks": (1, 1),
    "latents": 32,
    "hyper": 8,
    "hyper_width": 16,
    "score_width": 8,
}


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    network = build(**SMALL)
    with torch.no_grad():
        network.score_bias.zero_()
        network.scores.look[0].weight *= 30  # so that no level is everywhere
        network.scores.look[-1].weight.normal_()
        network.level_scores.normal_()
    return network.eval()


@pytest.fixture(scope="module")
def model(network, tmp_path_factory):
    return model_of(network, "lfic", tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def codec(model) -> Codec:
    return Codec(model)


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    from skimage import data

    return np.ascontiguousarray(data.astronaut()[:300, 60:333])


@pytest.mark.parametrize("quality", [1, 4.5, 8])
def test_files_hold_what_the_network_gives(network, codec, photo, quality):
    data, coded, error = beside_network(network, codec, photo, quality)
    assert error < 1
    assert set(np.unique(codec.symbols(open_container(data)).levels)) == {KEEP, POOL, DROP}
    streams = open_container(data).streams
    assert 8 * len(streams[2]) == pytest.approx(coded.y_bits.item(), rel=0.03, abs=64)
    assert 8 * (len(streams[0]) + len(streams[1])) == pytest.approx(
        coded.z_bits.item(), rel=0.05, abs=64
    )


@pytest.mark.parametrize("size", [(1, 1), (15, 17), (300, 20), (47, 81)])
def test_any_size_keeps_its_size(codec, size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    data = codec.encode(image, 5)
    codec.check(data, image)
    assert np.asarray(codec.decode(data)).shape == image.shape


def test_the_allocation_is_what_regions_keep(codec, photo):
    parsed = open_container(codec.encode(photo, 4))
    shares = codec.family.allocation(parsed.streams, (300, 273), parsed.quality_byte)
    levels = codec.symbols(parsed).levels
    assert shares.shape == (300, 273)
    assert np.array_equal(shares[::32, ::32], np.array([1, 0.25, 0])[levels])


def test_the_allocation_is_drawn(model, photo, run_cli, tmp_path):
    Image.fromarray(photo).save(tmp_path / "face.png")
    models = str(model.parent)
    assert run_cli("encode", "face.png", "-m", "fresh", FACECODEC_MODELS=models).returncode == 0
    done = run_cli("info", "face.fic", "--heatmap", "where.png", FACECODEC_MODELS=models)
    assert done.returncode == 0, done.stderr
    assert Image.open(tmp_path / "where.png").size == (273, 300)
    assert run_cli("encode", "face.png", "-m", "tiny", "-f").returncode == 0
    done = run_cli("info", "face.fic", "--heatmap", "none.png")
    assert (done.returncode, b"keeps all samples everywhere" in done.stderr) == (1, True)
    assert run_cli("info", "face.fic", "face.fic", "--heatmap", "two.png").returncode == 2


def test_both_the_rate_and_the_metric_teach_the_levels(network, photo):
    network.zero_grad()
    x = torch.from_numpy(photo[:128, :128].copy()).permute(2, 0, 1)[None] / 255
    coded = network(x, torch.tensor([4.0]))
    coded.y_bits.sum().backward(retain_graph=True)
    by_rate = network.scores.look[-1].weight.grad.clone()
    network.zero_grad()
    (coded.x_hat - x).square().mean().backward()
    assert by_rate.abs().max() > 0
    assert network.scores.look[-1].weight.grad.abs().max() > 0


def test_streams_that_no_encoder_writes_are_refused(codec, photo):
    parsed = open_container(codec.encode(photo, 4))
    for number, whole in enumerate(parsed.streams[:2]):
        parsed.streams[number] = whole + b"\1\1"
        with pytest.raises(FormatError):
            codec.decode(pack(parsed))
        parsed.streams[number] = whole


@pytest.mark.parametrize("name", ["level_counts", "h_a.bias"])
def test_malformed_models_are_refused(network, tmp_path, name):
    path = tmp_path / "bad.safetensors"
    tensors = network.frozen()
    frozen.save(path, card("lfic"), tensors | {name: tensors[name][:5]})
    with pytest.raises(ModelError, match="malformed"):
        Codec(path)
