"""Names of files, members, folders and arguments are never printed raw, whatever they contain."""

import ast
import io
import json
import os
import random
import shutil
import sys
import tarfile
from pathlib import Path
from unittest.mock import patch

import click
import pytest
from click.testing import CliRunner

import facecodec
from conftest import DATA
from facecodec.cli import main
from facecodec.text import printable

RAW = [
    "\x1b[31mred",
    "\x1b]0;title\x07",
    "\x9b31m",  # CSI in one character
    "back\b\b\b\b",
    "over\rwritten",
    "two\nfacecodec: lines",
    "\u202egnp.exe",  # right-to-left override
    "\u2066isolate",
    "line\u2028separator\u2029",
    "tab\tand\vmore\f",
    "\x7f",
    "\udcff\udc80",  # bytes that are no UTF-8
]


def tell(*arguments: str, folder: Path, stdin: bytes = b"") -> str:
    """Returns all that a call of the entry point in this process prints on both streams."""

    @click.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
    def called() -> None:
        argv, sys.argv = sys.argv, ["facecodec", *arguments]
        try:
            main()
        finally:
            sys.argv = argv

    with patch.dict(os.environ):  # options such as --provider set variables for a whole process
        result = CliRunner().invoke(called, [], input=stdin)
    assert result.exception is None or isinstance(result.exception, SystemExit), (
        arguments,
        result.exception,
    )
    return result.output


def raw_in(output: str) -> list[str]:
    """Returns lines and characters that no message may have."""
    return [c for c in output if not c.isprintable() and c not in "\n\t"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FACECODEC_MODELS", str(DATA))
    return tmp_path


def commands(name: str) -> list[tuple[list[str], bytes]]:
    """Returns every command with the name in every place that takes one, failing or not."""
    missing = f"none{name}"
    listed = os.fsencode(f"{missing}\0{name}.fic\0")
    return [
        (["info", f"{name}.fic"], b""),
        (["info", f"{name}.fic", "--json"], b""),
        (["info", missing], b""),
        (["info", f"{name}.fic", "--extract", f"out{name}"], b""),
        (["info", f"{name}.fic", "--heatmap", f"{name}.png"], b""),
        (["verify", f"{name}.fic", missing, f"{name}.tar"], b""),
        (["verify", "--json", f"{name}.fic", missing, f"{name}.tar"], b""),
        (["verify", "--files0-from", "-"], listed),
        (["embed", f"{name}.fic", missing, f"{name}.tar"], b""),
        (["embed", "--json", f"{name}.fic", missing], b""),
        (["embed", f"{name}.fic", "-o", f"{name}.txt"], b""),
        (["decode", f"{name}.fic", missing, "-o", f"out{name}/"], b""),
        (["decode", f"{name}.fic", "-o", f"out{name}.odd"], b""),
        (["decode", "-f", f"{name}.tar", "-o", f"again{name}.tar"], b""),
        (["decode", "--files0-from", "-"], listed),
        (["decode", "--files0-from", missing], b""),
        (["decode", f"{name}.fic", "-m", f"{name}.safetensors"], b""),
        (["decode", f"{name}.fic", "-m", name.replace("/", "")], b""),
        (["encode", f"{name}.png", "-o", f"{name}.fic"], b""),
        (["encode", f"{name}.png", "-m", f"{name}.safetensors"], b""),
        (["encode", f"{name}.png", "-q", name], b""),
        (["encode", f"{name}.fic", "-o", "x.fic"], b""),
        (["encode", missing, f"--{name}"], b""),
        (["encode", missing, "--max-bytes", name], b""),
        (["encode", missing, "--provider", name], b""),
        (["decode", missing, "--format", name], b""),
        ([name], b""),
        ([f"--{name}"], b""),
        (["models", name], b""),
        (["freeze", missing, "-o", f"{name}.x"], b""),
        (["train", missing, "--run", name], b""),
        (["card", name, "-q", name], b""),
        (["bench", name], b""),
        (["bench", "--codec", name, "--data", missing], b""),
        (["bench", "--dataset", name, "--data", missing], b""),
        (["bench", "report", missing, "-o", name], b""),
        (["bench", "download", name], b""),
    ]


def lay_out(folder: Path, name: str) -> None:
    """Writes files of a name: a good and a bad .fic file, an image, a model and a tar file."""
    whole = (DATA / "flat-q1.fic").read_bytes()
    Path(folder, f"{name}.fic").write_bytes(whole)
    Path(folder, f"{name}.png").write_bytes((DATA / "flat-q1.png").read_bytes()[:90])
    Path(folder, f"{name}.safetensors").write_bytes(b"no model")
    with tarfile.open(Path(folder, f"{name}.tar"), "w") as shard:
        for member, content in ((f"{name}.fic", whole), (f"bad{name}.fic", b"what")):
            info = tarfile.TarInfo(member)
            info.size = len(content)
            shard.addfile(info, io.BytesIO(content))


@pytest.mark.parametrize("name", RAW, ids=ascii)
def test_no_name_reaches_a_stream_raw(folder, name):
    lay_out(folder, name)
    reported = ""
    for arguments, stdin in commands(name):
        output = tell(*arguments, folder=folder, stdin=stdin)
        assert not raw_in(output), (arguments, output)
        assert "\n" not in name or "\nfacecodec: lines" not in output, (arguments, output)
        reported += output
    assert printable(name) in reported


def test_json_says_the_very_name(folder):
    for name in RAW:
        lay_out(folder, name)
        for command in (("info",), ("verify",)):
            line, *_ = tell(*command, "--json", f"{name}.fic", folder=folder).splitlines()
            assert json.loads(line)["input"] == f"{name}.fic"
            assert line.isascii()


def test_the_streams_of_a_process_are_as_clean(run_cli, tmp_path):
    """Tests the same through the console's own streams, which escape differently."""
    name = "\x1b[2J\u202e\r"
    lay_out(tmp_path, name)
    for command in ("info", "verify", "decode"):
        done = run_cli(command, f"{name}.fic", f"none{name}", PYTHONIOENCODING="ascii")
        output = done.stdout + done.stderr
        assert b"Traceback" not in output
        assert not raw_in(output.decode("ascii"))
        assert done.returncode == 1


def test_one_place_prints():
    """In the command line, nothing but console.py calls print or click.echo."""
    for path in Path(facecodec.__file__).parent.glob("cli/*.py"):
        calls = {
            node.func.id if isinstance(node.func, ast.Name) else node.func.attr
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute)
        }
        wanted = {"print"} if path.name in ("console.py", "batch.py") else set()
        assert calls & {"print", "echo", "secho", "show_usage"} == wanted, path


