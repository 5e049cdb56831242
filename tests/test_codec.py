import json

import numpy as np
import pytest
from conftest import DATA
from PIL import Image

import facecodec
from facecodec import container
from facecodec.codec import open_container
from facecodec.container import quality_byte
from facecodec.errors import FormatError, ImageError, ModelError, UsageError

GOLDEN = sorted(path.stem for path in DATA.glob("*.fic"))


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_files_decode_to_their_symbols_and_pixels(tiny, name):
    data = (DATA / f"{name}.fic").read_bytes()
    expected = json.loads((DATA / "golden.json").read_text())[name]
    symbols = tiny.symbols(open_container(data))
    assert symbols.z.tolist() == expected["z"]
    assert symbols.y.tolist() == expected["y"]
    assert symbols.escapes == expected["escapes"]
    pixels = np.asarray(tiny.decode(data), int)
    assert np.abs(pixels - np.asarray(Image.open(DATA / f"{name}.png"), int)).max() <= 1


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (15, 17), (16, 16), (33, 65), (300, 20)])
def test_any_size_comes_back_with_its_size(tiny, size):
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    assert np.asarray(tiny.decode(tiny.encode(pixels, 4))).shape == (*size, 3)


def test_the_encoders_symbols_are_the_decoders(shipped):
    """White noise, a checkerboard and a flat picture at q 8: what was rounded is what is read."""
    rng = np.random.default_rng(0)
    board = (255 * (np.indices((70, 90)).sum(0) % 2)).astype(np.uint8)
    for pixels in (
        rng.integers(0, 256, (100, 80, 3), dtype=np.uint8),
        255 * rng.integers(0, 2, (64, 300, 3), dtype=np.uint8),
        np.repeat(board[..., None], 3, axis=2),
        np.full((50, 50, 3), 255, np.uint8),
    ):
        byte = quality_byte(8)
        y, z = shipped.transforms.analyse(pixels)
        streams = shipped.family.encode(y, z, byte)
        symbols = shipped.family.decode_symbols(streams, y.shape[1:], byte)
        gain = shipped.family.gains["y_gain"][byte][:, None, None] / 2**16
        np.testing.assert_array_equal(symbols.y, np.rint(y * gain - symbols.means / 2**10))
        z_gain = 2**16 / shipped.family.gains["z_inverse_gain"][byte][:, None, None]
        np.testing.assert_array_equal(symbols.z, np.rint(z * z_gain))


def test_a_better_quality_takes_more_bytes_and_loses_less(shipped, faces_root):
    face = Image.open(faces_root / "lfw-deepfunneled/Aaron_Eckhart/Aaron_Eckhart_0001.jpg")
    sizes, errors = [], []
    for quality in (1, 2.5, 4, 6, 8):
        data = shipped.encode(face, quality)
        sizes.append(len(data))
        errors.append(np.square(np.asarray(shipped.decode(data), float) - np.asarray(face, float)).mean())
    assert sizes == sorted(set(sizes))
    assert errors == sorted(set(errors), reverse=True)


def test_quality_is_rounded_to_a_thirty_second():
    assert [quality_byte(q) for q in (1, 1.01, 1.02, 4, 8)] == [0, 0, 1, 96, 224]
    for wrong in (0.99, 8.01, float("nan")):
        with pytest.raises(UsageError, match=r"outside 1\.\.8"):
            quality_byte(wrong)


def test_python_api_takes_pillow_images_and_arrays(picture):
    data = facecodec.encode(picture, quality=3, model=str(DATA / "tiny.safetensors"))
    assert data == facecodec.encode(Image.fromarray(picture), quality=3, model=str(DATA / "tiny.safetensors"))
    grey = facecodec.encode(picture[..., 0])
    image = facecodec.decode(grey)
    assert image.mode == "RGB"
    assert image.size == (61, 45)


@pytest.mark.parametrize("array", [np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)])
def test_other_arrays_are_refused(tiny, array):
    with pytest.raises(ImageError, match="expected a uint8 array"):
        tiny.encode(array)


def test_a_claimed_size_is_checked_before_anything_is_allocated(tiny):
    data = container.pack(container.Container(bytes.fromhex(tiny.card.fingerprint), 0, 60000, 60000, [b"", b""]))
    with pytest.raises(ImageError, match="--max-pixels"):
        tiny.decode(data)


def test_streams_that_do_not_fit_their_header_are_refused(tiny, picture):
    parsed = open_container(tiny.encode(picture, 4))
    mark = parsed.fingerprint
    for width, height, streams in (
        (parsed.width * 2, parsed.height, parsed.streams),
        (parsed.width, parsed.height, [parsed.streams[0], parsed.streams[1][:-3]]),
        (parsed.width, parsed.height, [b"", parsed.streams[1]]),
        (parsed.width, parsed.height, parsed.streams[:1]),
    ):
        with pytest.raises(FormatError):
            tiny.decode(container.pack(container.Container(mark, parsed.quality, width, height, streams)))


def test_an_unknown_model_is_named_with_what_is_installed(tiny, picture):
    with pytest.raises(ModelError, match=rf"{tiny.card.fingerprint}, which is not installed; installed: .*l2-rec"):
        facecodec.decode(tiny.encode(picture))
    with pytest.raises(UsageError, match=r"no model 'none-such'; installed: .*l2-rec"):
        facecodec.encode(picture, model="none-such")
