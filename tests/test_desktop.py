"""Tests `facecodec desktop`: what it installs, and that it removes all of it again."""

import configparser
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

DATA = Path(__file__).parent / "data"
pytestmark = pytest.mark.skipif(
    sys.platform in ("win32", "darwin"), reason="freedesktop.org's standards hold elsewhere"
)


def needs(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"no {program} on this machine")
    return found


def listed(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


@pytest.fixture
def home(tmp_path) -> Path:
    """A user's data folder, with a MIME type and a program of another package."""
    folder = tmp_path / "data home"
    for name, content in {
        "mime/packages/other.xml": '<mime-info xmlns="http://www.freedesktop.org/standards/'
        'shared-mime-info"><mime-type type="image/x-other"><glob pattern="*.oth"/></mime-type></mime-info>',
        "applications/other.desktop": "[Desktop Entry]\nType=Application\nName=other\nExec=other %f\n"
        "MimeType=image/x-other;\n",
    }.items():
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text(content)
    return folder


def entry(path: Path) -> configparser.SectionProxy:
    parser = configparser.RawConfigParser()
    parser.optionxform = str
    parser.read(path)
    return parser[parser.sections()[0]]


def test_uninstall_takes_away_exactly_what_install_wrote(run_cli, home):
    for name, program in {
        "mime": "update-mime-database",
        "applications": "update-desktop-database",
    }.items():
        subprocess.run([needs(program), home / name], check=True)
    before = listed(home)
    done = run_cli("desktop", "install", XDG_DATA_HOME=str(home))
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"facecodec.desktop" in (home / "applications/mimeinfo.cache").read_bytes()
    assert (home / "mime/image/x-facecodec.xml").is_file()
    assert run_cli("desktop", "install", XDG_DATA_HOME=str(home)).returncode == 0  # again
    done = run_cli("desktop", "uninstall", XDG_DATA_HOME=str(home))
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.count(b"removed") == 4
    after = listed(home)
    # The index is in the order of a hash table, so of it the length.
    assert len(before.pop("mime/mime.cache")) == len(after.pop("mime/mime.cache"))
    assert after == before
    assert run_cli("desktop", "uninstall", XDG_DATA_HOME=str(home)).returncode == 0


def test_it_says_which_program_of_the_desktop_is_not_there(run_cli, home, tmp_path):
    done = run_cli("desktop", "install", XDG_DATA_HOME=str(home), PATH=str(tmp_path))
    assert done.returncode == 0
    first, second = done.stderr.decode().splitlines()
    assert "update-mime-database is not there: install shared-mime-info" in first
    assert "update-desktop-database is not there: install desktop-file-utils" in second
    assert (home / "thumbnailers/facecodec.thumbnailer").is_file()


def test_without_a_folder_of_its_own_the_home_folder_has_it(run_cli, tmp_path):
    for given in ("", "relative"):
        done = run_cli("desktop", "install", HOME=str(tmp_path), XDG_DATA_HOME=given)
        assert done.returncode == 0
        assert (tmp_path / ".local/share/applications/facecodec.desktop").is_file()
        assert not (tmp_path / "relative").exists()


@pytest.mark.parametrize("given", ["", "home"])
def test_without_a_home_folder_nothing_is_written(run_cli, tmp_path, given):
    done = run_cli("desktop", "install", XDG_DATA_HOME="relative", HOME=given)
    assert done.returncode == 2
    assert b"no home folder: set HOME or XDG_DATA_HOME to the path of one" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_thumbnailer_makes_a_small_picture(run_cli, home, tmp_path):
    assert run_cli("desktop", "install", XDG_DATA_HOME=str(home)).returncode == 0
    command = entry(home / "thumbnailers/facecodec.thumbnailer")["Exec"]
    source = tmp_path / "it's -a face.fic"
    shutil.copyfile(DATA / "smooth-q4.fic", source)
    out = tmp_path / "of the desktop"
    values = {"%s": "32", "%o": str(out), "%i": str(source)}
    environment = {**os.environ, "FACECODEC_MODELS": str(DATA)}
    with out.open("w+b") as opened:  # before, as tumbler does
        arguments = [values.get(word, word) for word in shlex.split(command)]
        subprocess.run(arguments, cwd=tmp_path, env=environment, check=True)
        with Image.open(opened) as image:
            assert (image.format, image.size) == ("PNG", (25, 32))
    source.write_bytes(b"damaged")
    assert subprocess.run(arguments, cwd=tmp_path, env=environment, capture_output=True).returncode


def test_desktops_know_files_by_content_and_by_name(run_cli, home, tmp_path):
    query = needs("gio")
    needs("update-mime-database")
    needs("update-desktop-database")
    assert run_cli("desktop", "install", XDG_DATA_HOME=str(home)).returncode == 0
    shutil.copyfile(DATA / "smooth-q4.fic", tmp_path / "named")
    (tmp_path / "cut.fic").write_bytes(b"\xf1")
    (tmp_path / "not").write_bytes(b"\xf1\xc1\xff" + bytes(20))
    environment = {"XDG_DATA_HOME": str(home), "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}

    def output(*command: object) -> str:
        return subprocess.run(
            [query, *map(str, command)], env=environment, capture_output=True, text=True, check=True
        ).stdout

    for name, known in {"named": True, "cut.fic": True, "not": False}.items():
        kind = output("info", "-a", "standard::content-type", tmp_path / name)
        assert ("image/x-facecodec" in kind) == known, kind
    assert "facecodec.desktop" in output("mime", "image/x-facecodec")


def test_the_desktop_entry_is_valid(run_cli, home):
    check = needs("desktop-file-validate")
    assert run_cli("desktop", "install", XDG_DATA_HOME=str(home)).returncode == 0
    path = home / "applications/facecodec.desktop"
    assert shlex.split(entry(path)["Exec"])[1:] == ["view", "%F"]
    done = subprocess.run([check, path], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_file_command_knows_files_by_what_magic_prints(run_cli, tmp_path):
    file = needs("file")
    (tmp_path / "magic").write_bytes(run_cli("desktop", "magic").stdout)
    for name in ("smooth-q4", "sliced-q3", "chunks-q1"):
        command = [file, "-b", "-m", tmp_path / "magic", DATA / f"{name}.fic"]
        assert subprocess.check_output(command, text=True) == "facecodec image, version 1\n"
        kind = subprocess.check_output([*command[:2], "--mime-type", *command[2:]], text=True)
        assert kind == "image/x-facecodec\n"
    other = subprocess.check_output([file, "-b", "-m", tmp_path / "magic", DATA / "spic-q3.png"])
    assert b"facecodec" not in other
