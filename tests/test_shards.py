"""Tar shards and URLs as inputs and outputs."""

import http.server
import io
import json
import sys
import tarfile
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from conftest import DATA
from facecodec.cli import cli, files
from facecodec.cli.paths import is_url, to_path


def picture(colour: str) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (40, 30), colour).save(data, "PNG")
    return data.getvalue()


def write_shard(path: Path, members: list[tuple[str, bytes]]) -> None:
    with tarfile.open(path, "w") as shard:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(content), 1_000_000_000
            shard.addfile(info, io.BytesIO(content))


def read_shard(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as shard:
        return {info.name: shard.extractfile(info).read() for info in shard}


SAMPLES = [
    ("a/000.json", b"{}"),
    ("a/000.png", picture("red")),
    ("a/001.cls", b"7"),
    ("a/001.jpg", picture("green")),
    ("a/001.json", b"[]"),
]


@pytest.fixture
def shard(tmp_path) -> Path:
    write_shard(tmp_path / "shard-0.tar", SAMPLES)
    return tmp_path / "shard-0.tar"


@pytest.mark.parametrize("processes", [1, 2])
def test_a_shard_becomes_one_with_its_other_files_and_its_order_kept(
    run_cli, shard, tmp_path, processes
):
    done = run_cli("encode", shard, "-o", "out/", "--verify", "--json", "-j", processes)
    assert done.returncode == 0, done.stderr
    coded = read_shard(tmp_path / "out/shard-0.tar")
    assert list(coded) == ["a/000.json", "a/000.fic", "a/001.cls", "a/001.fic", "a/001.json"]
    assert coded["a/001.cls"] == b"7"
    output = [json.loads(line) for line in done.stdout.splitlines()]
    assert [each["input"] for each in output] == [f"{shard}/a/000.png", f"{shard}/a/001.jpg"]
    assert output[0]["output"] == "out/shard-0.tar/a/000.fic"
    assert output[0]["bytes"] == len(coded["a/000.fic"])
    (tmp_path / "one.png").write_bytes(picture("red"))
    run_cli("encode", "one.png")
    assert coded["a/000.fic"] == (tmp_path / "one.fic").read_bytes()

    assert run_cli("verify", "out/shard-0.tar").returncode == 0
    assert run_cli("decode", "out/shard-0.tar", "-o", "back.tar", "--format", "ppm").returncode == 0
    back = read_shard(tmp_path / "back.tar")
    assert list(back) == ["a/000.json", "a/000.ppm", "a/001.cls", "a/001.ppm", "a/001.json"]
    assert Image.open(io.BytesIO(back["a/001.ppm"])).size == (40, 30)


@pytest.mark.parametrize("kept", [16, 1 << 20])
def test_members_behind_pictures_keep_their_order_and_content(run_cli, tmp_path, monkeypatch, kept):
    members = [("a.png", picture("red"))]
    members += [(f"{number}.bin", bytes([number]) * (50 + number)) for number in range(9)]
    members += [("b.png", picture("blue")), ("b.bin", b"b" * 70), ("c.png", b"no picture")]
    members += [("c.bin", b""), ("d.bin", b"d" * 99)]
    write_shard(tmp_path / "x.tar", members)
    monkeypatch.setattr("facecodec.cli.shards.KEPT", kept)
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli, ["encode", "x.tar", "-o", "y.tar", "-j", "2"])
    assert done.exit_code == 1
    written = read_shard(tmp_path / "y.tar")
    assert {name: content for name, content in written.items() if name.endswith(".bin")} == {
        name: content for name, content in members if name.endswith(".bin")
    }
    assert [name for name in written if name.endswith(".fic")] == ["a.fic", "b.fic"]
    assert list(written)[:2] == ["a.fic", "0.bin"]


def test_a_bad_picture_in_a_shard_costs_only_itself(run_cli, tmp_path):
    members = [
        ("a.png", picture("red")),
        ("b.png", b"no picture"),
        ("a.jpg", picture("blue")),
        ("c.png", picture("red")),
    ]
    write_shard(tmp_path / "x.tar", members)
    done = run_cli("encode", "x.tar", "-o", "y.tar")
    assert done.returncode == 1
    lines = done.stderr.decode().splitlines()
    assert lines[0].startswith("facecodec: x.tar/b.png: not an image")
    assert (
        lines[1]
        == "facecodec: x.tar/a.jpg: another member becomes a.fic too: encode with --keep-suffix"
    )
    assert lines[2] == "facecodec: 2 of 4 inputs failed, 2 done"
    assert list(read_shard(tmp_path / "y.tar")) == ["a.fic", "c.fic"]


