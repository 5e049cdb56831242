"""Tests alignment, recognisers, landmarks and the identity loss."""

import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch", reason="the 'train' extra is not installed")

from facecodec.datasets import Photo, celeba_hq, is_held_back, lfw, photographs  # noqa: E402
from facecodec.errors import UsageError  # noqa: E402
from facecodec.faces import detection  # noqa: E402
from facecodec.faces.alignment import align, crop, jitter  # noqa: E402
from facecodec.faces.recognisers import (  # noqa: E402
    Contract,
    Recogniser,
    find_recogniser,
    read_contract,
    recogniser_file,
)
from facecodec.faces.teachers import FrozenPReLU, load_head_teacher, load_teacher  # noqa: E402
from facecodec.template import SIZE, TEMPLATE, oversampling, similarity  # noqa: E402
from facecodec.training import config as configuration  # noqa: E402
from facecodec.training.config import Source, parse_config, stored_config  # noqa: E402
from facecodec.training.data import CropSampler  # noqa: E402
from facecodec.training.losses import IdentityLoss, objective  # noqa: E402
from facecodec.training.views import ChannelDropout, blocks, plain_view, random_view  # noqa: E402
from faces import draw_face  # noqa: E402


@pytest.fixture(scope="module")
def recogniser():
    return load_teacher("mobilefacenet-ms1m", None)


def identity_loss(teacher, features=(), **options) -> IdentityLoss:
    config = configuration.TeacherConfig("mobilefacenet-ms1m", features=features)
    return IdentityLoss([(config, teacher)], **options)


def tiny_recogniser(path: Path, seed: int = 0, side: int = 16) -> Path:
    """Writes an untrained recogniser as an ONNX file, for crops of `side` pixels."""
    torch.manual_seed(seed)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 5, 4), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(), torch.nn.Linear(8, 4),
    )  # fmt: skip
    torch.onnx.export(
        network, (torch.zeros(2, 3, side, side),), path, input_names=["image"],
        output_names=["embedding"], opset_version=17, dynamo=False,
        dynamic_axes={"image": {0: "batch", 2: "rows", 3: "columns"}, "embedding": {0: "batch"}},
    )  # fmt: skip
    return path


@pytest.fixture(scope="module")
def large_face(photograph):
    """A drawn face, (1, 3, 1024, 1024) in 0..1, and its landmarks."""
    pytest.importorskip("facenet_pytorch", reason="facenet-pytorch is not installed: make setup")
    image = photograph.resize((1024, 1024), Image.Resampling.BICUBIC)
    (points,) = detection.find_landmarks([image])
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255, points


def rotated(
    points: np.ndarray, angle: float, scale: float, shift: tuple[float, float]
) -> np.ndarray:
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return points @ turn.T + shift


def test_the_similarity_is_the_one_that_was_applied():
    matrix = similarity(rotated(TEMPLATE, 0.3, 2.5, (40, 7)))
    np.testing.assert_allclose(
        matrix[:, :2] @ TEMPLATE.T + matrix[:, 2:], rotated(TEMPLATE, 0.3, 2.5, (40, 7)).T
    )


def test_a_face_in_place_is_cropped_as_it_is():
    image = torch.rand(1, 3, 120, 130)
    crop = align(image, similarity(TEMPLATE + [9, 4])[None])
    assert torch.allclose(crop[..., :106, :106], image[..., 4:110, 9:115], atol=1e-4)


@pytest.mark.parametrize(
    ("scale", "factor"), [(0.6, 1), (1, 1), (1.9, 1), (4, 4), (7.9, 4), (40, 16)]
)
def test_sampling_keeps_up_with_the_pixels_of_large_faces(scale, factor):
    assert oversampling(similarity(scale * TEMPLATE)) == factor


def test_a_large_face_is_averaged_and_not_sampled():
    """Noise of one pixel averages out over the area that a crop pixel covers."""
    image = torch.rand(1, 1, 900, 900)
    crop = align(image, similarity(8 * TEMPLATE)[None])
    assert crop.shape == (1, 1, SIZE, SIZE)
    assert crop.std() < 1.3 * image.std() / 8


