"""Compares the browser's decoder with Python's in Chromium, and tests the element for files."""

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import facecodec
from browsing import (
    FIREFOX,
    ORIGIN,
    decode,
    decode_in_firefox,
    mutations,
    serve,
    write_script,
)
from facecodec import container, frozen, viewer
from facecodec.codec import Codec, codec_of, open_container
from facecodec.errors import FacecodecError
from faces import draw_face

DATA = Path(__file__).parent / "data"
WEB = Path(__file__).parents[1] / "web"
GOLDEN = json.loads((DATA / "golden.json").read_text())
SEEDS = [(DATA / f"{name}.fic").read_bytes() for name in sorted(GOLDEN)]
LIMIT = 1 << 14
HANG = 60  # seconds; a small file takes a fraction of a second


@pytest.fixture(scope="module")
def page(browser, tmp_path_factory):
    """A page that can decode files of the tiny models."""
    folder = tmp_path_factory.mktemp("site")
    write_script(folder, sorted(DATA.glob("*.safetensors")))
    page = browser.new_page()
    serve(page, folder)
    yield page
    page.close()


def test_the_bundle_is_made_from_the_sources_beside_it():
    digest = hashlib.sha256()
    names = sorted(path.relative_to(WEB).as_posix() for path in (WEB / "src").rglob("*.js"))
    for name in [*names, "package.json"]:
        digest.update(f"{name}\0".encode() + (WEB / name).read_bytes())
    first = (viewer.BUILT / "facecodec.js").read_text().splitlines()[0]
    assert first.endswith(digest.hexdigest()), "run `make web`"
    for name in ("page.html", "page.css"):
        assert (WEB / name).read_bytes() == (viewer.BUILT / name).read_bytes(), "run `make web`"


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_golden_files_have_the_same_symbols_and_pixels_within_one_level(page, name):
    assert_golden(name, decode(page, [(DATA / f"{name}.fic").read_bytes()])[0])


def test_golden_files_are_the_same_in_firefox(tmp_path):
    if FIREFOX is None:
        pytest.skip("no Firefox is installed")
    write_script(tmp_path, sorted(DATA.glob("*.safetensors")))
    for name, result in zip(sorted(GOLDEN), decode_in_firefox(tmp_path, SEEDS), strict=True):
        assert_golden(name, result)


def assert_golden(name, result):
    for part, symbols in result["symbols"].items():
        np.testing.assert_array_equal(symbols, np.ravel(GOLDEN[name][part]), part)
    with Image.open(DATA / f"{name}.png") as expected:
        assert np.abs(result["pixels"].astype(int) - np.asarray(expected)).max() <= 1


@pytest.mark.parametrize("name", ["l2-ipr", "l2-ip", "msssim-ipr", "compact-png", "lfic", "spic"])
def test_trained_models_have_the_same_symbols_and_pixels_within_one_level(browser, tmp_path, name):
    model = frozen.model_path(name)
    codec = Codec(model)
    write_script(tmp_path, [model])
    page = browser.new_page()
    serve(page, tmp_path)
    faces = [Image.fromarray(draw_face(person)) for person in (1, 2)]
    files = [codec.encode(face, q) for face in faces for q in (1, 4, 8)]
    for data, result in zip(files, decode(page, files), strict=True):
        symbols = codec.symbols(open_container(data))
        for part, values in result["symbols"].items():
            np.testing.assert_array_equal(values, np.ravel(getattr(symbols, part)), part)
        expected = np.asarray(codec.decode(data)).astype(int)
        assert np.abs(result["pixels"] - expected).max() <= 1
    page.close()


