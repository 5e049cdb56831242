"""Tests the bench's report: its files, and its page in a real browser."""

import copy
import json

import numpy as np
import pytest
from PIL import Image

from facecodec.errors import UsageError

pytest.importorskip("matplotlib", reason="the 'bench' extra is not installed")

from facecodec.bench.conclusion import conclusion
from facecodec.bench.report import read, redraw, write

SEEN = "mobilefacenet-ms1m"


def recognised(frr: float) -> dict:
    return {
        SEEN: {
            "cosine": 1 - frr,
            "undetected": 0,
            "frr": frr,
            "frr_interval": [frr / 2, 2 * frr],
            "differences": {"frr": {"value": frr - 0.1, "interval": [frr - 0.2, frr]}},
            "roc": [[0, 1], [1, 0]],
        }
    }


def entry(label: str, reference: bool, rates: list[float]) -> dict:
    points = [
        {
            "setting": float(number),
            "images": 600,
            "bpp": rate,
            "psnr": 25 + 4 * number,
            "ssim": 0.8,
            "ms_ssim": 0.9 + number / 100,
            "recognition": recognised(0.03 / rate),
        }
        for number, rate in enumerate(rates)
    ]
    crossing = {"bpp": 0.2, "share": 0.5, "interval": [0.15, 0.25]}
    no_worse = {"bpp": 0.1, "share": 0.25}
    parity = {
        SEEN: {"crossing": crossing, "no_worse": no_worse, "cosine": {"reason": "not reached"}}
    }
    return {
        "label": label,
        "version": "</script>",
        "reference": reference,
        "points": points,
        "parity": parity,
        "bd_rate": {},
    }


@pytest.fixture
def results(tmp_path):
    """Invented results: two codecs, one face, one rejected query; pictures in tmp_path/stored."""
    names = ("face", "decoded", "query", "query-decoded", "enrolled-decoded")
    (tmp_path / "stored" / "pictures").mkdir(parents=True)
    for number, name in enumerate(names):
        Image.new("RGB", (32, 32), (40 * number, 90, 90)).save(
            tmp_path / "stored" / "pictures" / f"{name}.webp"
        )
    pictures = [f"pictures/{name}.webp" for name in names]
    rejected = dict(zip(("query", "query_decoded", "enrolled_decoded"), pictures[2:], strict=True))
    return {
        "schema": 3,
        "seen": [SEEN],
        "baseline": ["hevc", 1.0],
        "commands": [["bench", "identify"]],
        "dataset": {
            "name": "made up",
            "photographs": 600,
            "people": 50,
            "queries": 550,
            "unreadable": [],
        },
        "skipped": {"jpegxl": "no ffmpeg"},
        "environment": {
            "python": "3.11",
            "packages": {"numpy": "2"},
            "machine": "Linux",
            "cores": 2,
        },
        "codecs": {
            "hevc": entry("HEVC", True, [0.1, 0.4]),
            "ours": entry("ours", False, [0.05, 0.1, 0.2]),
        },
        "gallery": [
            {
                "original": pictures[0],
                "decoded": {"ours": {"file": pictures[1], "setting": 3.0, "bytes": 940}},
            }
        ],
        "rejected": [
            {
                "codec": "ours",
                "setting": 1.0,
                "recogniser": SEEN,
                "distance": 0.7,
                "threshold": 0.6,
                **rejected,
            }
        ],
    }


def test_the_report_is_written_and_drawn_again_from_its_results(results, tmp_path):
    write(results, tmp_path / "stored")
    redraw(
        [read(tmp_path / "stored" / "results.json")] * 2,
        [tmp_path / "stored"] * 2,
        tmp_path / "again",
    )
    names = {path.name for path in (tmp_path / "again").iterdir()}
    assert names == {
        "results.json",
        "results.csv",
        "results.md",
        "report.html",
        "curves.png",
        "curves.svg",
        "pictures",
    }
    output = (tmp_path / "again/results.md").read_text()
    assert "| ours: FRR comes down to it | 0.200 (0.150 to 0.250), 50% |" in output
    assert "| ours: FRR is no worse | 0.100, 25% |" in output
    assert "| ours: cosine reaches it | not reached |" in output
    assert "| +20.0% (10.0% to 30.0%) |" in output
    with Image.open(tmp_path / "again" / "curves.png") as drawn:
        assert np.asarray(drawn).std() > 10
    again = json.loads((tmp_path / "again" / "results.json").read_text())
    assert again["codecs"] == results["codecs"]
    assert len(again["gallery"]) == 1


