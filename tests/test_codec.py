import io
import json
import math
import os
import socket
from dataclasses import astuple, replace

import numpy as np
import pytest
from PIL import Image

import facecodec
from conftest import CHECKOUT, DATA
from facecodec import container, frozen, sessions
from facecodec.bench.metrics import psnr
from facecodec.codec import Codec, codec_of, open_container
from facecodec.container import quality_byte
from facecodec.encoding import highest_within, lowest_accepted
from facecodec.errors import FormatError, ImageError, ModelError, UsageError
from faces import draw_face

GOLDEN = sorted(path.stem for path in DATA.glob("*.fic"))


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_files_decode_to_their_symbols_and_pixels(monkeypatch, name):
    monkeypatch.setenv("FACECODEC_MODELS", str(DATA))
    data = (DATA / f"{name}.fic").read_bytes()
    codec = codec_of(open_container(data))
    symbols = codec.symbols(open_container(data))
    for part, values in json.loads((DATA / "golden.json").read_text())[name].items():
        found = getattr(symbols, part)
        assert (found if isinstance(found, dict) else found.tolist()) == values
    pixels = np.asarray(codec.decode(data), int)
    assert np.abs(pixels - np.asarray(Image.open(DATA / f"{name}.png"), int)).max() <= 1


@pytest.mark.parametrize(
    "size", [(1, 1), (1, 40), (40, 1), (15, 17), (16, 16), (33, 65), (300, 20)]
)
def test_any_size_comes_back_with_its_size(tiny, size):
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    assert np.asarray(tiny.decode(tiny.encode(pixels, 4))).shape == (*size, 3)


def coded_in_tiles(codec, picture, monkeypatch, tile: int) -> tuple:
    monkeypatch.setattr(sessions, "TILE", tile)
    latents = codec.family.analyse(picture, 96)
    return *latents, codec.family.decode(codec.family.encode(latents, 96), picture.shape[:2], 96)


@pytest.mark.parametrize("size", [(250, 250), (64, 200), (130, 67), (193, 129)])
def test_tiles_change_nothing(shipped, monkeypatch, size):
    rng = np.random.default_rng(1)
    picture = rng.integers(0, 256, (*size, 3), np.uint8)
    y, z, pixels = coded_in_tiles(shipped, picture, monkeypatch, 1024)
    tiled_y, tiled_z, tiled_pixels = coded_in_tiles(shipped, picture, monkeypatch, 64)
    assert np.abs(tiled_y - y).max() < 1e-3
    assert np.abs(tiled_z - z).max() < 1e-3
    assert np.abs(tiled_pixels.astype(int) - pixels).max() <= 1


@pytest.mark.parametrize("part", ["g_a", "h_a", "g_s"])
def test_a_tile_that_saw_less_of_its_surroundings_would_differ(shipped, monkeypatch, part):
    picture = np.random.default_rng(1).integers(0, 256, (250, 250, 3), np.uint8)
    y, z, pixels = coded_in_tiles(shipped, picture, monkeypatch, 1024)
    monkeypatch.setitem(shipped._tensors, f"{part}.reach", np.zeros(1, np.uint8))
    tiled_y, tiled_z, tiled_pixels = coded_in_tiles(shipped, picture, monkeypatch, 64)
    differs = {
        "g_a": np.abs(tiled_y - y).max() > 1e-3,
        "h_a": np.abs(tiled_z - z).max() > 1e-3,
        "g_s": np.abs(tiled_pixels.astype(int) - pixels).max() > 1,
    }
    assert differs[part]


@pytest.mark.parametrize("name", ["tiny-map", "tiny-lfic"])
def test_strips_change_nothing(monkeypatch, picture, name):
    codec = Codec(DATA / f"{name}.safetensors")
    wide = np.tile(picture, (7, 9, 1))  # several bands and strips, not a multiple of either
    whole = codec.encode(wide, 5)
    pixels = np.asarray(codec.decode(whole))
    monkeypatch.setattr("facecodec.families.hyperprior.STRIP", 8)
    assert codec.encode(wide, 5) == whole
    np.testing.assert_array_equal(np.asarray(codec.decode(whole)), pixels)
    codec.check(whole, wide)