def test_no_two_members_of_a_shard_get_one_name(run_cli, tmp_path):
    write_shard(tmp_path / "x.tar", [("a.fic", b"1"), ("a.png", picture("red")), ("b.json", b"{}")])
    done = run_cli("encode", "x.tar", "-o", "y.tar")
    assert done.returncode == 1
    assert b"x.tar/a.png: a.fic is in the tar file already" in done.stderr
    write_shard(tmp_path / "x.tar", [("a.png", picture("red")), ("a.fic", b"1")])
    done = run_cli("encode", "x.tar", "-o", "z.tar")
    assert done.returncode == 1
    taken = (
        "x.tar/a.fic: a picture before it in the tar file becomes it too: encode with --keep-suffix"
    )
    assert taken.encode() in done.stderr
    assert b"1 of 2 inputs failed, 1 done" in done.stderr
    assert read_shard(tmp_path / "z.tar")["a.fic"] != b"1"


def test_a_link_to_a_picture_is_an_error_of_its_own(run_cli, tmp_path):
    write_shard(tmp_path / "x.tar", [("a.png", picture("red"))])
    with tarfile.open(tmp_path / "x.tar", "a") as shard:
        kinds = {"b.png": tarfile.LNKTYPE, "c.png": tarfile.SYMTYPE, "d.dat": tarfile.SYMTYPE}
        for name, kind in kinds.items():
            link = tarfile.TarInfo(name)
            link.type, link.linkname = kind, "a.png"
            shard.addfile(link)
    done = run_cli("encode", "x.tar", "-o", "y.tar")
    assert done.returncode == 1
    for name in kinds:
        said = f"x.tar/{name}: a link to a.png: pack it again with tar -h --hard-dereference"
        assert said.encode() in done.stderr
    assert list(read_shard(tmp_path / "y.tar")) == ["a.fic"]


def test_a_member_that_is_there_twice_gets_no_advice_that_is_followed_already(run_cli, tmp_path):
    write_shard(tmp_path / "x.tar", [("a.png", picture("red")), ("a.png", picture("blue"))])
    done = run_cli("encode", "x.tar", "-o", "y.tar", "--keep-suffix")
    assert b"x.tar/a.png: another member becomes a.png.fic too\n" in done.stderr


def test_a_shard_whose_pictures_all_fail_leaves_the_one_before_it(run_cli, tmp_path):
    write_shard(tmp_path / "x.tar", [("a.png", b"no picture"), ("a.json", b"{}")])
    (tmp_path / "y.tar").write_bytes(b"mine")
    done = run_cli("encode", "x.tar", "-o", "y.tar", "-f")
    assert done.returncode == 1
    assert b"x.tar: none of its pictures succeeded, so no tar file was written" in done.stderr
    assert (tmp_path / "y.tar").read_bytes() == b"mine"


@pytest.mark.parametrize("damage", ["cut in a picture", "cut between", "header"])
def test_a_damaged_shard_is_an_error_and_writes_nothing(run_cli, shard, tmp_path, damage):
    data = bytearray(shard.read_bytes())
    second = data.index(b"a/001.jpg")
    if damage == "header":
        data[second : second + 2000] = b"\xff" * 2000
    else:
        del data[second + (600 if damage == "cut in a picture" else 0) :]
    shard.write_bytes(data)
    done = run_cli("encode", shard, "-o", "out/")
    assert done.returncode == 1
    assert b"shard-0.tar: damaged tar file" in done.stderr
    assert list((tmp_path / "out").iterdir()) == []


