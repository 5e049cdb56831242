"""Tests batches on a Ray cluster, also with a worker that is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import DATA, PATIENCE
from facecodec.cli.files import Job

pytest.importorskip("ray", reason="the extra ray is not installed")


@pytest.fixture(scope="module")
def cluster():
    """Two nodes with two processes each."""
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    started = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False}
    )
    started.add_node(num_cpus=2)
    yield started.address
    started.shutdown()


def encode(cluster: str, folder: Path, *arguments: object) -> subprocess.Popen:
    command = [
        sys.executable,
        "-m",
        "facecodec",
        "encode",
        *arguments,
        "-m",
        "tiny",
        "--ray",
        cluster,
        "--json",
    ]
    environment = {**os.environ, "FACECODEC_MODELS": str(DATA)}
    return subprocess.Popen(
        list(map(str, command)),
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def output(process: subprocess.Popen) -> list[dict]:
    out, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode is not None, errors
    return [json.loads(line) for line in out.splitlines()]


def workers() -> list[int]:
    """Returns the processes of this test's cluster that code pictures."""
    parents, coding = {}, []
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdigit():
                number = int(process.name)
                parents[number] = int((process / "stat").read_text().rpartition(")")[2].split()[1])
                if b"ray::MapWorker" in (process / "cmdline").read_bytes():
                    coding.append(number)
        except OSError:
            pass  # it has ended

    def is_ours(process: int) -> bool:
        return process == os.getpid() or (process in parents and is_ours(parents[process]))

    return [process for process in coding if is_ours(process)]


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_a_worker_that_is_killed_costs_nothing(cluster, people_root, tmp_path):
    """600 links to one photograph are enough for every worker to be at work when one dies."""
    photograph = next(people_root.glob("*/*/*.jpg"))
    photographs = [tmp_path / f"in/{n % 20:02}/{n:03}.jpg" for n in range(600)]
    for path in photographs:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(photograph, path)
    process = encode(cluster, tmp_path, tmp_path / "in", "-o", "out")
    deadline = time.monotonic() + 300
    while len(list((tmp_path / "out").glob("*/*.fic"))) < 50:
        assert process.poll() is None, process.stderr.read().decode()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    victims = workers()
    assert len(victims) > 1
    os.kill(victims[0], signal.SIGKILL)
    assert len(list((tmp_path / "out").glob("*/*.fic"))) < 600  # it died in the middle
    results = output(process)
    assert process.returncode == 0
    inputs = sorted(each["input"] for each in results)
    assert inputs == sorted(map(str, photographs))  # none is lost, none is doubled
    written = {
        str(path.relative_to(tmp_path)): path.stat().st_size
        for path in (tmp_path / "out").rglob("*")
        if path.is_file()
    }
    assert written.keys() == {
        str(Path("out") / path.relative_to(tmp_path / "in").with_suffix(".fic"))
        for path in photographs
    }
    assert written == {each["output"]: each["bytes"] for each in results}


def test_what_fails_is_in_the_table_and_what_is_done_is_not_done_again(
    cluster, picture, run_cli, tmp_path
):
    from PIL import Image

    (tmp_path / "in").mkdir()
    for number in range(20):
        Image.fromarray(picture[: 20 + number]).save(tmp_path / f"in/{number:02}.png")
    (tmp_path / "in/bad.png").write_bytes(b"no picture")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/00.fic").write_bytes(b"mine")
    first = encode(cluster, tmp_path, "in", "-o", "out")
    results = output(first)
    assert first.returncode == 1
    failed = {each["input"]: each["error"] for each in results if "error" in each}
    assert failed.keys() == {"in/00.png", "in/bad.png"}
    assert "exists" in failed["in/00.png"]
    assert run_cli("encode", "in/07.png", "-m", "tiny", "-o", "alone.fic").returncode == 0
    assert (tmp_path / "out/07.fic").read_bytes() == (tmp_path / "alone.fic").read_bytes()

    (tmp_path / "out/05.fic").unlink()
    again = encode(cluster, tmp_path, "in", "-o", "out", "--skip-existing")
    results = output(again)
    assert [each["input"] for each in results if "bytes" in each] == ["in/05.png"]
    assert sum("skipped" in each for each in results) == 19
    assert (tmp_path / "out/00.fic").read_bytes() == b"mine"


def test_a_shard_is_worth_a_worker(tmp_path):
    from facecodec.cli.cluster import shared_out

    shards = [Job(tmp_path / f"{number}.tar", None) for number in range(20)]
    assert shared_out(shards, 64) == (20, 1)
    assert shared_out(shards, 4) == (4, 1)
    pictures = [Job(tmp_path / f"{number}.png", None) for number in range(20)]
    assert shared_out(pictures, 64) == (2, 16)
    assert shared_out([], 64)[0] == 1


def test_shards_are_done_by_a_worker_each(cluster, run_cli, tmp_path):
    from test_shards import SAMPLES, read_shard, write_shard

    for number in range(3):
        write_shard(tmp_path / f"{number}.tar", SAMPLES)
    process = encode(cluster, tmp_path, "0.tar", "1.tar", "2.tar", "-o", "out")
    results = output(process)
    assert process.returncode == 0
    assert sorted(each["input"] for each in results) == [
        f"{n}.tar/{name}" for n in range(3) for name in ("a/000.png", "a/001.jpg")
    ]
    names = ["a/000.json", "a/000.fic", "a/001.cls", "a/001.fic", "a/001.json"]
    assert all(list(read_shard(tmp_path / f"out/{n}.tar")) == names for n in range(3))


def test_a_cluster_gets_no_standard_streams(run_cli, picture):
    assert run_cli("encode", "-", "--ray", "local", stdin=b"").returncode == 2
