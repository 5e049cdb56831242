"""Tests the search for the best file: its gradients, its results and its guarantees."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from safetensors import safe_open

from conftest import DATA
from facecodec import ModelError, UsageError, frozen
from facecodec.cli import cli
from facecodec.codec import Codec
from facecodec.container import unpack
from facecodec.search import efforts
from facecodec.search.annealing import Rounding, Schedule, anneal
from facecodec.search.crops import Crop, jitter
from facecodec.search.files import (
    FACES,
    FOLDER,
    FORMAT,
    KIND,
    Graphs,
    Place,
    load_faces,
    load_search,
    save,
    search_file,
)
from facecodec.search.fitting import fit
from facecodec.search.graphs import Graph, Transform
from facecodec.search.objective import GradientRecogniser, Objective, Weights, averaged
from facecodec.search.windows import windows
from facecodec.template import similarity


def _noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)


def _halved(module):
    """Rounds weights as graphs store them, so that torch computes with the same weights."""
    import torch

    norms = [each for each in module.modules() if isinstance(each, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.eps = 0  # folded into the weights it changes none
    kept = {id(value) for norm in norms for value in norm.parameters()}
    with torch.no_grad():
        for value in module.parameters():
            if id(value) not in kept:
                value.copy_((value + 0.02 * torch.randn_like(value)).half().float())
    return module.eval()


def _onnx(module, example):
    import onnx
    import torch

    buffer = io.BytesIO()
    torch.onnx.export(
        module,
        (example,),
        buffer,
        input_names=["image"],
        output_names=["embedding"],
        dynamic_axes={"image": {0: "batch"}, "embedding": {0: "batch"}},
        opset_version=17,
        dynamo=False,
    )
    return onnx.load_from_string(buffer.getvalue())


def _check_split(module, channels):
    import onnx
    import torch

    from facecodec.networks.export import graph
    from facecodec.networks.gradients import split

    _halved(module)
    model = onnx.load_from_string(graph(module, torch.zeros(1, channels, 4, 4)).tobytes())
    both = split(model, (1, channels, 4, 4))
    transform = Transform(*(Graph(each.content, each.weights) for each in both))
    values = _noise(channels, 7, 5)  # another size than that of the example
    leaf = torch.from_numpy(values)[None].requires_grad_(True)
    expected = module(leaf)
    applied = transform(values)
    found = applied.result
    np.testing.assert_allclose(found, expected[0].detach(), atol=1e-4)
    cotangent = _noise(*found.shape, seed=1)
    expected.backward(torch.from_numpy(cotangent)[None])
    np.testing.assert_allclose(applied.gradient(cotangent), leaf.grad[0], atol=1e-4, rtol=1e-4)


def test_gradient_of_a_synthesis_is_torchs():
    pytest.importorskip("compressai", reason="the train extra is not installed")
    import torch

    from facecodec.networks.transforms import Uncentred, depthwise_transforms

    torch.manual_seed(0)
    _check_split(Uncentred(depthwise_transforms(16, 16, 16, (1, 2))[1]), 16)


def _check_recogniser(module):
    import torch

    from facecodec.networks.gradients import split

    model = _onnx(_halved(module), torch.zeros(2, 3, 112, 112))
    graphs = split(model, (1, 3, 112, 112), static=True)
    recogniser = GradientRecogniser(
        Transform(*(Graph(each.content, each.weights) for each in graphs))
    )
    face = 0.5 + 0.2 * _noise(3, 112, 112)
    leaf = torch.from_numpy(face).requires_grad_(True)
    unit = torch.nn.functional.normalize(module(255 * leaf[None]))[0]
    wanted = _noise(*unit.shape, seed=2)
    wanted /= np.linalg.norm(wanted)
    distance = 1 - (unit * torch.from_numpy(wanted)).sum()
    distance.backward()
    np.testing.assert_allclose(recogniser.embedding(face), unit.detach(), atol=1e-3)
    assert recogniser.distance(face, wanted) == pytest.approx(distance.item(), abs=1e-3)
    scale = leaf.grad.abs().max().item()
    # A few values, within rounding of a kink, may have the slope of its other side.
    off = np.abs(recogniser.gradient(face, wanted) - leaf.grad.numpy()) > 2e-3 * scale
    assert off.mean() < 1e-3


def test_gradient_of_mobilefacenet_is_torchs():
    pytest.importorskip("torch")
    import torch

    from facecodec.faces.mobilefacenet import MobileFaceNet

    class Scaled(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.body = MobileFaceNet()

        def forward(self, image):
            return self.body(image / 255)

    torch.manual_seed(0)
    _check_recogniser(Scaled())


def test_gradient_of_other_operators_is_torchs():
    torch = pytest.importorskip("torch")

    class Squeezing(torch.nn.Module):
        """The operators of the other recognisers."""

        def __init__(self):
            super().__init__()
            self.first = torch.nn.Conv2d(3, 8, 3, 2, 1)
            self.prelu = torch.nn.PReLU(8)
            self.depthwise = torch.nn.Conv2d(8, 8, 3, 2, 1, groups=8)
            self.squeeze = torch.nn.Conv2d(8, 8, 1)
            self.last = torch.nn.Linear(8 * 32 * 32, 16)

        def forward(self, image):
            x = torch.nn.functional.interpolate(image, scale_factor=128 / 112, mode="bilinear")
            x = self.depthwise(self.prelu(self.first((x - 127.5) / 128)))
            x = x + x * self.squeeze(x.mean((2, 3), keepdim=True)).sigmoid()
            return self.last(x.flatten(1))

    torch.manual_seed(0)
    _check_recogniser(Squeezing())


def test_a_constant_of_any_name_keeps_its_value():
    """The gradient brings constants of its own."""
    torch = pytest.importorskip("torch")

    class Named(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.zero = torch.nn.Parameter(torch.full((3, 1, 1), 0.5))
            self.one = torch.nn.Parameter(torch.full((3, 1, 1), 0.25))
            self.prelu = torch.nn.PReLU(3)
            self.last = torch.nn.Linear(3 * 112 * 112, 16)

        def forward(self, image):
            return self.last((self.prelu((image - 127.5) / 128 * self.zero) + self.one).flatten(1))

    torch.manual_seed(0)
    _check_recogniser(Named())


def test_an_operator_without_a_rule_is_refused():
    torch = pytest.importorskip("torch")
    from facecodec.networks.gradients import split

    with pytest.raises(UsageError, match="Tanh"):
        split(_onnx(torch.nn.Tanh(), torch.zeros(1, 3, 4, 4)), (1, 3, 4, 4))


@pytest.mark.parametrize("scale", [0.6, 2.5])
def test_crops_and_their_gradient_are_those_of_training(scale):
    torch = pytest.importorskip("torch")
    from facecodec.faces import alignment

    rng = np.random.default_rng(1)
    points = alignment.TEMPLATE * scale + rng.normal(0, 2, (5, 2)) + 20
    np.testing.assert_allclose(similarity(points), alignment.similarity(points))
    matrix = jitter(similarity(points), rng)
    image = rng.random((3, 150, 210), np.float32)
    leaf = torch.from_numpy(image)[None].requires_grad_(True)
    expected = alignment.align(leaf, matrix[None])
    crop = Crop(matrix, image.shape[1:])
    np.testing.assert_allclose(crop(image), expected[0].detach(), atol=1e-3)
    cotangent = _noise(3, 112, 112)
    expected.backward(torch.from_numpy(cotangent)[None])
    np.testing.assert_allclose(crop.gradient(cotangent), leaf.grad[0], atol=5e-3)


def test_jitter_mirrors_half_the_time():
    matrix = np.array([[1.0, 0, 0], [0, 1, 0]])
    rng = np.random.default_rng(0)
    turns = [np.linalg.det(jitter(matrix, rng)[:, :2]) < 0 for _ in range(400)]
    assert 160 < sum(turns) < 240


def test_annealing_ends_at_whole_numbers_near_the_best():
    wanted = np.array([0.4, 1.6, -2.3], np.float32)

    def loss(values, soften, rng):
        low, share, slope = soften(values[0])
        return [2 * (low + share - wanted) * slope]

    found = anneal([wanted], loss, Schedule(300), np.random.default_rng(0))[0]
    np.testing.assert_array_equal(np.rint(found), [0, 2, -2])


def test_cold_rounding_is_rounding():
    values = np.linspace(-3, 3, 41, dtype=np.float32)[1::2]
    low, share, _ = Rounding(0.01, np.random.default_rng(0))(values)
    np.testing.assert_allclose(low + share, np.rint(values), atol=1e-3)


@pytest.mark.parametrize(
    ("size", "matrix"), [((70, 65), None), ((63, 90), 3.0), ((63, 90), 6.0), ((20, 40), 2.0)]
)
def test_windows_cover_everything(size, matrix):
    face = None if matrix is None else np.array([[matrix, 0, 100], [0, matrix, 150]])
    seen = np.zeros(size, int)
    for window in windows(*size, face):
        assert window.own[0].start % 4 == window.own[1].start % 4 == 0
        assert seen[window.own].min() == 0, "nothing would be left to search"
        seen[window.own] += 1
    assert seen.min() >= 1


def test_fit_ends_just_below_its_limit():
    pack = lambda latents, byte: bytes(latents)  # noqa: E731
    plain = lambda byte: 100 + 10 * byte  # noqa: E731
    data = fit(
        1000,
        plain,
        lambda byte: int(0.8 * plain(byte)),
        pack,
        lambda latents, byte, bits: latents - int(bits / 8),
    )
    assert 990 <= len(data[0]) <= 1000
    assert fit(50, plain, lambda byte: plain(byte), pack, lambda latents, *_: latents) is None


def _searched(name, folder) -> Codec:
    """Makes a tiny model, trained to keep only pixels, with a search file."""
    pytest.importorskip("onnx", reason="the train extra is not installed")
    from facecodec.training.gradients import of_model

    path = folder / f"{name}.safetensors"
    shutil.copy(DATA / path.name, path)
    card, tensors = frozen.load(path)
    packing = of_model(tensors)
    save(
        search_file(path),
        card.fingerprint,
        {"rate_weights": [2.64, 0.0072], "pixels": 60.0, "averages": 120.0},
        packing.tensors(),
        packing.places,
    )
    return Codec(path)


@pytest.fixture(scope="module")
def tiny_searched(tmp_path_factory) -> Codec:
    return _searched("tiny-map", tmp_path_factory.mktemp("search"))


@pytest.fixture(scope="module")
def sliced_searched(tmp_path_factory) -> Codec:
    return _searched("tiny-sliced", tmp_path_factory.mktemp("search"))


def _bent(values):
    """Rounds with a known derivative that is not the identity's."""
    low = np.floor(values)
    part = values - low
    return low, part * part * (3 - 2 * part), 6 * part * (1 - part)


