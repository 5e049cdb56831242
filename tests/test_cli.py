"""Tests the command line as people use it: with real processes and real files."""

import filecmp
import io
import json
import os
import pty
import resource
import shlex
import shutil
import signal
import stat
import struct
import subprocess
import sys
import time
import zlib
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image, ImageCms

import facecodec
from conftest import DATA, PATIENCE, TINY, takes_interrupts
from facecodec import images, plugins
from facecodec.bench import SEEN
from facecodec.cli import COMMANDS, batch, cli, files, outputs, tasks
from facecodec.cli.encode import passed_over
from facecodec.cli.tasks import Output
from facecodec.codec import Codec
from facecodec.container import Container, pack, unpack
from facecodec.datasets import photographs
from facecodec.errors import ImageError
from facecodec.frozen import DEFAULT_MODEL
from faces import draw_face


@pytest.fixture
def face(tmp_path, picture):
    """face.png in the working directory of run_cli."""
    Image.fromarray(picture).save(tmp_path / "face.png")
    return tmp_path / "face.png"


class Working:
    """A task from a function."""

    def __init__(self, work):
        self._work = work

    def expect(self, content):
        pass

    def __call__(self, content):
        return self._work(content)


def objects(output: bytes) -> list[dict]:
    return [json.loads(line) for line in output.splitlines()]


def listing(folder) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_encode_and_decode_write_beside_the_input_and_stay_quiet_when_piped(
    run_cli, face, tmp_path
):
    done = run_cli("encode", "face.png")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    face.unlink()
    done = run_cli("decode", "face.fic")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert listing(tmp_path) == ["face.fic", "face.png"]
    assert Image.open(face).size == (61, 45)


def test_every_command_has_a_manual_page(tmp_path):
    pytest.importorskip("click_man")
    script = Path(__file__).parents[1] / "docs" / "man.py"
    subprocess.run([sys.executable, script, tmp_path / "man"], check=True)
    pages = {path.name: path.read_text() for path in (tmp_path / "man").iterdir()}
    assert {f"facecodec-{name}.1" for name in COMMANDS} <= pages.keys()
    assert "\\-\\-keep\\-suffix" in pages["facecodec-encode.1"]


def test_json_states_what_was_stored(run_cli, face):
    (row,) = objects(run_cli("encode", "face.png", "-q", "3.02", "-m", TINY, "--json").stdout)
    assert list(row) == [
        "input",
        "output",
        "width",
        "height",
        "bytes",
        "bpp",
        "quality",
        "model",
        "seconds",
    ]
    assert (row["input"], row["output"], row["quality"], row["model"]) == (
        "face.png",
        "face.fic",
        3.03125,
        "tiny",
    )
    size = (face.parent / "face.fic").stat().st_size
    assert row["bytes"] == size
    assert row["bpp"] == pytest.approx(8 * size / (61 * 45), abs=1e-5)
    (back,) = objects(run_cli("decode", "face.fic", "-o", "back.ppm", "--json").stdout)
    assert {key: back[key] for key in ("width", "height", "bytes", "quality", "model")} == {
        key: row[key] for key in ("width", "height", "bytes", "quality", "model")
    }


def test_standard_streams_carry_one_picture(run_cli, face):
    encoded = run_cli("encode", "-", "--json", stdin=face.read_bytes())
    assert objects(encoded.stderr)[0]["output"] == "-"
    decoded = run_cli("decode", "-", "--format", "ppm", stdin=encoded.stdout)
    assert decoded.stdout.startswith(b"P6")
    assert run_cli("encode", "face.png", "-o", "-").stdout == encoded.stdout
    assert run_cli("encode", "-", "-o", "named.fic", stdin=face.read_bytes()).returncode == 0
    assert (face.parent / "named.fic").read_bytes() == encoded.stdout


def test_a_folder_keeps_its_tree_below_the_output(run_cli, face, tmp_path):
    for name in ("in/a/1.png", "in/b/c/2.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(face.read_bytes())
    (tmp_path / "in/notes.txt").write_text("not an image")
    assert run_cli("encode", "in", "-o", "out").returncode == 0
    assert listing(tmp_path / "out") == ["a/1.fic", "b/c/2.fic"]
    assert run_cli("decode", "out", "-o", "back/").returncode == 0
    assert listing(tmp_path / "back") == ["a/1.png", "b/c/2.png"]
    assert run_cli("encode", "in/a/1.png", "in/b", "-o", "two").returncode == 0
    assert listing(tmp_path / "two") == ["a/1.fic", "b/c/2.fic"]


def test_pictures_in_a_folder_that_are_not_read_are_counted(run_cli, face, tmp_path):
    for name in ("face.png", "a.CR2", "b.cr2", "c.svg", "notes.txt"):
        (tmp_path / "in" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_bytes(face.read_bytes())
    done = run_cli("encode", "in", "-o", "out")
    output = "facecodec: note: skipped unreadable pictures (2 .cr2, 1 .svg): convert them"
    assert (done.returncode, done.stderr.decode()) == (0, f"{output} first\n")
    assert listing(tmp_path / "out") == ["face.fic"]
    assert run_cli("encode", "in", "-o", "out", "-f", "--quiet").stderr == b""


def test_pictures_that_an_extra_reads_are_counted_apart_from_others(monkeypatch):
    monkeypatch.setattr(plugins, "PACKAGES", {"nowhere": frozenset({".heic"})})
    output = passed_over(Counter({".heic": 2, ".cr2": 1, ".txt": 5}))
    assert output == (
        "skipped unreadable pictures (1 .cr2): convert them first; "
        "(2 .heic): pip install 'facecodec[formats]'"
    )


def test_a_picture_given_to_decode_is_not_called_another_input(run_cli, face):
    done = run_cli("decode", face.name)
    assert done.returncode == 2
    assert done.stderr.decode() == (
        "facecodec: face.png would be overwritten by its own output: "
        "is it the right file? If so, give another -o\n"
    )


@pytest.mark.parametrize("command", ["encode", "decode", "verify", "embed"])
def test_a_list_of_no_files_is_done_at_once_but_no_list_is_an_error(run_cli, command):
    done = run_cli(command, "--files0-from", "-", stdin=b"")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    refused = run_cli(command)
    assert (refused.returncode, b"no input given" in refused.stderr) == (2, True)


def test_files0_from_keeps_paths_relative_to_the_working_directory(run_cli, face, tmp_path):
    (tmp_path / "deep/er").mkdir(parents=True)
    odd = tmp_path / "deep/er/new\nline.png"
    odd.write_bytes(face.read_bytes())
    done = run_cli(
        "encode", "--files0-from", "-", "-o", "out", stdin=b"deep/er/new\nline.png\0./face.png\0"
    )
    assert done.returncode == 0
    assert listing(tmp_path / "out") == ["deep/er/new\nline.fic", "face.fic"]


def test_a_path_outside_the_working_directory_stays_below_the_output(run_cli, tmp_path, face):
    outside = tmp_path.parent / f"{tmp_path.name}-outside.png"
    outside.write_bytes(face.read_bytes())
    done = run_cli("encode", "--files0-from", "-", "-o", "out", stdin=f"../{outside.name}".encode())
    assert done.returncode == 0
    assert listing(tmp_path / "out") == [str(outside.with_suffix(".fic").relative_to("/"))]
    outside.unlink()


def test_existing_outputs_are_kept_without_force(run_cli, face, tmp_path):
    (tmp_path / "face.fic").write_text("precious")
    done = run_cli("encode", "face.png")
    assert done.returncode == 1
    assert b"face.fic exists: -f overwrites it" in done.stderr
    assert (tmp_path / "face.fic").read_text() == "precious"
    assert run_cli("encode", "face.png", "-f").returncode == 0
    assert (tmp_path / "face.fic").read_bytes()[:2] == b"\xf1\xc1"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no input given"),
        (["face.png", "-o", "./face.png", "-f"], "would be overwritten by its own output"),
        (["face.png", "other.png", "-o", "-"], "standard output takes one picture"),
        (["tip.fic"], "no such file tip.fic: if it is to be the output, give -o tip.fic"),
        (["face.png", "other.png", "-o", "two.fic"], "two.fic looks like a file"),
        (["face.png", "-o", "copy.jpg"], "copy.jpg has an image's suffix"),
        (["face.png", "-"], "'-' cannot be combined"),
        (
            ["face.png", "other.png", "-o", "face.png"],
            "is a file, and several inputs need a folder",
        ),
        (["-", "-o", "out/"], "standard input has no name"),
        (["face.png", "-q", "0.9"], "quality 0.9 is outside 1..8"),
        (["face.png", "-q", "9"], "quality 9 is outside 1..8"),
        (["face.png", "-q", "nan"], "quality nan is outside 1..8"),
        (["face.png", "-q", "3", "--max-bytes", "1024"], "give one"),
        (["face.png", "--max-bytes", "1024", "--target-bpp", "0.2"], "give one"),
        (["face.png", "--target-bpp", "0"], "give a number above zero"),
        (["face.png", "--target-bpp", "inf"], "give a number above zero"),
        (["face.png", "-m", "none-such"], "no model 'none-such'; installed: "),
        (["face.png", "-m", "./none.safetensors"], "no model file ./none.safetensors"),
        (["face.png", "--max-pixels", "0"], "--max-pixels"),
        (["--files0-from", "absent"], "--files0-from absent"),
        ([""], "name is empty"),
        (["face.png", "--no-such-option"], "--no-such-option"),
    ],
)
def test_wrong_usage_is_status_2_and_writes_nothing(run_cli, face, tmp_path, arguments, message):
    before = listing(tmp_path)
    done = run_cli("encode", *arguments)
    assert done.returncode == 2
    assert message in done.stderr.decode()
    assert b"Traceback" not in done.stderr
    assert done.stderr.count(b"\n") == 1
    assert listing(tmp_path) == before


