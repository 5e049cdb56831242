"""Every reference codec makes real files, smaller at a coarser setting, or says what it lacks."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from facecodec.bench.codecs import at_effort, code, ffmpeg, find_codec, references, unusable
from facecodec.bench.codecs.fit import nearest, scale_at
from facecodec.bench.speed import TASKS, speed_results
from facecodec.errors import ImageError, UsageError

pytest.importorskip("imageio_ffmpeg", reason="the 'bench' extra is not installed")


@pytest.fixture(scope="module")
def photo():
    """A part of a real photograph with odd sides: a face, half in the dark."""
    data = pytest.importorskip("skimage.data", reason="scikit-image is not installed")
    return np.ascontiguousarray(data.astronaut()[20:173, 130:321])


def usable(name: str):
    reason = unusable(name)
    if reason:
        pytest.skip(f"{name}: {reason}")
    return find_codec(name)


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
    np.testing.assert_array_equal(
        find_codec("hevc").decode(plain, shape), find_codec("hevc").decode(text, shape)
    )


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
    assert find_codec("l2-rec").version().startswith("cd678c04, file ")


@pytest.mark.parametrize("name", ["jpeg", "hevc", "l2-rec"])
def test_a_codec_made_to_fit_keeps_to_its_bytes_and_gives_the_picture_back_whole(
    name, photo, tmp_path
):
    usable(name)
    for scale in (1, 0.5, 0.3):
        size, decoded = code(f"{name}@{scale}", photo, 1024, tmp_path / "coded")
        assert 700 < size <= 1024
        assert decoded.shape == photo.shape
        assert np.square(decoded.astype(float) - photo).mean() < 1500


@pytest.mark.parametrize("scale", ["0", "1.5", "nan", "half"])
def test_what_is_no_scale_is_refused(scale):
    with pytest.raises(UsageError, match="write a scale of 0 to 1"):
        find_codec(f"jpeg@{scale}")


def test_what_does_not_fit_is_shrunk_further_and_refused_at_last(photo):
    jpeg = usable("jpeg@1")
    assert len(jpeg.encode(photo, 600)) <= 600 < len(find_codec("jpeg").encode(photo, 1))
    with pytest.raises(ImageError, match="jpeg cannot make 10 bytes of 191x153 pixels"):
        jpeg.encode(photo, 10)


def test_the_scale_is_that_of_the_nearest_rate():
    rule = {0.066: 0.25, 0.131: 0.5, 0.262: 1}
    found = [scale_at(rule, bpp) for bpp in (0.01, 0.066, 0.09, 0.1, 0.131, 0.25, 3)]
    assert found == [0.25, 0.25, 0.25, 0.5, 0.5, 1, 1]


def test_the_nearest_file_may_be_above_or_below(photo):
    codec = usable("jpeg")
    sizes = [len(codec.encode(photo, quality)) for quality in codec.fine]
    for wanted in (sizes[10] + 1, sizes[11] - 1, 1, 10**6):
        setting, file = nearest(codec, photo, wanted)
        assert abs(len(file) - wanted) == min(abs(size - wanted) for size in sizes)
        assert file == codec.encode(photo, setting)


@pytest.mark.parametrize("name", [name for name in references() if name != "original"] + ["l2-rec"])
def test_programs_do_what_the_codec_does(name, photo, tmp_path):
    codec = usable(name)
    if codec.commands is None:
        pytest.skip(f"{name} has no program")
    even = photo[:152, :190]
    Image.fromarray(even).save(tmp_path / "x.png")
    setting = codec.settings[2]
    folders = [tmp_path / name for name in ("pictures", "coded", "restored")]
    commands = codec.commands
    subprocess.run(commands.encode(setting, tmp_path / "x.png", tmp_path / "y.fic"), check=True)
    subprocess.run(commands.decode(tmp_path / "y.fic", tmp_path / "y.png"), check=True)
    assert (tmp_path / "y.fic").stat().st_size == pytest.approx(
        len(codec.encode(even, setting)), rel=0.05
    )
    wanted = codec.decode((tmp_path / "y.fic").read_bytes(), even.shape[:2]).astype(float)
    assert np.abs(np.asarray(Image.open(tmp_path / "y.png").convert("RGB")) - wanted).mean() < 1
    if commands.encode_many:
        for folder in folders:
            folder.mkdir()
        (tmp_path / "x.png").rename(folders[0] / "x.png")
        for command in (
            commands.encode_many(setting, *folders[:2]),
            commands.decode_many(*folders[1:]),
        ):
            subprocess.run(command, check=True, capture_output=True)
        assert (folders[1] / "x.fic").read_bytes() == (tmp_path / "y.fic").read_bytes()
        assert (folders[2] / "x.png").read_bytes() == (tmp_path / "y.png").read_bytes()


def test_codecs_are_timed_side_by_side(photo, tmp_path):
    usable("hevc")
    for name in ("a", "b"):
        Image.fromarray(photo).save(tmp_path / f"{name}.png")
    rounds = []
    output = speed_results(
        {"jpeg": (20,), "hevc": (), "original": ()},
        [tmp_path / "a.png", tmp_path / "b.png"],
        1,
        lambda *each: rounds.append(each),
    )
    assert output["skipped"] == {}
    assert [(each["codec"], each["reference"]) for each in output["codecs"]] == [
        ("jpeg", True),
        ("hevc", True),
    ]
    assert output["codecs"][0]["setting"] == 20
    assert (output["images"], output["size"]) == (2, "191x153")
    assert all(each[task]["median"] > 0 for each in output["codecs"] for task in TASKS)
    assert rounds == [(0, 1), (1, 1)]


def test_an_unknown_codec_lists_what_there_is():
    with pytest.raises(
        UsageError, match=r"no model 'hvec'; installed: .*; reference codecs: .*jpeg, .*hevc"
    ):
        find_codec("hvec")


@pytest.fixture
def other_ffmpeg(tmp_path, monkeypatch):
    """Puts another program on the path as ffmpeg, and forgets the former choice."""

    def put(body: str) -> str:
        program = tmp_path / "bin" / "ffmpeg"
        program.parent.mkdir()
        program.write_text(f"#!{sys.executable}\n{body}")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
        return str(program)

    for forget in (ffmpeg._chosen.cache_clear, unusable.cache_clear):
        forget()
    yield put
    for forget in (ffmpeg._chosen.cache_clear, unusable.cache_clear):
        forget()


# Like Debian 12's ffmpeg: it lists the encoder and writes a file, but cannot read it from a pipe.
WRITES_ONLY = """
import sys
if "-encoders" in sys.argv:
    print(" V....D libx265 ", " V....D libjxl ", sep="\\n")