@pytest.mark.parametrize("path", sorted(DATA.glob("*.fic")), ids=lambda path: path.stem)
def test_escapes_are_counted_without_keeping_symbols(monkeypatch, path):
    monkeypatch.setenv("FACECODEC_MODELS", str(DATA))
    parsed = open_container(path.read_bytes())
    codec = codec_of(parsed)
    assert codec.count_escapes(parsed) == codec.symbols(parsed).escapes
    damaged = replace(parsed, streams=[b"\x07" + each for each in parsed.streams])
    with pytest.raises(FormatError):
        codec.count_escapes(damaged)


def test_a_name_in_place_of_content_is_told_what_to_do(tiny):
    with pytest.raises(ImageError, match=r"not str: open a file with PIL.Image.open"):
        tiny.encode("face.png")
    for wrong in ("face.fic", io.BytesIO(b"file"), 3, None):
        with pytest.raises(TypeError, match=f"the bytes of a file, not {type(wrong).__name__}"):
            tiny.decode(wrong)


def test_the_best_quality_within_a_limit_is_found(tiny, picture):
    at = [len(tiny.encode(picture, 1 + byte / 32)) for byte in range(225)]
    for limit in (at[0], at[100], at[100] + 1, at[224], at[224] + 1000):
        data = tiny.encode_within(picture, limit)
        assert len(data) <= limit
        assert data == tiny.encode(picture, open_container(data).q)
        assert (
            open_container(data).quality_byte == 224
            or at[open_container(data).quality_byte + 1] > limit
        )
    with pytest.raises(ImageError, match=f"{at[0]} bytes at q 1 do not fit into 20"):
        tiny.encode_within(picture, 20)
    for limit in (0, -1, float("nan")):
        with pytest.raises(UsageError, match=f"no file has only {limit} bytes"):
            tiny.encode_within(picture, limit)


def test_another_picture_than_the_encoded_one_is_no_misread_file(tiny, picture):
    data = tiny.encode(picture)
    tiny.check(data, picture)
    with pytest.raises(UsageError, match="give the picture that was encoded"):
        tiny.check(data, picture[:10, :10])


def test_the_lowest_quality_that_is_accepted_is_found(tiny, picture, monkeypatch):
    monkeypatch.setattr(tiny, "decode", lambda data, limit: open_container(data).q)
    for lowest in (1, 3.5, 8):
        data = tiny.encode_accepted(picture, lambda q, lowest=lowest: q >= lowest)
        assert data == tiny.encode(picture, lowest)
    asked = []
    with pytest.raises(ImageError, match="even q 8"):
        tiny.encode_accepted(picture, lambda q: bool(asked.append(q)))
    assert asked[-1] == 8


@pytest.mark.parametrize("start", [0, 5, 100, 224])
def test_the_lowest_that_is_accepted_is_found_in_few_tries(start):
    for lowest in range(start + 1):
        asked = []
        found = lowest_accepted(
            start,
            lambda byte, lowest=lowest, asked=asked: bool(asked.append(byte)) or byte >= lowest,
        )
        assert found == lowest
        assert len(asked) <= 14
    assert lowest_accepted(start, lambda byte: False) is None


@pytest.mark.parametrize(("least", "reached"), [(3, 3), (9, 4)])
def test_a_search_is_kept_only_if_its_file_is_accepted(tiny, picture, monkeypatch, least, reached):
    """What the analysis gives is accepted from q 4 on, and what a search gives from `least` on."""

    class Search:
        def improve(self, pixels, latents, byte, effort, progress):
            return tuple(np.zeros_like(each) for each in latents)

    def accepts(data):
        q = open_container(data).q
        return q >= (4 if data == tiny.encode(picture, q) else least)

    monkeypatch.setitem(vars(tiny), "search", Search())
    monkeypatch.setattr(tiny, "decode", lambda data, limit: data)
    assert open_container(tiny.encode_accepted(picture, accepts)).q == 4
    assert open_container(tiny.encode_accepted(picture, accepts, effort=2)).q == reached


