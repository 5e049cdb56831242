"""Made the golden files, with version 0.1.0, tiny.safetensors and tiny-map.safetensors.

It is kept as a record. The files of a release are never made again, so that every later release
must decode them.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from facecodec import frozen
from facecodec.codec import Codec, open_container
from facecodec.container import Container, pack
from facecodec.exact import FRACTION

HERE = Path(__file__).parent


def pictures() -> dict[str, tuple[np.ndarray, float]]:
    """Returns pixels and quality by name: smooth, flat, tiny, several bands high, noise."""
    rng = np.random.default_rng(7)
    row, column = np.mgrid[0:90, 0:70]
    smooth = np.stack([128 + 100 * np.sin(row / 9), 2 * row + column / 2, 255 - 3 * column], axis=2)
    board = 255 * ((np.mgrid[0:300, 0:40].prod(axis=0) // 400) % 2)
    return {
        "smooth-q4": (np.clip(smooth, 0, 255).astype(np.uint8), 4),
        "flat-q1": (np.full((33, 47, 3), 90, np.uint8), 1),
        "pixel-q8": (np.array([[[250, 3, 77]]], np.uint8), 8),
        "bands-q6.5": (np.repeat(board[..., None], 3, axis=2).astype(np.uint8), 6.5),
        "noise-q8": (255 * rng.integers(0, 2, (64, 64, 3), dtype=np.uint8), 8),
    }


def write(codec: Codec, name: str, data: bytes) -> dict[str, object]:
    """Stores a file and its picture, and returns its symbols."""
    (HERE / f"{name}.fic").write_bytes(data)
    codec.decode(data).save(HERE / f"{name}.png")
    symbols = codec.symbols(open_container(data))
    print(name, len(data), symbols.escapes)
    return {"z": symbols.z.tolist(), "y": symbols.y.tolist(), "escapes": symbols.escapes}


def add_quality_map() -> None:
    """Makes tiny-map.safetensors: tiny with one more, random channel of the hyper-synthesis.

    Its map lowers the quality byte by about 40.
    """
    card, tensors = frozen.load(HERE / "tiny.safetensors")
    last = len(tensors["h_s.shifts"]) - 1
    weight, bias = tensors[f"h_s.{last}.weight"], tensors[f"h_s.{last}.bias"]
    row = (
        np.random.default_rng(9).integers(-(2**15), 2**15, (1, *weight.shape[1:])).astype(np.int16)
    )
    tensors[f"h_s.{last}.weight"] = np.concatenate([weight, row])
    tensors[f"h_s.{last}.bias"] = np.append(
        bias, -40 << (FRACTION + int(tensors["h_s.shifts"][last]))
    )
    frozen.save(HERE / "tiny-map.safetensors", card.stored(), tensors)


def add_compact_png() -> dict[str, dict[str, object]]:
    """Makes tiny-compact.safetensors, an untrained network, and a file at each of its two sizes."""
    import torch

    from facecodec.networks.compact_png import build

    torch.manual_seed(0)
    card = {
        "family": "compact-png",
        "objective": "rec",
        "distortion": "l2",
        "data": "none",
        "steps": 0,
        "rates": [],
    }
    network = build(span=1.0, fine=12, coarse=16, blocks=(1, 1, 1, 1))
    frozen.save(HERE / "tiny-compact.safetensors", card, network.frozen())
    codec = Codec(HERE / "tiny-compact.safetensors")
    expected = {}
    for name, quality in (("compact-q2", 2), ("compact-q7", 7)):
        data = codec.encode(pictures()["smooth-q4"][0], quality)
        (HERE / f"{name}.fic").write_bytes(data)
        codec.decode(data).save(HERE / f"{name}.png")
        expected[name] = {"image": codec.symbols(open_container(data)).image.tolist()}
    return expected


def add_related_methods() -> dict[str, dict[str, object]]:
    """Makes tiny-spic and tiny-lfic, untrained, with all levels, and two files of each."""
    import torch

    from facecodec.networks import lfic, spic

    torch.manual_seed(0)
    small = {"fine": 12, "coarse": 16, "blocks": (1, 1), "latents": 8}
    pooled = lfic.build(**small, hyper=4, hyper_width=8, score_width=4).eval()
    with torch.no_grad():
        pooled.score_bias.zero_()
        pooled.scores.look[0].weight *= 30
        pooled.scores.look[-1].weight.normal_()
        pooled.level_scores.normal_()
    expected = {}
    for family, network, parts in (
        ("spic", spic.build(**small, coarsest=300.0, span=1e6), ("y",)),
        ("lfic", pooled, ("z", "levels", "y")),
    ):
        card = {
            "family": family,
            "objective": "rec",
            "distortion": "l2",
            "data": "none",
            "steps": 0,
            "rates": [],
        }
        frozen.save(HERE / f"tiny-{family}.safetensors", card, network.frozen())
        codec = Codec(HERE / f"tiny-{family}.safetensors")
        for quality in (3, 7):
            name = f"{family}-q{quality}"
            data = codec.encode(pictures()["bands-q6.5"][0] // 2 + 40, quality)
            (HERE / f"{name}.fic").write_bytes(data)
            codec.decode(data).save(HERE / f"{name}.png")
            symbols = codec.symbols(open_container(data))
            print(name, len(data), symbols.escapes, np.unique(getattr(symbols, "levels", 0)))
            expected[name] = {part: getattr(symbols, part).tolist() for part in parts}
    return expected


def add_sliced() -> dict[str, dict[str, object]]:
    """Makes tiny-sliced, untrained, whose slices depend on each other, and two files."""
    import torch

    from facecodec.networks.sliced import build

    torch.manual_seed(0)
    network = build(
        slices=(2, 6), fine=12, coarse=16, blocks=(1, 1), hyper=4, hyper_width=8, features=3,
        context=8, span=4.0,
    ).eval()  # fmt: skip
    with torch.no_grad():
        network.h_s[-1].weight[-1].normal_(0, 0.3)
        network.h_a[4].weight.mul_(10)
        for predict in network.predict:
            predict[-1].weight.normal_(0, 0.2)
    card = {
        "family": "sliced",
        "objective": "rec",
        "distortion": "l2",
        "data": "none",
        "steps": 0,
        "rates": [],
    }
    frozen.save(HERE / "tiny-sliced.safetensors", card, network.frozen())
    codec = Codec(HERE / "tiny-sliced.safetensors")
    expected = {}
    for quality in (3, 7):
        name = f"sliced-q{quality}"
        data = codec.encode(pictures()["bands-q6.5"][0] // 2 + 40, quality)
        expected[name] = write(codec, name, data)
    return expected


def add_sliced_limits() -> dict[str, dict[str, object]]:
    """Makes files of tiny-sliced: several blocks wide, and beyond every limit of the integers."""
    codec = Codec(HERE / "tiny-sliced.safetensors")
    row, column = np.mgrid[0:40, 0:1100]
    wide = np.stack([128 + 100 * np.sin(column / 9), 2 * row + column / 8, 255 - 3 * row], axis=2)
    data = codec.encode(np.clip(wide, 0, 255).astype(np.uint8), 5)
    expected = {"sliced-wide-q5": write(codec, "sliced-wide-q5", data)}
    rng = np.random.default_rng(8)
    y = rng.normal(0, 1, (8, 19, 3)) * 10 ** rng.uniform(-2, 4, (8, 19, 3))
    z = rng.normal(0, 1, (4, 5, 1)) * 10 ** rng.uniform(-1, 4, (4, 5, 1))
    mark = bytes.fromhex(codec.card.fingerprint)
    extreme = Container(mark, 100, 41, 300, codec.family.encode((y, z), 100))
    return expected | {
        "sliced-extreme-q4.125": write(codec, "sliced-extreme-q4.125", pack(extreme))
    }


def add_small() -> dict[str, dict[str, object]]:
    """Makes a file of tiny-sliced that holds its picture at twice its size."""
    codec = Codec(HERE / "tiny-sliced.safetensors")
    data = codec.encode(pictures()["smooth-q4"][0], 5)
    return {"sliced-small-q5": write(codec, "sliced-small-q5", data)}


def add_heads() -> None:
    """Makes heads/tiny-spic.safetensors, a small graph, and embeddings by it and shipped heads.

    embeddings.json has the model, the embedding and the scores of the classes by file.
    """
    from onnx import TensorProto, helper, numpy_helper
    from skimage import data

    rng = np.random.default_rng(10)
    shapes = {"w": (16, 8, 1, 1), "b": (16,), "out": (16, 12)}
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["y_hat", "w", "b"], ["seen"]),
            helper.make_node("Tanh", ["seen"], ["bent"]),
            helper.make_node("GlobalAveragePool", ["bent"], ["mean"]),
            helper.make_node("Flatten", ["mean"], ["flat"]),
            helper.make_node("MatMul", ["flat", "out"], ["embedding"]),
        ],
        "head",
        [helper.make_tensor_value_info("y_hat", TensorProto.FLOAT, [1, 8, "h", "w"])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [1, 12])],
        [
            numpy_helper.from_array(rng.normal(0, 0.5, shape).astype(np.float32), name)
            for name, shape in shapes.items()
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    tensors = {
        "head.onnx": np.frombuffer(model.SerializeToString(), np.uint8),
        "weight": rng.normal(0, 1, (3, 12)).astype(np.float16),
        "bias": rng.normal(0, 1, 3).astype(np.float16),
    }
    tiny = HERE / "tiny-spic.safetensors"
    card = {"space": "none", "classes": ["ann", "bob", "eve"], "runs": []}
    mark = frozen.read_card(tiny).fingerprint
    frozen.save_head(frozen.head_path(tiny), mark, card, tensors)

    face = np.ascontiguousarray(data.astronaut()[0:256, 96:352])
    made_with = {}
    for name in ("l2-ipr", "spic"):
        file = f"embedded/{name}-q4.fic"
        (HERE / "embedded").mkdir(exist_ok=True)
        (HERE / file).write_bytes(Codec(frozen.model_path(name)).encode(face, 4))
        made_with[file] = frozen.model_path(name)
    made_with |= {f"spic-q{quality}.fic": tiny for quality in (3, 7)}
    expected = {}
    for file, path in made_with.items():
        codec, parsed = Codec(path), open_container((HERE / file).read_bytes())
        expected[file] = {
            "model": path.stem,
            "embedding": codec.run_head(parsed).embedding.tolist(),
        }
        if codec.head.classes:
            size = (parsed.height, parsed.width)
            y_hat = codec.family.decode_latents(parsed.streams, size, parsed.quality_byte)
            expected[file]["scores"] = codec.head.classify(y_hat).tolist()[:3]
    (HERE / "embeddings.json").write_text(json.dumps(expected) + "\n")


if __name__ == "__main__":
    add_quality_map()
    codec = Codec(HERE / "tiny.safetensors")
    expected = {
        name: write(codec, name, codec.encode(*picture)) for name, picture in pictures().items()
    }
    # Extreme latents, which no picture gives, reach every limit of the integer arithmetic.
    rng = np.random.default_rng(8)
    y = rng.normal(0, 1, (8, 19, 3)) * 10 ** rng.uniform(-2, 3, (8, 19, 3))
    z = rng.normal(0, 1, (4, 5, 1)) * 10 ** rng.uniform(-1, 4, (4, 5, 1))
    mark = bytes.fromhex(codec.card.fingerprint)
    extreme = Container(mark, 200, 41, 300, codec.family.encode((y, z), 200))
    expected["extreme-q7.25"] = write(codec, "extreme-q7.25", pack(extreme))
    chunked = replace(
        open_container((HERE / "flat-q1.fic").read_bytes()),
        chunks=[("EXIF", b"x" * 200), ("zzzz", b"")],
    )
    expected["chunks-q1"] = write(codec, "chunks-q1", pack(chunked))
    mapped = Codec(HERE / "tiny-map.safetensors")
    for name in ("smooth-q4", "bands-q6.5", "flat-q1"):
        expected[f"map-{name}"] = write(mapped, f"map-{name}", mapped.encode(*pictures()[name]))
    mark = bytes.fromhex(mapped.card.fingerprint)
    extreme = Container(mark, 100, 41, 300, mapped.family.encode((y, z), 100))
    expected["map-extreme-q4.125"] = write(mapped, "map-extreme-q4.125", pack(extreme))
    (HERE / "golden.json").write_text(json.dumps(expected) + "\n")