def test_a_shard_that_exists_is_kept_or_passed_over(run_cli, shard, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/shard-0.tar").write_bytes(b"mine")
    assert b"exists" in run_cli("encode", shard, "-o", "out/").stderr
    assert run_cli("encode", shard, "-o", "out/", "--skip-existing").returncode == 0
    assert (tmp_path / "out/shard-0.tar").read_bytes() == b"mine"
    assert run_cli("encode", shard, "-o", "out/", "-f").returncode == 0
    assert "a/000.fic" in read_shard(tmp_path / "out/shard-0.tar")


def test_a_shard_is_not_written_over_itself_nor_under_another_kind_of_name(
    run_cli, shard, tmp_path
):
    before = shard.read_bytes()
    assert b"would be overwritten by its own output" in run_cli("encode", shard, "-f").stderr
    for name in ("x.fic", "x.png"):
        assert run_cli("encode", shard, "-o", name).returncode == 2
    (tmp_path / "one.png").write_bytes(picture("red"))
    assert run_cli("encode", "one.png", "-o", "one.tar").returncode == 2
    assert shard.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.png", "shard-0.tar"]


def test_a_shard_goes_to_standard_output(run_cli, shard, tmp_path):
    (tmp_path / "out.tar").write_bytes(run_cli("encode", shard, "-o", "-").stdout)
    assert list(read_shard(tmp_path / "out.tar")) == [
        "a/000.json",
        "a/000.fic",
        "a/001.cls",
        "a/001.fic",
        "a/001.json",
    ]


@pytest.fixture
def server(tmp_path):
    """A local folder, served by http."""
    pytest.importorskip("aiohttp", reason="the extra url is not installed")
    (tmp_path / "served/sub").mkdir(parents=True)
    (tmp_path / "served/a.png").write_bytes(picture("red"))
    (tmp_path / "served/sub/b.png").write_bytes(picture("blue"))
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path / "served")
    serving = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=serving.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{serving.server_port}"
    serving.shutdown()


def test_urls_are_read(run_cli, server, tmp_path):
    done = run_cli(
        "encode", f"{server}/a.png", f"{server}/sub/b.png", f"{server}/none.png", "-o", "out"
    )
    assert done.returncode == 1
    assert b"none.png: no such file or folder" in done.stderr
    assert sorted(
        str(path.relative_to(tmp_path)) for path in (tmp_path / "out").rglob("*.fic")
    ) == [
        "out/a.fic",
        "out/sub/b.fic",
    ]
    (tmp_path / "served/a.fic").write_bytes((tmp_path / "out/a.fic").read_bytes())
    assert json.loads(run_cli("info", f"{server}/a.fic", "--json").stdout)["width"] == 40
    assert run_cli("verify", f"{server}/a.fic").returncode == 0


def sparse_member(name: str, claims: int) -> bytes:
    """Returns a tar file of 2 KB with a sparse file that claims so many bytes."""
    info = tarfile.TarInfo(name)
    info.type, info.size = tarfile.GNUTYPE_SPARSE, 1
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))

    def number(value: int) -> bytes:
        return b"%011o\0" % value

    header[386:482] = number(0) + number(1) + bytes(72)  # the map: offset, bytes
    header[483:495] = number(claims)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + b"x".ljust(512, b"\0") + bytes(1024)


@pytest.mark.parametrize("name", ["hole.png", "hole.json"])
def test_a_tar_file_that_claims_gigabytes_of_nothing_is_refused(run_cli, tmp_path, name):
    """Reading it would take twice as much memory, and as much disk for the output."""
    (tmp_path / "holes.tar").write_bytes(sparse_member(name, 4 << 30))
    with tarfile.open(tmp_path / "holes.tar") as shard:
        assert [info.size for info in shard] == [4 << 30]
    done = run_cli("encode", "holes.tar", "-o", "out.tar")
    assert done.returncode == 1
    (line,) = done.stderr.decode().splitlines()
    assert f"{name} is stored as a sparse file: pack it again without --sparse" in line
    assert not (tmp_path / "out.tar").exists()


@pytest.mark.parametrize(
    "fields",
    [
        {"mtime": "nan"},
        {"mtime": "inf"},
        {"GNU.sparse.map": "x", "GNU.sparse.size": "y"},
        {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "a.png"},
        {"chain": "3000"},
    ],
    ids=str,
)
def test_what_a_header_says_is_taken_or_damage(run_cli, tmp_path, fields):
    content = picture("red")
    info = tarfile.TarInfo("a.png")
    info.size, info.pax_headers = len(content), fields
    header = info.tobuf(tarfile.PAX_FORMAT)
    extended, own = header[:-512], header[-512:]
    chain = int(fields.get("chain", 1))
    (tmp_path / "x.tar").write_bytes(
        chain * extended + own + content.ljust(1024, b"\0") + bytes(1024)
    )
    done = run_cli("encode", "x.tar", "-o", "out.tar")
    assert done.returncode == 1
    (line,) = done.stderr.decode().splitlines()
    assert "x.tar: damaged tar file (" in line
    assert line.endswith("): fetch or copy it again")
    assert not (tmp_path / "out.tar").exists()


