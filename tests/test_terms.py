"""Tests what is trained with the codec: a head, a discriminator, a recogniser, and classes."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch", reason="the 'train' extra is not installed")
pytest.importorskip("compressai", reason="the 'train' extra is not installed")

from facecodec import frozen  # noqa: E402
from facecodec.codec import Codec  # noqa: E402
from facecodec.datasets import Photo, is_held_back  # noqa: E402
from facecodec.errors import UsageError  # noqa: E402
from facecodec.faces.mobilefacenet import MobileFaceNet  # noqa: E402
from facecodec.faces.recognisers import Recogniser  # noqa: E402
from facecodec.faces.teachers import load_teacher  # noqa: E402
from facecodec.networks.coded import Coded  # noqa: E402
from facecodec.networks.head import HeadNetwork  # noqa: E402
from facecodec.training import loop, terms  # noqa: E402
from facecodec.training.adversary import Adversary  # noqa: E402
from facecodec.training.config import parse_config  # noqa: E402
from facecodec.training.data import Batch, CropSampler, closed_set  # noqa: E402
from facecodec.training.distributed import join  # noqa: E402
from facecodec.training.freeze import freeze  # noqa: E402
from facecodec.training.losses import distortion  # noqa: E402
from facecodec.training.starts import load_start  # noqa: E402

CONFIG = parse_config(
    {
        "name": "test",
        "steps": 2,
        "batch": 1,
        "crop": 448,
        "warmup": 1,
        "validation_images": 1,
        "data": [{"set": "people", "faces": "aligned"}],
        "network": {
            "latents": 6,
            "hyper": 4,
            "hyper_width": 6,
            "fine": 8,
            "coarse": 8,
            "blocks": [1, 1],
        },
    }
)
HEAD = {"fine": 8}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Aligned pictures of one held-back person, of one with six, and of two with one each."""
    root = tmp_path_factory.mktemp("data")
    names = [f"person{i}" for i in range(200)]
    held = next(name for name in names if is_held_back(Photo(root, name)))
    often, *seldom = islice((name for name in names if not is_held_back(Photo(root, name))), 3)
    rng = np.random.default_rng(0)
    for name, photos in ((held, 1), (often, 6), *((name, 1) for name in seldom)):
        (root / "people" / name).mkdir(parents=True)
        for number in range(photos):
            coarse = Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8))
            coarse.resize((448, 448), Image.BICUBIC).save(
                root / "people" / name / f"{name}{number}.jpg"
            )
    return root


@pytest.fixture(autouse=True)
def no_detector(monkeypatch):
    """Removes the detector, which aligned pictures do not need."""
    monkeypatch.setattr(loop, "landmark_finder", lambda *arguments: None)


@pytest.fixture(autouse=True)
def untrained(monkeypatch):
    """Builds heads from random layers, so that no file is needed."""
    monkeypatch.setattr(terms, "load_head_teacher", lambda data: MobileFaceNet().eval())


@pytest.fixture(scope="module")
def start(root, tmp_path_factory):
    """A trained model, from which runs start."""
    folder = tmp_path_factory.mktemp("models")
    loop.train(CONFIG, folder / "run", root)
    freeze(folder / "run", folder / "test.safetensors")
    return folder / "test.safetensors"


def saved(run) -> dict:
    return torch.load(run / loop.CHECKPOINT, weights_only=True)


def test_a_head_alone_leaves_the_model_as_it_was(root, start, tmp_path):
    config = replace(CONFIG, name="head", objective="find", head=HEAD)
    loop.train(config, tmp_path / "find", root, starts=[start])
    loop.train(
        replace(config, objective="embed"),
        tmp_path / "run",
        root,
        starts=[tmp_path / "find" / loop.CHECKPOINT],
    )
    before, found, after = (
        load_start(start)[0],
        saved(tmp_path / "find")["network"],
        saved(tmp_path / "run")["network"],
    )
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    learned = {name.split(".")[1] for name in after if not torch.equal(found[name], after[name])}
    assert learned == {"find", "up", "refine", "look", "first", "last"}
    row = saved(tmp_path / "run")["history"][-1]["rows"][0]
    assert 0 < row["embedding"] < 2

    mark = frozen.read_card(start).fingerprint
    bytes_before = start.read_bytes()
    assert freeze(tmp_path / "run", start, force=True) == mark
    assert start.read_bytes() == bytes_before
    codec = Codec(start)
    assert codec.head.space == "mobilefacenet-ms1m"
    assert codec.embed(codec.encode(np.zeros((250, 250, 3), np.uint8))).shape == (128,)

    state, runs = load_start(start)
    thawed = HeadNetwork(CONFIG.network["latents"], **HEAD).eval()
    thawed.load_state_dict(
        {name.removeprefix("head."): each for name, each in state.items() if "head." in name}
    )
    y_hat = torch.randn(6, 8, 8)
    with torch.no_grad():
        embedding = thawed(y_hat[None]).embedding[0]
    assert embedding.numpy() / embedding.norm().item() @ codec.head.run(
        y_hat.numpy()
    ).embedding == pytest.approx(1, abs=1e-4)
    assert [run["objective"] for run in runs] == ["rec", "find", "embed"]

    loop.train(replace(CONFIG, seed=7), tmp_path / "other", root)
    freeze(tmp_path / "other", tmp_path / "other.safetensors")
    with pytest.raises(UsageError, match="trained for another model"):
        freeze(tmp_path / "run", tmp_path / "other.safetensors")


