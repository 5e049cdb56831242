"""docs/format.md suffices to write another reader: tests/plain_reader.py was written from it."""

import ast
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import plain_reader
from conftest import DATA, TINY
from facecodec.codec import Codec, codec_of, open_container
from facecodec.container import MAX_QUALITY_BYTE

# The files of the hyperprior; another test reads those of the other families.
EXPECTED = json.loads((DATA / "golden.json").read_text())
GOLDEN = {
    name: expected
    for name, expected in EXPECTED.items()
    if "z" in expected and "levels" not in expected and not name.startswith("sliced")
}


@pytest.fixture(scope="module")
def models() -> dict[bool, dict]:
    """The plain models, by whether they have a quality map."""
    return {
        mapped: plain_reader.read_model(path)
        for mapped, path in ((False, TINY), (True, DATA / "tiny-map.safetensors"))
    }


def test_the_plain_reader_is_plain():
    tree = ast.parse(Path(plain_reader.__file__).read_text())
    imports = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    imports |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in imports} <= set(sys.stdlib_module_names)


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_files_read_plainly(models, name):
    read = plain_reader.read_symbols(
        (DATA / f"{name}.fic").read_bytes(), models[name.startswith("map-")]
    )
    assert read["z"] == GOLDEN[name]["z"]
    assert read["y"] == GOLDEN[name]["y"]


def test_the_fingerprint_is_computed_plainly(models, tiny, tiny_map):
    assert plain_reader.fingerprint(models[False]) == tiny.card.fingerprint
    assert plain_reader.fingerprint(models[True]) == tiny_map.card.fingerprint


def test_golden_files_hold_what_readers_get_wrong(tiny_map):
    """They have escapes in both streams, several bands, chunks, and extreme and other qualities."""
    assert sum(entry["escapes"]["z"] for entry in GOLDEN.values()) > 10
    assert sum(entry["escapes"]["y"] for entry in GOLDEN.values()) > 100
    assert max(len(entry["y"][0]) for entry in GOLDEN.values()) > 16
    assert (DATA / "chunks-q1.fic").read_bytes()[2] & 1
    mapped = [
        open_container((DATA / f"{name}.fic").read_bytes())
        for name in GOLDEN
        if name.startswith("map-")
    ]
    qualities = np.concatenate([tiny_map.symbols(parsed).qualities.ravel() for parsed in mapped])
    assert {0, MAX_QUALITY_BYTE} < set(qualities)
    assert len(set(qualities)) > 20


def test_sliced_golden_files_hold_what_readers_get_wrong():
    """They have several blocks across and down, escapes, and values that are clipped for slices."""
    sliced = {name: expected for name, expected in EXPECTED.items() if name.startswith("sliced")}
    assert {len(expected["y"][0]) > 16 for expected in sliced.values()} == {True, False}
    assert {len(expected["y"][0][0]) > 64 for expected in sliced.values()} == {True, False}
    assert sum(expected["escapes"]["y"] for expected in sliced.values()) > 100
    codec = Codec(DATA / "tiny-sliced.safetensors")
    symbols = codec.symbols(open_container((DATA / "sliced-extreme-q4.125.fic").read_bytes()))
    values = ((symbols.y.astype(np.int64) << 10) + symbols.means)[: codec.family.channels - 6]
    inverse = codec.family.gains["y_inverse_gain"].T[: len(values), symbols.qualities]
    assert (np.abs(values * inverse >> 16) > 2**20).any()


@pytest.mark.parametrize(
    "name", [each for each in EXPECTED if each.startswith(("lfic", "spic", "compact", "sliced"))]
)
def test_golden_files_of_other_families_read_plainly(name):
    model = plain_reader.read_model(DATA / f"tiny-{name.partition('-')[0]}.safetensors")
    read = plain_reader.read_symbols((DATA / f"{name}.fic").read_bytes(), model)
    for part, symbols in EXPECTED[name].items():
        if part != "escapes":
            assert read[part] == symbols


EMBEDDINGS = json.loads((DATA / "embeddings.json").read_text())
CLOSE = 1e-4  # how far apart two machines' numbers of an embedding may be; its length is 1


@pytest.mark.parametrize("name", EMBEDDINGS)
def test_golden_files_embed_as_when_their_heads_were_made(monkeypatch, name):
    """This includes shipped models and heads: a changed model needs another name."""
    monkeypatch.setenv("FACECODEC_MODELS", str(DATA))
    expected, parsed = EMBEDDINGS[name], open_container((DATA / name).read_bytes())
    codec = codec_of(parsed)
    assert codec.card.name == expected["model"]
    assert codec.run_head(parsed).embedding == pytest.approx(
        np.array(expected["embedding"]), abs=CLOSE
    )
    if "scores" in expected:
        size = (parsed.height, parsed.width)
        y_hat = codec.family.decode_latents(parsed.streams, size, parsed.quality_byte)
        scores = codec.head.classify(y_hat)[: len(expected["scores"])]
        assert scores == pytest.approx(np.array(expected["scores"]), abs=20 * CLOSE)


@pytest.mark.parametrize("name", [each for each in EMBEDDINGS if "/" not in each])
def test_a_head_is_read_plainly(name):
    """The page suffices from symbols to an embedding, with ONNX Runtime only for the graph."""
    model = plain_reader.read_model(DATA / "tiny-spic.safetensors")
    head = plain_reader.read_head(DATA / "heads" / "tiny-spic.safetensors", model)
    read = plain_reader.read_symbols((DATA / name).read_bytes(), model)
    step = model["tensors"]["step"][3][read["quality"]]
    y_hat = np.array(read["y"], np.float32)[None] * np.float32(step)
    session = onnxruntime.InferenceSession(head["tensors"]["head.onnx"][2])
    embedding = session.run(None, {session.get_inputs()[0].name: y_hat})[0][0]
    expected = EMBEDDINGS[name]
    assert embedding / np.linalg.norm(embedding) == pytest.approx(expected["embedding"], abs=CLOSE)
    weight, bias = (np.array(head["tensors"][part][3]) for part in ("weight", "bias"))
    assert weight @ embedding + bias == pytest.approx(expected["scores"], abs=CLOSE)
    assert head["card"]["classes"] == ["ann", "bob", "eve"]