def test_help_is_a_command_too(run_cli):
    for arguments, same in ((["help"], ["-h"]), (["help", "encode"], ["encode", "--help"])):
        done = run_cli(*arguments)
        assert (done.returncode, done.stdout) == (0, run_cli(*same).stdout)
        assert done.stdout.startswith(b"Usage: facecodec ")
    assert run_cli("help", "none-such").returncode == 2


def test_a_format_may_be_in_capitals(run_cli, face):
    run_cli("encode", "face.png")
    done = run_cli("decode", "face.fic", "-o", "-", "--format", "PPM")
    assert done.stdout.startswith(b"P6")


def test_advice_names_the_option_and_not_the_argument_behind_it(run_cli, face):
    done = run_cli("encode", "face.png", "--max-pixels", "100")
    assert done.returncode == 1
    assert b"more than 100 pixels: raise --max-pixels if you trust it\n" in done.stderr


def test_a_list_separated_by_lines_is_explained(run_cli, face):
    done = run_cli("encode", "--files0-from", "-", "-o", "out", stdin=b"face.png\nother.png\n")
    assert done.returncode == 2
    assert b"must be separated by NUL bytes, as find -print0 writes them" in done.stderr


def test_a_fic_file_is_not_encoded_again(run_cli, face):
    assert run_cli("encode", "face.png").returncode == 0
    done = run_cli("encode", "face.fic", "-o", "again.fic")
    assert done.returncode == 1
    assert done.stderr == b"facecodec: face.fic: it is a .fic file already: decode it\n"


def test_a_name_with_control_characters_is_told_in_one_line(run_cli):
    done = run_cli("encode", "two\nlines\x1b[31m.png")
    assert (
        done.stderr
        == b"facecodec: two\\nlines\\x1b[31m.png: no such file or folder: check the path\n"
    )


@pytest.mark.parametrize(
    ("suffix", "kind"),
    [("webp", "WEBP"), ("avif", "AVIF"), ("tiff", "TIFF"), ("tif", "TIFF"), ("jpeg", "JPEG")],
)
def test_decode_writes_the_format_of_the_suffix(run_cli, face, tmp_path, suffix, kind):
    if kind not in _writable():
        pytest.skip(f"this Pillow does not write {kind}")
    exif = Image.Exif()
    exif[0x010E] = "a description"
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.open(face).save(tmp_path / "rich.png", exif=exif, icc_profile=srgb)
    run_cli("encode", "rich.png", "--keep-metadata")
    run_cli("encode", "face.png")
    pixels = np.asarray(Image.open(io.BytesIO(run_cli("decode", "face.fic", "-o", "-").stdout)))
    for name in ("rich", "face"):
        done = run_cli("decode", f"{name}.fic", "-o", f"{name}.{suffix}")
        assert (done.returncode, done.stderr) == (0, b"")
        with Image.open(tmp_path / f"{name}.{suffix}") as image:
            assert image.format == kind
            assert (image.getexif().get(0x010E) == "a description") == (name == "rich")
            assert (image.info.get("icc_profile") == srgb) == (name == "rich")
            error = np.abs(np.asarray(image.convert("RGB")).astype(int) - pixels).mean()
        assert error <= (0 if kind == "TIFF" else 8)


def _writable() -> set[str]:
    Image.init()
    return set(Image.SAVE)


def test_jpeg_is_another_name_of_jpg_and_tif_of_tiff(run_cli, face, tmp_path):
    run_cli("encode", "face.png")
    for name in ("jpeg", "tif"):
        assert run_cli("decode", "face.fic", "--format", name).returncode == 0
    assert Image.open(tmp_path / "face.jpg").format == "JPEG"
    assert Image.open(tmp_path / "face.tiff").format == "TIFF"


def test_a_picture_that_a_format_does_not_hold_is_an_error_in_one_line():
    with pytest.raises(ImageError, match=r"16384x1 cannot be a WEBP file .*: decode to png"):
        images.write(Image.new("RGB", (16384, 1)), "webp")


def test_encode_reduces_a_picture_to_a_longest_side(run_cli, face):
    (row,) = objects(run_cli("encode", "face.png", "--max-side", "30", "--verify", "--json").stdout)
    assert (row["width"], row["height"]) == (30, 22)
    (row,) = objects(run_cli("encode", "face.png", "--max-side", "61", "-f", "--json").stdout)
    assert (row["width"], row["height"]) == (61, 45)


@pytest.mark.parametrize(("given", "limit"), [("2k", 2000), ("0.0021M", 2100), ("2kB", 2000)])
def test_bytes_may_be_given_in_thousands(run_cli, face, tmp_path, given, limit):
    (row,) = objects(run_cli("encode", "face.png", "--max-bytes", given, "--json").stdout)
    assert row["bytes"] <= limit
    run_cli("encode", "face.png", "--max-bytes", limit, "-o", "same.fic")
    assert filecmp.cmp(tmp_path / "face.fic", tmp_path / "same.fic", shallow=False)


@pytest.mark.parametrize("given", ["0", "-1", "k", "1G", "1 k", "0.1", "1e3", "9" * 400])
def test_what_is_no_number_of_bytes_is_refused(run_cli, face, given):
    done = run_cli("encode", "face.png", "--max-bytes", given)
    assert done.returncode == 2
    assert b"is not a number of bytes: write it like 1024, 10k or 1.5M" in done.stderr


