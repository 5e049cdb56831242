"""Malformed tensors, cards and heads cost one line of error, wherever they are used."""

import hashlib
import json
import os
import struct
from functools import partial

import numpy as np
import onnxruntime
import pytest
import safetensors.numpy
from PIL import Image

import facecodec
from conftest import DATA
from facecodec import frozen
from facecodec.codec import Codec
from facecodec.errors import FacecodecError, ModelError
from facecodec.families import FAMILIES, family_module
from facecodec.search import files
from facecodec.steps import packed, unpacked

MODELS = sorted(DATA.glob("tiny*.safetensors"))


def forged(path, model, change) -> None:
    """Writes a model with a valid fingerprint and tensors that `change` has changed."""
    card, tensors = frozen.load(model)
    change(tensors)
    frozen.save(path, card.stored(), tensors)


def test_a_model_is_written_as_the_same_bytes_each_time(tmp_path):
    card, tensors = frozen.load(DATA / "tiny.safetensors")
    written = set()
    for number in range(8):  # the library's own order is random
        frozen.save(tmp_path / f"{number}.safetensors", card.stored(), tensors)
        written.add((tmp_path / f"{number}.safetensors").read_bytes())
    assert len(written) == 1
    assert frozen.read_card(tmp_path / "0.safetensors").fingerprint == card.fingerprint


def raw(path, model, **header: object) -> None:
    """Writes a model with other entries in its header; `metadata` changes its metadata."""
    data = model.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    entries = json.loads(data[8 : 8 + length])
    entries["__metadata__"] |= header.pop("metadata", {})
    entries |= header
    text = json.dumps(entries).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


def refused(path, match: str) -> str:
    with pytest.raises(ModelError, match=match) as caught:
        Codec(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("model", MODELS, ids=lambda path: path.stem)
def test_every_tensor_has_one_type_and_shape_and_none_is_missing_or_unknown(model, tmp_path):
    path = tmp_path / "forged.safetensors"
    for name, tensor in frozen.load(model)[1].items():
        other = np.float32 if tensor.dtype != np.float32 else np.int32
        forged(path, model, lambda tensors, n=name: tensors.pop(n))
        refused(path, "malformed")
        forged(path, model, lambda t, n=name, o=other: t.update({n: t[n].astype(o)}))
        refused(path, "malformed: .* is of")
        forged(path, model, lambda t, n=name: t.update({n: t[n][None]}))
        refused(path, "malformed")
        forged(path, model, lambda t, n=name: t.update({n: t[n][:0]}))
        refused(path, "malformed")
    forged(path, model, lambda t: t.update(nonce=np.zeros(1, np.uint8)))
    refused(path, "a tensor that its family does not know, nonce")


@pytest.mark.parametrize("model", MODELS, ids=lambda path: path.stem)
@pytest.mark.parametrize("value", ["least", "most"])
def test_values_at_the_limits_of_their_types_are_refused_or_work(model, value, picture, tmp_path):
    """A model that still loads codes the picture, or says why it cannot."""
    path = tmp_path / "forged.safetensors"
    refusals = 0
    for name, tensor in frozen.load(model)[1].items():
        if name.endswith(".onnx"):
            continue
        whole = tensor.dtype.kind in "iu"
        limits = np.iinfo(tensor.dtype) if whole else np.finfo(tensor.dtype)
        extreme = limits.min if value == "least" else limits.max if whole else np.nan
        forged(path, model, lambda t, n=name, e=extreme: t.update({n: np.full_like(t[n], e)}))
        try:
            codec = Codec(path)
            codec.decode(codec.encode(picture, 4))
        except FacecodecError:
            refusals += 1
    assert refusals or model.stem == "tiny-compact"


def test_counts_that_wrap_to_the_right_sum_are_refused(tmp_path):
    """2^62 four times is nothing in 64 bits."""
    path = tmp_path / "forged.safetensors"

    def wrap(tensors):
        counts = tensors["table_counts"].astype(np.int64)
        counts[1:5] += 2**62
        tensors["table_counts"] = counts

    forged(path, DATA / "tiny.safetensors", wrap)
    refused(path, "table_counts is of int64")


def test_a_table_comes_back_as_it_was_stored_and_takes_half_the_bytes():
    step = np.random.default_rng(0).integers(-32768, 32768, (225, 160))
    tables = {
        "small": step.cumsum(0).astype(np.int32),
        "large": (step * 2).cumsum(0).astype(np.int32),  # its steps do not fit
        "others": step.astype(np.int16),
    }
    stored = packed(tables)
    assert sorted(stored) == ["large", "others", "small.first", "small.steps"]
    assert sum(stored[f"small.{part}"].nbytes for part in ("first", "steps")) < 73000
    back = unpacked(stored)
    assert back.keys() == tables.keys()
    for name, table in tables.items():
        assert back[name].dtype == table.dtype
        assert np.array_equal(back[name], table)


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.pop("x.first"),
        lambda t: t.pop("x.steps"),
        lambda t: t.update(x=t["x.first"]),
        lambda t: t.update({"x.first": t["x.first"].astype(np.int64)}),
        lambda t: t.update({"x.steps": t["x.steps"].astype(np.int32)}),
        lambda t: t.update({"x.steps": t["x.steps"][:, :2]}),
        lambda t: t.update({"x.first": t["x.first"] + np.int32(2**31 - 2)}),
    ],
)
def test_a_malformed_table_is_refused_in_one_line(change, tmp_path):
    path = tmp_path / "odd.safetensors"
    with safetensors.safe_open(DATA / "tiny.safetensors", "numpy") as file:
        metadata = file.metadata()
    parts = {"x.first": np.ones((1, 3), np.int32), "x.steps": np.ones((2, 3), np.int16)}
    change(parts)
    path.write_bytes(safetensors.numpy.save(parts, metadata))
    refused(path, "tensor x ")


