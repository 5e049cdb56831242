"""Tests embeddings without pixels: an untrained head, from training to the command line."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch", reason="the 'train' extra is not installed")
pytest.importorskip("compressai", reason="the 'train' extra is not installed")

import torch

from facecodec import frozen
from facecodec.codec import Codec, open_container
from facecodec.errors import ImageError, ModelError
from facecodec.faces.embedding import Embedder, embedder_of
from facecodec.faces.mobilefacenet import MobileFaceNet
from facecodec.networks import spic
from facecodec.networks.head import HeadNetwork, landmark_error
from facecodec.template import TEMPLATE, similarity
from fresh import card

SMALL = {"fine": 24, "coarse": 32, "blocks": (1, 1), "latents": 32}


@pytest.fixture(scope="module")
def networks():
    torch.manual_seed(0)
    network = spic.build(**SMALL)
    head = HeadNetwork(32, fine=24, classes=3)
    head.start_from(MobileFaceNet().eval(), network.g_s.body)
    return network, head.eval()


@pytest.fixture(scope="module")
def models(networks, tmp_path_factory):
    """A model with a head, and its folder."""
    network, head = networks
    path = tmp_path_factory.mktemp("models") / "headed.safetensors"
    mark = frozen.save(path, card("spic"), network.frozen())
    output = {"space": "some-recogniser", "classes": ["ann", "bob", "eve"], "runs": []}
    frozen.save_head(frozen.head_path(path), mark, output, head.frozen())
    return path


@pytest.fixture
def faces(models, picture, tmp_path, run_cli):
    for number in range(3):
        Image.fromarray(np.roll(picture, 9 * number, 1)).save(tmp_path / f"{number}.png")
    run_cli(
        "encode", "0.png", "1.png", "2.png", "-m", "headed", FACECODEC_MODELS=str(models.parent)
    )
    return [f"{number}.fic" for number in range(3)]


def test_files_embed_as_the_network_does(networks, models, picture):
    codec = Codec(models)
    parsed = open_container(codec.encode(picture, 6))
    latents = codec.family.decode_latents(parsed.streams, picture.shape[:2], parsed.quality_byte)
    with torch.no_grad():
        reading = networks[1](torch.from_numpy(latents)[None])
    wanted = reading.embedding[0].numpy()
    found = codec.run_head(parsed).embedding
    assert np.linalg.norm(found) == pytest.approx(1)
    assert found @ wanted / np.linalg.norm(wanted) > 0.999
    assert codec.head.classify(latents) == pytest.approx(
        reading.scores[0].numpy(), rel=0.02, abs=0.02
    )


def test_a_head_finds_a_face_as_the_similarity_of_its_landmarks(networks):
    _, head = networks
    with torch.no_grad():
        landmarks = head(torch.randn(2, 32, 5, 7)).landmarks
    turned = torch.tensor([[[1.1, -0.2, 30.0], [0.2, 1.1, 40.0]]])
    points = torch.from_numpy(np.c_[TEMPLATE, np.ones(5)]).float() @ turned[0].T
    for each in (landmarks[0], points):
        found = head.similarity(each[None])[0].numpy()
        assert similarity(each.double().numpy()) == pytest.approx(found, rel=1e-2, abs=0.5)
    assert head.similarity(points[None]) == pytest.approx(turned, abs=1e-3)
    assert landmark_error(points[None], turned) == pytest.approx(torch.zeros(1), abs=1e-4)
    scale = torch.linalg.vector_norm(turned[:, 0, :2], dim=1)
    assert torch.allclose(
        landmark_error(points[None] + torch.tensor([3.0, 4.0]), turned), 5 / scale, rtol=1e-4
    )


def test_a_face_is_looked_at_where_it_is_said_to_be(networks):
    """If latents and the face move by whole positions, the result is the same."""
    _, head = networks
    y = torch.randn(1, 32, 20, 20)
    there = torch.tensor([[[1.2, 0.0, 80.0], [0.0, 1.2, 90.0]]])
    with torch.no_grad():
        one = head(y, there).embedding
        other = head(
            y.roll((2, 3), (2, 3)), there + 16 * torch.tensor([[[0, 0, 3.0], [0, 0, 2.0]]])
        ).embedding
    assert torch.allclose(one, other, atol=1e-4)


def test_embeddings_as_lines_as_json_and_as_an_array(models, faces, run_cli, tmp_path):
    environment = {"FACECODEC_MODELS": str(models.parent)}
    lines = run_cli("embed", *faces, **environment).stdout.decode().splitlines()
    assert [line.split("\t")[:2] for line in lines] == [[name, "some-recogniser"] for name in faces]
    output = [
        json.loads(line)
        for line in run_cli("embed", *faces, "--json", **environment).stdout.splitlines()
    ]
    (tmp_path / "broken.fic").write_bytes((tmp_path / faces[0]).read_bytes()[:-2])
    done = run_cli(
        "embed", faces[0], "broken.fic", "nowhere.fic", *faces[1:], "-o", "out.npy", **environment
    )
    assert (done.returncode, b"broken.fic" in done.stderr, b"nowhere.fic" in done.stderr) == (
        1,
        True,
        True,
    )
    told_too = run_cli("embed", faces[0], "broken.fic", *faces[1:], "--json", **environment).stdout
    assert [json.loads(line)["input"] for line in told_too.splitlines()] == [
        faces[0],
        "broken.fic",
        *faces[1:],
    ]
    rows = np.load(tmp_path / "out.npy")
    assert rows.shape == (5, 128)
    assert np.isnan(rows[1:3]).all()
    assert rows[[0, 3, 4]] == pytest.approx(
        np.array([each["embedding"] for each in output]), abs=1e-5
    )
    refused = run_cli(
        "embed", "nowhere.fic", "-o", "out.npy", **environment
    )  # it is there, which is told first
    assert (refused.returncode, b"nowhere" in refused.stderr) == (1, False)
    assert run_cli("embed", *faces, "--json", "-o", "more.npy", **environment).returncode == 2


def test_files_of_models_without_a_head_are_seen_by_the_default_one(photograph, shipped):
    codec = Codec(frozen.model_path("msssim-ipr"))
    embedder = embedder_of(codec)
    assert embedder.space == shipped.head.space
    found = embedder(open_container(codec.encode(photograph, 6)))
    known = Embedder(shipped)(open_container(shipped.encode(photograph, 6)))
    assert found.vector @ known.vector > 0.9


def test_without_any_head_it_is_said(models, picture, tmp_path, monkeypatch):
    monkeypatch.setattr(frozen, "HEADS", "nowhere")
    with pytest.raises(ModelError, match="has no head"):
        Embedder(Codec(models))


def test_a_head_of_another_model_or_a_damaged_one_is_refused(models, networks, tmp_path):
    path = tmp_path / "other.safetensors"
    path.write_bytes(models.read_bytes())
    frozen.save_head(
        frozen.head_path(path),
        "00000000",
        {"space": "x", "classes": [], "runs": []},
        networks[1].frozen(),
    )
    with pytest.raises(ModelError, match="the head of model 00000000"):
        frozen.load_head(frozen.read_card(path))
    whole = bytearray(frozen.head_path(models).read_bytes())
    whole[-3] ^= 1
    frozen.head_path(path).write_bytes(whole)
    with pytest.raises(ModelError, match="damaged"):
        frozen.load_head(replace(frozen.read_card(path)))


def test_a_head_without_landmarks_cannot_be_sure(models, picture):
    codec = Codec(models)
    parsed = open_container(codec.encode(picture, 6))
    assert Embedder(codec)(parsed).certainty is None
    codec.head.certain = (1e6, 1.0)
    with pytest.raises(ImageError, match=r"no face was found \(certainty 0.00\)"):
        Embedder(codec)(parsed)


def test_a_face_of_any_size_embeds_as_it_does_at_the_size_that_is_known(photograph, shipped):
    embedder = Embedder(shipped)
    parsed = open_container(shipped.encode(photograph, 4))
    known = embedder(parsed)
    assert (known.vector == shipped.run_head(parsed).embedding).all()
    for factor in (0.6, 4):
        size = (round(factor * photograph.width), round(factor * photograph.height))
        resized = photograph.resize(size, Image.Resampling.LANCZOS)
        other = open_container(shipped.encode(resized, 6))
        found = embedder(other)
        assert found.certainty > 0.5
        assert found.vector @ known.vector > 0.75
        assert shipped.run_head(other).embedding @ known.vector < found.vector @ known.vector


def test_a_tilted_head_embeds_as_it_does_upright(photograph, shipped):
    embedder = Embedder(shipped)
    upright = embedder(open_container(shipped.encode(photograph, 4)))
    large = photograph.resize((500, 500), Image.Resampling.LANCZOS).rotate(
        25, Image.Resampling.BICUBIC
    )
    found = embedder(open_container(shipped.encode(large, 6)))
    assert found.certainty > 0.5
    assert found.vector @ upright.vector > 0.75


def test_a_face_below_a_hat_has_an_embedding(faces_root, shipped):
    picture = Image.open(faces_root / "kodak/kodim04.png")
    found = Embedder(shipped)(open_container(shipped.encode(picture, 4)))
    assert found.certainty > 0.95


def test_parrots_have_no_embedding(faces_root, shipped, run_cli, tmp_path):
    face = faces_root / "lfw-deepfunneled/Aaron_Eckhart/Aaron_Eckhart_0001.jpg"
    for name, path in (("parrots", faces_root / "kodak/kodim23.png"), ("face", face)):
        (tmp_path / f"{name}.fic").write_bytes(shipped.encode(Image.open(path), 4))
    done = run_cli("embed", "parrots.fic", "face.fic", "-o", "out.npy")
    assert done.returncode == 1
    assert b"parrots.fic: no face was found (certainty 0." in done.stderr
    rows = np.load(tmp_path / "out.npy")
    assert np.isnan(rows[0]).all()
    assert np.linalg.norm(rows[1]) == pytest.approx(1)
    output = json.loads(run_cli("embed", "face.fic", "--json").stdout)
    assert output["certainty"] > 0.9
