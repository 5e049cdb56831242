"""Coverage-guided fuzzing of the readers of models and heads, and of coding with those that load.

    make fuzz                                                # a hundred thousand executions
    python tests/fuzz/fuzz_models.py -runs=2000 [libFuzzer's options] [CORPUS...]

An input is a .safetensors file. Most are taken apart, changed in one place (a tensor's type, shape,
values or name, the bytes of a graph, the metadata, the card, the header) and put together again.
Most of these get valid hashes, so that they reach the later checks. Any error but the package's own
is a finding.
"""

from __future__ import annotations

import json
import os
import random
import struct
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
DATA = HERE.parent / "data"
os.environ["FACECODEC_MODELS"] = str(DATA)
os.environ["FACECODEC_THREADS"] = "1"
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import atheris

with atheris.instrument_imports(include=["facecodec"]):
    from facecodec import codec, container, families, frozen, steps, viewer

    for tag in families.FAMILIES:
        families.family_module(tag)

import numpy as np
from fuzzing import Counts, fuzz

from facecodec.container import Container
from facecodec.errors import FacecodecError

SECONDS, MEGABYTES = 30, 2500
RAW = 1 / 8  # share of the inputs that are damaged at random
HASHED = 3 / 4  # share of the others that get valid hashes
MODELS = sorted(DATA.glob("*.safetensors"))
HEADED = DATA / "tiny-spic.safetensors"
SEEDS = [path.read_bytes() for path in (*MODELS, frozen.head_path(HEADED))]
TYPES = {"U8": 1, "BOOL": 1, "I16": 2, "F16": 2, "BF16": 2, "I32": 4, "F32": 4, "I64": 8, "F64": 8}
NAMES = sorted({name for path in MODELS for name in frozen.load(path)[1]} | {"nonce", ""})
PLACES = (*("values",) * 4, "type", "shape", "name", "graph", "card", "metadata")
CARDS = (None, 7, -1, 1e999, "x", "\0\n\x1b", [], {}, [{}], [{"q": 1}], True, *families.FAMILIES)
PICTURE = np.random.default_rng(1).integers(0, 256, (24, 40, 3), np.uint8)

counts = Counts(100, "loaded", "coded", "embedded")
folder = Path(tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None))


def one_input(data: bytes) -> None:
    """Loads a model or a head and codes with it. It may raise only the package's own errors."""
    counts.begin()
    if frozen.HEAD_FORMAT.encode() in data[:4096]:
        read_head(data)
        return
    path = folder / "model.safetensors"
    path.write_bytes(data)
    try:
        model = codec.Codec(path, threads=1)
        viewer.decoding_half(path)
    except FacecodecError as error:
        check_line(error)
        return
    counts["loaded"] += 1
    assert model.card == frozen.read_card(path)
    try:
        coded = model.encode(PICTURE, 4.5)
        model.check(coded, PICTURE)
        model.decode(coded)
        counts["coded"] += 1
    except FacecodecError as error:
        check_line(error)
    mark = bytes.fromhex(model.card.fingerprint)
    empty = Container(mark, 100, 40, 24, [b""] * len(model.stream_names))
    for use in (model.decode_container, model.count_escapes, model.symbols):
        try:
            use(empty)
        except FacecodecError as error:
            check_line(error)


def read_head(data: bytes) -> None:
    path = folder / "headed.safetensors"
    if not path.exists():
        path.write_bytes(HEADED.read_bytes())
        frozen.head_path(path).parent.mkdir()
    frozen.head_path(path).write_bytes(data)
    model = codec.Codec(path, threads=1)
    parsed = container.unpack((DATA / "spic-q3.fic").read_bytes())
    try:
        embedding = model.run_head(parsed).embedding
        assert np.isfinite(embedding).all()
        counts["embedded"] += 1
        if model.head.classes:
            model.head.classify(np.zeros((8, 3, 3), np.float32))
    except FacecodecError as error:
        check_line(error)


def check_line(error: FacecodecError) -> None:
    assert "\n" not in str(error), repr(str(error))


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    rng = random.Random(seed)
    if rng.random() < RAW:
        return atheris.Mutate(data, max_size)
    try:
        metadata, parts = take_apart(data)
    except (ValueError, KeyError, TypeError, AttributeError, struct.error, RecursionError):
        metadata, parts = take_apart(rng.choice(SEEDS))
    metadata, parts = changed(metadata, parts, rng)
    if rng.random() < HASHED:
        rehash(metadata, parts)
    return join(metadata, parts, rng)[:max_size]


Parts = dict[str, tuple[str, list[int], bytes]]  # by name: type, shape, bytes


def take_apart(data: bytes) -> tuple[dict[str, str], Parts]:
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    metadata = {str(key): str(value) for key, value in header.pop("__metadata__", {}).items()}
    content = data[8 + length :]
    parts = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        parts[name] = (str(entry["dtype"]), list(entry["shape"]), content[begin:end])
    return metadata, parts