@pytest.mark.parametrize("kind", ["BF16", "F8_E4M3", "F8_E5M2", "BOOL", "F64"])
def test_types_that_no_model_has_are_refused_in_one_line(kind, tmp_path, run_cli, picture):
    path = tmp_path / "odd" / "odd.safetensors"
    path.parent.mkdir()
    size = {"BF16": 2, "F64": 8}.get(kind, 1)
    header = {
        "__metadata__": {"format": frozen.FORMAT, "fingerprint": "0607a585", "card": "{}"},
        "g_s.onnx": {"dtype": kind, "shape": [2], "data_offsets": [0, 2 * size]},
    }
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(2 * size))
    refused(path, "g_s.onnx is of type")
    (tmp_path / "x.fic").write_bytes((DATA / "flat-q1.fic").read_bytes())
    # The forged file claims the fingerprint of a model that is not installed.
    card = json.loads(safe_card(DATA / "tiny.safetensors"))
    header["__metadata__"]["card"] = json.dumps(card)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(2 * size))
    environment = {"FACECODEC_MODELS": str(path.parent)}

    Image.fromarray(picture).save(tmp_path / "x.png")
    for command in (
        ("encode", "x.png", "-m", str(path), "-o", "y.fic"),
        ("decode", "x.fic", "-o", "y.png"),
        ("verify", "x.fic"),
        ("info", "x.fic"),
        ("embed", "x.fic"),
    ):
        done = run_cli(*command, **environment)
        assert b"Traceback" not in done.stderr, command
        assert b"internal error" not in done.stderr, command
        assert len(done.stderr.splitlines()) == (command[0] != "info"), command


def safe_card(path) -> str:
    with safetensors.safe_open(path, "numpy") as file:
        return file.metadata()["card"]