def test_a_model_and_the_head_it_was_trained_with_are_frozen_together(root, tmp_path):
    network = {name: CONFIG.network[name] for name in ("latents", "fine", "coarse", "blocks")}
    config = replace(CONFIG, family="spic", network=network, head=HEAD | {"classes": 1})
    loop.train(config, tmp_path / "run", root)
    freeze(tmp_path / "run", tmp_path / "test.safetensors")
    codec = Codec(tmp_path / "test.safetensors")
    assert codec.head.classes == [
        max((root / "people").iterdir(), key=lambda person: len(list(person.iterdir()))).name
    ]


def test_a_discriminator_and_a_recogniser_are_trained_along_and_resume(root, start, tmp_path):
    config = replace(
        CONFIG,
        objective="ipr",
        adversarial=0.1,
        trains_recogniser=True,
        recognisers=(replace(CONFIG.recognisers[0], features=("/net/blocks/blocks.4/Add",)),),
    )
    loop.train(config, tmp_path / "run", root, starts=[start])
    first = saved(tmp_path / "run")["terms"]
    loop.train(replace(config, steps=3), tmp_path / "run", root, resume=True)
    second = saved(tmp_path / "run")["terms"]
    for part, name in (("adapted", "network.net/fc/Conv.weight"), ("adversary", "0.bias")):
        assert not torch.equal(first[part]["network"][name], second[part]["network"][name])

    freeze(tmp_path / "run", tmp_path / "test.safetensors")
    recogniser = load_teacher("mobilefacenet-ms1m", None)
    recogniser.load_state_dict(second["adapted"]["network"])
    crop = torch.rand(3, 112, 112)
    with torch.no_grad():
        both = recogniser.eval()(torch.stack([crop, crop.flip(2)])).sum(0)
    found = Recogniser(tmp_path / "run" / "recogniser.onnx")(255 * crop.numpy())
    assert found @ (both / both.norm()).numpy() > 0.9999


def test_a_wall_of_another_colour_costs_more_than_grain():
    grey = torch.full((3, 3, 64, 64), 0.5)
    board = (torch.arange(64)[:, None] + torch.arange(64)) % 2 - 0.5
    tint = torch.tensor([0.1, -0.1, 0.0])[:, None, None]
    other = torch.stack([grey[0] + 0.1, grey[1] + 0.2 * board, grey[2] + tint])
    expected = torch.tensor([0.6, 0.6, 0.4])
    torch.testing.assert_close(distortion(other, grey, "l2"), expected)
    expected = torch.tensor([2.4, 0.6, 6.4])
    weighted = distortion(other, grey, "l2", 3.0)
    torch.testing.assert_close(weighted, expected, rtol=1e-5, atol=1e-5)


def test_the_identity_weight_is_that_of_what_the_teachers_say(monkeypatch):
    distances = torch.tensor([0.3]), torch.tensor([0.2])
    monkeypatch.setattr(terms, "IdentityLoss", lambda *arguments: lambda *pictures: distances)
    monkeypatch.setattr(terms, "load_teacher", lambda name, data: torch.nn.Identity())
    x, bits, lightest = torch.rand(1, 3, 64, 64), torch.zeros(1), torch.ones(1)
    batch = Batch(np.zeros((1, 64, 64, 3), np.uint8), np.zeros((1, 2, 3)), np.array([-1]))
    losses = []
    for weight in (1.0, 2.5):
        config = replace(CONFIG, objective="ipr", identity_weight=weight, rate_weights=(1.0, 1.0))
        judged = terms.Terms(config, None, join())
        coded = Coded(x, bits, bits)
        losses.append(
            judged(coded, None, x, lightest, batch, np.random.default_rng(0))["loss"].item()
        )
    assert losses == pytest.approx([0.5, 1.25])


def test_a_discriminator_learns_what_is_decoded():
    torch.manual_seed(0)
    adversary = Adversary(join())
    originals, decoded = (
        torch.rand(8, 3, 64, 64),
        torch.rand(8, 3, 64, 64).mean(1, keepdim=True).expand(-1, 3, -1, -1),
    )
    for _ in range(60):
        adversary.learn(originals, decoded)
    assert adversary.judge(decoded).min() > adversary.judge(originals).max()


def test_a_closed_set_keeps_its_tests_out_of_training(root):
    photos = [Photo(path, path.parent.name) for path in sorted((root / "people").glob("*/*.jpg"))]
    closed = closed_set(photos, 1)
    (person,) = closed.people
    theirs = [photo for photo in photos if photo.person == person]
    assert len(theirs) == 6
    assert 0 < len(closed.tests) < 6
    sampler = CropSampler(CONFIG.data, root, 448, classes=1)
    assert sampler.counts["people"] == 8 - len(closed.tests)
    labels = [sampler.batch(1, np.random.default_rng(seed)).labels[0] for seed in range(40)]
    assert labels.count(0) > 15
    assert set(labels) == {0, -1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"objective": "embed"}, r"\[head\] table"),
        ({"trains_recogniser": True}, "needs the objective ip or ipr"),
        ({"adversarial": -1}, "adversarial must be a number of at least zero"),
    ],
)
def test_a_wrong_configuration_names_its_key(change, message):
    with pytest.raises(UsageError, match=message):
        parse_config({**CONFIG.to_dict(), **change})


def test_a_head_that_does_not_fit_is_named():
    with pytest.raises(UsageError, match=r"\[head\] table"):
        loop.build_network(replace(CONFIG, head={"wide": 3}))