class _Unmapped:
    """A hyper-synthesis whose quality map, which is rounded, has no gradient."""

    def __init__(self, applied, mapped):
        self.result, self._applied, self._mapped = applied.result, applied, mapped

    def gradient(self, cotangent):
        if self._mapped:
            cotangent[-1] = 0
        return self._applied.gradient(cotangent)


@pytest.mark.parametrize(
    ("name", "window"),
    [
        ("tiny", (slice(0, 12), slice(0, 8))),
        ("tiny-map", (slice(0, 12), slice(0, 8))),
        ("tiny-sliced", (slice(0, 12), slice(0, 8))),
        ("tiny-sliced", (slice(8, 20), slice(60, 68))),  # of four blocks
    ],
)
def test_gradients_of_bits_and_picture_are_those_of_differences(
    name, window, tmp_path, monkeypatch
):
    codec = _searched(name, tmp_path)
    rows, columns = (part.stop - part.start for part in window)
    pixels = np.random.default_rng(0).integers(0, 256, (16 * rows, 16 * columns, 3), np.uint8)
    cotangent = 0.1 * _noise(3, 16 * rows, 16 * columns)
    search = codec.search
    latents = codec.family.analyse(pixels, 100)
    relaxed = search._relaxed.Relaxed(codec.family, search._transforms, latents, 100, window)
    plain = relaxed._hyper

    def hyper(z_hat):
        applied, out = plain(z_hat)
        return _Unmapped(applied, relaxed.has_quality_map), out

    monkeypatch.setattr(relaxed, "_hyper", hyper)

    def loss(values):
        point = relaxed.at(values, _bent)
        seen = float((point.picture * cotangent).sum(dtype=np.float64))
        return point.bits + seen, point.gradient(cotangent)

    gradient = loss(relaxed.start)[1]
    for variable in (0, 1):
        way = [np.zeros_like(each) for each in relaxed.start]
        way[variable] = gradient[variable] / np.abs(gradient[variable]).max()
        expected = float((way[variable] * gradient[variable]).sum())
        ends = [
            loss([a + step * b for a, b in zip(relaxed.start, way, strict=True)])[0]
            for step in (1e-3, -1e-3)
        ]
        assert (ends[0] - ends[1]) / 2e-3 == pytest.approx(expected, rel=0.05)