def test_a_file_is_checked_against_its_picture(tiny, tiny_map, picture):
    for codec in (tiny, tiny_map):
        data = codec.encode(picture, 5)
        codec.check(data, picture)
        with pytest.raises(FormatError, match="does not decode to what was encoded"):
            codec.check(data, picture[:, ::-1])


def assert_rounded_latents(family, y, z, byte: int, symbols) -> None:
    """Checks that the symbols read are the rounded latents."""
    gain = np.moveaxis(family.gains["y_gain"][symbols.qualities], -1, 0) / 2**16
    np.testing.assert_array_equal(symbols.y, np.rint(y * gain - symbols.means / 2**10))
    z_gain = 2**16 / family.z.inverse_gain[byte][:, None, None]
    np.testing.assert_array_equal(symbols.z, np.rint(z * z_gain))


def assert_symbols_round_trip(codec, pixels: np.ndarray, byte: int) -> None:
    latents = codec.family.analyse(pixels, byte)
    streams = codec.family.encode(latents, byte)
    symbols = codec.family.decode_symbols(streams, pixels.shape[:2], byte)
    assert_rounded_latents(codec.family, *latents, byte, symbols)


def test_the_encoders_symbols_are_the_decoders(shipped):
    rng = np.random.default_rng(0)
    board = (255 * (np.indices((70, 90)).sum(0) % 2)).astype(np.uint8)
    for pixels in (
        rng.integers(0, 256, (100, 80, 3), dtype=np.uint8),
        255 * rng.integers(0, 2, (64, 300, 3), dtype=np.uint8),
        np.repeat(board[..., None], 3, axis=2),
        np.full((50, 50, 3), 255, np.uint8),
    ):
        assert_symbols_round_trip(shipped, pixels, 224)


def test_a_better_quality_takes_more_bytes_and_loses_less(shipped):
    face = draw_face(1)
    sizes, errors = [], []
    for quality in (1, 2.5, 4, 6, 8):
        data = shipped.encode(face, quality)
        sizes.append(len(data))
        errors.append(
            np.square(np.asarray(shipped.decode(data), float) - np.asarray(face, float)).mean()
        )
    assert sizes == sorted(set(sizes))
    assert errors == sorted(set(errors), reverse=True)


@pytest.fixture
def thumbnail() -> np.ndarray:
    """A picture with a face of about 40 pixels."""
    return np.asarray(Image.fromarray(draw_face(1)).resize((100, 96), Image.Resampling.LANCZOS))


def test_a_small_picture_is_coded_at_twice_its_size(shipped, thumbnail):
    for quality, doubled in ((1, False), (2.4375, False), (2.5, True), (8, True)):
        data = shipped.encode(thumbnail, quality)
        parsed = open_container(data)
        assert (parsed.doubled, parsed.q) == (doubled, quality)
        assert shipped.decode(data).size == (100, 96)
        shipped.check(data, thumbnail)
        with pytest.raises(FormatError):
            shipped.check(data, thumbnail[::-1])
    assert not open_container(shipped.encode(draw_face(1), 8)).doubled
    assert not open_container(shipped.encode(np.zeros((129, 20, 3), np.uint8), 8)).doubled


def test_doubling_is_better_in_as_many_bytes(shipped, thumbnail, monkeypatch):
    doubled = shipped.encode(thumbnail, 5)
    monkeypatch.setattr("facecodec.encoding.LONGEST", 0)
    plain = shipped.encode_within(thumbnail, round(1.02 * len(doubled)))
    assert len(plain) > len(doubled)
    better, worse = (psnr(thumbnail, np.asarray(shipped.decode(each))) for each in (doubled, plain))
    assert better > worse + 1