def test_a_store_is_read_and_written(monkeypatch):
    """Uses the API, because the store is the memory of one process."""
    pytest.importorskip("upath", reason="the extra url is not installed")
    monkeypatch.setenv("FACECODEC_MODELS", str(DATA))
    store = to_path("memory://photos")
    (store / "x").mkdir(parents=True, exist_ok=True)
    (store / "x/one.png").write_bytes(picture("red"))
    (store / "x/two.png").write_bytes(b"no picture")
    write = ["encode", "memory://photos", "-o", "memory://coded/", "-m", "tiny"]
    done = CliRunner().invoke(cli, write)
    assert done.exit_code == 1
    assert "memory://photos/x/two.png: not an image" in done.output
    assert to_path("memory://coded/x/one.fic").read_bytes()[:2] == b"\xf1\xc1"
    again = CliRunner().invoke(
        cli, ["encode", "memory://photos/x/one.png", "-o", "memory://coded/x/", "-m", "tiny"]
    )
    assert "exists: -f overwrites it" in again.output
    over = CliRunner().invoke(
        cli, ["encode", "memory://photos/x/one.png", "-o", "memory://photos/x/one.png", "-f"]
    )
    assert over.exit_code != 0
    assert to_path("memory://photos/x/one.png").read_bytes() == picture("red")


def test_embeddings_and_lists_have_urls_too(monkeypatch):
    pytest.importorskip("upath", reason="the extra url is not installed")
    monkeypatch.setenv("FACECODEC_MODELS", str(DATA))
    store = to_path("memory://lists")
    store.mkdir(parents=True, exist_ok=True)
    (store / "names").write_bytes(bytes(DATA / "spic-q3.fic") + b"\0")
    write = ["embed", "--files0-from", "memory://lists/names", "-o", "memory://lists/out.npy"]
    done = CliRunner().invoke(cli, write)
    assert done.exit_code == 0, done.output
    assert np.load(io.BytesIO((store / "out.npy").read_bytes())).shape == (1, 12)
    missing = CliRunner().invoke(cli, ["verify", "--files0-from", "memory://lists/none"])
    assert "--files0-from memory://lists/none: no such file" in str(missing.exception)


@pytest.mark.parametrize(
    "command",
    [
        ("info", "x.fic", "--extract"),
        ("info", "x.fic", "--heatmap"),
        ("view", "x.fic", "-o"),
        ("view", "x.fic", "--script"),
        ("freeze", "run", "-o"),
        ("train", "x.toml", "--run"),
        ("bench", "-o"),
        ("bench", "report"),
        ("card", "l2-ipr", "--data"),
    ],
    ids=" ".join,
)
def test_a_url_is_never_taken_for_a_path_here(run_cli, tmp_path, command):
    """If there is a folder "s3:" here, the file must not go into it."""
    (tmp_path / "s3:" / "bucket").mkdir(parents=True)
    (tmp_path / "x.fic").write_bytes((DATA / "lfic-q3.fic").read_bytes())
    done = run_cli(*command, "s3://bucket/x.png")
    assert done.returncode == 2
    assert b"'s3://bucket/x.png' is a URL: give a path on this machine" in done.stderr
    assert not list((tmp_path / "s3:" / "bucket").iterdir())


def test_a_url_is_known_where_its_path_is_a_pathlib_path_too():
    """This is so before universal-pathlib 0.3."""

    class Remote(type(Path())):
        protocol = "memory"

    assert is_url(Remote("photos/a.png"))
    assert not is_url(Path("photos/a.png"))
    assert is_url("s3://photos/a.png")
    assert not is_url("photos/a.png")


def test_what_a_store_calls_its_objects_leads_nowhere_else(monkeypatch):
    pytest.importorskip("upath", reason="the extra url is not installed")
    (to_path("memory://bad") / "x").mkdir(parents=True, exist_ok=True)
    store = to_path("memory://bad")
    monkeypatch.setattr(type(store.fs), "find", lambda self, path: [f"{path}/../../x/evil.png"])
    [job] = files.plan(
        ("memory://bad",), None, "out", files.Naming(".fic"), frozenset({".png"}), "images"
    ).jobs
    assert job.target == Path("out/x/evil.fic")


def test_a_url_that_cannot_be_reached_says_what_to_install(run_cli, tmp_path, monkeypatch):
    done = run_cli("encode", "zz://bucket/x.png")
    assert done.returncode == 2
    assert b"zz://bucket/x.png: " in done.stderr
    monkeypatch.setitem(sys.modules, "upath", None)
    with pytest.raises(Exception, match=r"pip install 'facecodec\[url\]'"):
        to_path("s3://bucket/x.png")
