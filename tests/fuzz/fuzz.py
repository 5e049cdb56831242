"""Coverage-guided fuzzing of all readers of files: container, info, verify, decode, embed, Pillow.

    make fuzz                                         # a million executions
    python tests/fuzz/fuzz.py -runs=20000 [libFuzzer's options] [CORPUS...]

Most inputs are damaged at random. One in eight is taken apart, changed in one part and put together
again with a valid checksum, so that it reaches entropy decoding and later stages. Any error but the
package's own is a finding, and so are more than SECONDS for a picture of LIMIT pixels, or more than
MEGABYTES. Former findings are in regressions/ beside this file, and a test decodes them.
"""

from __future__ import annotations

import io
import os
import random
from pathlib import Path

HERE = Path(__file__).parent
DATA = HERE.parent / "data"
os.environ["FACECODEC_MODELS"] = str(DATA)
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import atheris

with atheris.instrument_imports(include=["facecodec"]):
    from facecodec import codec, container, families, pillow_plugin
    from facecodec.cli import info

    for tag in families.FAMILIES:
        families.family_module(tag)

import numpy as np
from fuzzing import Counts, fuzz
from PIL import Image, UnidentifiedImageError

from facecodec.container import Container
from facecodec.errors import FacecodecError, FormatError

LIMIT, SECONDS, MEGABYTES = 1 << 14, 10, 1500
WHOLE = 1 / 8  # share of the inputs with a valid checksum
SEEDS = [path.read_bytes() for path in sorted(DATA.glob("*.fic"))]
MODELS = sorted({container.unpack(seed).fingerprint for seed in SEEDS})

counts = Counts(1000, "whole", "decoded", "embedded")


def one_input(data: bytes) -> None:
    """Passes an input to every reader. Each may raise only the package's own errors."""
    counts.begin()
    try:
        parsed = codec.open_container(data, LIMIT)
    except FacecodecError:
        parsed = None
    if parsed is None:
        for tell in (info.describe, lambda data: open_by_pillow(data).size):
            try:
                tell(data)
            except FacecodecError:
                continue
            container.unpack(data)  # it may have been refused only for its size
        return
    counts["whole"] += 1
    try:
        image = codec.codec_of(parsed).decode_container(parsed)
    except FacecodecError:
        image = None
    try:
        assert np.isfinite(codec.codec_of(parsed).run_head(parsed).embedding).all()
        counts["embedded"] += 1
    except FacecodecError:
        pass  # most models have no head, and some latents exceed the range of floats
    info_tells = info.describe(data)
    try:
        escapes = codec.codec_of(parsed).count_escapes(parsed)
    except FacecodecError:
        assert image is None
    else:
        assert image is not None
        assert escapes == codec.codec_of(parsed).symbols(parsed).escapes
    with open_by_pillow(data) as opened:
        assert opened.size == (parsed.width, parsed.height)
        try:
            opened.load()
        except FacecodecError:
            assert image is None
        else:
            assert image is not None
            assert image.tobytes() == opened.tobytes()
            assert info_tells["width"] == image.width
            counts["decoded"] += 1


def open_by_pillow(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=[pillow_plugin.FORMAT])
    except UnidentifiedImageError:
        raise FormatError("not for this plugin") from None


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    rng = random.Random(seed)
    if rng.random() > WHOLE:
        return atheris.Mutate(data, max_size)
    try:
        parsed = container.unpack(data)
    except FacecodecError:
        parsed = container.unpack(rng.choice(SEEDS))
    return changed(parsed, rng, max_size)[:max_size]


def changed(parsed: Container, rng: random.Random, max_size: int) -> bytes:
    """Returns a whole file that differs in one part."""
    streams, chunks = list(parsed.streams), list(parsed.chunks)
    fingerprint, quality, width, height = (
        parsed.fingerprint,
        parsed.quality_byte,
        parsed.width,
        parsed.height,
    )
    part = rng.choice(("stream", "stream", "stream", "size", "quality", "model", "count", "chunk"))
    if part == "stream":
        at = rng.randrange(len(streams))
        streams[at] = atheris.Mutate(streams[at] or b"\1", min(max_size, len(streams[at]) + 64))
    elif part == "size":
        width, height = (
            rng.choice((1, 15, 16, 17, 64, 65, 128, rng.randrange(1, 1 << 24))) for _ in range(2)
        )
    elif part == "quality":
        quality = rng.randrange(256)
    elif part == "model":
        fingerprint = rng.choice((*MODELS, rng.randbytes(4)))
    elif part == "count":
        others = [rng.choice(streams) for _ in range(rng.randrange(8))]
        # Some keep the first streams, which are then read before the missing one is noticed.
        streams = (streams[: rng.randrange(len(streams) + 1)] + others)[:7] or [b""]
    else:
        chunks.append((rng.choice(("EXIF", "ICCP", "abcd")), rng.randbytes(rng.randrange(200))))
    return container.pack(Container(fingerprint, quality, width, height, streams, chunks))


def main() -> None:
    pillow_plugin.register()
    Image.MAX_IMAGE_PIXELS = None  # Pillow's own limit is not tested here
    fuzz(one_input, mutate, SEEDS, timeout=SECONDS, rss_limit_mb=MEGABYTES, max_len=4096)


if __name__ == "__main__":
    main()