@pytest.mark.parametrize("effort", [1, 2])
def test_limits_hold_on_both_sides_of_doubling(shipped, thumbnail, effort):
    kinds = set()
    for limit in (200, 350, 1000):
        picture = shipped.analyse(thumbnail, effort=effort)
        data, byte = astuple(picture.within(limit))
        assert 0.95 * limit < len(data) <= limit
        kinds.add(open_container(data).doubled)
        before = open_container(picture.unsearched(byte).data)
        assert before.doubled == open_container(data).doubled
        assert shipped.decode(data).size == (100, 96)
    assert kinds == {True, False}


def test_quality_is_rounded_to_a_thirty_second():
    assert [quality_byte(q) for q in (1, 1.01, 1.02, 4, 8)] == [0, 0, 1, 96, 224]
    for wrong in (0.99, 8.01, float("nan")):
        with pytest.raises(UsageError, match=r"outside 1\.\.8"):
            quality_byte(wrong)


def test_python_api_takes_pillow_images_and_arrays(picture):
    data = facecodec.encode(picture, quality=3, model=str(DATA / "tiny.safetensors"))
    assert data == facecodec.encode(
        Image.fromarray(picture), quality=3, model=str(DATA / "tiny.safetensors")
    )
    grey = facecodec.encode(picture[..., 0])
    image = facecodec.decode(grey)
    assert image.mode == "RGB"
    assert image.size == (61, 45)


@pytest.mark.parametrize(
    "array", [np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)]
)
def test_other_arrays_are_refused(tiny, array):
    with pytest.raises(ImageError, match="expected a uint8 array"):
        tiny.encode(array)


def test_an_empty_pillow_image_is_refused(tiny):
    with pytest.raises(ImageError, match="expected a uint8 array"):
        tiny.encode(Image.new("RGB", (0, 5)))


def test_a_claimed_size_is_checked_before_anything_is_allocated(tiny):
    data = container.pack(
        container.Container(bytes.fromhex(tiny.card.fingerprint), 0, 60000, 60000, [b"", b""])
    )
    with pytest.raises(ImageError, match="raise max_pixels"):
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
            tiny.decode(
                container.pack(
                    container.Container(mark, parsed.quality_byte, width, height, streams)
                )
            )


def test_an_unknown_model_is_named_with_what_is_installed(tiny, picture):
    with pytest.raises(
        ModelError, match=rf"{tiny.card.fingerprint}, which is not installed; installed: .*l2-rec"
    ):
        facecodec.decode(tiny.encode(picture))
    with pytest.raises(UsageError, match=r"no model 'none-such'; installed: .*l2-rec"):
        facecodec.encode(picture, model="none-such")


def test_a_file_of_another_model_is_refused_by_name(tiny, shipped, picture):
    with pytest.raises(ModelError, match="not with tiny"):
        tiny.decode(shipped.encode(picture))


def test_kodak_round_trips_its_symbols_at_the_best_quality(shipped, faces_root):
    for path in sorted((faces_root / "kodak").glob("*.png"))[::4]:
        assert_symbols_round_trip(shipped, np.asarray(Image.open(path).convert("RGB")), 224)


def test_latents_beyond_everything_are_escaped_and_come_back(shipped):
    """Tests extreme latents, which no picture gives: mostly escapes, in both streams."""
    rng = np.random.default_rng(3)
    family = shipped.family
    y = rng.normal(0, 1, (family.channels, 33, 5)) * 10 ** rng.uniform(
        -2, 3, (family.channels, 33, 5)
    )
    z = rng.normal(0, 1, (family.z.channels, 9, 2)) * 10 ** rng.uniform(
        -1, 3, (family.z.channels, 9, 2)
    )
    symbols = family.decode_symbols(family.encode((y, z), 100), (16 * 33, 16 * 5), 100)
    assert min(symbols.escapes.values()) > 100
    assert_rounded_latents(family, y, z, 100, symbols)