def join(metadata: dict[str, str], parts: Parts, rng: random.Random) -> bytes:
    header: dict[str, object] = {"__metadata__": metadata}
    at = 0
    for name, (kind, shape, content) in parts.items():
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [at, at + len(content)]}
        at += len(content)
    text = bytearray(json.dumps(header).encode("utf-8", "surrogatepass"))
    if rng.random() < 0.05:
        text[rng.randrange(len(text))] = rng.randrange(256)
    return struct.pack("<Q", len(text)) + bytes(text) + b"".join(each[2] for each in parts.values())


def changed(
    metadata: dict[str, str], parts: Parts, rng: random.Random
) -> tuple[dict[str, str], Parts]:
    """Returns metadata and tensors that differ in one place."""
    metadata, parts = dict(metadata), dict(parts)
    where = rng.choice(PLACES)
    if not parts or where == "metadata":
        key = rng.choice((*metadata, "encoder", "new"))
        metadata[key] = rng.choice(("", "00000000", "\0", "x" * 300, metadata.get(key, "")[::-1]))
        return metadata, parts
    if where == "card":
        metadata["card"] = changed_card(metadata.get("card", ""), rng)
        return metadata, parts
    graphs = [name for name in parts if name.endswith(".onnx")]
    others = [name for name in parts if name not in graphs]
    name = rng.choice(graphs if where == "graph" and graphs else others or graphs)
    kind, shape, content = parts[name]
    size = TYPES.get(kind, 1)
    if where in ("values", "graph") and content:
        parts[name] = (kind, shape, changed_bytes(content, size, where == "graph", rng))
    elif where == "type":
        kind = rng.choice(sorted(TYPES))
        items = len(content) // size
        if rng.random() < 0.5:  # as many numbers of it
            content = content[: items * TYPES[kind]].ljust(items * TYPES[kind], b"\1")
        parts[name] = (kind, shape, content)
    elif where == "shape":
        shape = rng.choice(
            (shape[::-1], [*shape, 1], [1, *shape], shape[1:], [], [0], [1 << 62, 4])
        )
        if rng.random() < 0.5:  # one more or fewer along a side
            shape = list(parts[name][1]) or [1]
            shape[rng.randrange(len(shape))] += rng.choice((-1, 1, 1))
        wanted = size * int(np.prod([float(max(side, 0)) for side in shape]))
        if wanted < 1 << 20:
            content = content[:wanted].ljust(wanted, content[:1] or b"\1")
        parts[name] = (kind, shape, content)
    else:
        parts[rng.choice(NAMES)] = parts.pop(name) if rng.random() < 0.5 else parts[name]
    return metadata, parts


def changed_bytes(content: bytes, size: int, graph: bool, rng: random.Random) -> bytes:
    out = bytearray(content)
    if graph or rng.random() < 0.2:
        at = rng.randrange(len(out))
        window = bytes(out[at : at + 64])
        out[at : at + 64] = atheris.Mutate(window, 64 if graph else len(window))
        return bytes(out) if graph else bytes(out[: len(content)].ljust(len(content), b"\0"))
    bits = 8 * size
    sign, nan, infinity = 1 << (bits - 1), 0x7FC00000, 0x7F800000
    extreme = rng.choice(
        (0, 1, 2, 2 * sign - 1, sign, sign - 1, nan, infinity, rng.getrandbits(bits))
    )
    word = (extreme & (2 * sign - 1)).to_bytes(size, "little")
    items = len(out) // size
    if rng.random() < 0.3:
        return word * items
    for _ in range(rng.randrange(1, 4)):
        at = size * rng.randrange(items) if items else 0
        out[at : at + size] = word
    return bytes(out[: len(content)])


def changed_card(text: str, rng: random.Random) -> str:
    try:
        card = dict(json.loads(text))
        key = rng.choice((*card, "more"))
    except (ValueError, TypeError, RecursionError):
        return rng.choice(("", "[]", "{}", "[" * 5000, "null"))
    if rng.random() < 0.3:
        card.pop(key, None)
    else:
        card[key] = rng.choice(CARDS)
    return json.dumps(card)


def rehash(metadata: dict[str, str], parts: Parts) -> None:
    """Makes the hashes valid, if there are tensors to hash."""
    kinds = {"U8": "|u1", "I16": "<i2", "F16": "<f2", "I32": "<i4", "F32": "<f4", "I64": "<i8"}
    try:
        arrays = {
            name: np.frombuffer(content, kinds[kind]).reshape(shape)
            for name, (kind, shape, content) in parts.items()
        }
        if metadata.get("format") == frozen.HEAD_FORMAT:
            metadata["hash"] = frozen._hash("head", arrays, list(arrays))[:8]
        else:
            arrays = steps.unpacked(arrays)  # the hashes are of whole tables
            family = json.loads(metadata["card"])["family"]
            metadata["fingerprint"] = frozen.fingerprint(str(family), arrays)
            metadata["encoder"] = frozen.encoder_hash(arrays)
    except (KeyError, TypeError, ValueError, RecursionError):
        pass


def main() -> None:
    longest = 2 * max(map(len, SEEDS))
    fuzz(one_input, mutate, SEEDS, timeout=SECONDS, rss_limit_mb=MEGABYTES, max_len=longest)


if __name__ == "__main__":
    main()
