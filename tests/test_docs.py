"""The documentation builds without a warning, and links to and from it lead somewhere."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest

import facecodec
from conftest import CHECKOUT
from facecodec.cli import COMMANDS


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    pytest.importorskip("mkdocs", reason="the 'dev' extra is not installed")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(folder)],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_the_site_builds_without_a_warning(site):
    assert "encode_within" in (site / "api.html").read_text()
    reference = (site / "cli-reference.html").read_text()
    for command in COMMANDS:
        assert f"facecodec {command} [OPTIONS]" in reference
    assert "--max-bytes" in reference


class Links(HTMLParser):
    """Collects the links of a page."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if name in ("href", "src") and value]


def test_links_of_the_site_lead_to_files_so_that_they_work_from_a_disk(site):
    pages = [page for page in site.rglob("*.html") if page.name not in ("404.html", "page.html")]
    for page in pages:
        for link in map(urlsplit, Links(page).found):
            leads = link.scheme or not link.path or (page.parent / unquote(link.path)).is_file()
            assert leads, f"{page.name}: {link.path}"
    assert "page.html" in Links(site / "view.html").found


def test_the_page_of_the_site_decodes_from_a_disk(site, browser):
    page = browser.new_context(offline=True).new_page()
    page.set_default_timeout(120_000)
    page.goto((site / "page.html").as_uri())
    data = facecodec.encode(np.full((40, 30, 3), 99, np.uint8))
    page.locator("#files").set_input_files(
        {"name": "face.fic", "mimeType": "image/x-facecodec", "buffer": data}
    )
    assert page.locator("canvas").evaluate("e => [e.width, e.height]") == [30, 40]
    page.context.close()


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_links_of_the_pages_outside_lead_somewhere(name):
    for target in re.findall(r"\]\(([^)#]+)", (CHECKOUT / name).read_text()):
        assert target.startswith("http") or (CHECKOUT / target).exists(), target


def test_no_line_within_a_sentence_begins_a_list():
    for page in [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").glob("*.md"))]:
        for before, line in pairwise(page.read_text().splitlines()):
            within = re.match(r"[A-Za-z`(*]", before) and not re.match(r"[-*] |\d+\. ", before)
            assert not (within and re.match(r"[-*] |\d+\. ", line)), f"{page.name}: {line}"


def test_every_promise_of_the_security_page_names_a_test_that_is_there():
    page = (CHECKOUT / "docs" / "security.md").read_text()
    promised = page[page.index("## What is promised") : page.index("## What is not promised")]
    bullets = re.split(r"^- ", promised.partition("### ")[0], flags=re.MULTILINE)[1:]
    assert len(bullets) > 8
    untested = [bullet for bullet in bullets if "::test_" not in bullet]
    # The time of decoding is measured, not tested: no test looks at a clock.
    assert [bullet.split(",")[0] for bullet in untested] == [
        "Decoding takes time in proportion to the pixels claimed"
    ]
    file = None
    for named, test in re.findall(r"`(tests/\w+\.py)?(?:::(\w+))?`", page):
        file = named or file
        if named or test:
            assert f"def {test}(" in (CHECKOUT / file).read_text() or not test, (file, test)


@pytest.mark.parametrize("page", ["training.md", "trained.md", "bakeoff.md"])
def test_commands_of_training_name_files_that_are_there_or_that_one_before_wrote(page):
    text = (CHECKOUT / "docs" / page).read_text()
    commands = re.findall(r"^    .*facecodec (train|freeze|encode) (.*?)(?: &|  #.*)?$", text, re.M)
    written = {"face.jpg"}
    for command, words in commands:
        first, *rest = words.split()
        options = dict(pairwise(rest))
        run = options.get("--run", "")
        read = [first, *(options[name] for name in ("--from", "-m") if name in options)]
        for name in read:
            made = name in written or (CHECKOUT / name).exists()
            assert made, f"{page}: {command} {words}: nothing makes {name}"
        if command == "train":
            assert (run in written) == ("--resume" in rest), f"{page}: {command} {words}"
            written |= {run, f"{run}/checkpoint.pt"}
        if command == "freeze":
            out = options["-o"]
            assert "-f" in rest or not (CHECKOUT / out).exists(), f"{page}: {out} is there"
            written.add(out)
    assert len(commands) > 5