def test_the_torch_recogniser_is_the_onnx_one(recogniser, faces_root):
    import onnxruntime

    session = onnxruntime.InferenceSession(recogniser_file("mobilefacenet-ms1m", faces_root))
    crops = torch.rand(2, 3, 112, 112)
    expected = session.run(None, {"image": (crops * 255).numpy()})[0]
    np.testing.assert_allclose(recogniser(crops).numpy(), expected, atol=2e-5)
    head = load_head_teacher(faces_root)
    np.testing.assert_allclose(head(crops).numpy(), expected, atol=2e-5)


def test_a_large_face_shifted_by_a_pixel_keeps_its_embedding(recogniser, large_face):
    image, points = large_face
    shifted = torch.roll(image, (1, 1), (2, 3))
    matrix = similarity(points)[None]
    cosine = torch.cosine_similarity(
        recogniser(align(image, matrix)), recogniser(align(shifted, matrix))
    )
    assert cosine.item() >= 0.99


def test_the_identity_loss_is_zero_for_the_original_and_grows_with_damage(recogniser, large_face):
    image, points = large_face
    matrix = similarity(points)[None]
    loss = identity_loss(recogniser)
    assert loss(image, image, matrix)[0].item() == pytest.approx(0, abs=1e-5)
    blurred = [
        torch.nn.functional.avg_pool2d(image, k, 1, k // 2)[..., :1024, :1024] for k in (17, 65)
    ]
    slightly, badly = (loss(x, image, matrix)[0].item() for x in blurred)
    assert 0.001 < slightly < badly


def test_the_gradient_of_the_identity_loss_reaches_the_decoded_face_alone(recogniser, large_face):
    image, points = large_face
    images = torch.cat([image, image])
    matrices = np.stack([similarity(points), np.full((2, 3), np.nan)])
    decoded = (images + 0.05 * torch.rand_like(images)).requires_grad_()
    distance, _ = identity_loss(recogniser)(decoded, images, matrices)
    distance.sum().backward()
    assert distance[0] > 0
    assert decoded.grad[0].abs().sum() > 0
    assert distance[1] == 0
    assert decoded.grad[1].abs().sum() == 0
    assert all(parameter.grad is None for parameter in recogniser.parameters())


def test_inner_layers_of_the_recogniser_are_compared_on_request(recogniser, large_face):
    image, points = large_face
    matrix = similarity(points)[None]
    blurred = torch.nn.functional.avg_pool2d(image, 17, 1, 8)
    _, nothing = identity_loss(recogniser)(blurred, image, matrix)
    assert nothing.item() == 0
    with pytest.raises(UsageError, match=r"no layer 'features\.99'"):
        identity_loss(recogniser, ["features.99"])
    loss = identity_loss(recogniser, ["/net/blocks/blocks.4/Add", "/net/head/head.2/Clip"])
    assert loss(image, image, matrix)[1].item() == pytest.approx(0, abs=1e-5)
    assert 0.001 < loss(blurred, image, matrix)[1].item() < 1


def test_jittered_alignments_stay_near_and_absent_faces_absent():
    matrices = np.stack([similarity(2 * TEMPLATE + [30, 20]), np.full((2, 3), np.nan)] * 50)
    moved = jitter(matrices, np.random.default_rng(0))
    assert np.isnan(moved[1::2]).all()
    points = moved[::2, :, :2] @ TEMPLATE.T + moved[::2, :, 2:]
    distance = np.abs(points - (2 * TEMPLATE + [30, 20]).T)
    assert 1 < distance.mean() < 10
    assert distance.max() < 40
    shapes = moved[::2, :, :2]
    np.testing.assert_allclose(shapes[:, 0, 0], shapes[:, 1, 1])
    np.testing.assert_allclose(shapes[:, 0, 1], -shapes[:, 1, 0])


def people_with_a_face(folder):
    """Makes three training people, each with one picture of 320x300 with dots as landmarks.

    Returns the landmarks.
    """
    points = TEMPLATE.round() + [90, 60]
    pixels = np.zeros((320, 300, 3), np.uint8)
    for number, (x, y) in enumerate(points.astype(int)):
        pixels[y, x] = 50 * (number + 1)
    for name in [f"p{i}" for i in range(40) if not is_held_back(Photo(folder, f"p{i}"))][:3]:
        (folder / "people" / name).mkdir(parents=True)
        Image.fromarray(pixels).save(folder / "people" / name / "1.png")
    return points


def test_crops_without_the_face_keep_clear_of_it(tmp_path):
    points = people_with_a_face(tmp_path)
    sampler = CropSampler(
        (Source("people", faces="none"),), tmp_path, 64, lambda files: [points] * len(files)
    )
    batch = sampler.batch(200, np.random.default_rng(0))
    assert batch.pixels.max() == 0
    assert np.isnan(batch.matrices).all()


def test_faces_are_cut_to_aligned_pictures(tmp_path):
    points = people_with_a_face(tmp_path)
    sampler = CropSampler(
        (Source("people", faces="cut"),), tmp_path, 448, lambda files: [points] * len(files)
    )
    batch = sampler.batch(4, np.random.default_rng(0))
    assert batch.pixels.shape == (4, 448, 448, 3)
    np.testing.assert_allclose(
        batch.matrices, np.stack([similarity(4 * (TEMPLATE + 0.5) - 0.5)] * 4), atol=0.1
    )
    eye = batch.pixels[0, 200:212, 145:160]  # at 4 * (38.3, 51.7)
    assert eye.max() > 20


def test_aligned_pictures_need_no_landmarks(tmp_path):
    Image.new("RGB", (448, 448)).save(tmp_path / "a.png")
    source = Source(str(tmp_path), faces="aligned")
    sampler = CropSampler((source,), tmp_path, 448, lambda files: pytest.fail("looked for faces"))
    assert not np.isnan(sampler.batch(2, np.random.default_rng(0)).matrices).any()


def test_the_layouts_of_the_real_datasets(tmp_path):
    """Tests LFW with its lists beside its folder, and CelebAMask-HQ with CelebA's identities."""
    (tmp_path / "lfw").mkdir()
    (tmp_path / "peopleDevTrain.txt").write_text("2\nAnn_A\t2\nBob_B\t1\n")
    names = [photo.path.relative_to(tmp_path).as_posix() for photo in lfw(tmp_path, "train")]
    assert names == [
        "lfw/Ann_A/Ann_A_0001.jpg",
        "lfw/Ann_A/Ann_A_0002.jpg",
        "lfw/Bob_B/Bob_B_0001.jpg",
    ]

    (tmp_path / "CelebAMask-HQ").mkdir()
    mapping = (
        "idx orig_idx orig_file\n0 119613 119614.jpg\n1 99094 099095.jpg\n2 200121 200122.jpg\n"
    )
    (tmp_path / "CelebAMask-HQ" / "CelebA-HQ-to-CelebA-mapping.txt").write_text(mapping)
    (tmp_path / "identity_CelebA.txt").write_text(
        "119614.jpg 2880\n099095.jpg 17\n200122.jpg 2880\n"
    )
    (tmp_path / "celeba-split.txt").write_text("2880 train\n17 test\n")
    train, test = (celeba_hq(tmp_path, split) for split in ("train", "test"))
    assert [(p.path.name, p.person) for p in train] == [("0.jpg", "2880"), ("2.jpg", "2880")]
    assert [(p.path.parent.name, p.path.name) for p in test] == [("CelebA-HQ-img", "1.jpg")]
    (tmp_path / "celeba-split.txt").unlink()
    assert len(celeba_hq(tmp_path, "train")) + len(celeba_hq(tmp_path, "test")) == 3


def test_every_dataset_has_its_split(faces_root):
    for name, counts in {
        "lfw": (9525, 3708),
        "celeba-wild-mini": (487, 241),
        "celeba-hq-mini": (110, 55),
        "all-age-faces-mini": (1200, 400),
        "london-faces": (136, 68),
    }.items():
        train, test = (photographs(name, split, faces_root) for split in ("train", "test"))
        assert (len(train), len(test)) == counts, name
        assert not {photo.person for photo in train} & {photo.person for photo in test}, name
        assert all(photo.path.exists() for photo in test), name
    ages = photographs("all-age-faces-mini", "test", faces_root)
    assert Counter(photo.group for photo in ages).keys() == {
        f"{low} to {80 if low == 70 else low + 9}, {sex}"
        for low in range(0, 80, 10)
        for sex in "fm"
    }
    assert set(Counter(photo.group for photo in ages).values()) == {25}
    first, second = photographs("london-faces", "test", faces_root)[:2]
    assert first.person == second.person
    assert first.path.name.endswith("neutral.jpg")


def test_training_sees_photographs_upright(tmp_path):
    """The picture is stored on its side, with EXIF, and has red rows at its upright top."""
    for name in [f"p{i}" for i in range(40) if not is_held_back(Photo(tmp_path, f"p{i}"))][:2]:
        sideways = np.zeros((64, 96, 3), np.uint8)
        sideways[:, :16, 0] = 255  # the left columns; turned clockwise they are the top rows
        exif = Image.Exif()
        exif[0x0112] = 6  # to be turned clockwise by a quarter
        (tmp_path / "people" / name).mkdir(parents=True)
        Image.fromarray(sideways).save(tmp_path / "people" / name / "1.png", exif=exif)
    sampler = CropSampler((Source("people"),), tmp_path, 64)
    assert sampler.pictures[0][0].pixels.shape == (96, 64, 3)
    assert (sampler.pictures[0][0].pixels[:16, :, 0] == 255).all()
    asked = []

    def find(pictures):
        for picture in pictures:
            asked.append(picture.size)
            yield None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detection, "find_landmarks", find)
        files = [picture.path for picture in photographs("people", "train", tmp_path)]
        detection.cached_landmarks(files, tmp_path / "landmarks.json")
    assert asked == [(64, 96)] * 2