def test_a_report_begins_with_its_conclusion(results, tmp_path):
    output = (
        f"To reject as few faces as HEVC at CRF 1 (0.400 bpp), ours takes 50% of its bits by {SEEN} "
        "(seen in training)."
    )
    assert conclusion(results) == output
    write(results, tmp_path / "stored")
    assert (
        (tmp_path / "stored/results.md").read_text().startswith(f"# facecodec bench\n\n{output}\n")
    )


def test_without_the_baseline_codecs_are_compared_at_the_cosine_of_ours(results):
    lone = without_people(results)
    lone["codecs"]["jpeg"] = entry("JPEG", True, [0.02, 0.03])
    lone["codecs"]["hevc"]["points"][1]["bpp"] = 0.5  # at a cosine of 0.925
    assert conclusion(lone) == (
        f"For a cosine of 0.700 to the original by {SEEN} (seen in training), ours takes 0.100 bpp, "
        "HEVC at most 0.100 and JPEG more than any setting measured."
    )
    for each in lone["codecs"].values():
        for point in each["points"]:
            point.pop("recognition")
    assert conclusion(lone).startswith(
        "For a PSNR of 29.0 dB, ours takes 0.100 bpp, HEVC 0.500 (5.00"
    )
    assert conclusion(lone | {"codecs": {"ours": lone["codecs"]["ours"]}}) == ""


def test_the_conclusion_within_bytes_and_of_time(results):
    fitted = {
        f"{name}@fit": each | {"label": f"{each['label']}, fitted", "points": each["points"][:1]}
        for name, each in results["codecs"].items()
    }
    for each in fitted.values():
        each["points"][0]["setting"] = 1024
    assert conclusion(results | {"codecs": fitted}) == (
        f"Within 1024 bytes, false rejections by {SEEN} (seen in training) are ours 60.0% and "
        "HEVC 30.0%."
    )
    spent = {"median": 0.03, "spread": 0.001}
    speed = {"codecs": [{"codec": name, "encode": spent, "decode": spent} for name in ("a", "b")]}
    assert conclusion({"speed": speed}) == (
        "To encode and to decode a picture in a process of its own, a 30 and 30 ms and b 30 and 30 ms."
    )


def without_people(results: dict) -> dict:
    """Returns the same results without people's names and without HEVC at CRF 23."""
    lone = copy.deepcopy(results) | {"baseline": None, "rejected": []}
    lone["dataset"] |= {"photographs": 30, "people": 30, "queries": 0}
    for each in lone["codecs"].values():
        each["parity"] = {}
        for point in each["points"]:
            point["ms_ssim"] = None
            for key in ("frr", "frr_interval", "differences", "roc"):
                point["recognition"][SEEN].pop(key)
    return lone


def test_a_report_says_what_it_lacks_and_why(results, tmp_path):
    write(without_people(results), tmp_path / "stored")
    output = (tmp_path / "stored/results.md").read_text()
    assert "## made up: 30 photographs\n" in output
    assert "30 people" not in output
    curves = (tmp_path / "stored/curves.svg").read_text()
    assert "<!-- PSNR -->" in curves
    assert "<!-- MS-SSIM -->" not in curves
    assert "<!-- ours -->" in curves  # the legend
    assert "HEVC's" not in output.partition("## made up")[2].partition("\n- ")[0]
    for reason in ("HEVC at CRF 23 was not measured", "there is no FRR", "more than 160 pixels"):
        assert f"- {reason}" in output or reason in output.partition("\n- ")[2]
    assert "| --- | --- | --- | --- |\n" in output  # no column for MS-SSIM


def test_results_of_one_codec_at_other_settings_and_for_faces_found_again_become_one(
    results, tmp_path
):
    write(results, tmp_path / "stored")
    again = f"{SEEN}, found again"
    more = copy.deepcopy(results)
    more["codecs"] = {
        "ours": entry("ours", False, [0.05, 0.1, 0.2, 0.3]),
        "jpeg": entry("JPEG", True, [0.5]),
    }
    for point in more["codecs"]["ours"]["points"][2:]:
        point["recognition"] = {
            again: {"cosine": 0.9, "undetected": 1, "frr": 0.2, "frr_interval": None, "roc": []}
        }
    more["codecs"]["webp"] = entry("WebP", True, [0.4])  # of bench quality
    del more["codecs"]["webp"]["points"][0]["recognition"]
    more["skipped"] = {"avif": "no libavif"}
    redraw([results, more], [tmp_path / "stored"] * 2, tmp_path / "both")
    assert set(read(tmp_path / "both" / "results.json")["skipped"]) == {"avif", "jpegxl"}
    output = json.loads((tmp_path / "both" / "results.json").read_text())["codecs"]
    assert set(output) == {"hevc", "ours", "jpeg", "webp"}
    assert [sorted(point["recognition"]) for point in output["ours"]["points"]] == [
        [SEEN],
        [SEEN],
        [SEEN, again],
        [again],
    ]
    assert "faces found again" in (tmp_path / "both" / "results.md").read_text()
    more["codecs"]["ours"]["version"] = "another"
    with pytest.raises(UsageError, match="two versions of ours"):
        redraw([results, more], [tmp_path / "stored"] * 2, tmp_path / "neither")