@pytest.mark.parametrize(
    ("size", "most"),
    [
        (lambda byte: round(900 * math.exp(byte / 90)), 5),  # as files grow
        (lambda byte: round(900 * math.exp(byte / 60)), 6),
        (lambda byte: 900 + 5 * byte, 12),
        (lambda byte: 900 if byte < 130 else 5000, 12),
        (lambda byte: 1200, 12),
    ],
)
@pytest.mark.parametrize("limit", [800, 900, 1199, 1200, 1800, 4999, 5000, 20000])
def test_the_highest_quality_within_a_limit_is_found_in_few_tries(size, most, limit):
    tried = []

    def counted(byte: int) -> int:
        tried.append(byte)
        return size(byte)

    fitting = [byte for byte in range(225) if size(byte) <= limit]
    assert highest_within(limit, counted) == (fitting[-1] if fitting else None)
    assert len(tried) == len(set(tried)) <= most


def test_a_latent_too_large_to_code_is_an_image_error(tiny, picture, monkeypatch):
    y, z = tiny.family.analyse(picture, 0)
    monkeypatch.setattr(tiny.family, "analyse", lambda pixels, byte: (y * 1e9, z))
    with pytest.raises(ImageError, match="cannot be coded"):
        tiny.encode(picture)


def test_the_api_raises_its_own_errors_alone(tiny, picture, tmp_path):
    Image.fromarray(picture).save(tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:-400])
    with pytest.raises(ImageError, match="damaged"):
        tiny.encode(Image.open(tmp_path / "cut.jpg"))
    with pytest.raises(ImageError, match="not list"):
        tiny.encode([[1, 2]])
    with pytest.raises(TypeError, match="a quality is a number"):
        tiny.encode(picture, "3")
    data = tiny.encode(picture)
    assert tiny.decode(memoryview(data)) == tiny.decode(data)
    assert facecodec.open_model(DATA / "tiny.safetensors").card.name == "tiny"


def test_a_side_the_format_cannot_hold_is_refused(tiny):
    flat = np.broadcast_to(np.zeros((1, 1, 3), np.uint8), (1, container.MAX_SIDE + 1, 3))
    with pytest.raises(ImageError, match="a side is longer"):
        tiny.encode(flat)


@pytest.mark.parametrize(
    "path", sorted((CHECKOUT / "weights").glob("*.safetensors")), ids=lambda path: path.stem
)
def test_shipped_models_keep_their_promises(path):
    """A model has at most 6 MB and a known past, and goes from few bits to good pictures."""
    assert path.stat().st_size <= 6_000_000
    card = frozen.read_card(path)
    assert card.steps == sum(run["steps"] for run in card.runs) > 0
    made = [run["objective"] for run in card.runs if run["objective"] != "rate"]
    assert made[-1] == card.objective  # slices that were trained last keep the pictures
    rates = [row["bpp"] for row in card.rates]
    assert rates == sorted(set(rates))
    fewest, best = (0.06, 0.973) if card.objective == "ip" else (0.11, 0.994)
    if card.family in ("compact-png", "lfic", "spic"):
        best = {"compact-png": 0.96, "lfic": 0.992, "spic": 0.989}[card.family]
    assert rates[0] <= fewest
    assert card.rates[-1]["ms_ssim"] >= best


def test_all_weights_stay_within_their_limit():
    files = [file for file in (CHECKOUT / "weights").rglob("*") if file.is_file()]
    assert 0 < sum(file.stat().st_size for file in files) <= 60_000_000


def test_coding_opens_no_connection(monkeypatch, picture, tmp_path):
    """There is no telemetry either: it is turned off before its library is loaded."""

    def refuse(*_):
        raise AssertionError("a connection is opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    monkeypatch.setenv("FACECODEC_MODELS", str(DATA))
    facecodec.decode(facecodec.encode(picture, 4))
    unknown = replace(open_container((DATA / "flat-q1.fic").read_bytes()), fingerprint=b"none")
    with pytest.raises(ModelError, match="not installed"):
        facecodec.decode(container.pack(unknown))
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