def test_a_recogniser_of_ones_own_is_a_file_with_a_contract(tmp_path):
    """Contracts that differ give the same face in another form, and errors are named."""
    path = tiny_recogniser(tmp_path / "mine.onnx")
    crop = np.random.default_rng(0).uniform(0, 255, (3, 16, 16)).astype(np.float32)
    plain = Recogniser(Path(find_recogniser(str(path), None)))(crop)
    one_sided, bgr, ranged = (
        tiny_recogniser(tmp_path / f"{name}.onnx") for name in ("one", "bgr", "ranged")
    )
    one_sided.with_suffix(".toml").write_text("mirrored = false\n")
    bgr.with_suffix(".toml").write_text('channels = "bgr"\nlicence = "mine"\n')
    ranged.with_suffix(".toml").write_text("range = [-1, 1]\nsize = 16\n")
    assert Recogniser(bgr)(crop[::-1]) == pytest.approx(plain)
    assert Recogniser(one_sided)(crop) != pytest.approx(plain)
    assert Recogniser(ranged).contract.size == 16
    for file in (path, bgr, ranged):  # the teacher is the judge
        teacher, judge = load_teacher(str(file), None), Recogniser(file)
        both = torch.from_numpy(np.stack([crop, crop[..., ::-1]])) / 255
        total = teacher(both).sum(0)
        assert judge(crop) == pytest.approx((total / total.norm()).numpy(), abs=1e-5)