def test_slices_are_searched(sliced_searched, picture):
    found = sliced_searched.encode(picture, 4, effort=3)
    assert found == sliced_searched.encode(picture, 4, effort=3)
    assert found != sliced_searched.encode(picture, 4)


@pytest.mark.parametrize(("name", "less", "off"), [("tiny-map", 300, 12), ("tiny-sliced", 6, 3)])
def test_trimming_saves_the_bits_that_are_asked_for(name, less, off, tmp_path):
    codec = _searched(name, tmp_path)
    pixels = np.random.default_rng(1).integers(0, 256, (160, 1200, 3), np.uint8)
    latents = codec.family.analyse(pixels, 120)
    before = sum(map(len, codec.family.encode(latents, 120)))
    trimmed = codec.search.trimmed(latents, 120, 8 * less)
    streams = codec.family.encode(trimmed, 120)
    assert sum(map(len, streams)) == pytest.approx(before - less, abs=off)
    assert codec.family.matches(streams, (160, 1200), trimmed, 120)


def _held(packing, sources):
    """Returns the weights, by graph, that a packing's search file gives back."""
    graphs = Graphs(Path(), {"weights": {}}, packing.tensors(), sources)
    return {
        name: {weight: place.read(graphs._sources) for weight, place in places.items()}
        for name, places in packing.places.items()
    }