@pytest.mark.parametrize("name", ["tiny", "tiny-sliced"])
def test_a_picture_of_several_tiles_and_blocks_is_the_same(page, name):
    codec = Codec(DATA / f"{name}.safetensors")
    rng = np.random.default_rng(3)
    small = Image.fromarray(rng.integers(0, 256, (20, 40, 3), dtype=np.uint8))
    data = codec.encode(small.resize((1100, 1030), Image.Resampling.BICUBIC), 2)
    result = decode(page, [data])[0]
    expected = codec.symbols(open_container(data))
    np.testing.assert_array_equal(result["symbols"]["y"], np.ravel(expected.y))
    assert np.abs(result["pixels"] - np.asarray(codec.decode(data)).astype(int)).max() <= 1


def test_hostile_files_end_as_they_do_in_python_and_cost_the_page_nothing(page, monkeypatch):
    monkeypatch.setenv("FACECODEC_MODELS", str(DATA))
    files = list(mutations(SEEDS, 400, seed=1))
    results = decode(page, files, LIMIT, whole=False)
    errors = 0
    for data, result in zip(files, results, strict=True):
        expected = reason(data)
        if expected is None:
            assert "error" not in result, data.hex()
        else:
            errors += 1
            assert result["ours"], result["error"]
            assert alike(result["error"], expected), data.hex()
        assert result["milliseconds"] < 1000 * HANG, data.hex()
    assert 200 < errors < 400
    assert "error" not in decode(page, [SEEDS[0]])[0]


def reason(data: bytes) -> str | None:
    """Returns Python's error, or None."""
    try:
        parsed = open_container(data, LIMIT)
        codec_of(parsed).decode_container(parsed)
    except FacecodecError as error:
        return str(error)
    return None


def alike(ours: str, theirs: str) -> bool:
    """Returns whether two errors agree, except in Pillow's words and in the advice."""
    for same in ("its compact image", "pixels: ", "which "):
        ours, theirs = (
            text.split(same)[0] + same if same in text else text for text in (ours, theirs)
        )
    return ours == theirs


def test_the_element_shows_a_file_and_says_why_it_cannot(browser, tmp_path):
    write_script(tmp_path, [DATA / "tiny.safetensors"])
    (tmp_path / "face.fic").write_bytes((DATA / "smooth-q4.fic").read_bytes())
    (tmp_path / "bad.fic").write_bytes(b"nothing")
    (tmp_path / "index.html").write_text(
        '<!doctype html><script type="module" src="facecodec.js"></script>'
        '<fic-image src="face.fic" alt="a face"></fic-image><fic-image src="bad.fic" alt="no face"></fic-image>'
    )
    page = browser.new_page()
    serve(page, tmp_path)
    page.goto(ORIGIN + "/index.html")
    bad = page.locator("fic-image[title]")
    bad.wait_for()
    assert bad.get_attribute("title") == "bad.fic: not a .fic file: give one that encode has made"
    assert (
        page.get_by_role("img", name="a face").evaluate("e => e.shadowRoot.firstChild.width") == 70
    )
    page.close()


def test_an_answer_that_never_comes_costs_its_own_picture_alone(browser, tmp_path):
    write_script(tmp_path, [DATA / "tiny.safetensors"])
    (tmp_path / "face.fic").write_bytes((DATA / "smooth-q4.fic").read_bytes())
    (tmp_path / "index.html").write_text(
        '<!doctype html><script type="module" src="facecodec.js"></script>'
        '<fic-image src="never.fic"></fic-image><fic-image src="face.fic"></fic-image>'
    )
    page = browser.new_page()
    serve(page, tmp_path)
    page.route(ORIGIN + "/never.fic", lambda route: None)
    page.goto(ORIGIN + "/index.html")
    page.locator("canvas").wait_for()
    assert page.locator("fic-image").last.evaluate("e => e.shadowRoot.firstChild.width") == 70
    page.close()


def test_a_model_is_fetched_by_its_name_whatever_that_is(browser, tmp_path):
    """The name must not act as another part of an address: a fragment, a query or a host."""
    model = tmp_path / "https:a#b?c%20.safetensors"
    model.write_bytes((DATA / "tiny.safetensors").read_bytes())
    write_script(tmp_path / "site", [model])
    page = browser.new_page()
    serve(page, tmp_path / "site")
    assert "error" not in decode(page, [(DATA / "smooth-q4.fic").read_bytes()])[0]
    page.close()