FACE_OF_16 = (TEMPLATE * 16 / SIZE).tolist()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sise = 3", "unknown key 'sise'"),
        ('"a\\nb" = 3', r"unknown key 'a\\nb'"),
        *((f"size = {value}", "size must be a number of pixels from 8 to 1024")
          for value in ("0", "-16", "7", "1025", "1e9", "nan", "true", "'16'", "[16]")),
        *((f"channels = {value}", "channels must be 'rgb' or 'bgr'") for value in ("'grb'", "3", "[]")),
        *((f"range = {value}", "range must have two different numbers")
          for value in ("3", "[1]", "[1, 1]", "[nan, 1]", "[0, inf]", "[0, 1e300]", "['0', '255']",
                        "[false, true]", "[0, 1, 2]", "{}")),
        *((f"template = {value}", "template must have five points")
          for value in ("[[1, 2]]", "3", "[1, 2, 3, 4, 5]", [[float("nan"), 1.0]] * 5,
                        [[1, 2, 3]] * 5, "[['1', '2']]", [[0, 1e9]] * 5)),
        *((f"size = 16\ntemplate = {value}", "template is not five points of a face")
          for value in ([[3, 3]] * 5, (np.array(FACE_OF_16) / 100).tolist())),
        *((f"mirrored = {value}", "mirrored must be true or false") for value in ("1", "'yes'")),
        ('metric = "euclidean"', "metric must be 'cosine'"),
        ("licence = 3", "licence must be one line of text"),
        ('source = "a\\nb"', "source must be one line of text"),
        ("size = ", "not a TOML file"),
        ("size = " + "[" * 100_000, "not a TOML file"),
        ("\udcff", "not a TOML file"),
    ],
)  # fmt: skip
def test_every_value_of_a_contract_has_a_type_and_a_range(tmp_path, text, message):
    (tmp_path / "x.toml").write_text(text, "utf-8", "surrogateescape")
    with pytest.raises(UsageError, match=message) as caught:
        read_contract(tmp_path / "x.onnx")
    assert str(caught.value).startswith(f"{tmp_path / 'x.toml'}: ")
    assert "\n" not in str(caught.value)