def test_what_are_no_results_is_refused(results, tmp_path):
    (tmp_path / "x.json").write_text("[]")
    with pytest.raises(UsageError, match=r"x\.json: not the bench's"):
        read(tmp_path / "x.json")
    (tmp_path / "x.json").write_text('{"schema": 99}')
    with pytest.raises(UsageError, match="schema 99"):
        read(tmp_path / "x.json")
    other = results | {"dataset": results["dataset"] | {"name": "another"}}
    with pytest.raises(UsageError, match="different photographs: made up and another"):
        redraw([results, other], [tmp_path / "stored"] * 2, tmp_path / "out")


@pytest.fixture
def opened(browser, results, tmp_path):
    """The page, opened from disk without a network, and its console's messages."""
    write(results, tmp_path / "stored")
    context = browser.new_context(
        offline=True, viewport={"width": 390, "height": 800}, color_scheme="dark"
    )
    page, messages = context.new_page(), []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.goto((tmp_path / "stored" / "report.html").as_uri())
    yield page, messages
    context.close()


def test_the_page_shows_the_numbers_on_a_phone_in_the_dark_without_a_word_on_the_console(opened):
    page, messages = opened
    assert "0.200 (0.150 to 0.250), 50%" in page.inner_text("table")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(17, 20, 24)"
    assert page.locator(".rejected img").count() == 3
    broken = "[...document.images].filter((image) => !image.complete || !image.naturalWidth).length"
    assert page.evaluate(broken) == 0
    assert page.locator("pre").last.inner_text() == "hevc: </script>\nours: </script>"
    assert messages == []


def test_curves_have_a_dot_for_each_setting_that_tells_its_numbers_and_can_be_switched_off(opened):
    page, messages = opened
    charts = page.locator(".chart")
    assert charts.count() == 4  # one recogniser's rejections and cosines, PSNR, MS-SSIM
    assert charts.first.locator(".dot").count() == 5
    assert "The dotted line is HEVC" in page.inner_text("main")
    dot = charts.first.locator('[data-codec="ours"] .dot').nth(1)
    dot.hover()
    assert charts.first.locator(".tip").inner_text() == "ours 1: 0.100 bpp, 30.0%"
    page.mouse.move(0, 0)
    assert charts.first.locator(".tip").is_hidden()
    dot.focus()  # as the tab key does
    assert charts.first.locator(".tip").is_visible()
    box = page.get_by_role("checkbox", name="ours")
    box.focus()
    page.keyboard.press("Space")
    assert not dot.is_visible()
    assert charts.first.locator('[data-codec="hevc"] .dot').first.is_visible()
    page.keyboard.press("Space")
    assert dot.is_visible()
    assert messages == []


def test_a_page_without_the_baseline_speaks_of_no_line_and_has_no_empty_column(
    browser, results, tmp_path
):
    write(without_people(results), tmp_path / "stored")
    page = browser.new_page()
    page.goto((tmp_path / "stored" / "report.html").as_uri())
    output = page.inner_text("body")
    assert "dotted" not in output
    assert "made up: 30 photographs\n" in output
    assert "For a cosine of" in page.inner_text("#conclusion")
    assert "there is no FRR" in output
    assert page.locator("th").all_inner_texts() == ["", "bpp", "PSNR", "SSIM", f"cosine, {SEEN}"]
    page.close()


def test_a_click_or_a_key_shows_a_picture_large(opened):
    page, messages = opened
    small = page.locator(".over").first.bounding_box()["width"]
    page.locator(".over").first.click()
    large = page.locator("dialog img")
    assert large.count() == 2
    assert [each.get_attribute("alt") for each in large.all()] == ["original", "decoded"]
    page.keyboard.press("Escape")
    assert large.first.is_hidden()
    picture = page.locator(".rejected img").nth(1)
    picture.focus()
    page.keyboard.press("Enter")
    assert large.count() == 1
    assert large.first.bounding_box()["width"] > small
    large.first.click()
    assert large.first.is_hidden()
    assert messages == []


def test_the_slider_uncovers_the_original_by_keyboard(opened):
    page, messages = opened
    over = page.locator(".over").first
    cut = "element => getComputedStyle(element.children[1]).clipPath"
    assert "50%" in over.evaluate(cut)
    page.get_by_role("slider").first.focus()
    page.keyboard.press("End")
    assert "100%" in over.evaluate(cut)
    assert "940 bytes, setting 3" in page.inner_text("main")
    assert messages == []
