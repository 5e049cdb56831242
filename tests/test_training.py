"""Tests training on small, generated pictures: the loop, resuming, and freezing."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from itertools import count, islice
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

torch = pytest.importorskip("torch", reason="the 'train' extra is not installed")
pytest.importorskip("compressai", reason="the 'train' extra is not installed")

from conftest import CHECKOUT  # noqa: E402
from facecodec import frozen  # noqa: E402
from facecodec.cli import cli  # noqa: E402
from facecodec.codec import Codec, open_container  # noqa: E402
from facecodec.datasets import Photo, is_held_back, lfw  # noqa: E402
from facecodec.errors import UsageError  # noqa: E402
from facecodec.networks.hyperprior import HyperpriorNetwork  # noqa: E402
from facecodec.search.files import search_file  # noqa: E402
from facecodec.sessions import pad  # noqa: E402
from facecodec.training import loop, validation  # noqa: E402
from facecodec.training.config import load_config, parse_config  # noqa: E402
from facecodec.training.data import CropSampler, Picture, resized_crop, validation_photos  # noqa: E402
from facecodec.training.freeze import freeze  # noqa: E402
from facecodec.training.gradients import TEACHERS  # noqa: E402
from facecodec.training.starts import begin, load_start  # noqa: E402
from facecodec.training.thaw import thawed  # noqa: E402
from facecodec.training.validation import to_tensor, validation_loss  # noqa: E402
from fresh import model_of  # noqa: E402

NETWORK = {
    "transform": "depthwise",
    "latents": 6,
    "hyper": 4,
    "hyper_width": 6,
    "fine": 8,
    "coarse": 8,
}
CONFIG = parse_config(
    {
        "name": "test",
        "steps": 12,
        "batch": 2,
        "crop": 64,
        "warmup": 3,
        "seed": 3,
        "data": [{"set": "people"}],
        "network": {**NETWORK, "blocks": [1, 1]},
        "validation_images": 2,
    }
)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A data folder with eight people, two of them held back."""
    root = tmp_path_factory.mktemp("data")
    names = (f"person{i}" for i in count())
    rng = np.random.default_rng(0)
    held = list(islice((n for n in names if is_held_back(Photo(root, n))), 2))
    kept = list(islice((n for n in names if not is_held_back(Photo(root, n))), 6))
    for name in held + kept:
        (root / "people" / name).mkdir(parents=True)
        coarse = rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((97, 80), Image.BICUBIC).save(
            root / "people" / name / "1.png"
        )
    return root