def test_a_file_where_a_folder_belongs_is_said_with_and_without_force(run_cli, face, tmp_path):
    (tmp_path / "in" / "sub").mkdir(parents=True)
    shutil.copy(face, tmp_path / "in" / "sub" / "a.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sub").write_text("mine")
    for force in ((), ("-f",)):
        done = run_cli("encode", "in", "-o", "out", *force)
        assert done.returncode == 1
        assert b"a part of the path is not a folder" in done.stderr
    assert (tmp_path / "out" / "sub").read_text() == "mine"


def test_json_is_written_without_a_standard_error(run_cli, face, tmp_path):
    command = [sys.executable, "-m", "facecodec", "encode", "face.png", "--json"]
    shell = " ".join(map(shlex.quote, command)) + " 2>&-"
    done = subprocess.run(["sh", "-c", shell], cwd=tmp_path, capture_output=True)
    assert done.returncode == 0
    assert json.loads(done.stdout)["output"] == "face.fic"


def test_a_dry_run_tells_what_would_be_written_and_writes_nothing(run_cli, face, tmp_path):
    shutil.copy(face, tmp_path / "there.png")
    (tmp_path / "there.fic").write_text("precious")
    before = listing(tmp_path)
    done = run_cli("encode", "face.png", "there.png", "missing.png", "--dry-run")
    assert (done.returncode, done.stdout) == (1, b"face.png -> face.fic\n")
    assert b"there.png: there.fic exists" in done.stderr
    assert b"missing.png: no such file" in done.stderr
    assert listing(tmp_path) == before
    done = run_cli("encode", ".", "-o", "out", "--dry-run", "--json")
    assert done.returncode == 0
    assert objects(done.stdout) == [
        {"input": name, "output": f"out/{name[:-4]}.fic", "dry_run": True}
        for name in ("face.png", "there.png")
    ]


def test_decode_refuses_a_name_without_a_known_suffix(run_cli, face):
    run_cli("encode", "face.png")
    done = run_cli("decode", "face.fic", "-o", "face.xyz")
    assert done.returncode == 2
    assert b"should end in one of .png" in done.stderr


def make_bad_images(folder, picture) -> dict[str, str]:
    """Makes bad inputs for encode. Returns what the message must contain, by name."""
    image = Image.fromarray(picture)
    image.save(folder / "whole.jpg")
    whole = (folder / "whole.jpg").read_bytes()
    (folder / "whole.jpg").unlink()
    (folder / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "text.jpg").write_text("These are words.")
    (folder / "empty.png").touch()
    Image.new("1", (9000, 4000)).save(folder / "large.png")
    bomb = bytearray((folder / "large.png").read_bytes())
    bomb[16:24] = struct.pack(">2I", 60000, 60000)
    bomb[29:33] = struct.pack(">I", zlib.crc32(bomb[12:29]))
    (folder / "bomb.png").write_bytes(bomb)
    # An icon's size is known only after decoding, and PostScript is a program.
    icon = struct.pack("<3H4B2H2I", 0, 1, 1, 16, 16, 0, 0, 1, 32, len(bomb), 22) + bomb
    (folder / "icon.jpg").write_bytes(icon)
    (folder / "program.jpg").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n")
    (folder / "no-images").mkdir()
    return {
        "missing.jpg": "no such file or folder",
        "truncated.jpg": "damaged image",
        "text.jpg": "not an image that can be read",
        "empty.png": "the file is empty",
        "large.png": "9000x4000 is more than 33554432 pixels",
        "bomb.png": "far more than 33554432 pixels",
        "icon.jpg": "not an image that can be read",
        "program.jpg": "not an image that can be read",
        "no-images": "the folder contains no images",
    }


def test_each_bad_image_costs_only_itself(run_cli, face, tmp_path, picture):
    bad = make_bad_images(tmp_path, picture)
    done = run_cli("encode", *bad, "face.png", "-o", "out", "--json")
    assert done.returncode == 1
    rows = {row["input"]: row for row in objects(done.stdout)}
    for name, message in bad.items():
        assert message in rows[name]["error"], name
        assert "\n" not in rows[name]["error"]
        assert f"facecodec: {name}: {rows[name]['error']}\n" in done.stderr.decode()
    assert rows["face.png"]["output"] == "out/face.fic"
    assert listing(tmp_path / "out") == ["face.fic"]
    assert f"{len(bad)} of {len(bad) + 1} inputs failed, 1 done" in done.stderr.decode()


def test_inputs_whose_outputs_collide_cost_only_the_later_one(run_cli, face, tmp_path, picture):
    Image.fromarray(picture).save(tmp_path / "face.jpg")
    shutil.copy(face, tmp_path / "other.png")
    inputs = ["face.jpg", "face.png", "none.fic", "other.png"]
    done = run_cli("encode", *inputs, "--json")
    assert done.returncode == 1
    rows = {row["input"]: row for row in objects(done.stdout)}
    assert "face.fic is already the output of face.jpg" in rows["face.png"]["error"]
    assert "no such file none.fic" in rows["none.fic"]["error"]
    assert done.stderr.endswith(b"2 of 4 inputs failed, 2 done\n")
    assert rows["face.jpg"]["output"] == "face.fic"
    assert rows["other.png"]["output"] == "other.fic"
    assert run_cli("encode", *inputs[:2], inputs[3], "--keep-suffix").returncode == 0
    assert {"face.jpg.fic", "face.png.fic", "other.png.fic"} <= set(listing(tmp_path))
    assert run_cli("decode", "face.jpg.fic", "-o", "back/").returncode == 0
    assert listing(tmp_path / "back") == ["face.jpg.png"]


def test_a_name_that_no_file_can_have_costs_only_itself(run_cli, face, tmp_path):
    names = ["x" * 300 + ".png", "nothing://here/x.jpg", "https://"]
    done = run_cli("encode", *names, "face.png", "--skip-existing", "--json")
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
    rows = {row["input"]: row for row in objects(done.stdout)}
    assert "too long" in rows[names[0]]["error"]
    assert sum("error" in row for row in rows.values()) == len(names)
    assert rows["face.png"]["output"] == "face.fic"
    assert "face.fic" in listing(tmp_path)


def make_bad_files(folder, good: bytes) -> dict[str, str]:
    """Makes bad inputs for decode. Returns what the message must contain, by name."""
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 4
    contents = {
        "empty.fic": (b"", "the file is empty"),
        "text.fic": (b"These are words, not a picture.", "not a .fic file"),
        "cut.fic": (good[:-1], "checksum"),
        "stub.fic": (good[:9], "cut short"),
        "long.fic": (good + b"\0", "checksum"),
        "flipped.fic": (bytes(flipped), "checksum"),
        "version.fic": (good[:1] + b"\xc2" + good[2:], "format version 2"),
        "flag.fic": (good[:2] + bytes([good[2] | 0x20]) + good[3:], "unknown flags 0x20"),
    }
    for name, (content, _) in contents.items():
        (folder / name).write_bytes(content)
    mark = bytes.fromhex("00c0ffee")
    (folder / "stranger.fic").write_bytes(pack(Container(mark, 0, 8, 8, [b"", b""])))
    (folder / "huge.fic").write_bytes(pack(Container(good[3:7], 0, 60000, 60000, [b"", b""])))
    (folder / "thin.fic").write_bytes(pack(Container(good[3:7], 0, 1 << 24, 1, [b"", b""])))
    messages = {name: message for name, (_, message) in contents.items()}
    return messages | {
        "stranger.fic": "made with model 00c0ffee, which is not installed; installed: ",
        "huge.fic": "60000x60000 is more than 33554432 pixels",
        "thin.fic": "16777216x1 is more than 33554432 pixels",
        "missing.fic": "no such file or folder",
    }


