"""The command line as people use it: real processes, real files."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import DATA, TINY
from PIL import Image


@pytest.fixture
def face(tmp_path, picture):
    """face.png in the working directory of run_cli."""
    Image.fromarray(picture).save(tmp_path / "face.png")
    return tmp_path / "face.png"


def objects(output: bytes) -> list[dict]:
    return [json.loads(line) for line in output.splitlines()]


def listing(folder) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_encode_and_decode_write_beside_the_input_and_stay_quiet_when_piped(run_cli, face, tmp_path):
    done = run_cli("encode", "face.png")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    face.unlink()
    done = run_cli("decode", "face.fic")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert listing(tmp_path) == ["face.fic", "face.png"]
    assert Image.open(face).size == (61, 45)


def test_json_states_what_was_stored(run_cli, face):
    (row,) = objects(run_cli("encode", "face.png", "-q", "3.02", "-m", TINY, "--json").stdout)
    assert list(row) == ["input", "output", "width", "height", "bytes", "bpp", "quality", "model", "seconds"]
    assert (row["input"], row["output"], row["quality"], row["model"]) == ("face.png", "face.fic", 3.03125, "tiny")
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


def test_files0_from_keeps_paths_relative_to_the_working_directory(run_cli, face, tmp_path):
    (tmp_path / "deep/er").mkdir(parents=True)
    odd = tmp_path / "deep/er/new\nline.png"
    odd.write_bytes(face.read_bytes())
    done = run_cli("encode", "--files0-from", "-", "-o", "out", stdin=b"deep/er/new\nline.png\0./face.png\0")
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
        (["face.png", "face.jpg"], "would both write face.fic"),
        (["face.png", "-o", "./face.png", "-f"], "inputs are never overwritten"),
        (["face.png", "other.png", "-o", "-"], "standard output takes one picture"),
        (["face.png", "-"], "'-' cannot be combined"),
        (["face.png", "other.png", "-o", "face.png"], "is a file, and several inputs need a folder"),
        (["-", "-o", "out/"], "standard input has no name"),
        (["face.png", "-q", "0.9"], "quality 0.9 is outside 1..8"),
        (["face.png", "-q", "9"], "quality 9 is outside 1..8"),
        (["face.png", "-q", "nan"], "quality nan is outside 1..8"),
        (["face.png", "-m", "none-such"], "no model 'none-such'; installed: "),
        (["face.png", "-m", "./none.safetensors"], "no model file ./none.safetensors"),
        (["face.png", "--max-pixels", "0"], "--max-pixels"),
        (["--files0-from", "absent"], "--files0-from absent"),
        (["face.png", "--no-such-option"], "--no-such-option"),
    ],
)
def test_wrong_usage_is_status_2_and_writes_nothing(run_cli, face, tmp_path, arguments, message):
    before = listing(tmp_path)
    done = run_cli("encode", *arguments)
    assert done.returncode == 2
    assert message in done.stderr.decode()
    assert b"Traceback" not in done.stderr
    assert listing(tmp_path) == before


def test_decode_refuses_a_name_without_a_known_suffix(run_cli, face):
    run_cli("encode", "face.png")
    done = run_cli("decode", "face.fic", "-o", "face.xyz")
    assert done.returncode == 2
    assert b"should end in one of .png" in done.stderr


def make_bad_images(folder, picture) -> dict[str, str]:
    """Bad inputs for encode, by name, with what the message must say."""
    image = Image.fromarray(picture)
    image.save(folder / "whole.jpg")
    whole = (folder / "whole.jpg").read_bytes()
    (folder / "whole.jpg").unlink()
    (folder / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "text.jpg").write_text("These are words.")
    (folder / "empty.png").touch()
    # A PNG whose header claims 60000x60000 pixels.
    Image.new("1", (60000, 600)).save(folder / "large.png")
    Image.MAX_IMAGE_PIXELS = None
    Image.new("1", (20000, 20000)).save(folder / "bomb.png")
    (folder / "no-images").mkdir()
    return {
        "missing.jpg": "no such file or folder",
        "truncated.jpg": "damaged image",
        "text.jpg": "not an image that Pillow can read",
        "empty.png": "the file is empty",
        "large.png": "60000x600 is more than 30000000 pixels",
        "bomb.png": "more than 30000000 pixels",
        "no-images": "the folder holds no images",
    }


def test_each_bad_image_costs_only_itself(run_cli, face, tmp_path, picture):
    bad = make_bad_images(tmp_path, picture)
    done = run_cli("encode", *bad, "face.png", "-o", "out", "--json", "--max-pixels", 30_000_000)
    assert done.returncode == 1
    rows = {row["input"]: row for row in objects(done.stdout)}
    for name, message in bad.items():
        assert message in rows[name]["error"], name
        assert "\n" not in rows[name]["error"]
        assert f"facecodec: {name}: {rows[name]['error']}\n" in done.stderr.decode()
    assert rows["face.png"]["output"] == "out/face.fic"
    assert listing(tmp_path / "out") == ["face.fic"]
    assert f"{len(bad)} of {len(bad) + 1} inputs failed, 1 done" in done.stderr.decode()


def make_bad_files(folder, good: bytes) -> dict[str, str]:
    """Bad inputs for decode, by name, with what the message must say."""
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
    from facecodec.container import Container, pack

    mark = bytes.fromhex("00c0ffee")
    (folder / "stranger.fic").write_bytes(pack(Container(mark, 0, 8, 8, [b"", b""])))
    (folder / "huge.fic").write_bytes(pack(Container(good[3:7], 0, 60000, 60000, [b"", b""])))
    messages = {name: message for name, (_, message) in contents.items()}
    return messages | {
        "stranger.fic": "made with model 00c0ffee, which is not installed; installed: ",
        "huge.fic": "60000x60000 is more than 67108864 pixels",
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


@pytest.mark.skipif(os.geteuid() == 0 and not os.path.exists("/proc/self/status"), reason="needs Linux or a user")
def test_an_unreadable_file_is_an_error_of_its_own(run_cli, face, tmp_path):
    if os.geteuid() == 0:
        # Root reads everything but what the kernel itself refuses.
        done = run_cli("encode", "/proc/self/mem", "-o", "x.fic")
    else:
        face.chmod(0)
        done = run_cli("encode", "face.png")
    assert done.returncode == 1
    assert done.stderr.count(b"\n") == 1
    assert b"Traceback" not in done.stderr
    assert not list(tmp_path.glob("*.fic"))


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
    assert b"cannot write no/such/folder.fic: no such file or folder" in done.stderr


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
    )
    deadline = time.monotonic() + 60
    while not (list((tmp_path / "out").glob("*.fic")) if (tmp_path / "out").exists() else []):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, message = process.communicate(timeout=60)
    assert process.returncode == 130
    assert message.strip() == b"facecodec: interrupted"
    written = listing(tmp_path / "out")
    assert 0 < len(written) < 400
    assert all(name.endswith(".fic") for name in written)
    (tmp_path / "back").mkdir()
    back = subprocess.run([sys.executable, "-m", "facecodec", "decode", "out", "-o", "back"], cwd=tmp_path)
    assert back.returncode == 0


def test_notes_are_said_once_and_not_when_quiet(run_cli, tmp_path, picture):
    for number in range(2):
        Image.fromarray(np.dstack([picture, picture[..., 0]]), "RGBA").save(tmp_path / f"{number}.png")
    done = run_cli("encode", "0.png", "1.png")
    assert done.stderr.count(b"dropped alpha") == 1
    done = run_cli("encode", "0.png", "1.png", "-f", "--quiet")
    assert (done.returncode, done.stderr) == (0, b"")


def test_growing_is_noted(run_cli, tmp_path):
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.gif")
    Image.new("1", (64, 64)).save(tmp_path / "flat.png")
    noise = np.random.default_rng(0).integers(0, 2, (64, 64), dtype=np.uint8) * 255
    Image.fromarray(noise).convert("1").save(tmp_path / "noise.png")
    done = run_cli("encode", "noise.png", "-q", "8", "-m", "l2-rec")
    assert b"note: noise.png: its " in done.stderr


def test_info_needs_no_model(run_cli, tmp_path):
    (tmp_path / "x.fic").write_bytes((DATA / "smooth-q4.fic").read_bytes())
    (known,) = objects(run_cli("info", "x.fic", "--json").stdout)
    assert list(known) == [
        "input", "version", "width", "height", "bytes", "bpp", "quality",
        "fingerprint", "model", "header_bytes", "streams", "chunks",
    ]  # fmt: skip
    assert (known["width"], known["height"], known["quality"], known["model"]) == (70, 90, 4.0, "tiny")
    assert known["header_bytes"] + sum(s["bytes"] for s in known["streams"]) == known["bytes"] == 345
    assert [(s["name"], s["escapes"]) for s in known["streams"]] == [("z", 0), ("y", 44)]
    done = run_cli("info", "x.fic", "--json", FACECODEC_MODELS="")
    (unknown,) = objects(done.stdout)
    assert done.returncode == 0
    assert unknown["model"] is None
    assert unknown["fingerprint"] == known["fingerprint"]
    assert [s["name"] for s in unknown["streams"]] == [None, None]
    text = run_cli("info", "x.fic").stdout.decode()
    assert "70x90, 345 bytes" in text
    assert "44 escapes" in text
    (tmp_path / "bad.fic").write_bytes(b"what")
    done = run_cli("info", "bad.fic", "x.fic")
    assert done.returncode == 1
    assert b"bad.fic: not a .fic file" in done.stderr
    assert b"70x90" in done.stdout


def test_models_lists_what_is_installed(run_cli):
    rows = {row["name"]: row for row in objects(run_cli("models", "--json").stdout)}
    default = rows["l2-rec"]
    assert list(default) == [
        "name", "default", "fingerprint", "family", "objective", "distortion", "data", "steps", "path", "rates",
    ]  # fmt: skip
    assert default["default"]
    assert [row["q"] for row in default["rates"]] == list(range(1, 9))
    assert not rows["tiny"]["default"]
    assert b"l2-rec (default): hyperprior, rec with l2" in run_cli("models").stdout


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


HEAVY = ("torch", "compressai", "torchvision", "facenet_pytorch", "scipy", "pandas", "matplotlib", "sklearn")


@pytest.mark.parametrize("arguments", [["--help"], ["encode", "face.png", "-o", "x.fic"], ["decode", "good.fic", "-f"]])
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
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.endswith("loaded: []\n"), done.stderr


def test_help_loads_no_subcommand():
    code = (
        "import sys, facecodec.cli as c\ntry: c.cli(['--help'])\nexcept SystemExit: pass\nprint('numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("False\n")