def test_what_recognisers_want_is_within_the_ranges_of_a_contract(tmp_path):
    text = f"size = 16\nrange = [-1, 1.0]\ntemplate = {FACE_OF_16}\nmirrored = false\n"
    (tmp_path / "x.toml").write_text(text + 'channels = "bgr"\nlicence = "MIT"\n')
    found = read_contract(tmp_path / "x.onnx")
    assert (found.size, found.range, found.channels) == (16, (-1.0, 1.0), "bgr")
    assert np.array(found.template) == pytest.approx(np.array(FACE_OF_16))


def test_a_recogniser_of_a_fixed_batch_is_taken_and_of_another_size_named(tmp_path):
    """Many exported files have a batch of one or two, and some have crops of another size."""
    free = tiny_recogniser(tmp_path / "free.onnx")
    onnx = pytest.importorskip("onnx", reason="the 'train' extra is not installed")
    model = onnx.load(free)
    for name, batch, side in (("1", 1, 16), ("2", 2, 16), ("5", 5, 16), ("large", 1, 24)):
        sides = model.graph.input[0].type.tensor_type.shape.dim
        sides[0].dim_value, sides[2].dim_value, sides[3].dim_value = batch, side, side
        onnx.save(model, tmp_path / f"{name}.onnx")
    crop = np.random.default_rng(0).uniform(0, 255, (3, 16, 16)).astype(np.float32)
    for mirrored in ("true", "false"):
        for path in tmp_path.glob("*.onnx"):
            path.with_suffix(".toml").write_text(f"size = 16\nmirrored = {mirrored}\n")
        expected = Recogniser(free)(crop)
        for batch in "125":
            found = Recogniser(tmp_path / f"{batch}.onnx")(crop)
            assert found == pytest.approx(expected, abs=1e-6)
    with pytest.raises(
        UsageError, match=r"takes \(1, 3, 24, 24\), not crops \(B, 3, 16, 16\): state"
    ):
        Recogniser(tmp_path / "large.onnx")


def test_a_crop_is_aligned_to_the_contracts_own_template_and_size():
    """A template with the points 5 pixels further right and down, in a crop twice as large."""
    image = torch.rand(1, 3, 300, 300)
    matrix = similarity(TEMPLATE + [60, 50])[None]
    shifted = tuple(map(tuple, (2 * (TEMPLATE + 0.5) - 0.5 + 5).tolist()))
    crops = crop(image, matrix, Contract(size=224, template=shifted))
    usual = crop(image, matrix, Contract(size=224))
    assert crops.shape == (1, 3, 224, 224)
    assert torch.allclose(crops[..., 5:, 5:], usual[..., :-5, :-5], atol=1e-4)
    plain = crop(image, matrix, Contract())
    assert torch.allclose(plain, align(image, matrix))