def test_each_bad_file_costs_only_itself(run_cli, face, tmp_path):
    run_cli("encode", "face.png", "-o", "good.fic")
    bad = make_bad_files(tmp_path, (tmp_path / "good.fic").read_bytes())
    done = run_cli("decode", *bad, "good.fic", "-o", "out", "--json")
    assert done.returncode == 1
    rows = {row["input"]: row for row in objects(done.stdout)}
    for name, message in bad.items():
        assert message in rows[name]["error"], name
    assert listing(tmp_path / "out") == ["good.png"]
    assert "FACECODEC_MODELS" in rows["stranger.fic"]["error"]


@pytest.mark.skipif(
    os.geteuid() == 0 and not os.path.exists("/proc/self/status"), reason="needs Linux or a user"
)
def test_an_unreadable_file_is_an_error_of_its_own(run_cli, face, tmp_path):
    if os.geteuid() == 0:
        # Root can read everything except what the kernel itself refuses.
        done = run_cli("encode", "/proc/self/mem", "-o", "x.fic")
    else:
        face.chmod(0)
        done = run_cli("encode", "face.png")
    assert done.returncode == 1
    assert done.stderr.count(b"\n") == 1
    assert b"Traceback" not in done.stderr
    assert not list(tmp_path.glob("*.fic"))


@pytest.mark.parametrize("command", ["encode", "decode", "embed", "info", "verify", "view"])
def test_the_command_line_refuses_no_unreadable_input_for_all(command):
    """Otherwise click would end the whole batch. Root can read every file, so this checks types."""
    (inputs,) = (
        p for p in cli.get_command(None, command).params if p.param_type_name == "argument"
    )
    assert not inputs.type.readable


def test_a_full_disk_leaves_nothing_behind(run_cli, face, tmp_path):
    done = run_cli("encode", "face.png", "-o", "/dev/full")
    assert done.returncode == 1
    assert b"cannot write /dev/full: no space left: free some" in done.stderr
    assert os.path.exists("/dev/full")


def test_an_unwritable_output_is_named(run_cli, face, tmp_path):
    done = run_cli("encode", "face.png", "-o", "/proc/face.fic")
    assert done.returncode == 1
    assert b"cannot write /proc/face.fic: " in done.stderr
    done = run_cli("encode", "face.png", "-o", "no/such/folder.fic")
    assert b"cannot write no/such/folder.fic: there is no folder no/such: make it" in done.stderr


def test_a_device_is_written_to_and_not_replaced(run_cli, face):
    assert run_cli("encode", "face.png", "-o", "/dev/null", "-f").returncode == 0
    assert not os.path.isfile("/dev/null")


def test_a_symbolic_link_is_written_through(run_cli, face, tmp_path):
    (tmp_path / "real.fic").write_text("old")
    (tmp_path / "link.fic").symlink_to("real.fic")
    assert run_cli("encode", "face.png", "-o", "link.fic", "-f").returncode == 0
    assert (tmp_path / "link.fic").is_symlink()
    assert (tmp_path / "real.fic").read_bytes()[:2] == b"\xf1\xc1"