def test_weights_that_lie_elsewhere_are_not_stored_again():
    pytest.importorskip("onnx", reason="the train extra is not installed")
    from facecodec.networks.gradients import Bare
    from facecodec.training.packing import Packing

    there = _noise(40, 20).astype(np.float16)
    sources = {"there": np.frombuffer(b"before" + there.tobytes(), np.uint8)}
    weights = {
        "found": there.astype(np.float32),
        "whole": np.float32(0.25) * np.arange(-128, 128, dtype=np.float32).reshape(16, 16),
        "half": _noise(8, 3, 3, 3, seed=1),
    }
    packing = Packing(sources)
    for name in ("forward", "backward"):
        packing.add(name, Bare(np.zeros(1, np.uint8), weights))
    assert len(packing.tensors()["weights"]) == 256 + 2 * weights["half"].size
    for read in _held(packing, sources).values():
        np.testing.assert_array_equal(read["found"], weights["found"])
        np.testing.assert_array_equal(read["whole"], weights["whole"])
        np.testing.assert_allclose(read["half"], weights["half"], rtol=1e-3)


def test_eight_bits_are_scaled_by_output_channel():
    pytest.importorskip("onnx", reason="the train extra is not installed")
    from facecodec.networks.gradients import Bare
    from facecodec.training.packing import Packing

    weight = _noise(16, 8, 3, 3) * np.logspace(-3, 3, 16, dtype=np.float32)[:, None, None, None]
    weight[5] = 0
    packing = Packing({})
    packing.add("x", Bare(np.zeros(1, np.uint8), {"w": weight}), eight_bits=True)
    assert len(packing.tensors()["weights"]) == weight.size + 4 * 16
    read = _held(packing, {})["x"]["w"]
    largest = np.abs(weight).max(axis=(1, 2, 3), keepdims=True)
    assert (np.abs(read - weight) <= largest / 250).all()


@pytest.mark.parametrize(
    "change", [{"at": -1}, {"at": 1}, {"type": "object"}, {"shape": (-1,)}, {"scales": 10**6}]
)
def test_a_weight_that_is_not_there_is_refused(change):
    place = Place("x", 0, "int8", (4,))
    assert place.read({"x": np.zeros(4, np.uint8)}).tolist() == [0, 0, 0, 0]
    with pytest.raises(ValueError, match=r"malformed|buffer|offset"):
        replace(place, **change).read({"x": np.zeros(4, np.uint8)})


def test_files_decode_and_are_the_same_again(tiny_searched, tiny_map, picture):
    found = tiny_searched.encode(picture, 4, effort=3)
    assert found == tiny_searched.encode(picture, 4, effort=3)
    assert found != tiny_searched.encode(picture, 4)
    decoded = tiny_map.decode(found)  # which knows of no search
    assert decoded.size == (61, 45)
    assert unpack(found).q == 4


