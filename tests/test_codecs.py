"""Every reference codec makes real files that come back, fewer bytes for a coarser setting, and says what it lacks."""

import numpy as np
import pytest

from facecodec.bench.codecs import code, ffmpeg, find_codec, references
from facecodec.errors import UsageError

pytest.importorskip("imageio_ffmpeg", reason="the 'bench' extra is not installed")


@pytest.fixture(scope="module")
def photo():
    """A part of a real photograph with odd sides: a face, half of it dark."""
    data = pytest.importorskip("skimage.data", reason="scikit-image is not installed")
    return np.ascontiguousarray(data.astronaut()[20:173, 130:321])


def usable(name: str):
    codec = find_codec(name)
    reason = codec.missing()
    if reason:
        pytest.skip(f"{name}: {reason}")
    return codec


@pytest.mark.parametrize("name", [name for name in references() if name != "original"])
def test_finer_settings_are_larger_and_closer(name, photo, tmp_path):
    codec = usable(name)
    measured = []
    for setting in codec.settings:
        size, decoded = code(name, photo, setting, tmp_path / "coded")
        assert decoded.shape == photo.shape
        assert decoded.dtype == np.uint8
        measured.append((size, np.square(decoded.astype(float) - photo).mean()))
    sizes, errors = zip(*measured, strict=True)
    assert list(sizes) == sorted(set(sizes))
    assert list(errors) == sorted(set(errors), reverse=True)
    assert len(set(sizes)) == len(codec.settings) >= 6
    assert codec.version()


def test_x265_text_costs_more_than_two_kilobytes_and_changes_no_pixel(photo):
    usable("hevc")
    plain, text = (find_codec(name).encode(photo, 28) for name in ("hevc", "hevc-text"))
    assert 2000 < len(text) - len(plain) < 3000
    shape = photo.shape[:2]
    np.testing.assert_array_equal(find_codec("hevc").decode(plain, shape), find_codec("hevc").decode(text, shape))


def test_files_are_what_their_names_say(photo):
    starts = {
        "jpeg": b"\xff\xd8",
        "jpeg2000": b"\xff\x4f",
        "webp": b"RIFF",
        "jpegxl": b"\xff\x0a",
        "hevc": b"\0\0\0\x01",
    }
    for name, start in starts.items():
        codec = usable(name)
        assert codec.encode(photo, codec.settings[2]).startswith(start), name


def test_a_model_of_ours_is_a_codec_too(photo, tmp_path):
    size, decoded = code("l2-rec", photo, 3, tmp_path / "coded")
    assert (tmp_path / "coded").read_bytes()[:2] == b"\xf1\xc1"
    assert size == (tmp_path / "coded").stat().st_size
    assert decoded.shape == photo.shape
    assert find_codec("l2-rec").version().startswith("391d2310, file ")


def test_an_unknown_codec_lists_what_there_is():
    with pytest.raises(UsageError, match=r"no model 'hvec'; installed: .*; reference codecs: .*jpeg, .*hevc"):
        find_codec("hvec")


def test_an_ffmpeg_without_the_encoder_is_said(monkeypatch):
    assert "no ffmpeg with libnonsense" in ffmpeg.missing("libnonsense")
    monkeypatch.setattr(ffmpeg, "_candidates", list)
    ffmpeg.executable.cache_clear()
    assert "no ffmpeg with libx265" in find_codec("hevc").missing()
    ffmpeg.executable.cache_clear()


def test_a_zoo_without_its_weights_is_said(monkeypatch):
    pytest.importorskip("compressai", reason="the 'train' extra is not installed")
    from facecodec.bench.codecs import zoo

    def offline(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr("compressai.zoo.bmshj2018_hyperprior", offline)
    zoo.network.cache_clear()
    assert "could not be downloaded: no route to host" in zoo.missing()