def test_interrupting_a_batch_is_status_130_and_leaves_only_whole_files(tmp_path, face):
    (tmp_path / "in").mkdir()
    for number in range(400):
        (tmp_path / f"in/{number}.png").write_bytes(face.read_bytes())
    process = subprocess.Popen(
        [sys.executable, "-m", "facecodec", "encode", "in", "-o", "out", "--quiet"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        preexec_fn=takes_interrupts,
    )
    deadline = time.monotonic() + 60
    while not (list((tmp_path / "out").glob("*.fic")) if (tmp_path / "out").exists() else []):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, message = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert message.strip() == b"facecodec: interrupted"
    written = listing(tmp_path / "out")
    assert 0 < len(written) < 400
    assert all(name.endswith(".fic") for name in written)
    (tmp_path / "back").mkdir()
    back = subprocess.run(
        [sys.executable, "-m", "facecodec", "decode", "out", "-o", "back"], cwd=tmp_path
    )
    assert back.returncode == 0


@pytest.mark.parametrize("moment", ["open", "_name", "_unnamed", "_link"])
@pytest.mark.parametrize("force", [False, True])
def test_an_interrupt_at_the_worst_moment_leaves_nothing_partial(
    tmp_path, monkeypatch, moment, force
):
    def then_interrupt(*arguments):
        real(*arguments)
        raise KeyboardInterrupt

    if force and moment == "_name":
        return  # which is then not called
    real = getattr(outputs, moment, open)
    if moment in ("open", "_name"):  # a system without unnamed files
        monkeypatch.setattr(outputs, "_unnamed", lambda folder: None)
    monkeypatch.setattr(outputs, moment, then_interrupt, raising=False)
    job = files.Job(tmp_path / "in.png", tmp_path / "out.fic")
    with pytest.raises(KeyboardInterrupt):
        outputs.write_output(job, b"whole", force=force)
    assert [path.name for path in tmp_path.iterdir()] in ([], ["out.fic"])


@pytest.mark.parametrize("missing", [None, "_unnamed", "_link"])
def test_outputs_are_written_where_there_are_unnamed_files_and_where_not(
    tmp_path, monkeypatch, missing
):
    if missing:
        monkeypatch.setattr(outputs, missing, lambda *arguments: None)
    (tmp_path / "in.png").touch(0o600)
    job = files.Job(tmp_path / "in.png", tmp_path / "out.fic")
    outputs.write_output(job, b"one", force=False)
    assert stat.S_IMODE(job.target.stat().st_mode) == 0o600  # a private picture stays one
    with pytest.raises(outputs.OutputError, match="exists"):
        outputs.write_output(job, b"two", force=False)
    assert job.target.read_bytes() == b"one"
    outputs.write_output(job, b"three", force=True)
    assert job.target.read_bytes() == b"three"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.png", "out.fic"]


@pytest.mark.skipif(not hasattr(os, "O_TMPFILE"), reason="only Linux has files without a name")
@pytest.mark.parametrize("moment", ["link", "replace"])
@pytest.mark.parametrize("force", [False, True])
def test_a_process_that_is_killed_while_it_writes_leaves_nothing(tmp_path, force, moment):
    """A new output is never given another name first, so no such name is left."""
    code = (
        "import os, signal; from pathlib import Path; from facecodec.cli import files, outputs\n"
        f"os.{moment} = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"job = files.Job(None, Path({str(tmp_path)!r}, 'out.fic'))\n"
        f"outputs.write_output(job, b'whole', {force})\n"
    )
    killed = subprocess.run([sys.executable, "-c", code]).returncode == -signal.SIGKILL
    assert killed == (moment == "link")  # os.replace is not called
    assert [path.name for path in tmp_path.iterdir()] == ([] if killed else ["out.fic"])


@pytest.fixture
def many(tmp_path, picture):
    """A folder `in` with 48 different pictures."""
    (tmp_path / "in").mkdir()
    for number in range(48):
        Image.fromarray(np.roll(picture, number, axis=1)).save(
            tmp_path / "in" / f"{number:02d}.png"
        )
    return tmp_path


def test_files_are_the_same_by_one_process_and_by_several(run_cli, many):
    for count in (1, 3):
        done = run_cli("encode", "in", "-o", f"out{count}", "-j", count, "--json")
        assert [Path(each["input"]).name for each in objects(done.stdout)] == listing(
            many / "in"
        )  # in their order
        assert run_cli("decode", f"out{count}", "-o", f"back{count}", "-j", count).returncode == 0
    assert len(listing(many / "out1")) == 48
    for one, three in (("out1", "out3"), ("back1", "back3")):
        assert not filecmp.dircmp(many / one, many / three).diff_files
        assert listing(many / one) == listing(many / three)


def test_of_many_a_bad_one_costs_only_itself(run_cli, many):
    (many / "in" / "20.png").write_bytes(b"")
    done = run_cli("encode", "in", "-o", "out", "-j", 2)
    assert done.returncode == 1
    assert done.stderr.decode().splitlines() == [
        "facecodec: in/20.png: the file is empty: fetch or copy it again",
        "facecodec: 1 of 48 inputs failed, 47 done",
    ]
    assert len(listing(many / "out")) == 47


def test_what_is_there_already_can_be_left_out(run_cli, face, tmp_path):
    (tmp_path / "more.png").write_bytes(face.read_bytes())
    assert run_cli("encode", "face.png", "-o", "out/").returncode == 0
    before = (tmp_path / "out/face.fic").stat().st_mtime_ns
    done = run_cli("encode", "face.png", "more.png", "-o", "out/", "--skip-existing", "--json")
    assert [(each["input"], each.get("skipped")) for each in objects(done.stdout)] == [
        ("face.png", True),
        ("more.png", None),
    ]
    assert (tmp_path / "out/face.fic").stat().st_mtime_ns == before
    assert run_cli("encode", "face.png", "-o", "out/", "--skip-existing", "-f").returncode == 2


def processes_of(pid: int) -> list[int]:
    """Returns the worker processes of a batch."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [
        int(child)
        for child in children
        if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]


def batch_under_way(folder, count: int) -> subprocess.Popen:
    """Starts a batch of `count` copies of folder/in/00.png; returns when some are written."""
    for number in range(count):
        shutil.copy(folder / "in" / "00.png", folder / "in" / f"x{number:04d}.png")
    command = [sys.executable, "-m", "facecodec", "encode", "in", "-o", "out", "-j", "2"]
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not (folder / "out").exists() or len(listing(folder / "out")) < 20:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return process


@pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")
def test_a_killed_process_costs_nothing(many):
    process = batch_under_way(many, 400)
    os.kill(processes_of(process.pid)[0], signal.SIGKILL)
    _, message = process.communicate(timeout=PATIENCE)
    assert (process.returncode, message) == (0, b"")
    assert [name for name in listing(many / "out") if name.endswith(".fic")] == [
        name.replace(".png", ".fic") for name in listing(many / "in")
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")
def test_a_killed_batch_takes_its_processes_along_and_can_be_completed(run_cli, many):
    process = batch_under_way(many, 400)
    workers = processes_of(process.pid)
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    written = [name for name in listing(many / "out") if name.endswith(".fic")]
    assert 20 <= len(written) < 448
    assert run_cli("decode", "out", "-o", "back").returncode == 0  # what is there is whole
    assert run_cli("encode", "in", "-o", "out", "--skip-existing").returncode == 0
    assert len([name for name in listing(many / "out") if name.endswith(".fic")]) == 448


def test_notes_are_said_once_and_not_when_quiet(run_cli, tmp_path, picture):
    for number in range(2):
        Image.fromarray(np.dstack([picture, picture[..., 0]]), "RGBA").save(
            tmp_path / f"{number}.png"
        )
    done = run_cli("encode", "0.png", "1.png")
    assert done.stderr.count(b"dropped alpha") == 1
    done = run_cli("encode", "0.png", "1.png", "-f", "--quiet")
    assert (done.returncode, done.stderr) == (0, b"")


def test_growing_is_noted(run_cli, tmp_path):
    noise = np.random.default_rng(0).integers(0, 2, (64, 64), dtype=np.uint8) * 255
    for number in range(2):
        Image.fromarray(noise).convert("1").save(tmp_path / f"{number}.png")
    done = run_cli("encode", "0.png", "1.png", "-q", "8", "-m", "l2-rec")
    assert b"note: 0.png: its " in done.stderr
    assert b"note: 1.png: its " in done.stderr


@pytest.mark.parametrize(("option", "value"), [("--max-bytes", 350), ("--target-bpp", 0.5)])
def test_a_limit_of_bytes_or_rate_is_kept_for_each_picture(run_cli, face, tmp_path, option, value):
    Image.open(face).resize((90, 80)).save(tmp_path / "large.png")
    rows = objects(
        run_cli(
            "encode", "face.png", "large.png", "-o", "out", "-m", TINY, option, value, "--json"
        ).stdout
    )
    assert len(rows) == 2
    for row in rows:
        limit = value if option == "--max-bytes" else value * row["width"] * row["height"] / 8
        codec = Codec(TINY)
        pixels = Image.open(tmp_path / row["input"])
        assert row["bytes"] == len(codec.encode(pixels, row["quality"])) <= limit
        assert row["quality"] == 8 or len(codec.encode(pixels, row["quality"] + 1 / 32)) > limit


def test_a_picture_that_does_not_fit_costs_only_itself(run_cli, face, tmp_path):
    Image.effect_noise((300, 300), 90).save(tmp_path / "large.png")
    done = run_cli("encode", "face.png", "large.png", "-o", "out", "-m", TINY, "--max-bytes", 250)
    assert (done.returncode, listing(tmp_path / "out")) == (1, ["face.fic"])
    assert b"large.png" in done.stderr
    assert b"do not fit into 250: make the picture smaller" in done.stderr


def test_a_rate_that_leaves_no_byte_is_an_error_in_one_line(run_cli, face):
    done = run_cli("encode", "face.png", "-m", TINY, "--target-bpp", 1e-6)
    assert done.returncode == 1
    assert done.stderr.decode().splitlines() == [
        "facecodec: face.png: no file has only 0 bytes: give a higher limit"
    ]


def test_an_empty_name_is_no_model(run_cli, face):
    done = run_cli("encode", "face.png", "-m", "")
    assert (done.returncode, done.stderr.startswith(b"facecodec: no model ''")) == (2, True)


@pytest.mark.parametrize("command", ["info", "embed", "verify"])
def test_the_readers_say_at_the_end_how_many_files_failed(run_cli, tmp_path, command):
    for name in "ab":
        (tmp_path / f"{name}.fic").write_bytes(b"no file")
    done = run_cli(command, "a.fic", "b.fic")
    assert done.returncode == 1
    assert done.stderr.decode().splitlines()[2:] == ["facecodec: 2 of 2 files failed"]


@pytest.mark.parametrize("command", ["verify", "embed", "view"])
def test_an_input_that_cannot_be_reached_costs_only_itself(run_cli, face, tmp_path, command):
    pytest.importorskip("fsspec", reason="the remote extra is not installed")
    run_cli("encode", "face.png")
    (tmp_path / "bad.fic").write_bytes(b"bad")
    options = ("-o", "page.html") if command == "view" else ()
    done = run_cli(command, "http://localhost:1/none.fic", "bad.fic", "face.fic", *options)
    assert done.returncode == 1
    assert b"http://localhost:1/none.fic: " in done.stderr
    assert b"bad.fic: " in done.stderr
    assert b"Traceback" not in done.stderr
    assert command != "view" or (tmp_path / "page.html").exists()
    assert command != "embed" or b"face.fic: no face was found" in done.stderr


def test_standard_input_comes_alone_to_embed_and_may_be_bad_in_view(run_cli, face, tmp_path):
    run_cli("encode", "face.png")
    done = run_cli("embed", "-", "face.fic")
    assert (done.returncode, b"'-' cannot be combined" in done.stderr) == (2, True)
    done = run_cli("view", "-", "face.fic", "-o", "page.html", stdin=b"bad")
    assert (done.returncode, b"facecodec: -: " in done.stderr) == (1, True)
    assert (tmp_path / "page.html").exists()


def test_verify_is_silent_about_good_files_and_names_the_bad(run_cli, face, tmp_path):
    run_cli("encode", "face.png", "-o", "good.fic", "-m", "tiny")
    data = (tmp_path / "good.fic").read_bytes()
    parsed = unpack(data)
    (tmp_path / "short.fic").write_bytes(data[:-1])
    # Its checksum holds, its symbols do not.
    (tmp_path / "forged.fic").write_bytes(
        pack(replace(parsed, streams=[parsed.streams[0], b"\x01" * 40]))
    )
    assert run_cli("verify", "good.fic").stderr == b""
    done = run_cli("verify", "good.fic", "short.fic", "forged.fic", "none.fic", "--json")
    assert done.returncode == 1
    output = done.stderr.decode().splitlines()
    assert [line.split(": ")[1] for line in output[:3]] == ["short.fic", "forged.fic", "none.fic"]
    assert output[3] == "facecodec: 3 of 4 files failed"
    assert ["error" in each for each in objects(done.stdout)] == [False, True, True, True]
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["face.png"]
    (tmp_path / "folder").mkdir()
    (tmp_path / "good.fic").rename(tmp_path / "folder" / "good.fic")
    assert run_cli("verify", "folder").stdout == b""
    done = run_cli("verify", "--files0-from", "-", stdin=b"folder\0short.fic\0")
    assert done.stderr.decode().splitlines()[-1] == "facecodec: 1 of 2 files failed"
    assert run_cli("verify").returncode == 2


def test_the_shell_completes_options_models_and_files(run_cli):
    def completed(*words: str) -> list[str]:
        asked = {"COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
        return run_cli(_FACECODEC_COMPLETE="bash_complete", **asked).stdout.decode().split()

    assert "plain,encode" in completed("facecodec", "enc")
    assert "plain,--max-bytes" in completed("facecodec", "encode", "--max-b")
    assert "plain,tiny" in completed("facecodec", "encode", "-m", "ti")
    assert completed("facecodec", "encode", "fa") == ["file,fa"]
    assert completed("facecodec", "decode", "-o", "x") == ["file,x"]


@pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")
def test_a_batch_that_is_told_to_end_leaves_only_whole_files_and_no_noise(many):
    process = batch_under_way(many, 400)
    process.terminate()
    _, message = process.communicate(timeout=PATIENCE)
    assert (process.returncode, message) == (143, b"")
    assert all(name.endswith(".fic") for name in listing(many / "out"))


def test_threads_must_be_a_number(run_cli, face):
    done = run_cli("encode", "face.png", FACECODEC_THREADS="many")
    assert done.returncode == 2
    assert done.stderr.decode().splitlines() == [
        "facecodec: FACECODEC_THREADS is 'many': give a number of threads, or unset it"
    ]


def test_a_missing_input_does_not_change_where_the_others_go(run_cli, many):
    assert run_cli("encode", "in", "typo", "-o", "out").returncode == 1
    assert "00.fic" in listing(many / "out")


def test_decode_says_what_is_wrong_with_its_input_before_the_output(run_cli, face):
    assert b"not a .fic file" in run_cli("decode", "face.png", "-o", "face.png.png").stderr
    (face.parent / "x.jpg").write_bytes(b"\xff\xd8")
    (face.parent / "x.png").write_bytes(b"")
    assert b"not a .fic file" in run_cli("decode", "x.jpg").stderr


def test_nothing_is_reported_to_anybody(run_cli, face, tmp_path):
    assert (
        run_cli("encode", "face.png", HOME=str(tmp_path / "home"), XDG_CACHE_HOME="").returncode
        == 0
    )
    assert not (tmp_path / "home").exists()


def test_encode_can_check_what_it_wrote(run_cli, face, tmp_path, monkeypatch):
    assert run_cli("encode", "face.png", "--verify").returncode == 0
    assert (tmp_path / "face.fic").exists()

    def write_otherwise(job, data, force):
        job.target.write_bytes(data[:-1])

    monkeypatch.setattr(tasks, "write_output", write_otherwise)
    job = files.Job(face, tmp_path / "x.fic")
    result = tasks.Convert(Working(lambda content: Output(b"data", {})), force=False, verify=True)(
        job
    )
    assert "the file read back is not the file written" in result.failure
    assert (
        tasks.Convert(Working(lambda content: Output(b"data", {})), force=True)(job).failure is None
    )


def test_every_face_of_a_group_keeps_its_similarity(finds_faces, run_cli, tmp_path):
    """The large and central face is kept by a lower quality than the small one beside it."""
    from facecodec.faces.recognisers import find_recogniser
    from facecodec.faces.similarity import FaceSimilarity

    large, small = (Image.fromarray(draw_face(person)) for person in (1, 3))
    group = Image.new("RGB", (450, 250), "grey")
    group.paste(large, (0, 0))
    group.paste(small.resize((200, 200)), (250, 25))
    group.save(tmp_path / "group.png")
    done = run_cli("encode", "group.png", "--min-similarity", "0.9")
    assert done.returncode == 0
    decoded = np.asarray(facecodec.decode((tmp_path / "group.fic").read_bytes()))
    similarity = FaceSimilarity(str(find_recogniser(SEEN, None)))
    for part in (np.s_[:, :250], np.s_[25:225, 250:]):
        assert similarity.to(np.asarray(group)[part])(decoded[part]) > 0.88


def test_similarity_decides_the_quality(finds_faces, photograph, tmp_path, monkeypatch):
    """In this process, which loads torch and the networks once."""
    monkeypatch.chdir(tmp_path)
    photograph.save("face.png")
    Image.new("RGB", (200, 200), "grey").save("wall.png")
    output = {}
    for least in (0.8, 0.97, 1):
        paths = ["face.png", "wall.png", "-o", f"out{least}"]
        done = CliRunner().invoke(
            cli, ["encode", *paths, "--min-similarity", str(least), "--json", "-j", "1"]
        )
        assert done.exit_code == 1
        output[least], wall = objects(done.stdout_bytes)
        assert "no face was found" in wall["error"]
    assert output[0.8]["bytes"] < output[0.97]["bytes"]
    assert "even q 8 keeps a similarity of only 0.99" in output[1]["error"]


@pytest.mark.parametrize("option", ["--recogniser", "--recognizer"])
def test_a_recogniser_is_for_a_similarity(run_cli, face, option):
    done = run_cli("encode", "face.png", "-o", "x.fic", option, "mobileface-v2")
    assert (done.returncode, b"is for --min-similarity" in done.stderr) == (2, True)


def test_a_pipe_or_device_in_a_folder_costs_itself_alone(run_cli, tmp_path, picture):
    """If they were read, the pipe would block, and the device would fill the memory."""
    folder = tmp_path / "people" / "one"
    folder.mkdir(parents=True)
    Image.fromarray(picture).save(folder / "a.png")
    os.mkfifo(folder / "b.png")
    (folder / "c.png").symlink_to("/dev/zero")
    (folder / "d.fic").symlink_to("/dev/zero")
    done = run_cli("encode", folder, "-o", "out/", "-m", TINY)
    assert done.returncode == 1
    messages = done.stderr.decode()
    for name in ("b.png", "c.png"):
        assert f"{folder / name}: a pipe or a device: to read it, name it as an input" in messages
    assert [path.name for path in (tmp_path / "out").rglob("*.fic")] == ["a.fic"]
    for command in (("view", folder, "-o", "page.html"), ("verify", folder)):
        done = run_cli(*command)
        assert done.returncode == 1
        assert b"d.fic: a pipe or a device" in done.stderr
    (folder / "e.png").symlink_to("nothing")
    listed = photographs(str(tmp_path / "people"), "test", tmp_path)
    assert [photo.path.name for photo in listed] == ["a.png"]


def test_info_needs_no_model(run_cli, tmp_path):
    (tmp_path / "x.fic").write_bytes((DATA / "smooth-q4.fic").read_bytes())
    (known,) = objects(run_cli("info", "x.fic", "--json").stdout)
    assert list(known) == [
        "input", "version", "width", "height", "bytes", "bpp", "quality", "doubled",
        "fingerprint", "model", "model_error", "header_bytes", "streams", "chunks",
    ]  # fmt: skip
    assert (known["width"], known["height"], known["quality"], known["model"]) == (
        70,
        90,
        4.0,
        "tiny",
    )
    assert (
        known["header_bytes"] + sum(s["bytes"] for s in known["streams"]) == known["bytes"] == 345
    )
    assert [(s["name"], s["escapes"]) for s in known["streams"]] == [("z", None), ("y", None)]
    (counted,) = objects(run_cli("info", "x.fic", "--json", "--escapes").stdout)
    assert [(s["name"], s["escapes"]) for s in counted["streams"]] == [("z", 0), ("y", 44)]
    done = run_cli("info", "x.fic", "--json", FACECODEC_MODELS="")
    (unknown,) = objects(done.stdout)
    assert done.returncode == 0
    assert unknown["model"] is None
    assert unknown["fingerprint"] == known["fingerprint"]
    assert [s["name"] for s in unknown["streams"]] == [None, None]
    text = run_cli("info", "x.fic", "--escapes").stdout.decode()
    assert "70x90, 345 bytes" in text
    assert "44 escapes" in text
    (tmp_path / "bad.fic").write_bytes(b"what")
    done = run_cli("info", "bad.fic", "x.fic")
    assert done.returncode == 1
    assert b"bad.fic: not a .fic file" in done.stderr
    assert b"70x90" in done.stdout


def test_models_lists_what_is_installed(run_cli):
    rows = {row["name"]: row for row in objects(run_cli("models", "--json").stdout)}
    default = rows["l2-ipr"]
    assert list(default) == [
        "name", "default", "fingerprint", "family", "objective", "distortion", "data",
        "steps", "path", "rates", "embeds",
    ]  # fmt: skip
    assert default["default"]
    assert [row["q"] for row in default["rates"]] == list(range(1, 9))
    assert not rows["tiny"]["default"]
    assert not rows["l2-rec"]["default"]
    assert b"l2-ipr (default): sliced, ipr with l2" in run_cli("models").stdout


def test_a_damaged_model_is_an_error_and_not_a_wrong_picture(run_cli, face, tmp_path):
    data = bytearray(TINY.read_bytes())
    data[-200] ^= 1
    (tmp_path / "damaged.safetensors").write_bytes(data)
    done = run_cli("encode", "face.png", "-m", "damaged.safetensors")
    assert done.returncode == 1
    assert b"the file is damaged" in done.stderr
    (tmp_path / "text.safetensors").write_text("words")
    done = run_cli("encode", "face.png", "-m", "text.safetensors")
    assert done.returncode == 1
    assert done.stderr.count(b"\n") == 1


def test_damage_to_the_encoders_half_is_noticed_too(run_cli, face, tmp_path):
    data = bytearray(TINY.read_bytes())
    place = data.index(b"pytorch") if b"pytorch" in data else data.index(b"Conv")
    data[place] ^= 1
    (tmp_path / "damaged.safetensors").write_bytes(data)
    done = run_cli("encode", "face.png", "-m", "damaged.safetensors")
    assert done.returncode == 1
    assert b"the file is damaged" in done.stderr


def test_a_model_is_found_by_what_it_is_and_not_by_its_name(run_cli, face, tmp_path):
    """Files decode even if a folder has another model of a shipped name, or a damaged copy."""
    run_cli("encode", "face.png", "-o", "tiny.fic", "-m", TINY)
    run_cli("encode", "face.png", "-o", "default.fic", "-m", "l2-rec")
    (tmp_path / "models").mkdir()
    shutil.copy(TINY, tmp_path / "models/l2-rec.safetensors")
    damaged = bytearray(TINY.read_bytes())
    damaged[-200] ^= 1
    (tmp_path / "models/a.safetensors").write_bytes(damaged)
    (tmp_path / "models/b.safetensors").write_text("words")
    for name in ("tiny.fic", "default.fic"):
        done = run_cli("decode", name, FACECODEC_MODELS="models")
        assert (done.returncode, done.stderr) == (0, b""), name


def test_a_picture_with_a_damaged_exif_block_is_encoded(run_cli, face, tmp_path):
    data = bytearray(face.read_bytes())
    exif = b"eXIf" + b"Ex"
    data[33:33] = struct.pack(">I", 2) + exif + struct.pack(">I", zlib.crc32(exif))
    face.write_bytes(data)
    done = run_cli("encode", "face.png")
    assert (done.returncode, done.stderr) == (0, b"")


def test_names_too_long_cost_only_themselves(run_cli, face, tmp_path):
    done = run_cli("encode", "x" * 300 + ".png", "face.png", "-o", "out/")
    assert done.returncode == 1
    assert b"the name is too long" in done.stderr
    assert listing(tmp_path / "out") == ["face.fic"]
    done = run_cli("encode", "face.png", "-o", "x" * 300 + ".fic")
    assert done.returncode == 1
    assert b"the name is too long" in done.stderr


def test_a_write_that_breaks_off_leaves_the_old_output_and_nothing_else(face, tmp_path):
    def small_files_only() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))

    (tmp_path / "face.fic").write_text("old")
    for force in ([], ["-f"]):
        out = "new.fic" if not force else "face.fic"
        done = subprocess.run(
            [sys.executable, "-B", "-m", "facecodec", "encode", "face.png", "-o", out, *force],
            cwd=tmp_path,
            capture_output=True,
            preexec_fn=small_files_only,
        )
        assert done.returncode == 1
        assert b"larger than the limit for files" in done.stderr
        assert listing(tmp_path) == ["face.fic", "face.png"]
        assert (tmp_path / "face.fic").read_text() == "old"


def test_an_output_folder_that_cannot_be_made_costs_only_its_inputs(run_cli, face, tmp_path):
    for name in ("in/a/1.png", "in/b/2.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(face.read_bytes())
    (tmp_path / "out").mkdir()
    (tmp_path / "out/b").write_text("in the way")
    done = run_cli("encode", "in", "-o", "out", "--json")
    assert done.returncode == 1
    assert [("error" in row) for row in objects(done.stdout)] == [False, True]
    assert listing(tmp_path / "out") == ["a/1.fic", "b"]


def test_a_missing_input_makes_no_folder(run_cli, tmp_path):
    assert run_cli("encode", "missing.jpg", "-o", "new/").returncode == 1
    assert not (tmp_path / "new").exists()


def test_a_folder_that_cannot_be_listed_is_an_error(run_cli, face, tmp_path, monkeypatch):
    from facecodec.cli import files

    (tmp_path / "in/locked").mkdir(parents=True)
    (tmp_path / "in/1.png").write_bytes(face.read_bytes())
    scandir = os.scandir

    def locked(path):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", locked)
    plan = files.plan(
        (str(tmp_path / "in"),), None, None, files.Naming(".fic"), frozenset({".png"}), "images"
    )
    assert [job.source.name for job in plan.jobs] == ["1.png"]
    ((name, reason),) = plan.failures
    assert name.endswith("in/locked")
    assert reason.startswith("permission denied")


def test_closed_and_full_standard_streams_are_errors_in_one_line(run_cli, face, tmp_path):
    command = [sys.executable, "-m", "facecodec"]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*command, "encode", "face.png", "--json"],
            cwd=tmp_path,
            stdout=full,
            stderr=subprocess.PIPE,
        )
    assert (done.returncode, done.stderr) == (
        1,
        b"facecodec: no space left: free some and run this again\n",
    )
    done = subprocess.run(
        [*command, "encode", "-"], cwd=tmp_path, capture_output=True, preexec_fn=lambda: os.close(0)
    )
    assert (done.returncode, done.stderr) == (1, b"facecodec: -: standard input is closed\n")


def test_a_reader_that_went_away_is_told_nothing(face, tmp_path):
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "facecodec", "encode", "face.png", "-o", "-"],
        cwd=tmp_path,
        stdout=write,
        stderr=subprocess.PIPE,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (1, b"")


def on_a_terminal(folder, *arguments: str) -> str:
    """Returns what the command prints on a terminal."""
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "facecodec", *arguments]
    subprocess.run(command, cwd=folder, stdout=follower, stderr=follower, timeout=PATIENCE)
    os.close(follower)
    shown = b""
    try:
        while part := os.read(leader, 4096):
            shown += part
    except OSError:
        pass  # how Linux says that the other side is closed
    os.close(leader)
    return shown.decode()


def test_a_terminal_is_told_what_happened(face, tmp_path):
    shown = on_a_terminal(tmp_path, "encode", "face.png", "-q", "3.02")
    size = (tmp_path / "face.fic").stat().st_size
    assert f"face.png -> face.fic: 61x45 coded in {size} bytes" in shown
    assert "q 3.03125" in shown
    shutil.copy(face, tmp_path / "other.png")
    shown = on_a_terminal(tmp_path, "encode", "face.png", "other.png", "-o", "out")
    assert "2/2" in shown
    size = sum(path.stat().st_size for path in (tmp_path / "out").iterdir())
    assert f"2 done: {size} bytes in .fic files, {8 * size / (2 * 61 * 45):.3f} bpp" in shown
    assert on_a_terminal(tmp_path, "encode", "face.png", "other.png", "-o", "out2", "--quiet") == ""


def test_a_terminal_gets_no_binary(face, tmp_path):
    shown = on_a_terminal(tmp_path, "encode", "face.png", "-o", "-")
    assert shown.startswith("facecodec: standard output is a terminal")
    assert len(shown.splitlines()) == 1


def test_an_unforeseen_error_costs_only_its_input(tmp_path, capsys):
    jobs = []
    for number in range(3):
        (tmp_path / f"{number}.in").write_bytes(b"%d" % number)
        jobs.append(files.Job(tmp_path / f"{number}.in", tmp_path / f"{number}.out"))

    def work(content):
        if content == b"0":
            raise ZeroDivisionError("surprise")
        if content == b"1":
            raise MemoryError
        return Output(b"whole", {"bytes": 5, "width": 1, "height": 1})

    plan = files.Plan(jobs, [], files.Naming(".out"), frozenset())
    with pytest.raises(SystemExit) as end:
        batch.run(plan, Working(work), batch.Options(processes=1))
    assert end.value.code == 1
    message = capsys.readouterr().err
    assert "internal error, please report it: ZeroDivisionError: surprise" in message
    assert "not enough memory" in message
    assert (tmp_path / "2.out").read_bytes() == b"whole"


HEAVY = (
    "torch",
    "compressai",
    "torchvision",
    "facenet_pytorch",
    "scipy",
    "pandas",
    "matplotlib",
    "sklearn",
)


@pytest.mark.parametrize("group", [[], ["desktop"]])
def test_a_group_of_commands_without_one_shows_its_help(run_cli, group):
    done = run_cli(*group)
    assert done.returncode == 2
    assert done.stderr == run_cli(*group, "--help").stdout


@pytest.mark.parametrize(
    "arguments", [["--help"], ["encode", "face.png", "-o", "x.fic"], ["decode", "good.fic", "-f"]]
)
def test_coding_imports_nothing_heavy(run_cli, face, tmp_path, arguments):
    run_cli("encode", "face.png", "-o", "good.fic")
    code = (
        "import sys\n"
        "from facecodec.cli import main\n"
        f"sys.argv = ['facecodec', *{arguments!r}]\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        f"print('loaded:', [m for m in {HEAVY!r} if m in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout.endswith("loaded: []\n"), done.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["face.png"], 2, "for a file, facecodec encode face.png"),
        (["good.fic"], 2, "for a file, facecodec decode good.fic"),
        (["encode", "face.png", "-o", ""], 2, "-o is empty: is a shell variable unset?"),
        (["encode", "face.png", "to.fic"], 2, "if it is to be the output, give -o to.fic"),
        (["decode", "good.fic", "to.png"], 2, "if it is to be the output, give -o to.png"),
        (["encode", "face.png", "-o", "no/f.fic"], 1, "there is no folder no: make it first"),
        (["encode", "face.png", "-m", "L2-IPR"], 2, "did you mean l2-ipr"),
        (["encode", "http://127.0.0.1:1/f.png"], 1, "HTTP is read-only: give -o"),
        (["encode", "http://127.0.0.1:1/f.png", "-o", "f.fic"], 1, "cannot reach its server"),
        (["encode", "face.png", "-o", "http://127.0.0.1:1/"], 2, "HTTP is read-only: give another"),
        (["encode", "face.png", "--target-bpp", "0.01"], 1, "bits per pixel, more than 0.01"),
        (["view", "some.tar", "-o", "page.html"], 1, "extract its .fic files first"),
        (["view", "face.png", "-o", "page.html"], 1, "not a .fic file"),
    ],
)
def test_a_slip_costs_one_line_that_says_what_to_do(
    run_cli, tmp_path, picture, tiny, arguments, status, told
):
    if "http" in "".join(arguments):
        pytest.importorskip("upath", reason="the 'url' extra is not installed")
    Image.fromarray(picture).save(tmp_path / "face.png")
    (tmp_path / "good.fic").write_bytes(tiny.encode(picture))
    done = run_cli(*arguments)
    assert done.returncode == status
    assert told in done.stderr.decode().splitlines()[-1]
    assert {path.name for path in tmp_path.iterdir()} == {"face.png", "good.fic"}


def test_help_names_the_default_model(run_cli):
    assert f"{DEFAULT_MODEL} by default" in " ".join(
        run_cli("encode", "--help").stdout.decode().split()
    )


def test_help_loads_no_subcommand():
    code = (
        "import sys, facecodec.cli as c\ntry: c.cli(['--help'])\n"
        "except SystemExit: pass\nprint('numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("False\n")


def test_a_provider_that_is_missing_is_an_error_and_the_cpu_is_one(run_cli, face, tmp_path):
    done = run_cli("encode", "face.png", "--provider", "tpu")
    assert done.returncode == 2
    assert b"provider 'tpu' is not in this ONNX Runtime, which has" in done.stderr
    assert not (tmp_path / "face.fic").exists()
    assert run_cli("encode", "face.png", "--provider", "CPU").returncode == 0
    assert b"provider 'x'" in run_cli("decode", "face.fic", "-f", FACECODEC_PROVIDER="x").stderr


def test_a_small_picture_keeps_its_shape_and_is_never_enlarged(run_cli, tmp_path):
    shutil.copyfile(DATA / "smooth-q4.fic", tmp_path / "in.fic")
    for side, size in {32: (25, 32), 1: (1, 1), 500: (70, 90)}.items():
        done = run_cli("decode", "in.fic", "--max-side", side, "-f")
        assert done.returncode == 0, done.stderr
        with Image.open(tmp_path / "in.png") as image:
            assert image.size == size
    assert run_cli("decode", "in.fic", "--max-side", 0, "-f").returncode == 2