elif "-c:v" in sys.argv:
    sys.stdout.write("a file")
else:
    sys.exit("Output file #0 does not contain any stream")
"""


def test_an_ffmpeg_that_cannot_read_what_it_writes_gives_way_to_the_bundled_one(
    other_ffmpeg, photo, tmp_path
):
    broken = other_ffmpeg(WRITES_ONLY)
    codec = find_codec("jpegxl")
    assert shutil.which("ffmpeg") == broken
    assert unusable("jpegxl") is None
    assert codec.commands.encode(1, tmp_path / "x.png", tmp_path / "y.fic")[0] != broken
    assert codec.decode(codec.encode(photo, 1), photo.shape[:2]).shape == photo.shape


def test_without_a_usable_ffmpeg_its_codecs_say_what_each_ffmpeg_lacks(other_ffmpeg, monkeypatch):
    broken = other_ffmpeg(WRITES_ONLY)
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    for name in ("hevc", "jpegxl"):
        reason = unusable(name)
        assert f"{broken}: Output file #0 does not contain any stream" in reason
        assert "pip install 'facecodec[bench]'" in reason
    monkeypatch.setenv("PATH", "")
    ffmpeg._chosen.cache_clear()
    assert "none is on the path" in find_codec("hevc").missing()


def test_an_encoder_that_no_ffmpeg_has_is_said():
    reason = ffmpeg.Format("libnonsense", "hevc", "hevc").missing()
    assert "no ffmpeg writes and reads libnonsense" in reason
    assert reason.endswith("ncoder not found)") or "Unknown encoder 'libnonsense'" in reason


def test_speed_leaves_out_what_fails_and_says_so_at_once(
    other_ffmpeg, monkeypatch, photo, tmp_path
):
    other_ffmpeg(WRITES_ONLY)
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    Image.fromarray(photo).save(tmp_path / "a.png")
    messages = []
    output = speed_results(
        {"jpegxl": (), "jpeg": (20,)}, [tmp_path / "a.png"], 1, leave_out=messages.append
    )
    assert [each["codec"] for each in output["codecs"]] == ["jpeg"]
    assert messages == [output["skipped"]]
    assert "does not contain any stream" in output["skipped"]["jpegxl"]


def fails(*given):
    raise ValueError("the library changed")


@pytest.mark.parametrize("half", ["encode", "decode"])
def test_a_codec_that_fails_either_way_is_unusable(half, monkeypatch):
    broken = replace(find_codec("jpeg"), **{half: fails})
    monkeypatch.setattr("facecodec.bench.codecs.find_codec", lambda name: broken)
    unusable.cache_clear()
    assert unusable("jpeg@fit").endswith("ValueError: the library changed")
    unusable.cache_clear()


def test_a_zoo_file_has_the_size_of_its_picture(monkeypatch):
    """Two sizes with the same multiples of 64 would else decode alike."""
    pytest.importorskip("compressai", reason="the train extra is not installed")
    from compressai.models import ScaleHyperprior

    from facecodec.bench.codecs import zoo

    network = ScaleHyperprior(8, 8).eval()
    network.update(force=True)
    monkeypatch.setattr(zoo, "network", lambda quality: network)
    data = zoo.encode(np.full((94, 70, 3), 90, np.uint8), 1)
    assert zoo.decode(data, (125, 93)).shape == (94, 70, 3)


def test_a_zoo_without_its_weights_is_said(monkeypatch):
    pytest.importorskip("compressai", reason="the 'train' extra is not installed")
    from facecodec.bench.codecs import zoo

    def offline(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr("compressai.zoo.bmshj2018_hyperprior", offline)
    zoo.network.cache_clear()
    assert "could not be downloaded: no route to host" in zoo.missing()


def test_the_effort_stands_before_the_scale():
    codec = find_codec(at_effort("l2-rec@0.5", 2))
    assert codec.name == "l2-rec, effort 2@0.5"
    assert at_effort("jpeg@fit", 2) == "jpeg@fit"


@pytest.mark.parametrize("effort", ["y", "0", "10", ""])
def test_an_effort_that_is_none_is_refused(effort):
    with pytest.raises(UsageError, match="whole number, 1 to 9"):
        find_codec(f"l2-rec, effort {effort}")