def test_a_name_is_one_line_and_readable_where_it_can_be():
    assert printable("Zoë 顔.fic") == "Zoë 顔.fic"
    assert printable("a\nb\x1b[m\u202e\udcff") == r"a\nb\x1b[m\u202e\udcff"


def random_name(rng: random.Random) -> str:
    """Returns a name, mostly of characters that terminals act on, valid and short enough."""
    kinds = (
        lambda: chr(rng.randrange(1, 32)),
        lambda: chr(rng.randrange(0x7F, 0xA0)),
        lambda: rng.choice(
            "\u200b\u200e\u200f\u2028\u2029\u202a\u202b\u202d\u202e\u2066\u2069\ufeff"
        ),
        lambda: rng.choice(("\x1b[31m", "\x1b]8;;x\x07", "\x9b2J", "\r", "\n", "\b")),
        lambda: chr(rng.randrange(0xDC80, 0xDD00)),
        lambda: rng.choice("abc .-'\"[]{}%\\"),
    )
    return "".join(rng.choice(kinds)() for _ in range(rng.randrange(1, 12))).replace("/", "_")


def test_random_names_too(folder):
    """The names are used in every place that takes one."""
    rng = random.Random(int(os.environ.get("FACECODEC_SEED", "1")))
    for _ in range(60):
        name = random_name(rng)
        lay_out(folder, name)
        for arguments, stdin in rng.sample(commands(name)[:28], 3):
            output = tell(*arguments, folder=folder, stdin=stdin)
            assert not raw_in(output), (arguments, output)
        for path in folder.iterdir():
            path.unlink() if path.is_file() else shutil.rmtree(path)


def test_random_names_by_the_hundred(folder):
    """FACECODEC_NAMES=100000 makes a long run. Each name is a file, a member and an argument."""
    rng = random.Random(int(os.environ.get("FACECODEC_SEED", "1")))
    whole = (DATA / "pixel-q8.fic").read_bytes()
    for _ in range(int(os.environ.get("FACECODEC_NAMES", "200")) // 100):
        names = sorted({random_name(rng) for _ in range(100)})
        files = [f"{name}.fic" for name in names]
        for number, file in enumerate(files):
            Path(folder, file).write_bytes(whole if number % 20 == 0 else b"what")
        with tarfile.open(folder / "x.tar", "w") as shard:
            for file in files:
                info = tarfile.TarInfo(file)
                info.size = 4
                shard.addfile(info, io.BytesIO(b"what"))
        listed = os.fsencode("\0".join([*files, *(f"none{file}" for file in files)]))
        command = rng.choice(("info", "verify", "decode", "embed"))
        inputs = ["--files0-from", "-", "-j", "1"]
        if command == "info":
            inputs = [f"./{file}" for file in files]
        output = tell(command, *inputs, folder=folder, stdin=listed)
        output += tell("verify", "x.tar", "-j", "1", folder=folder)
        assert not raw_in(output), (command, names)
        assert output.count("\n") < 8 * len(files), (command, names)  # none breaks a line in two
        for file in folder.iterdir():
            file.unlink()
