"""Large pictures run in tiles, which include as much of the surroundings as the graphs' reach."""

from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the 'train' extra is not installed")
pytest.importorskip("compressai", reason="the 'train' extra is not installed")

import torch
from torch import nn

import browsing
from facecodec import frozen, sessions
from facecodec.codec import Codec
from facecodec.errors import ModelError
from facecodec.families import module_name
from facecodec.networks.export import of_pixels
from fresh import card, model_of

SMALL = {"fine": 24, "coarse": 32}
HYPER = {"latents": 32, "hyper": 8, "hyper_width": 16}
NETWORKS = {  # with more blocks than the shipped models
    "hyperprior": ("hyperprior", SMALL | HYPER | {"blocks": (4, 6)}),
    "gdn": ("hyperprior", HYPER | {"transform": "gdn", "width": 16}),
    "lfic": ("lfic", SMALL | HYPER | {"blocks": (4, 6), "score_width": 8}),
    "spic": ("spic", SMALL | {"latents": 32, "blocks": (4, 6)}),
    "compact-png": ("compact-png", SMALL | {"blocks": (5, 6, 6, 6)}),
    "sliced": ("sliced", SMALL | {"slices": (4, 8, 20), "blocks": (4, 6), "hyper": 8}),
}
QUALITY_BYTES = (64, 128)  # of compact-png each has other graphs


def fresh(name: str) -> nn.Module:
    """Returns an untrained network in which all layers have an effect."""
    family, options = NETWORKS[name]
    torch.manual_seed(0)
    network = import_module(f"facecodec.networks.{module_name(family)}").build(span=4.0, **options)
    with torch.no_grad():
        for block in network.modules():
            if hasattr(block, "mix"):
                block.mix[-1].weight.normal_(0, 0.6)
        if hasattr(network, "h_a"):
            network.h_a[4].weight.mul_(100)
        if name == "lfic":
            network.scores.look[0].weight *= 30
            network.scores.look[-1].weight.normal_()
        if name == "gdn":
            network.g_a.body[-1].weight.mul_(100)
            network.g_s.body[0].weight.mul_(100)
    return network.eval()


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (130, 500, 3), np.uint8)


@pytest.fixture(scope="module", params=NETWORKS)
def model(request, tmp_path_factory) -> Path:
    network = fresh(request.param)
    return model_of(network, NETWORKS[request.param][0], tmp_path_factory.mktemp("models"))


def without_reach(model: Path, folder: Path) -> Path:
    """Returns the model without the reach of its graphs, as older models are."""
    known, tensors = frozen.load(model)
    path = folder / "older.safetensors"
    kept = {name: each for name, each in tensors.items() if not name.endswith(".reach")}
    frozen.save(path, card(known.family), kept)
    return path


def coded(codec: Codec, picture: np.ndarray) -> list[list[bytes | np.ndarray]]:
    """Returns streams and pixels at each quality."""
    size = picture.shape[:2]
    streams = [
        codec.family.encode(codec.family.analyse(picture, byte), byte) for byte in QUALITY_BYTES
    ]
    pixels = [
        codec.family.decode(each, size, byte)
        for each, byte in zip(streams, QUALITY_BYTES, strict=True)
    ]
    return [*streams, *(each.astype(int) for each in pixels)]


def test_tiles_change_nothing_whatever_the_depth(model, picture, tmp_path, monkeypatch):
    codec = Codec(model)
    whole = coded(codec, picture)
    monkeypatch.setattr(sessions, "TILE", 128)
    models = [model]
    if codec.card.family != "sliced":  # whose models have always said it
        models.append(without_reach(model, tmp_path))
    for each in models:
        tiled = coded(Codec(each), picture)
        assert tiled[:2] == whole[:2]
        assert max(np.abs(a - b).max() for a, b in zip(tiled[2:], whole[2:], strict=True)) <= 1


def test_a_tile_that_saw_less_of_its_surroundings_would_differ(model, picture, monkeypatch):
    codec = Codec(model)
    whole = coded(codec, picture)
    monkeypatch.setattr(sessions, "TILE", 128)
    says = [name for name in codec._tensors if name.endswith(".reach")]
    assert len(says) == sum(name.endswith(".onnx") for name in codec._tensors)
    for name in says:
        with monkeypatch.context() as less:
            less.setitem(codec._tensors, name, np.zeros(1, np.uint8))
            tiled = coded(codec, picture)
        if name.startswith("g_s"):
            far = [np.abs(a - b).max() for a, b in zip(tiled[2:], whole[2:], strict=True)]
            assert max(far) > 1, name
        else:
            assert tiled[:2] != whole[:2], name


def test_a_graph_that_looks_at_all_of_a_picture_is_frozen_by_nobody():
    class Brightness(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.avg_pool2d(x, 16) + x.mean()

    with pytest.raises(ModelError, match=r"g_a\.onnx graph looks too far"):
        of_pixels("g_a", Brightness(), 16)


def test_tiles_change_nothing_in_a_browser_either(browser, tmp_path):
    newer = model_of(fresh("hyperprior"), "hyperprior", tmp_path)
    picture = np.random.default_rng(1).integers(0, 256, (48, 1200, 3), np.uint8)
    data = Codec(newer).encode(picture, 5)
    expected = np.asarray(Codec(newer).decode(data)).astype(int)
    older = without_reach(newer, tmp_path)
    earlier = Codec(older).encode(picture, 5)
    browsing.write_script(tmp_path, [newer, older])
    page = browser.new_page()
    browsing.serve(page, tmp_path)
    for shown in browsing.decode(page, [data, earlier]):
        assert np.abs(shown["pixels"] - expected).max() <= 1
    page.close()