def test_the_shipped_recogniser_is_found_without_data_and_as_good(
    tmp_path, monkeypatch, faces_root
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("FACECODEC_RECOGNISERS", raising=False)
    shipped = Recogniser(Path(find_recogniser("mobilefacenet-ms1m", tmp_path / "nowhere" / "data")))
    assert shipped.contract.licence == "Apache-2.0"
    whole = Recogniser(recogniser_file("mobilefacenet-ms1m", faces_root))
    face = np.random.default_rng(0).uniform(0, 255, (3, 112, 112)).astype(np.float32)
    assert shipped(face) @ whole(face) > 1 - 1e-3
    teacher = load_teacher("mobilefacenet-ms1m", tmp_path / "nowhere" / "data")  # half precision
    pixels = torch.from_numpy(np.stack([face, face[..., ::-1]])) / 255
    total = teacher(pixels).sum(0)
    assert shipped(face) @ (total / total.norm()).numpy() > 1 - 1e-5


class Sloped(torch.nn.Module):
    """A convolution whose bias is added apart, and slopes for each channel and for all."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 3, 2, bias=False)
        self.bias = torch.nn.Parameter(torch.rand(8, 1, 1))
        self.each, self.all = torch.nn.PReLU(8), torch.nn.PReLU()
        self.each.weight.data.uniform_(-0.5, 1.5)

    def forward(self, x):
        x = self.each(self.conv(x / 255 - 0.5) + self.bias)
        return self.all(x.mean((2, 3)) - 0.3)


def test_a_teachers_gradients_are_those_of_the_network_that_its_file_holds(tmp_path):
    torch.manual_seed(0)
    network = Sloped()
    with torch.no_grad():
        network.all.weight.fill_(0.25)
    torch.onnx.export(
        network, (torch.zeros(2, 3, 16, 16),), tmp_path / "x.onnx", input_names=["image"],
        output_names=["embedding"], opset_version=17, dynamo=False,
        dynamic_axes={"image": {0: "batch"}, "embedding": {0: "batch"}},
    )  # fmt: skip
    teacher = load_teacher(str(tmp_path / "x.onnx"), None)
    crops = torch.rand(3, 3, 16, 16)
    pixels, same = crops.clone().requires_grad_(), crops.clone().requires_grad_()
    found, wanted = teacher(pixels), network(255 * same)
    assert torch.allclose(found, wanted, atol=1e-6)
    toward = torch.randn_like(wanted)
    (found * toward).sum().backward()
    (wanted * toward).sum().backward()
    assert torch.allclose(pixels.grad, same.grad, atol=1e-6)
    (convolution,) = (m for m in teacher.modules() if isinstance(m, torch.nn.Conv2d))
    assert torch.allclose(convolution.bias, network.bias.flatten())  # nothing is added apart


def test_frozen_slopes_have_the_gradient_of_prelu():
    for shape, count in (((2, 5, 4, 4), 5), ((2, 5, 4, 4), 1), ((7, 5), 5)):
        x, slopes = torch.randn(shape), torch.randn(count)
        x.view(-1)[0] = 0.0
        one, other = x.clone().requires_grad_(), x.clone().requires_grad_()
        toward = torch.randn(shape)
        found, wanted = FrozenPReLU.apply(one, slopes), torch.prelu(other, slopes)
        found.backward(toward)
        wanted.backward(toward)
        assert torch.equal(found, wanted)
        assert torch.allclose(one.grad, other.grad)


def test_dropped_channels_are_zero_and_come_back():
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 40, 1), torch.nn.ReLU())
    x = torch.rand(1, 3, 4, 4)
    whole = network[0](x).detach()
    dropout = ChannelDropout(network, 0.25)
    for seed in (0, 1):
        dropout.draw(np.random.default_rng(seed))
        out = network[0](x)
        dropped = (out == 0).flatten(2).all(2)[0]
        assert 2 < dropped.sum() < 20
        assert torch.allclose(out[:, ~dropped], whole[:, ~dropped] / 0.75, atol=1e-6)
    dropout.draw(None)
    assert torch.equal(network[0](x), whole)


def test_several_teachers_take_turns_by_their_weights(tmp_path, monkeypatch):
    files = [tiny_recogniser(tmp_path / f"{n}.onnx", seed=n, side=112) for n in range(3)]
    teachers = [
        (configuration.TeacherConfig(str(file), weight), load_teacher(str(file), None))
        for file, weight in zip(files, (1.0, 1.0, 8.0), strict=True)
    ]
    torch.manual_seed(1)
    x, x_hat = torch.rand(2, 2, 3, 130, 130)
    matrices = np.stack([similarity(TEMPLATE + 5), np.full((2, 3), np.nan)])
    alone = [IdentityLoss([pair])(x_hat, x, matrices)[0] for pair in teachers]
    every = IdentityLoss(teachers)(x_hat, x, matrices)[0]
    expected = 0.1 * alone[0] + 0.1 * alone[1] + 0.8 * alone[2]
    assert torch.allclose(every, expected)
    assert every[1] == 0
    loss = IdentityLoss(teachers, drawn=1)
    drawn = [loss(x_hat, x, matrices, np.random.default_rng(seed))[0][0] for seed in range(60)]
    turns = [min(range(3), key=lambda n: abs(alone[n][0] - value)) for value in drawn]
    assert turns.count(2) > 30 > turns.count(0) + turns.count(1) > 2
    pairs = IdentityLoss(teachers, drawn=2)(x_hat, x, matrices, np.random.default_rng(0))[0][0]
    sums = [(alone[a][0] + alone[b][0]) / 2 for a, b in ((0, 1), (0, 2), (1, 2))]
    assert min(abs(pairs - each) for each in sums) < 1e-6


def test_varied_views_and_dropout_are_the_same_for_both_pictures(tmp_path):
    teacher = load_teacher(str(tiny_recogniser(tmp_path / "x.onnx", side=112)), None)
    config = configuration.TeacherConfig("x")
    loss = IdentityLoss([(config, teacher)], dropout=0.3, varied=True)
    torch.manual_seed(1)
    x = torch.rand(1, 3, 130, 130)
    matrix = similarity(TEMPLATE + 5)[None]
    values = set()
    for seed in range(12):
        rng = np.random.default_rng(seed)
        assert loss(x, x, matrix, rng)[0].item() == pytest.approx(0, abs=1e-5)
        other = (x + 0.1 * torch.rand_like(x)).requires_grad_()
        distance = loss(other, x, matrix, np.random.default_rng(seed))[0]
        distance.sum().backward()
        assert other.grad.abs().sum() > 0
        values.add(round(distance.item(), 6))
    assert len(values) > 6
    assert loss(other, x, matrix)[0].item() == loss(other, x, matrix)[0].item()
    views = [random_view(np.random.default_rng(seed))(x, matrix, Contract()) for seed in range(20)]
    plain = plain_view(x, matrix, Contract())
    mirrored = [(view.flip(3) - plain).abs().mean() < (view - plain).abs().mean() for view in views]
    assert 4 < sum(mirrored) < 16
    assert blocks(2, 20, 0).shape == (2, 1, 20, 20)
    assert blocks(8, 112, 0).var() == pytest.approx(1, abs=0.1)


def test_a_configuration_that_was_stored_before_is_read_in_todays_words():
    values = {"name": "x", "steps": 1, "data": [{"set": "lfw"}], "recogniser": "mobilefacenet-ms1m"}
    config = parse_config(stored_config(values | {"features": ["features.4", "conv2"]}))
    (teacher,) = config.recognisers
    assert teacher.name == "mobilefacenet-ms1m"
    assert teacher.features == ("/net/blocks/blocks.4/Add", "/net/head/head.2/Clip")
    with pytest.raises(UsageError, match="unknown key 'recogniser'"):
        parse_config(values)
    with pytest.raises(UsageError, match="recognisers_drawn must be 1 to 1"):
        parse_config({**config.to_dict(), "recognisers_drawn": 2})
    both = {**config.to_dict(), "recognisers": ["a", {"name": "b", "weight": 2}]}
    assert [(each.name, each.weight) for each in parse_config(both).recognisers] == [
        ("a", 1),
        ("b", 2),
    ]


def test_objectives_are_the_equations_of_the_paper():
    bpp, error, distance, weight = (torch.tensor([value]) for value in (0.5, 2.0, 0.25, 4.0))
    assert objective("rec", bpp, error, distance, weight).item() == pytest.approx((4 * 0.5 + 2) / 2)
    assert objective("ip", bpp, error, distance, weight).item() == pytest.approx(
        (4 * 0.5 + 0.25) / 2
    )
    assert objective("ipr", bpp, error, distance, weight).item() == pytest.approx(
        (4 * 0.5 + 2 + 0.25) / 2
    )


def test_an_unknown_or_unseen_recogniser_is_not_trained_against(tmp_path):
    for name, message in (
        ("mobileface-v2", "judges the models"),
        ("nonsense", "no recogniser nonsense"),
    ):
        with pytest.raises(UsageError, match=message):
            load_teacher(name, tmp_path)


def test_a_missing_recogniser_says_where_it_was_looked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("FACECODEC_RECOGNISERS", str(tmp_path / "mine"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    sought = [tmp_path / "mine", tmp_path / "recognizers", tmp_path / "facecodec" / "recognisers"]
    with pytest.raises(UsageError, match="set FACECODEC_RECOGNISERS") as error:
        recogniser_file("nobody", tmp_path / "data")
    assert f"nobody.onnx in {', '.join(map(str, sought))}, " in str(error.value)
    monkeypatch.setenv("FACECODEC_RECOGNISERS", str(sought[1]))
    with pytest.raises(UsageError) as error:
        recogniser_file("nobody", tmp_path / "data")
    assert str(error.value).count(str(sought[1])) == 1


def test_landmarks_are_found_once_and_kept(tmp_path, monkeypatch):
    pytest.importorskip("facenet_pytorch", reason="facenet-pytorch is not installed: make setup")
    face = tmp_path / "face.png"
    Image.fromarray(draw_face(1)).save(face)
    blank = tmp_path / "blank.png"
    Image.new("RGB", (100, 100)).save(blank)
    cache = tmp_path / "cache" / "landmarks.json"
    points, none = detection.cached_landmarks([face, blank], cache)
    assert none is None
    # The face stands upright around the centre.
    assert (np.abs(points.mean(axis=0) - 125) < 25).all()
    assert points[0, 0] < points[1, 0]
    assert points[:2, 1].max() < points[3:, 1].min()
    monkeypatch.setattr(detection, "find_landmarks", lambda images: pytest.fail("looked again"))
    again, none = detection.cached_landmarks([face, blank], cache)
    np.testing.assert_array_equal(points.round(3), again)
    assert len(json.loads(cache.read_text())) == 2

    detection._save({"of another process": None}, cache)
    assert len(json.loads(cache.read_text())) == 3
    assert [path.name for path in cache.parent.iterdir()] == ["landmarks.json"]

    gone, again = detection.cached_landmarks([tmp_path / "gone.png", face], cache)
    assert gone is None
    np.testing.assert_array_equal(points.round(3), again)


def test_missing_facenet_pytorch_is_an_error_with_its_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "facenet_pytorch", None)
    with pytest.raises(UsageError, match="pip install --no-deps 'facenet-pytorch"):
        list(detection.find_landmarks([]))


def test_crops_keep_the_face_inside_and_know_where_it_is(tmp_path):
    """Five coloured dots are the landmarks. In every crop, mirrored or not, they are in place."""
    points = people_with_a_face(tmp_path)
    sampler = CropSampler((Source("people"),), tmp_path, 192, lambda files: [points] * len(files))
    batch = sampler.batch(30, np.random.default_rng(0))
    assert not np.isnan(batch.matrices).any()
    mirrored = 0
    for pixels, matrix in zip(batch.pixels, batch.matrices, strict=True):
        found = np.array([np.argwhere(pixels[..., 0] == 50 * (n + 1))[0][::-1] for n in range(5)])
        mirror = found[0, 0] > found[1, 0]
        mirrored += mirror
        np.testing.assert_allclose(
            matrix, similarity(found[[1, 0, 2, 4, 3]] if mirror else found), atol=1e-9
        )
    assert 0 < mirrored < 30


def test_training_keeps_identity_in_its_log_and_leaves_images_without_a_face_out(
    recogniser, faces_root, tmp_path, monkeypatch
):
    """Two steps of ipr and of ip on a few of LFW's training people, from a rec network."""
    pytest.importorskip("facenet_pytorch", reason="facenet-pytorch is not installed: make setup")
    from facecodec.training import loop
    from facecodec.training.freeze import freeze

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("FACECODEC_RECOGNISERS", str(faces_root.resolve().parent / "recognizers"))
    photos = lfw(faces_root, "train")
    chosen = [p for p in photos if is_held_back(p)][:2] + [
        p for p in photos if not is_held_back(p)
    ][:4]
    for photo in chosen:
        folder = tmp_path / "people" / photo.person
        folder.mkdir(parents=True, exist_ok=True)
        (folder / photo.path.name).write_bytes(photo.path.read_bytes())
    network = {"latents": 6, "hyper": 4, "hyper_width": 6, "fine": 8, "coarse": 8, "blocks": [1, 1]}
    values = {
        "name": "test",
        "steps": 2,
        "batch": 2,
        "crop": 192,
        "data": [{"set": "people"}],
        "network": network,
    }
    loop.train(parse_config(values), tmp_path / "rec", tmp_path)
    freeze(tmp_path / "rec", tmp_path / "models" / "rec.safetensors")
    start = tmp_path / "models" / "rec.safetensors"
    for kind in ("ipr", "ip"):
        config = parse_config({**values, "objective": kind})
        with pytest.raises(UsageError, match="give one with start"):
            loop.train(config, tmp_path / kind, tmp_path)
        loop.train(config, tmp_path / kind, tmp_path, starts=[start])
        rows = [
            json.loads(line) for line in (tmp_path / kind / "log.jsonl").read_text().splitlines()
        ]
        assert all(0 < row["identity"] < 2 for row in rows[-1]["validation"])