def test_a_large_picture_lets_the_page_live(page):
    """Between bands of symbols and between tiles of pixels, other tasks can run."""
    for name in ("tiny", "tiny-spic", "tiny-sliced", "tiny-lfic"):
        codec = Codec(DATA / f"{name}.safetensors")
        data = codec.encode(Image.new("RGB", (16, 1600)), 1)
        page.evaluate(
            """() => {
              window.breaths = 0;
              window.later ??= setTimeout;
              window.setTimeout = (...given) => { window.breaths++; return window.later(...given); };
            }"""
        )
        assert "error" not in decode(page, [data], whole=False)[0]
        assert page.evaluate("window.breaths") > 3, name


def test_a_picture_that_no_canvas_holds_is_an_error_before_it_is_decoded(
    browser, tmp_path, monkeypatch
):
    monkeypatch.setenv("FACECODEC_MODELS", str(DATA))
    seed = container.unpack((DATA / "smooth-q4.fic").read_bytes())
    wide = container.pack(replace(seed, width=1 << 19, height=8, streams=[b"", b""]))
    written = tmp_path / "page.html"
    written.write_bytes(viewer.page([("wide.fic", wide)], [DATA / "tiny.safetensors"]))
    page = browser.new_page()
    page.goto(written.as_uri())
    page.locator("[data-waiting='0']").wait_for()
    assert "524288x8 is more than this browser can show" in page.locator("li").inner_text()
    assert page.locator("canvas").count() == 0
    page.close()


def test_a_page_of_its_own_shows_pictures_without_a_network(browser, tmp_path, monkeypatch):
    monkeypatch.setenv("FACECODEC_MODELS", str(DATA))
    names = ("smooth-q4", "compact-q7", "lfic-q3", "spic-q3")
    files = [(f"{name}.fic", (DATA / f"{name}.fic").read_bytes()) for name in names]
    files += [("<b>.fic", files[0][1][:-1]), ("chunks.fic", (DATA / "chunks-q1.fic").read_bytes())]
    written = tmp_path / "page.html"
    written.write_bytes(viewer.page(files, viewer.models_of(data for _, data in files)))
    context = browser.new_context(offline=True, viewport={"width": 390, "height": 800})
    page, messages = context.new_page(), []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.on("request", lambda request: messages.append(request.url[:80]))
    page.goto(written.as_uri())
    page.locator("[data-waiting='0']").wait_for()
    entries = page.locator("li")
    assert entries.count() == len(files)
    first = entries.first.inner_text()
    for fact in ("smooth-q4.fic", "70x90, quality 4", "345 bytes, 0.438 bits per pixel", "tiny"):
        assert fact in first
    assert entries.nth(4).inner_text().split("\n\n") == [
        "<b>.fic",
        "the checksum does not match, the file is damaged or cut short: fetch or copy it again",
    ]
    assert "EXIF: 200 bytes" in entries.nth(5).inner_text()
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    with page.expect_download() as saved:
        entries.first.get_by_role("button", name="Save PNG").click()
    assert saved.value.suggested_filename == "smooth-q4.png"
    with Image.open(saved.value.path()) as image:
        expected = np.asarray(facecodec.decode(files[0][1])).astype(int)
        assert np.abs(np.asarray(image.convert("RGB")) - expected).max() <= 1
    # Others can be added.
    page.locator("#files").set_input_files([DATA / "flat-q1.fic", DATA / "tiny.toml"])
    page.locator("li").nth(len(files) + 1).wait_for()
    page.locator("[data-waiting='0']").wait_for()
    assert page.locator("canvas").count() == len(files)
    assert entries.last.inner_text().endswith("not a .fic file: give one that encode has made")
    assert [text for text in messages if not re.match("file:|blob:", text)] == []
    context.close()