@pytest.fixture(scope="module", autouse=True)
def single_precision():
    """Fixes the precision: for such small networks, timing would choose at random."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "uses_bfloat16", lambda *arguments: False)
        yield


@pytest.fixture(scope="module")
def finished(root, tmp_path_factory):
    run = tmp_path_factory.mktemp("run") / "whole"
    loop.train(CONFIG, run, root)
    return run


def saved(run) -> dict:
    return torch.load(run / loop.CHECKPOINT, weights_only=True)


def test_a_run_that_was_killed_resumes_exactly(root, finished, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0)
    batch, calls = CropSampler.batch, iter(range(100))

    def killed(self, size, rng):
        if next(calls) == 7:
            raise KeyboardInterrupt
        return batch(self, size, rng)

    with monkeypatch.context() as patch:
        patch.setattr(CropSampler, "batch", killed)
        with pytest.raises(KeyboardInterrupt):
            loop.train(CONFIG, tmp_path / "run", root)
    assert saved(tmp_path / "run")["step"] == 7
    loop.train(CONFIG, tmp_path / "run", root, resume=True)
    expected, resumed = saved(finished), saved(tmp_path / "run")
    assert resumed["step"] == expected["step"] == 12
    for name, value in expected["network"].items():
        assert torch.equal(value, resumed["network"][name]), name
    assert resumed["history"][-1] == expected["history"][-1]


def test_a_run_that_is_killed_as_it_saves_keeps_its_last_checkpoint(
    finished, tmp_path, monkeypatch
):
    path = tmp_path / loop.CHECKPOINT
    loop.save_atomically(saved(finished), path)

    def half(state, to):
        to.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(KeyboardInterrupt):
        loop.save_atomically({}, path)
    assert saved(tmp_path)["step"] == 12


def test_a_run_for_one_rate_trains_the_gains_of_that_rate_alone(root, tmp_path):
    config = replace(
        CONFIG, steps=1, qualities=(3.0, 3.0)
    )  # in the first step no place departs from it
    loop.train(config, tmp_path / "run", root)
    before = torch.linspace(-0.5, 0.5, 8) * np.log2(160) / 2  # CONFIG's rate weights are 160 to one
    moved = (saved(tmp_path / "run")["network"]["y_log_gain"] - before[:, None]).abs().amax(
        1
    ) > 1e-5
    assert moved.tolist() == [quality == 3 for quality in range(1, 9)]


def test_the_log_is_json_lines_with_validation(finished):
    rows = [json.loads(line) for line in (finished / "log.jsonl").read_text().splitlines()]
    (validation,) = [row["validation"] for row in rows if "validation" in row]
    assert [row["q"] for row in validation] == list(range(1, 9))
    assert all(0 < row["bpp"] < 50 and 3 < row["psnr"] < 60 for row in validation)


class Clock:
    """Replaces `time`: a step takes 20 seconds, and nothing else takes any time."""

    def __init__(self, monkeypatch) -> None:
        self.now = 1000.0
        make_step = loop.Trainer.make_step

        def slow(trainer):
            self.now += 20
            return make_step(trainer)

        monkeypatch.setattr(loop.Trainer, "make_step", slow)
        monkeypatch.setattr(loop, "time", self)

    def monotonic(self) -> float:
        return self.now


def test_a_run_stops_when_its_minutes_are_over_and_is_validated_on_demand(
    root, tmp_path, monkeypatch
):
    clock, rows = Clock(monkeypatch), []
    loop.train(CONFIG, tmp_path, root, minutes=1, report=rows.append, begun=clock.now - 30)
    assert saved(tmp_path)["step"] == 2
    assert rows[-1] == {"stopped": 2, "steps": 12}
    assert not any("validation" in row for row in rows)
    freeze(tmp_path, tmp_path / "unmeasured.safetensors")
    assert Codec(tmp_path / "unmeasured.safetensors").card.rates == []
    loop.train(CONFIG, tmp_path, root, minutes=0, resume=True, report=rows.append)
    assert rows[-1]["step"] == 2
    assert len(rows[-1]["validation"]) == 8
    assert saved(tmp_path)["history"][-1]["step"] == 2


def test_a_validation_is_given_up_when_the_minutes_are_over(root, tmp_path, monkeypatch):
    clock, rows = Clock(monkeypatch), []

    def slow(*given):
        clock.now += 50
        return pad(*given)

    monkeypatch.setattr(validation, "pad", slow)
    config = replace(CONFIG, validate_every=1)
    loop.train(config, tmp_path, root, minutes=1, report=rows.append)
    assert saved(tmp_path)["step"] == 1
    assert rows[-1] == {"stopped": 1, "steps": 12}
    loop.train(CONFIG, tmp_path, root, resume=True, report=rows.append)
    assert saved(tmp_path)["step"] == 12
    assert rows[-1]["step"] == 12
    assert "validation" in rows[-1]


def test_training_from_a_frozen_start_begins_where_the_run_ended(root, finished, tmp_path):
    freeze(finished, tmp_path / "models" / "test.safetensors")
    rows = []
    start = tmp_path / "models" / "test.safetensors"
    loop.train(CONFIG, tmp_path / "next", root, starts=[start], minutes=0, report=rows.append)
    loop.train(
        CONFIG,
        tmp_path / "more",
        root,
        starts=[finished / loop.CHECKPOINT],
        minutes=0,
        report=rows.append,
    )
    begun, exactly = [row["objective"] for row in rows if "objective" in row]
    ended = validation_loss(saved(finished)["history"][-1]["rows"], CONFIG)
    assert begun == pytest.approx(ended, rel=0.01)  # half precision
    assert exactly == pytest.approx(ended, rel=1e-6)
    assert [run["name"] for run in saved(tmp_path / "more")["runs"]] == ["test"]


def test_a_model_that_is_there_is_overwritten_by_force_alone(finished, tmp_path):
    model = tmp_path / "kept.safetensors"
    model.write_bytes(b"what files were coded with")
    refused = CliRunner().invoke(cli, ["freeze", str(finished), "-o", str(model)])
    assert refused.exit_code != 0
    assert isinstance(refused.exception, UsageError) or "exists: -f" in refused.output
    assert model.read_bytes() == b"what files were coded with"
    with pytest.raises(UsageError, match=r"kept\.safetensors exists: force overwrites it"):
        freeze(finished, model)
    done = CliRunner().invoke(cli, ["freeze", str(finished), "-o", str(model), "-f"])
    assert done.exit_code == 0, done.output
    assert Codec(model).card.steps == 12


def test_a_frozen_run_codes_what_the_network_codes(root, finished, tmp_path):
    freeze(finished, tmp_path / "test.safetensors")
    codec = Codec(tmp_path / "test.safetensors")
    assert codec.card.steps == 12
    assert [row["q"] for row in codec.card.rates] == list(range(1, 9))
    for photo in validation_photos(CONFIG.data, root, 2):
        pixels = np.array(Image.open(photo.path))
        assert_files_match_network(codec, load_network(finished), pixels, [1, 4.5, 8])


def load_network(run) -> HyperpriorNetwork:
    network = loop.build_network(CONFIG)
    network.load_state_dict(saved(run)["network"])
    return network.eval()


def assert_files_match_network(
    codec: Codec, network: HyperpriorNetwork, pixels: np.ndarray, qualities
) -> None:
    """Checks files against the torch network: sizes to 1% and 24 bytes of -log2 p, and pixels."""
    from facecodec.sessions import pad

    height, width = pixels.shape[:2]
    x = to_tensor(pad(pixels, 16)[None], torch.device("cpu"))
    for quality in qualities:
        with torch.no_grad():
            coded = network(x, torch.tensor([float(quality)]))
        data = codec.encode(pixels, quality)
        ideal = (coded.y_bits + coded.z_bits).item() / 8
        assert abs(len(data) - ideal) < 0.01 * ideal + 24
        x_hat = coded.x_hat[0, :, :height, :width].clamp(0, 1).permute(1, 2, 0).numpy() * 255
        assert np.abs(np.asarray(codec.decode(data)) - x_hat).mean() < 1


def test_the_shipped_model_codes_what_its_network_codes(shipped, people_root):
    family = import_module(f"facecodec.networks.{shipped.card.family}")
    network = family.build(
        **load_config(CHECKOUT / "configs" / "l2-ipr-last-mean.toml").network
    ).eval()
    begin(network, load_start(shipped.card.path)[0], shipped.card.path)
    for photo in lfw(people_root, "test")[::2]:
        assert_files_match_network(shipped, network, np.array(Image.open(photo.path)), [1, 4, 8])


def test_every_quality_step_gets_its_own_rate(shipped):
    """Gains rise with q on average over channels, so that every step of 1/32 has an effect."""
    gains = shipped.family.gains["y_gain"].astype(float)
    assert (np.diff(np.log(gains).mean(axis=1)) > 0).all()
    assert len(gains) == 225


def test_test_people_are_in_no_training_set(faces_root):
    train = {photo.person for photo in lfw(faces_root, "train")}
    test = {photo.person for photo in lfw(faces_root, "test")}
    assert not train & test
    assert len(lfw(faces_root, "train")) == 9525
    assert len(lfw(faces_root, "test")) == 3708


def test_held_back_people_are_not_trained_on(root):
    sampler = CropSampler(CONFIG.data, root, CONFIG.crop)
    assert sampler.counts == {"people": 6}
    assert len(validation_photos(CONFIG.data, root, 10)) == 2


def test_crops_lie_on_the_grid_of_their_picture(root):
    sampler = CropSampler(CONFIG.data, root, CONFIG.crop)
    crops = sampler.batch(20, np.random.default_rng(0)).pixels
    whole = [picture.pixels for picture in sampler.pictures[0]]
    for crop in crops:
        places = [
            (top, left)
            for image in whole
            for top in range(image.shape[0] - 63)
            for left in range(image.shape[1] - 63)
            for candidate in (crop, crop[:, ::-1])
            if (image[top : top + 64 : 9, left : left + 64 : 9] == candidate[::9, ::9]).all()
        ]
        assert any(top % 16 == 0 and left % 16 == 0 for top, left in places)


def test_a_run_is_not_begun_over_another(root, finished, tmp_path):
    with pytest.raises(UsageError, match="continue it with resume, or give another run"):
        loop.train(CONFIG, finished, root)
    with pytest.raises(UsageError, match="no checkpoint"):
        loop.train(CONFIG, tmp_path, root, resume=True)
    with pytest.raises(UsageError, match="no checkpoint"):
        freeze(tmp_path, tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stesp": 3}, "unknown key 'stesp'"),
        ({"objective": "magic"}, "objective 'magic' is not one of"),
        ({"crop": 100}, "multiple of 64"),
        ({"family": "nonsense"}, "family 'nonsense' is not one of"),
        ({"steps": 0}, "steps must be a whole number above zero"),
        ({"steps": "many"}, "steps must be a whole number above zero"),
        ({"qualities": [4, 2]}, "qualities must be two numbers of 1 to 8 in order"),
        ({"qualities": [0, 2]}, "qualities must be two numbers of 1 to 8 in order"),
        ({"decay": 0}, "decay must be a number above zero"),
        ({"data": []}, "there must be a"),
        ({"data": [{"set": "lfw", "resize": [2, 1]}]}, "resize of lfw must be two numbers"),
        ({"data": [{"set": "lfw", "crop": 100}]}, "crop must be a multiple of 64"),
        ({"average": 1}, "average must be in 0..1"),
        ({"data": [{"sett": "lfw"}]}, "bad value"),
        ({"data": ["lfw"]}, "bad value"),
        ({"data": [{"set": "lfw", "share": "half"}]}, "bad value"),
        ({"average": "a"}, "bad value"),
        ({"seed": -1}, "seed must be a whole number"),
    ],
)
def test_a_wrong_configuration_names_its_key(change, message):
    with pytest.raises(UsageError, match=message):
        parse_config({**CONFIG.to_dict(), **change})


def test_a_configuration_that_is_no_text_is_named(tmp_path):
    (tmp_path / "config.toml").write_bytes(b"name = \xff")
    with pytest.raises(UsageError, match=r"config\.toml: not a TOML file"):
        load_config(tmp_path / "config.toml")


def test_a_network_that_does_not_fit_is_named(root, finished, tmp_path):
    with pytest.raises(UsageError, match=r"\[network\] table"):
        loop.build_network(replace(CONFIG, network={"transform": "zzz"}))
    freeze(finished, tmp_path / "test.safetensors")
    other = replace(CONFIG, network={**CONFIG.network, "latents": 7})
    with pytest.raises(UsageError, match="another shape"):
        loop.train(other, tmp_path / "run", root, starts=[tmp_path / "test.safetensors"])


def test_the_card_tells_every_run_that_led_to_the_model(root, finished, tmp_path):
    freeze(finished, tmp_path / "a.safetensors")
    second = replace(CONFIG, name="second", steps=3, seed=9)
    loop.train(second, tmp_path / "run", root, starts=[tmp_path / "a.safetensors"])
    freeze(tmp_path / "run", tmp_path / "b.safetensors")
    card = frozen.read_card(tmp_path / "b.safetensors")
    assert [(run["name"], run["steps"], run["seed"]) for run in card.runs] == [
        ("test", 12, 3),
        ("second", 3, 9),
    ]
    assert card.steps == 15


def test_a_run_begins_at_the_mean_of_its_starts(root, finished, tmp_path):
    first = finished / loop.CHECKPOINT
    other = replace(CONFIG, name="other", seed=5)
    loop.train(other, tmp_path / "other", root, starts=[first])
    second = tmp_path / "other" / loop.CHECKPOINT
    starts = [first, second, second]
    loop.train(replace(other, name="mean"), tmp_path / "run", root, starts=starts, minutes=0)
    began = saved(tmp_path / "run")
    for name, value in began["network"].items():
        one, two = (load_start(path)[0][name] for path in (first, second))
        torch.testing.assert_close(value, (one + 2 * two) / 3)
    assert [run["name"] for run in began["runs"]] == ["test", "other"]


def slices_config(**changes):
    """Returns CONFIG with the family `sliced` in the shape of its network."""
    network = {key: CONFIG.network[key] for key in ("hyper", "hyper_width", "fine", "coarse")}
    network |= {"slices": [2, 4], "features": 3, "context": 5, "far": 1, "blocks": [1, 1]}
    return replace(CONFIG, name="slices", family="sliced", network=network, **changes)


def test_the_order_of_starts_of_unlike_depth_does_not_matter(root, tmp_path):
    deep = slices_config()
    shallow = replace(deep, network=deep.network | {"blocks": [1, 0]}, seed=5)
    starts = []
    for name, config in (("deep", deep), ("shallow", shallow)):
        loop.train(config, tmp_path / name, root, minutes=0)
        starts.append(tmp_path / name / loop.CHECKPOINT)
    means = []
    for number, order in enumerate((starts, starts[::-1])):
        loop.train(replace(deep, seed=7), tmp_path / str(number), root, starts=order, minutes=0)
        means.append(saved(tmp_path / str(number))["network"])
    torch.testing.assert_close(*means)


def test_slices_start_from_a_hyperprior_and_give_what_it_gave(finished):
    start, _ = load_start(finished / loop.CHECKPOINT)
    head = {"fine": 8}
    first = loop.build_network(replace(CONFIG, head=head)).eval()
    second = loop.build_network(slices_config(head=head)).eval()
    begin(first, start, finished)
    begin(second, first.state_dict(), finished)
    x, quality = torch.rand(1, 3, 64, 96), torch.tensor([4.5])
    with torch.no_grad():
        theirs, mine = first(x, quality), second(x, quality)
    torch.testing.assert_close(mine.x_hat, theirs.x_hat)
    torch.testing.assert_close(mine.y_bits, theirs.y_bits)
    torch.testing.assert_close(mine.z_bits, theirs.z_bits)
    outputs = second.head(mine.y_hat)
    torch.testing.assert_close(outputs.embedding, first.head(theirs.y_hat).embedding)

    before = first.state_dict()  # a head of the hyperprior beside slices that were trained on
    begin(
        second, {**second.state_dict(), **{n: before[n] for n in before if "head" in n}}, finished
    )
    torch.testing.assert_close(second.head(mine.y_hat).embedding, outputs.embedding)


def test_the_rate_alone_is_trained_and_the_pictures_stay(root, finished, tmp_path):
    config = slices_config(objective="rate", rounded_from=0.0)
    loop.train(config, tmp_path / "run", root, starts=[finished / loop.CHECKPOINT])
    torch.manual_seed(config.seed)  # what the start lacks is as it was when the run began
    before, after = loop.build_network(config), loop.build_network(config)
    begin(before, load_start(finished / loop.CHECKPOINT)[0], finished)
    after.load_state_dict(saved(tmp_path / "run")["network"])
    learned = {
        name.split(".")[0]
        for name, value in after.named_parameters()
        if not torch.equal(value, before.get_parameter(name))
    }
    assert "predict" in learned
    assert learned <= {"predict", "h_s"}
    assert torch.equal(before.h_s[-1].weight[-1], after.h_s[-1].weight[-1])
    freeze(tmp_path / "run", tmp_path / "model.safetensors")
    assert Codec(tmp_path / "model.safetensors").card.objective == "rec"  # what pictures are for
    assert search_file(tmp_path / "model.safetensors").exists()
    with pytest.raises(UsageError, match="'rate' is for the family 'sliced'"):
        loop.train(
            replace(CONFIG, objective="rate"),
            tmp_path / "other",
            root,
            starts=[finished / loop.CHECKPOINT],
        )


def test_a_frozen_model_of_slices_is_trained_on(root, tmp_path):
    config = slices_config(steps=6, learning_rate=0.01)
    loop.train(config, tmp_path / "run", root)
    freeze(tmp_path / "run", tmp_path / "test.safetensors")
    state, runs = load_start(tmp_path / "test.safetensors")
    assert [run["name"] for run in runs] == ["slices"]
    for name, value in saved(tmp_path / "run")["network"].items():
        if name == "z_log_scale":  # in steps of a table
            assert (state[name] - value).abs().max() <= 1 / 16 + 1e-6
        elif name in state:
            torch.testing.assert_close(state[name], value, rtol=1e-3, atol=1e-3)
    parameters = {name for name, _ in loop.build_network(config).named_parameters()}
    assert state.keys() == parameters


def test_a_model_without_a_quality_map_is_a_start(tmp_path):
    torch.manual_seed(0)
    network = import_module("facecodec.networks.hyperprior").build()
    card, tensors = frozen.load(model_of(network, "hyperprior", tmp_path))
    tensors |= {name: tensors[name][:-1] for name in ("h_s.4.weight", "h_s.4.bias")}
    path = tmp_path / "plain.safetensors"
    frozen.save(path, card.stored(), tensors)
    codec, network = Codec(path), import_module("facecodec.networks.sliced").build().eval()
    assert not codec.family.has_quality_map
    begin(network, load_start(path)[0], path)
    row, column = np.mgrid[0:96, 0:128]
    picture = np.stack([row + column, 2 * row, 255 - column], 2).astype(np.uint8)
    assert_files_match_network(codec, network, picture, [1, 4, 8])


def test_equal_parameters_are_all_restored():
    """An untrained network has many biases of zero, and the exporter stores one of each shape."""
    small = {"latents": 6, "hyper": 4, "hyper_width": 6, "fine": 8, "coarse": 8, "blocks": [1, 1]}
    network = import_module("facecodec.networks.hyperprior").build(**small).eval()
    state = network.adopted(thawed("hyperprior", network.frozen()))
    for name, parameter in network.named_parameters():
        assert (state[name] - parameter).abs().max() <= 1 / 16, name  # z_log_scale: half a step


def test_a_family_without_parameters_to_read_is_no_start(root, tmp_path):
    with pytest.raises(UsageError, match="family 'spic' cannot be trained on"):
        load_start(CHECKOUT / "tests" / "data" / "tiny-spic.safetensors")


def test_averaged_weights_are_what_a_run_leaves(root, tmp_path):
    config = replace(CONFIG, average=0.9, steps=4)
    loop.train(config, tmp_path / "run", root)
    state = saved(tmp_path / "run")
    assert not torch.equal(
        state["network"]["g_a.body.0.weight"], state["latest"]["g_a.body.0.weight"]
    )
    loop.train(replace(config, steps=8), tmp_path / "run", root, resume=True)
    loop.train(replace(config, steps=8), tmp_path / "whole", root)
    with_break, whole = saved(tmp_path / "run"), saved(tmp_path / "whole")
    assert with_break["step"] == whole["step"]
    drift = (
        with_break["network"]["g_a.body.0.weight"] - with_break["latest"]["g_a.body.0.weight"]
    ).abs()
    assert 0 < drift.max() < 0.1


def test_crops_of_a_source_are_resized_with_the_places_in_them(root):
    points = np.array([[80.0, 60], [100, 60], [90, 72], [82, 84], [98, 84]])
    y, x = np.mgrid[:160, :194]
    dot = 255 * np.exp(-((x - 80) ** 2 + (y - 60) ** 2) / 50)  # at the first of the points
    picture = Picture(np.repeat(dot[..., None], 3, 2).round().astype(np.uint8), points)
    rng = np.random.default_rng(0)
    for factor in (0.25, 0.5, 1.3):
        crop = resized_crop(picture, 64, factor, rng)
        assert crop.pixels.shape == (64, 64, 3)
        seen = np.linalg.norm(crop.points[1] - crop.points[0]) / 20
        assert seen == pytest.approx(max(factor, 64 / 160))
        assert (crop.points >= 0).all()
        assert (crop.points <= 64).all()
        light = crop.pixels[..., 0].astype(float)
        rows, columns = np.mgrid[:64, :64]
        centre = [(light * columns).sum() / light.sum(), (light * rows).sum() / light.sum()]
        if seen < 1:  # the whole dot is in the crop
            assert centre == pytest.approx(crop.points[0], abs=0.05)


def test_a_step_has_crops_of_one_size_and_about_as_many_pixels(root):
    config = parse_config(
        {
            **CONFIG.to_dict(),
            "batch": 4,
            "data": [{"set": "people"}, {"set": "people", "crop": 128, "resize": [0.5, 1.5]}],
        }
    )
    sampler = CropSampler(config.data, root, config.crop)
    shapes = {
        sampler.batch(config.batch, np.random.default_rng(seed)).pixels.shape for seed in range(12)
    }
    assert shapes == {(4, 64, 64, 3), (1, 128, 128, 3)}


def test_a_run_leaves_a_picture_of_its_curves(finished):
    with Image.open(finished / "curves.png") as picture:
        picture.load()
        assert picture.format == "PNG"


def test_torchrun_trains_one_network_with_several_processes(root, tmp_path):
    """Two processes with different batches end with one checkpoint and one log."""
    from conftest import CHECKOUT, PATIENCE

    table = "\n".join(f"{key} = {json.dumps(value)}" for key, value in CONFIG.network.items())
    plain = {
        "name": "two",
        "steps": 4,
        "batch": 1,
        "crop": 64,
        "validation_images": 1,
        "validate_every": 4,
    }
    lines = "\n".join(f"{key} = {json.dumps(value)}" for key, value in plain.items())
    (tmp_path / "two.toml").write_text(f'{lines}\n[[data]]\nset = "people"\n[network]\n{table}\n')
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--standalone",
        "-m",
        "--",
    ]
    command += ["facecodec", "train", "two.toml", "--run", "run", "--data", str(root)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, env=environment, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    state = saved(tmp_path / "run")
    assert state["step"] == 4
    assert state["hardware"].startswith("2 x ")
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "validation" in row] == [4]
    alone = load_config(tmp_path / "two.toml")
    loop.train(alone, tmp_path / "alone", root)
    name = "y_log_gain"
    assert not torch.equal(saved(tmp_path / "alone")["network"][name], state["network"][name])


def test_ms_ssim_as_the_distortion(root, tmp_path):
    with pytest.raises(UsageError, match="at least 192 for msssim"):
        parse_config({**CONFIG.to_dict(), "distortion": "msssim"})
    config = replace(CONFIG, distortion="msssim", crop=192, steps=2, batch=1, validation_images=1)
    with pytest.raises(UsageError, match="sides of at least 161"):
        loop.train(config, tmp_path / "small", root)
    for place in (root / "people").iterdir():
        (tmp_path / "people" / place.name).mkdir(parents=True)
        with Image.open(place / "1.png") as image:
            image.resize((200, 180)).save(tmp_path / "people" / place.name / "1.png")
    loop.train(config, tmp_path / "run", tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert all(0 < row["ms_ssim"] < 1 for row in rows[-1]["validation"])
    assert rows[-1]["objective"] > 0


def test_a_folder_without_sub_folders_has_people_too(root, tmp_path):
    for number in range(60):
        Image.new("RGB", (64, 64)).save(tmp_path / f"{number}.png")
    config = replace(CONFIG, data=(replace(CONFIG.data[0], set=str(tmp_path)),))
    held = len(validation_photos(config.data, root, 60))
    assert 0 < held < 15
    assert CropSampler(config.data, root, 64).counts == {str(tmp_path): 60 - held}


def test_training_on_a_folder_of_ones_own_needs_no_data_folder(root, run_cli, tmp_path):
    """Files in it that cannot be read are named and left out."""
    shutil.copytree(root / "people", tmp_path / "own")
    for person in (tmp_path / "own").iterdir():
        (person / "empty.png").touch()
    lines = ['name = "own"', "steps = 1", "batch = 1", "crop = 64", "validation_images = 1"]
    lines += ["[[data]]", f'set = "{tmp_path / "own"}"', "[network]"]
    lines += [f"{key} = {json.dumps(value)}" for key, value in CONFIG.network.items()]
    (tmp_path / "own.toml").write_text("\n".join(lines))
    done = run_cli("train", "own.toml", "--run", "run", FACECODEC_DATA=str(tmp_path / "nowhere"))
    assert done.returncode == 0, done.stderr
    assert b"empty.png is left out: the file is empty" in done.stderr
    assert saved(tmp_path / "run")["step"] == 1


def test_committed_configurations_parse():
    paths = [
        *(CHECKOUT / "configs").glob("*.toml"),
        *(CHECKOUT / "benchmarks" / "bakeoff").glob("*.toml"),
    ]
    assert len(paths) >= 3
    for path in paths:
        config = load_config(path)
        assert replace(config) == parse_config(config.to_dict())
        assert {each.name for each in config.recognisers} <= set(TEACHERS), path


def test_an_orthonormal_start_reconstructs_before_any_training():
    """The untrained linear transform keeps a smooth picture to better than 35 dB, unquantised."""
    network = HyperpriorNetwork()
    row, column = np.mgrid[0:64, 0:64]
    picture = (
        np.stack([np.sin(row / 9), np.cos(column / 7), np.sin((row + column) / 11)]) * 0.4 + 0.5
    )
    x = torch.from_numpy(picture).float()[None]
    with torch.no_grad():
        error = (network.g_s(network.g_a(x, torch.ones(1))) - x).square().mean()
    assert -10 * torch.log10(error) > 35


def test_the_model_file_holds_its_own_fingerprint(finished, tmp_path):
    mark = freeze(finished, tmp_path / "a.safetensors")
    assert freeze(finished, tmp_path / "b.safetensors") == mark
    card, tensors = frozen.load(tmp_path / "b.safetensors")
    assert card.fingerprint == mark
    encoders = {"g_a.onnx", "g_a.reach", "h_a.onnx", "h_a.reach"}
    for name in sorted(tensors):
        changed = frozen.fingerprint(card.family, tensors | {name: tensors[name] ^ 1})
        assert (changed == mark) == (name in encoders), name
    data = Codec(tmp_path / "a.safetensors").encode(np.zeros((8, 8, 3), np.uint8))
    assert open_container(data).fingerprint.hex() == mark


def test_an_analysis_that_was_trained_alone_leaves_files_decodable(root, finished, tmp_path):
    model = tmp_path / "model.safetensors"
    mark = freeze(finished, model)
    picture = np.random.default_rng(2).integers(0, 256, (64, 80, 3), np.uint8)
    codec = Codec(model)
    decoded = codec.decode(codec.encode(picture, 5))
    alone = replace(CONFIG, analysis_alone=True, learning_rate=0.01)
    loop.train(alone, tmp_path / "run", root, [model])
    network, start = saved(tmp_path / "run")["network"], load_start(model)[0]
    trained = {name for name in start if not torch.equal(network[name], start[name])}
    assert trained
    assert all(name.startswith(frozen.ENCODER_ONLY) for name in trained)

    before = codec.encode(picture, 5)
    assert freeze(tmp_path / "run", model, force=True) == mark
    after = Codec(model)
    assert after.decode(before).tobytes() == decoded.tobytes()
    assert after.encode(picture, 5) != before
    assert after.card.steps == 24
    with pytest.raises(UsageError, match="trained for another model"):
        freeze(tmp_path / "run", model, force=True)
    with pytest.raises(UsageError, match="does not train an analysis"):
        parse_config(CONFIG.to_dict() | {"analysis_alone": True, "objective": "rate"})


def test_an_analysis_sees_the_quality_of_the_file(finished, tmp_path):
    model = tmp_path / "model.safetensors"
    freeze(finished, model)
    codec = Codec(model)
    picture = np.random.default_rng(2).integers(0, 256, (64, 80, 3), np.uint8)
    low, high = (codec.family.analyse(picture, byte)[0] for byte in (0, 224))
    assert np.abs(low - high).max() > 1e-3
    trained = HyperpriorNetwork(**CONFIG.network)
    trained.load_state_dict(saved(finished)["network"])
    x = to_tensor(pad(picture, 16)[None], torch.device("cpu"))
    with torch.no_grad():
        for y, quality in ((low, 1.0), (high, 8.0)):
            # weights are frozen in half precision
            np.testing.assert_allclose(y, trained.g_a(x, torch.tensor([quality]))[0], atol=0.05)


def test_the_bits_of_a_rounded_value_pull_it_towards_fewer_bits():
    network = HyperpriorNetwork(**CONFIG.network)
    values = torch.linspace(-3, 3, 1201).requires_grad_()
    scale = torch.full_like(values, 0.4).requires_grad_()
    bits = network.bits(values, scale, noisy=False)
    assert torch.equal(bits, network.bits(values.detach().round(), scale, noisy=False))
    bits.sum().backward()
    pull = values.grad.reshape(-1)
    near = (values.detach().abs() > 0.2) & (values.detach().abs() < 0.5)  # all round to zero
    assert (pull * values.detach().sign())[near].mean() > 0.5
    rounded = torch.full_like(values.detach(), 0.4).requires_grad_()
    network.bits(values.detach().round(), rounded, noisy=False).sum().backward()
    assert torch.equal(scale.grad, rounded.grad)


def test_a_run_starts_from_an_installed_model_by_its_name(monkeypatch, tmp_path):
    given = []
    monkeypatch.setattr(
        loop, "train", lambda config, run, data, starts, *others: given.extend(starts)
    )
    config = tmp_path / "mine.toml"
    config.write_text('name = "mine"\nsteps = 1\n[[data]]\nset = "lfw"\nshare = 1.0\n')
    options = ("--run", "run", "--from", "l2-rec", "--from", "former/checkpoint.pt")
    CliRunner().invoke(cli, ["train", str(config), *options], catch_exceptions=False)
    assert given == [frozen.installed_models()["l2-rec"], Path("former/checkpoint.pt")]
