"""Every example runs as its first lines say, on real faces."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import browsing
import facecodec
from conftest import CHECKOUT, PATIENCE

EXAMPLES = CHECKOUT / "examples"


@pytest.fixture
def shell(on_path, tmp_path, monkeypatch):
    """An empty working directory, and `facecodec` on the path."""
    monkeypatch.chdir(tmp_path)


def run(*command: object) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def face() -> Image.Image:
    data = pytest.importorskip("skimage.data", reason="the 'demo' extra is not installed")
    return Image.fromarray(data.astronaut()).crop((96, 0, 352, 256))


def test_the_list_names_every_example():
    listed = (EXAMPLES / "README.md").read_text()
    for path in EXAMPLES.iterdir():
        assert path.name == "README.md" or f"]({path.name})" in listed, path.name


def test_a_face_goes_through_a_qr_code(shell, face):
    pytest.importorskip("segno", reason="the 'dev' extra is not installed")
    pytest.importorskip("zxingcpp", reason="the 'dev' extra is not installed")
    face.save("face.png")
    run(sys.executable, EXAMPLES / "qr.py", "write", "face.png", "code.png")
    # As a camera would show it: larger, slightly turned and blurred.
    code = Image.open("code.png").convert("L")
    code = code.resize((3 * code.width, 3 * code.height)).rotate(
        3, Image.Resampling.BICUBIC, fillcolor=255
    )
    code.reduce(2).save("photographed.png")
    run(sys.executable, EXAMPLES / "qr.py", "read", "photographed.png", "back.png")
    back = Image.open("back.png")
    small = face.resize(back.size)
    assert back.size == (250, 250)
    assert np.abs(np.asarray(back, float) - np.asarray(small, float)).mean() < 20


def test_the_same_face_is_found_in_a_gallery(shell, faces_root):
    pytest.importorskip("sklearn", reason="the 'bench' extra is not installed")
    lfw = faces_root / "lfw-deepfunneled"
    Path("photos").mkdir()
    names = ["Serena_Williams_0001", "Colin_Powell_0001", "Jackie_Chan_0001"]
    for name in names:
        shutil.copy(lfw / name[:-5] / f"{name}.jpg", "photos")
    run("facecodec", "encode", "photos", "-o", "gallery")
    run("facecodec", "encode", lfw / "Serena_Williams/Serena_Williams_0004.jpg", "-o", "who.fic")
    lines = run(sys.executable, EXAMPLES / "search.py", "gallery", "who.fic").splitlines()
    assert len(lines) == 3
    (first, path), (second, _) = (line.split() for line in lines[:2])
    assert Path(path).stem == "Serena_Williams_0001"
    assert float(first) > 0.5 > float(second)


def test_shards_feed_a_training_loop(shell, face):
    pytest.importorskip("torch", reason="the 'train' extra is not installed")
    Path("0.fic").write_bytes(facecodec.encode(face.reduce(2)))
    for shard in ("a.tar", "b.tar"):
        with tarfile.open(shard, "w") as target:
            target.add("0.fic", "one.fic")
            target.add(EXAMPLES / "README.md", "one.txt")
            target.add("0.fic", "two.fic")
    lines = run(sys.executable, EXAMPLES / "loader.py", "a.tar", "b.tar").splitlines()
    mean = np.asarray(facecodec.decode(Path("0.fic").read_bytes())).mean()
    assert [line.split(", mean ")[0] for line in lines] == ["2 pictures"] * 2
    assert all(abs(float(line.split()[-1]) - mean) < 2 for line in lines)


def test_a_watched_folder_is_encoded_as_pictures_come(shell, face, monkeypatch):
    monkeypatch.setenv("PAUSE", "0.1")
    Path("inbox").mkdir()
    face.reduce(2).save("whole.png")
    whole = Path("whole.png").read_bytes()
    watching = subprocess.Popen(
        ["sh", EXAMPLES / "watch.sh", "inbox", "coded"],
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert watching.stderr is not None
        Path("inbox/face.png").write_bytes(whole[:2000])
        assert "face.png" in watching.stderr.readline()  # it is not whole yet
        Path("inbox/face.png").write_bytes(whole)
        for _ in range(600):
            if Path("coded/face.fic").exists():
                break
            time.sleep(0.1)
    finally:
        os.killpg(watching.pid, signal.SIGTERM)
        watching.communicate()
    assert facecodec.decode(Path("coded/face.fic").read_bytes()).size == (128, 128)


def test_ones_own_photographs_are_measured(shell, finds_faces, face):
    pytest.importorskip("sklearn", reason="the 'bench' extra is not installed")
    Path("photos").mkdir()
    face.resize((192, 192)).save("photos/one.png")
    run("sh", EXAMPLES / "bench.sh", "photos", "report", "--limit", 1)
    results = json.loads(Path("report/results.json").read_text())
    assert set(results["codecs"]) == {"original", "jpeg", "webp", "avif", "l2-ipr"}
    finest = results["codecs"]["l2-ipr"]["points"][-1]
    assert finest["recognition"]["mobilefacenet-ms1m"]["cosine"] > 0.8
    assert Path("report/report.html").exists()


def test_the_notebook_runs_and_ends_with_pictures(shell, face):
    """Each cell's last line is an expression, as a notebook shows it."""
    cells = json.loads((EXAMPLES / "decode.ipynb").read_text())["cells"]
    space: dict[str, object] = {}
    shown = []
    for cell in cells:
        if cell["cell_type"] == "code":
            *before, last = cell["source"]
            exec("".join(before), space)
            shown.append(eval(last, space))
    sizes, kind = shown[1], shown[3]
    assert list(sizes.values()) == sorted(sizes.values())
    assert kind == ("RGB", (256, 256), (256, 256, 3), np.dtype("uint8"))
    for picture in (shown[0], shown[2], shown[4]):
        assert picture._repr_png_().startswith(b"\x89PNG")


def test_a_web_page_shows_thirty_faces(shell, face, browser, tmp_path):
    (tmp_path / "photos").mkdir()
    for number in range(30):
        side = 48 + 4 * number
        face.resize((side, side)).save(tmp_path / "photos" / f'{number} & "more".png')
    (tmp_path / "photos" / "bad.jpg").write_bytes(b"")
    for _ in range(2):
        run(sys.executable, EXAMPLES / "page.py", "photos", "site")
    page = browser.new_page()
    browsing.serve(page, tmp_path / "site")
    page.goto(f"{browsing.ORIGIN}/index.html")
    page.wait_for_function(
        "[...document.querySelectorAll('fic-image')].every((e) => e.shadowRoot?.firstChild?.width || e.title)",
        timeout=240_000,
    )
    images = page.get_by_role("img", name='& "more"')
    assert images.count() == 30
    shown = images.evaluate_all(
        "all => all.map((e) => [e.title, parseInt(e.ariaLabel), e.shadowRoot.firstChild.width])"
    )
    assert sorted(shown) == sorted(["", number, 48 + 4 * number] for number in range(30))
    page.close()
