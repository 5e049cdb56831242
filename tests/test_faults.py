"""Makes hard faults: nothing is half-written or lost, and a rerun completes the work.

Tests that kill processes are in test_cli.py.
"""

import os
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import DATA, PATIENCE
from facecodec.container import unpack

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="uses what only Linux has")


@pytest.fixture
def noise(tmp_path) -> Path:
    """A folder `in` of eight pictures whose files are large."""
    (tmp_path / "in").mkdir()
    rng = np.random.default_rng(0)
    for number in range(8):
        Image.fromarray(rng.integers(0, 256, (96, 96, 3), np.uint8)).save(
            tmp_path / "in" / f"{number}.png"
        )
    return tmp_path


@pytest.fixture
def mounted(tmp_path):
    """A disk of 24 KB."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24k", "none", str(place)], capture_output=True
    )
    if done.returncode:
        pytest.skip("only root can mount a disk to fill")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def start(folder: Path, *arguments: object, **options) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "facecodec", *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "FACECODEC_MODELS": str(DATA)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )


@LINUX
def test_a_disk_that_fills_up_costs_what_did_not_fit(run_cli, noise, mounted):
    done = run_cli("encode", "in", "-o", mounted, "-q", 8, "-m", "tiny")
    assert done.returncode == 1
    message = done.stderr.decode()
    assert "no space left: free some and run this again" in message
    written = sorted(mounted.iterdir())
    assert 0 < len(written) < 8
    assert f"{8 - len(written)} of 8 inputs failed, {len(written)} done" in message
    assert all(
        path.suffix == ".fic" and unpack(path.read_bytes()) for path in written
    )  # all of them whole
    subprocess.run(["mount", "-o", "remount,size=1m", str(mounted)], check=True)
    assert (
        run_cli("encode", "in", "-o", mounted, "-q", 8, "-m", "tiny", "--skip-existing").returncode
        == 0
    )
    assert len(list(mounted.iterdir())) == 8


@LINUX
def test_a_folder_that_is_read_only_is_an_error_in_one_line(run_cli, noise, mounted):
    subprocess.run(["mount", "-o", "remount,ro", str(mounted)], check=True)
    done = run_cli("encode", "in/0.png", "-o", mounted / "0.fic")
    assert done.returncode == 1
    assert done.stderr.decode().splitlines() == [
        f"facecodec: in/0.png: cannot write {mounted}/0.fic: the file system is read-only: choose another place"
    ]
    done = run_cli("encode", "in/0.png", "-o", f"{mounted}/new/")
    assert b"new/0.fic: the file system is read-only" in done.stderr


def test_an_input_that_vanishes_costs_only_itself(noise):
    os.mkfifo(noise / "first.png")
    process = start(
        noise, "encode", "first.png", *(f"in/{n}.png" for n in range(3)), "-o", "out/", "-j", 1
    )
    with open(noise / "first.png", "wb") as pipe:  # opens when the batch has begun to read it
        (noise / "in/2.png").unlink()
        pipe.write((noise / "in/0.png").read_bytes())
    _, message = process.communicate(timeout=PATIENCE)
    assert message.decode().splitlines() == [
        "facecodec: in/2.png: no such file or folder: check the path",
        "facecodec: 1 of 4 inputs failed, 3 done",
    ]
    assert len(list((noise / "out").rglob("*.fic"))) == 3


def test_a_slow_pipe_is_waited_for(noise):
    data = (noise / "in/0.png").read_bytes()
    process = start(noise, "encode", "-", "-o", "slow.fic")
    for part in np.array_split(np.frombuffer(data, np.uint8), 5):
        process.stdin.write(part.tobytes())
        process.stdin.flush()
        assert not (noise / "slow.fic").exists()
        time.sleep(0.1)
    _, message = process.communicate(timeout=PATIENCE)
    assert (process.returncode, message) == (0, b"")
    assert unpack((noise / "slow.fic").read_bytes()).width == 96


@LINUX
def test_too_little_memory_costs_only_the_picture_that_is_too_large(noise, tmp_path):
    Image.new("RGB", (13000, 13000)).save(noise / "in" / "large.png")
    limit = 900 << 20  # bytes of address space: enough for the program, not for 169 megapixels

    process = start(
        noise, "encode", "in", "-o", "out", "-j", 1, "--max-pixels", 1 << 30,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )  # fmt: skip
    _, message = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert message.decode().splitlines() == [
        "facecodec: in/large.png: not enough memory for a picture of this size",
        "facecodec: 1 of 9 inputs failed, 8 done",
    ]


def test_of_two_that_write_the_same_output_one_succeeds(noise):
    for attempt in range(3):
        name = f"same{attempt}.fic"
        both = [start(noise, "encode", f"in/{n}.png", "-o", name, "-m", "tiny") for n in range(2)]
        ended = [(process.communicate(timeout=PATIENCE)[1], process.returncode) for process in both]
        assert sorted(code for _, code in ended) == [0, 1]
        winner = next(number for number, (_, code) in enumerate(ended) if code == 0)
        assert f"{name} exists: -f overwrites it" in ended[1 - winner][0].decode()
        alone = start(noise, "encode", f"in/{winner}.png", "-o", "-", "-m", "tiny").communicate(
            timeout=PATIENCE
        )[0]
        assert (noise / name).read_bytes() == alone


def test_two_that_overwrite_the_same_output_leave_it_whole(noise):
    stop, seen = threading.Event(), set()

    def watch() -> None:
        while not stop.is_set():
            if (noise / "same.fic").exists():
                seen.add((noise / "same.fic").read_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    both = [
        start(noise, "encode", f"in/{n}.png", "-o", "same.fic", "-f", "-m", "tiny")
        for n in range(2)
    ]
    codes = [process.wait(timeout=PATIENCE) for process in both]
    stop.set()
    watcher.join()
    assert codes == [0, 0]
    assert all(unpack(data).width == 96 for data in seen)
    assert {path.name for path in noise.iterdir()} == {"in", "same.fic"}


@LINUX
def test_a_process_counts_the_cores_that_it_may_use():
    program = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
        "from facecodec.processes import usable_cores; print(usable_cores())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "1\n", done.stderr