@pytest.mark.parametrize(
    "change",
    [
        {"family": 7},
        {"family": ["hyperprior"]},
        {"family": "other"},
        {"steps": "many"},
        {"rates": [{"q": "x", "bpp": 1, "psnr": 1}]},
        {"rates": 3},
        {"data": None},
        {"more": 1},
    ],
)
def test_malformed_cards_are_refused(change, tmp_path, run_cli):
    path = tmp_path / "odd.safetensors"
    model = DATA / "tiny.safetensors"
    raw(path, model, metadata={"card": json.dumps(json.loads(safe_card(model)) | change)})
    refused(path, "card|family")
    done = run_cli("models", FACECODEC_MODELS=str(tmp_path))
    assert b"Traceback" not in done.stderr


def test_a_card_that_is_nested_too_deeply_is_refused(tmp_path):
    path = tmp_path / "odd.safetensors"
    raw(path, DATA / "tiny.safetensors", metadata={"card": "[" * 100_000})
    refused(path, "card")


@pytest.mark.parametrize(
    "tensors",
    [
        {},
        {"head.onnx": np.zeros(5, np.float32)},
        {"head.onnx": np.zeros(5, np.uint8), "weight": np.zeros((2, 3), np.float16)},
        {"head.onnx": np.zeros(5, np.uint8), "nonce": np.zeros(5, np.uint8)},
        {
            "head.onnx": np.zeros(5, np.uint8),
            "weight": np.zeros((2, 3), np.float16),
            "bias": np.zeros(3, np.float16),
        },
    ],
)
def test_malformed_heads_are_refused(tensors, tmp_path):
    path = tmp_path / "tiny.safetensors"
    path.write_bytes((DATA / "tiny.safetensors").read_bytes())
    card = frozen.read_card(path)
    head_card = {"space": "x", "classes": [], "runs": []}
    frozen.save_head(frozen.head_path(path), card.fingerprint, head_card, tensors)
    with pytest.raises(ModelError, match="malformed"):
        frozen.load_head(card)


@pytest.mark.parametrize("certain", [[], [1], "18", [18, 0], [18, -1], [1e999, 1], [1, 2, 3], {}])
def test_a_head_whose_certainty_is_malformed_is_refused(certain, tmp_path):
    path = tmp_path / "tiny.safetensors"
    path.write_bytes((DATA / "tiny.safetensors").read_bytes())
    card = frozen.read_card(path)
    head_card = {"space": "x", "classes": [], "runs": [], "certain": certain}
    tensors = {"head.onnx": np.zeros(5, np.uint8)}
    frozen.save_head(frozen.head_path(path), card.fingerprint, head_card, tensors)
    with pytest.raises(ModelError, match="malformed"):
        frozen.load_head(card)


def test_every_family_says_which_tensors_its_models_have():
    for tag in FAMILIES:
        assert family_module(tag).expected({})


def reading_graph(place: str) -> np.ndarray:
    """Returns an ONNX graph whose one weight is in another file."""
    onnx = pytest.importorskip("onnx", reason="the 'train' extra is not installed")
    weight = onnx.TensorProto(name="w", data_type=onnx.TensorProto.FLOAT, dims=[12])
    weight.data_location = onnx.TensorProto.EXTERNAL
    weight.external_data.add(key="location", value=place)
    value = partial(onnx.helper.make_tensor_value_info, elem_type=onnx.TensorProto.FLOAT)
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("ReduceMean", ["y"], ["mean"]),
            onnx.helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
            onnx.helper.make_node("Add", ["nothing", "w"], ["embedding"]),
        ],
        "reads",
        [value("y", shape=[1, 8, "h", "w"])],
        [value("embedding", shape=[1, 12])],
        [weight, onnx.numpy_helper.from_array(np.zeros((1, 1), np.float32), "zero")],
    )
    opset = [onnx.helper.make_opsetid("", 17)]
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)
    return np.frombuffer(model.SerializeToString(), np.uint8)


