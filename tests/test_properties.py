"""Encodes and decodes pictures of random sizes, modes and contents."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from conftest import TINY
from facecodec.codec import Codec, open_container
from facecodec.container import quality_byte
from facecodec.images import as_rgb

CODEC = Codec(TINY)
MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "I;16")


@st.composite
def pictures(draw) -> Image.Image:
    """Draws noise of some contrast, flat at zero contrast, in any mode."""
    height, width = draw(st.integers(1, 70)), draw(st.integers(1, 70))
    low = draw(st.integers(0, 255))
    high = draw(st.integers(low, 255))
    noise = np.random.default_rng(draw(st.integers(0, 2**32 - 1))).integers(
        low, high + 1, (height, width, 4), np.uint8
    )
    mode = draw(st.sampled_from(MODES))
    if mode == "I;16":
        return Image.fromarray(noise[..., 0].astype(np.uint16) << 8)
    if mode == "LAB":
        return Image.frombytes("LAB", (width, height), noise[..., :3].tobytes())
    return (
        Image.fromarray(noise, "RGBA").convert("RGB").convert(mode)
        if mode != "RGBA"
        else Image.fromarray(noise)
    )


@settings(max_examples=60, deadline=None)
@given(pictures(), st.floats(1, 8))
def test_any_picture_comes_back_with_its_size_and_its_symbols(picture, quality):
    data = CODEC.encode(picture, quality)
    CODEC.check(data, picture)
    parsed = open_container(data)
    assert (parsed.width, parsed.height, parsed.quality_byte) == (
        *picture.size,
        quality_byte(quality),
    )
    decoded = CODEC.decode(data)
    assert (decoded.mode, decoded.size) == ("RGB", picture.size)
    assert CODEC.encode(as_rgb(picture), quality) == data