def test_effort_one_is_todays_pass(tiny_searched, tiny_map, picture):
    assert tiny_searched.encode(picture, 5, effort=1) == tiny_map.encode(picture, 5)


@pytest.mark.parametrize("effort", [0, 10, 2.5])
def test_efforts_that_there_are_not(tiny_searched, picture, effort):
    with pytest.raises(UsageError, match="effort"):
        tiny_searched.encode(picture, effort=effort)


def test_a_missing_file_is_named(tiny, picture):
    with pytest.raises(ModelError, match=r"search/tiny\.safetensors.*use effort 1"):
        tiny.encode(picture, effort=2)


def test_a_damaged_file_is_refused(tiny_searched, tmp_path, picture):
    path = tmp_path / "tiny-map.safetensors"
    shutil.copy(tiny_searched.card.path, path)
    damaged = bytearray(search_file(tiny_searched.card.path).read_bytes())
    damaged[-100] ^= 1
    search_file(path).parent.mkdir()
    search_file(path).write_bytes(damaged)
    with pytest.raises(ModelError, match="damaged"):
        Codec(path).encode(picture, effort=2)


def _changed(searched, folder, change) -> Codec:
    """Returns a copy whose search file has facts and tensors that `change` has altered."""
    path = folder / searched.card.path.name
    shutil.copy(searched.card.path, path)
    with safe_open(search_file(searched.card.path), "numpy") as file:
        facts = json.loads(file.metadata()["card"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(facts, tensors)
    frozen.save_beside(search_file(path), FORMAT, KIND, searched.card.fingerprint, facts, tensors)
    return Codec(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda facts, tensors: facts.update(pixels=10**400),
        lambda facts, tensors: facts.update(rate_weights=[1, 10**400]),
        lambda facts, tensors: facts.update(rate_weights=[float("nan"), 1]),
        lambda facts, tensors: facts.update(weights=[]),
        lambda facts, tensors: facts["weights"].update({"g_s.forward.onnx": 3}),
        lambda facts, tensors: _first(facts).update(at=1 << 70),
        lambda facts, tensors: _first(facts).update(scale=10**400),
        lambda facts, tensors: _first(facts).update(shape=[1 << 70]),
        lambda facts, tensors: _first(facts).update(source="\n"),
        lambda facts, tensors: tensors.pop("h_s.backward.onnx"),
    ],
)
def test_whatever_a_search_file_says_the_error_is_one_line(tiny_searched, tmp_path, change):
    with pytest.raises(ModelError) as caught:
        _changed(tiny_searched, tmp_path, change).search  # noqa: B018
    assert str(caught.value).startswith(str(search_file(tmp_path / "tiny-map.safetensors")))
    assert "\n" not in str(caught.value)


def _first(facts) -> dict:
    return next(iter(facts["weights"]["g_s.forward.onnx"].values()))


def test_graphs_that_do_not_fit_are_an_error_and_print_nothing(
    tiny_searched, tmp_path, picture, capfd
):
    """One graph gives shapes that the next step refuses; another does not run on its input."""

    def swap(one, other):
        def change(facts, tensors):
            tensors[one] = tensors[other]
            facts["weights"][one] = facts["weights"][other]

        return change

    for number, (one, other) in enumerate(
        [("h_s.forward.onnx", "g_s.forward.onnx"), ("g_s.forward.onnx", "h_s.forward.onnx")]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        with pytest.raises(ModelError, match=r"do not fit: |does not run: ") as caught:
            _changed(tiny_searched, folder, swap(one, other)).encode(picture, effort=2)
        assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_the_file_for_faces_names_no_file_elsewhere(shipped, tmp_path):
    """It must not tell whether another file exists, nor what is in it."""
    shutil.copy(shipped.card.path, tmp_path)
    card = frozen.read_card(tmp_path / shipped.card.path.name)
    beside = tmp_path / FOLDER / FACES
    for name in ("../x", "/etc/passwd", "a\nb"):
        facts = {"recognisers": [], "files": {name: ""}, "weights": {}}
        frozen.save_beside(beside, FORMAT, KIND, "", facts, {"p": np.zeros(1, np.uint8)})
        with pytest.raises(ModelError, match=r"malformed: .* is no file beside a model"):
            load_faces(card)


@pytest.fixture(scope="module")
def scene() -> np.ndarray:
    """A picture without a face, but with edges and gradients that a search can use."""
    row, column = np.mgrid[0:160, 0:176]
    disc = (row - 80) ** 2 + (column - 90) ** 2 < 45**2
    base = 90 + 60 * np.sin(row / 17) * np.cos(column / 23) + 50 * disc
    noise = np.random.default_rng(0).normal(0, 4, (160, 176, 3))
    return np.clip(base[..., None] + [10, 0, -15] + noise, 0, 255).astype(np.uint8)


def _loss(codec, data, pixels, quality):
    """Returns the training loss of l2-ipr, without a face."""
    weight = 11.5 * (0.016 / 11.5) ** ((quality - 1) / 7)
    apart = np.asarray(codec.decode(data)) / 255.0 - pixels / 255.0
    averages = apart.reshape(apart.shape[0] // 16, 16, -1, 16, 3).mean((1, 3))
    colors = averages - averages.mean(2, keepdims=True)
    error = np.square(apart).mean() + 3 * (np.square(averages) + 4 * np.square(colors)).mean()
    return 8 * len(data) / pixels[..., 0].size * weight + 60 * error


@pytest.fixture
def searched(shipped) -> Codec:
    """The default model. Skips without its search file."""
    try:
        _ = shipped.search
    except ModelError as error:
        pytest.skip(f"{error}: make it with benchmarks/freeze_search.py")
    return shipped


@pytest.mark.parametrize("quality", [1, 3, 6])
def test_effort_is_less_loss(searched, scene, quality):
    losses = [
        _loss(searched, searched.encode(scene, quality, effort=effort), scene, quality)
        for effort in (1, 4, 6)
    ]
    assert losses[0] > losses[1]
    assert losses[0] >= losses[2]


def test_what_makes_a_picture_worse_is_not_kept(tiny_searched, picture, monkeypatch):
    def away(start, gradient, schedule, rng):
        return [each + 3 for each in start]

    monkeypatch.setattr(efforts, "anneal", away)
    assert tiny_searched.encode(picture, 4, effort=2) == tiny_searched.encode(picture, 4)


def test_loss_and_its_gradient_agree(scene, monkeypatch):
    class Linear:
        """A recogniser whose distance is a weighted sum of the crop."""

        def embedding(self, crop):
            return _noise(*crop.shape, seed=4) / 1000

        def distance(self, crop, wanted):
            return float((crop * wanted).sum(dtype=np.float64))

        def gradient(self, crop, wanted):
            return wanted

    monkeypatch.setattr("facecodec.search.objective.jitter", lambda matrix, rng: matrix)
    matrix = np.array([[0.9, 0.1, 20], [-0.1, 0.9, 25]])
    objective = Objective(scene, Weights(50.0, 100.0, 3.0), matrix, [Linear()])
    size = scene.shape[:2]
    decoded = np.clip(scene.transpose(2, 0, 1) / 255 + 0.05 * _noise(3, *size), 0.1, 0.9)
    decoded = decoded.astype(np.float32)
    gradient = objective.gradient(decoded, None)
    way = gradient / np.abs(gradient).max()
    ends = [objective.loss(decoded + np.float32(step) * way) for step in (1e-2, -1e-2)]
    assert (ends[0] - ends[1]) / 2e-2 == pytest.approx(float((way * gradient).sum()), rel=0.01)


def test_a_perfect_picture_has_no_gradient_in_any_view(scene):
    """A view of the decoded face is compared with the same view of the original."""

    class Close:
        def embedding(self, crop):
            return crop

        def gradient(self, crop, wanted):
            return crop - wanted

    matrix = np.array([[0.9, 0.1, 20], [-0.1, 0.9, 25]])
    objective = Objective(scene, Weights(50.0, 100.0, 3.0), matrix, [Close()])
    perfect = scene.transpose(2, 0, 1).astype(np.float32) / 255
    rng = np.random.default_rng(0)
    for _ in range(5):
        assert not objective.gradient(perfect, rng).any()
    assert objective.gradient(perfect[..., ::-1], rng).any()


def test_areas_at_the_edges_may_be_smaller():
    values = np.arange(3 * 17 * 33, dtype=np.float32).reshape(3, 17, 33)
    found = averaged(values)
    assert found.shape == values.shape
    np.testing.assert_allclose(found[1, :16, 16:32], values[1, :16, 16:32].mean(), rtol=1e-6)
    np.testing.assert_allclose(found[2, 16, :16], values[2, 16, :16].mean(), rtol=1e-6)
    np.testing.assert_allclose(found[2, 16, 32], values[2, 16, 32])


@pytest.mark.parametrize("limit", [500, 1024])
def test_limits_are_met_and_used(searched, scene, limit):
    data = searched.encode_within(scene, limit, effort=2)
    assert 0.985 * limit <= len(data) <= limit
    assert searched.decode(data).size == (176, 160)


def test_faces_are_found_as_by_facenet_pytorch(searched, finds_faces, faces_root):
    from facecodec.faces.detection import find_landmarks
    from facecodec.images import load

    photographs = sorted((faces_root / "lfw-deepfunneled").glob("Aaron_*/*_0001.jpg"))[:6]
    pictures = [Image.fromarray(load(path)) for path in photographs]
    for picture, expected in zip(pictures, find_landmarks(pictures), strict=True):
        found = searched.search._detector.landmarks(np.asarray(picture))
        np.testing.assert_allclose(found, expected, atol=0.05)  # pixels


def test_a_very_large_picture_is_made_smaller_before_faces_are_sought(
    searched, finds_faces, photograph
):
    """Tests both detectors. The search's own does not need more memory for a larger picture."""
    from facecodec.faces.detection import find_landmarks
    from facecodec.search.detector import MAX_PIXELS

    times = 12
    large = photograph.resize([times * side for side in photograph.size])
    pixels = np.asarray(large)
    assert large.width * large.height > MAX_PIXELS
    (expected,) = find_landmarks([photograph])
    (theirs,) = find_landmarks([large])
    tracemalloc.start()
    ours = searched.search._detector.landmarks(pixels)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    for found in (ours, theirs):
        np.testing.assert_allclose((found + 0.5) / times - 0.5, expected, atol=5)  # of 250 pixels
    assert peak < 16 * MAX_PIXELS


def test_searching_imports_no_torch(tmp_path, scene, searched):
    Image.fromarray(scene[:64, :64]).save(tmp_path / "a.png")
    code = (
        "import sys; from PIL import Image; import facecodec;"
        f"facecodec.encode(Image.open({str(tmp_path / 'a.png')!r}), effort=2);"
        "assert not {'torch', 'onnx', 'compressai'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_models_that_only_keep_identity_are_searched_with_a_little_weight_for_pixels(tmp_path):
    pytest.importorskip("onnx", reason="the train extra is not installed")
    from facecodec.training.config import load_config
    from facecodec.training.gradients import write_model

    model = tmp_path / "model.safetensors"
    config = load_config(Path(__file__).parents[1] / "configs" / "l2-ip-slices.toml")
    card, tensors = frozen.load(DATA / "tiny-map.safetensors")
    weights = []
    for objective in ("ipr", "ip"):  # the slices of both were trained last, for the rate alone
        frozen.save(model, card.stored() | {"objective": objective}, tensors)
        write_model(model, config)
        weights.append(load_search(*frozen.load(model)).pixels)
    assert 0 < weights[1] < weights[0] / 10


def test_progress_goes_from_nothing_to_all_and_says_what_is_saved(tiny_searched, picture):
    seen = []
    analysed = tiny_searched.analyse(picture, effort=3, progress=lambda *each: seen.append(each))
    found = analysed.at(96).data
    shares, saved = zip(*seen, strict=True)
    assert (list(shares), shares[-1]) == (sorted(shares), 1)
    before = len(analysed.unsearched(96).data)
    assert 0 < saved[-1] == pytest.approx(1 - len(found) / before, abs=0.1)


def test_the_command_line_and_python_write_the_same_searched_file(tiny_searched, tmp_path, picture):
    (tmp_path / "in").mkdir()
    Image.fromarray(picture).save(tmp_path / "in" / "a.png")
    path = str(tiny_searched.card.path)
    command = ["encode", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "-m", path]
    result = CliRunner().invoke(cli, [*command, "-e", "3", "-q", "4", "--verify", "--json"])
    assert result.exit_code == 0, result.output
    found = (tmp_path / "out" / "a.fic").read_bytes()
    assert found == tiny_searched.encode(picture, 4, effort=3)
    facts = json.loads(result.stdout)
    plain = tiny_searched.encode(picture, 4)
    assert found != plain
    assert (facts["effort"], facts["bytes_at_effort_1"]) == (3, len(plain))
    assert facts["bytes"] == len(found)