def test_a_graph_reads_no_file(tmp_path, monkeypatch):
    """ONNX Runtime reads weights from any file below or above the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret").write_bytes(np.arange(12, dtype=np.float32).tobytes())
    graph = reading_graph("secret")
    session = onnxruntime.InferenceSession(graph.tobytes())
    leaked = session.run(None, {"y": np.zeros((1, 8, 1, 1), np.float32)})[0]
    assert leaked.ravel().tolist() == list(range(12))
    for name in ("g_s.onnx", "g_a.onnx"):
        path = tmp_path / f"{name}.safetensors"
        forged(path, DATA / "tiny-spic.safetensors", lambda t, n=name: t.update({n: graph}))
        with pytest.raises(ModelError, match="reads another file"):
            Codec(path).decode(Codec(path).encode(np.zeros((16, 16, 3), np.uint8)))
    copy = tmp_path / "headed.safetensors"
    copy.write_bytes((DATA / "tiny-spic.safetensors").read_bytes())
    head_card, mark = {"space": "x", "classes": [], "runs": []}, frozen.read_card(copy).fingerprint
    frozen.save_head(frozen.head_path(copy), mark, head_card, {"head.onnx": graph})
    with pytest.raises(ModelError, match="reads another file"):
        Codec(copy).embed((DATA / "spic-q3.fic").read_bytes())


def test_what_is_wrong_with_a_graph_is_said_once_and_in_one_line(tmp_path, capfd):
    """ONNX Runtime prints some errors on stdout, where pictures may go, and tries again."""
    path = tmp_path / "odd.safetensors"
    graph = bytearray(frozen.load(DATA / "tiny-spic.safetensors")[1]["g_s.onnx"].tobytes())
    at = graph.index(b".bias")  # in the name of what a node takes
    graph[at : at + 3] = b"\n\x1b\x80"
    forged(
        path,
        DATA / "tiny-spic.safetensors",
        lambda t: t.update({"g_s.onnx": np.frombuffer(bytes(graph), np.uint8)}),
    )
    with pytest.raises(ModelError, match="does not load") as caught:
        Codec(path).decode(Codec(path).encode(np.zeros((16, 16, 3), np.uint8)))
    assert str(caught.value).isprintable()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("numbers", [np.nan, np.inf])
def test_an_embedding_that_is_no_number_is_an_error(numbers, tmp_path, run_cli):
    """JSON has no NaN, and one row of NaN spoils a gallery."""
    onnx = pytest.importorskip("onnx", reason="the 'train' extra is not installed")
    path = tmp_path / "models" / "headed.safetensors"
    path.parent.mkdir()
    path.write_bytes((DATA / "tiny-spic.safetensors").read_bytes())
    graph = onnx.load_from_string(
        frozen.load_head(frozen.read_card(DATA / "tiny-spic.safetensors"))
        .tensors["head.onnx"]
        .tobytes()
    )
    for each in graph.graph.initializer:
        if each.name == "out":
            each.CopyFrom(
                onnx.numpy_helper.from_array(np.full((16, 12), numbers, np.float32), "out")
            )
    head_card, mark = {"space": "x", "classes": [], "runs": []}, frozen.read_card(path).fingerprint
    tensors = {"head.onnx": np.frombuffer(graph.SerializeToString(), np.uint8)}
    frozen.save_head(frozen.head_path(path), mark, head_card, tensors)
    (tmp_path / "x.fic").write_bytes((DATA / "spic-q3.fic").read_bytes())
    done = run_cli("embed", "x.fic", "--json", "-m", str(path))
    assert done.returncode == 1
    assert "gives no numbers" in json.loads(done.stdout)["error"]


def test_a_head_whose_classes_want_another_embedding_is_an_error(tmp_path):
    path = tmp_path / "headed.safetensors"
    path.write_bytes((DATA / "tiny-spic.safetensors").read_bytes())
    head = frozen.load_head(frozen.read_card(DATA / "tiny-spic.safetensors"))
    head_card = {"space": "x", "classes": head.classes, "runs": []}
    tensors = head.tensors | {"weight": head.tensors["weight"][:, 1:].copy()}
    frozen.save_head(frozen.head_path(path), frozen.read_card(path).fingerprint, head_card, tensors)
    with pytest.raises(ModelError, match="has 12 numbers, its classes 11"):
        Codec(path).head.classify(np.zeros((8, 3, 3), np.float32))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"rate_weights": [1, 0]}, "out of range"),
        ({"rate_weights": [1, "nan"]}, "out of range"),
        ({"rate_weights": [1]}, "malformed"),
        ({"pixels": -1}, "out of range"),
        ({"pixels": None}, "malformed"),
        ({"averages": -1}, "out of range"),
    ],
)
def test_malformed_search_files_are_refused(change, match, tmp_path):
    path = tmp_path / "tiny.safetensors"
    path.write_bytes((DATA / "tiny.safetensors").read_bytes())
    card = frozen.read_card(path)
    facts = {"rate_weights": [2.0, 1.0], "pixels": 1.0, "averages": 0.0}
    graph = {"x.onnx": np.zeros(5, np.uint8)}
    files.save(files.search_file(path), card.fingerprint, facts, graph, {})
    with pytest.raises(ModelError, match=r"has no graph y\.onnx"):
        files.load_search(card, {}).graphs.open("y.onnx")
    files.save(files.search_file(path), card.fingerprint, facts | change, graph, {})
    with pytest.raises(ModelError, match=match):
        files.load_search(card, {})


def test_names_in_a_model_that_are_no_line_are_escaped_or_refused(tmp_path):
    path = tmp_path / "odd.safetensors"
    model = DATA / "tiny.safetensors"
    raw(
        path,
        model,
        metadata={"card": json.dumps(json.loads(safe_card(model)) | {"family": "a\nb"})},
    )
    refused(path, "family is no text of one line")
    forged(path, model, lambda t: t.update({"a\nb": np.zeros(1, np.uint8)}))
    refused(path, r"does not know, a\\nb")


@pytest.fixture(scope="module")
def twins(tmp_path_factory):
    """Two different models with one fingerprint: about 2^16 tries find such a pair."""
    card, tensors = frozen.load(DATA / "tiny.safetensors")
    last = max(name for name in tensors if not name.startswith(frozen.ENCODER_ONLY))
    assert last == "z_table"  # hashed last, so that only it has to be hashed again
    start = hashlib.sha256(card.family.encode())
    for name in sorted(name for name in tensors if not name.startswith(frozen.ENCODER_ONLY)):
        tensor = tensors[name]
        start.update(f"\0{name}\0{tensor.dtype.newbyteorder('<').str}\0{tensor.shape}\0".encode())
        if name != last:
            start.update(tensor.tobytes())
    seen: dict[bytes, int] = {}
    table = tensors[last].copy()
    flat = table.reshape(-1)

    def variant(number: int) -> np.ndarray:
        flat[-4:] = np.unravel_index(number, (81, 81, 81, 81))
        return table

    for number in range(81**4):
        digest = start.copy()
        digest.update(variant(number).tobytes())
        mark = digest.digest()[:4]
        if mark in seen:
            break
        seen[mark] = number
    paths = []
    for each, folder in ((seen[mark], "shipped"), (number, "forged")):
        paths.append(tmp_path_factory.mktemp(folder) / f"{folder}.safetensors")
        frozen.save(paths[-1], card.stored(), tensors | {last: variant(each).copy()})
    return paths


def test_two_models_of_one_fingerprint_are_an_error_that_names_both(
    twins, tmp_path, run_cli, picture
):

    cards = [frozen.read_card(path) for path in twins]
    assert cards[0].fingerprint == cards[1].fingerprint
    Image.fromarray(picture).save(tmp_path / "x.png")
    assert run_cli("encode", "x.png", "-m", twins[0]).returncode == 0
    both = {"FACECODEC_MODELS": os.pathsep.join(str(path.parent) for path in twins)}
    for command in (
        ("decode", "x.fic", "-o", "y.png"),
        ("verify", "x.fic"),
        ("view", "x.fic", "-o", "y.html"),
    ):
        done = run_cli(*command, **both)
        assert done.returncode != 0
        (line,) = done.stderr.decode().splitlines()
        assert all(str(path) in line for path in twins)
        assert "remove the one" in line
    assert not (tmp_path / "y.png").exists()
    assert not (tmp_path / "y.html").exists()
    output = run_cli("info", "x.fic", **both)  # the header is shown all the same
    assert output.returncode == 0
    (line,) = [each for each in output.stdout.decode().splitlines() if "  model  " in each]
    assert all(str(path) in line for path in twins)
    assert "not installed" not in line
    facts = json.loads(run_cli("info", "x.fic", "--json", **both).stdout)
    assert facts["model"] is None
    assert facts["model_error"] in line
    for command in (("decode", "x.fic", "-o", "y.png"), ("verify", "x.fic")):
        assert run_cli(*command, "-m", twins[0], **both).returncode == 0
        alone = {"FACECODEC_MODELS": str(twins[0].parent)}
        assert (
            run_cli(*command, *(["-f"] if command[0] == "decode" else []), **alone).returncode == 0
        )


def test_a_copy_of_a_model_is_no_other_model(twins, tmp_path, monkeypatch, picture):
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(twins[0].read_bytes())
    folders = os.pathsep.join([str(tmp_path), str(twins[0].parent)])
    monkeypatch.setenv("FACECODEC_MODELS", folders)
    facecodec.decode(Codec(copy).encode(picture))


def test_what_ships_with_the_package_is_never_shadowed_by_its_fingerprint(
    twins, tmp_path, monkeypatch, picture
):
    """Under any name and in any folder, the forged file is never silently used."""
    shipped, forged = twins
    data = Codec(shipped).encode(picture)
    for name in ("forged", "shipped"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / f"{name}.safetensors").write_bytes(forged.read_bytes())
        for order in ([folder, shipped.parent], [shipped.parent, folder]):
            monkeypatch.setattr(frozen, "search_path", lambda order=order: order)
            with pytest.raises(ModelError, match="differ, but both"):
                facecodec.decode(data)
            if name == "shipped":  # taken by its name alone
                with pytest.raises(ModelError, match="differ, but both"):
                    facecodec.encode(picture, model="shipped")


def test_random_changes_are_refused_or_work(tmp_path, picture):
    """FACECODEC_MODEL_RUNS=100000 makes a long run. Graphs, which ONNX Runtime reads, stay."""
    rng = np.random.default_rng(int(os.environ.get("FACECODEC_SEED", "1")))
    path = tmp_path / "changed.safetensors"
    loaded = [(model, frozen.load(model)[1]) for model in MODELS]
    for _ in range(int(os.environ.get("FACECODEC_MODEL_RUNS", "60"))):
        model, tensors = loaded[rng.integers(len(loaded))]
        name = sorted(tensors)[rng.integers(len(tensors))]
        tensor = tensors[name]
        if rng.random() < 0.3:  # the file itself, its header most of all
            data = bytearray(model.read_bytes())
            for at in rng.integers(0, 3000, rng.integers(1, 4)):
                data[at] = rng.integers(256)
            path.write_bytes(data)
        else:
            other = tensor.copy()
            if rng.random() < 0.3:
                other = other.astype(rng.choice(["uint8", "int16", "int32", "int64", "float32"]))
            if rng.random() < 0.3:
                other = np.delete(other, 0, axis=rng.integers(other.ndim))
            if other.size and not name.endswith(".onnx"):
                other = np.ascontiguousarray(other)
                flat = other.reshape(-1).view(np.uint8)
                flat[rng.integers(flat.size)] = rng.integers(256)
            forged(path, model, lambda t, n=name, o=other: t.update({n: o}))
        try:
            codec = Codec(path)
            codec.decode(codec.encode(picture, 1 + 7 * rng.random()))
        except FacecodecError as error:
            assert "\n" not in str(error)  # noqa: PT017
