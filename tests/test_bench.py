"""Tests protocols and metrics on cases computed by hand, and one real measurement of faces."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError

import numpy as np
import pytest
from PIL import Image

from conftest import PATIENCE, takes_interrupts
from facecodec.errors import UsageError

pytest.importorskip("sklearn", reason="the 'bench' extra is not installed")

from facecodec.bench import subjects
from facecodec.bench.card import teachers
from facecodec.bench.codecs.ffmpeg import Format
from facecodec.bench.download import download_lfw
from facecodec.bench.gallery import gallery
from facecodec.bench.intervals import draws, frr_draws, interval, mean_draws
from facecodec.bench.measure import Bench, EmbeddingSpec
from facecodec.bench.metrics import bd_rate, falling_fit, ms_ssim, psnr, rate_at, rates_at, ssim
from facecodec.bench.parity import NEAR, no_worse
from facecodec.bench.protocols import (
    distances,
    frr_at_far,
    galleries,
    roc,
    verification,
)
from facecodec.bench.run import (
    BASELINE,
    Point,
    bd_rates,
    differences,
    measure,
    readable,
    rejected_queries,
    results,
)
from facecodec.bench.store import Store, key
from facecodec.bench.subjects import Dataset, Subject, in_pairs, load_dataset
from facecodec.bench.tables import marked
from facecodec.cli.bench import Progress, chosen
from facecodec.datasets import lfw
from facecodec.faces.alignment import scaled_template
from facecodec.faces.recognisers import FacenetRecogniser, find_recogniser

SHIPPED = ("--recogniser", "mobilefacenet-ms1m")  # it is in the package


def direction(degrees: float) -> list[float]:
    return [np.cos(np.radians(degrees)), np.sin(np.radians(degrees))]


PEOPLE = ["ann", "ann", "bob", "cid", "cid", "cid"]
# Ann's gallery lies at 0 degrees, Bob's at 90, Cid's at 180.
EMBEDDINGS = np.array([direction(d) for d in (0, 10, 90, 180, 170, 100)])


def test_a_query_meets_its_own_gallery_image_and_the_nearest_other_one():
    same, other = distances(EMBEDDINGS, PEOPLE)
    angle = lambda d: pytest.approx(1 - np.cos(np.radians(d)))  # noqa: E731
    assert (
        len(same) == len(other) == 3
    )  # Bob has a gallery image alone; first images are no queries
    assert same[0] == angle(10)
    assert other[0] == angle(80)
    assert same[1] == angle(10)
    assert other[1] == angle(80)
    assert same[2] == angle(80)
    assert other[2] == angle(10)


def test_the_nearest_of_several_gallery_images_counts():
    same, other = distances(
        EMBEDDINGS, PEOPLE, size=2
    )  # Ann has both images in the gallery, Cid has two
    assert same == pytest.approx(1 - np.cos(np.radians([70])))
    assert other == pytest.approx(1 - np.cos(np.radians([10])))


def test_galleries_are_first_images_and_every_person_has_one():
    gallery, queries = galleries(PEOPLE)
    assert gallery.tolist() == [0, 2, 3]
    assert queries.tolist() == [1, 4, 5]


def test_the_roc_goes_from_all_rejected_to_all_accepted():
    far, frr = roc(np.array([0.1, 0.3]), np.array([0.2, 0.4]))
    assert far.tolist() == [0, 0, 0.5, 0.5]
    assert frr.tolist() == [1, 0.5, 0.5, 0]


def test_verification_takes_the_threshold_of_the_other_folds():
    """Two folds of four pairs; the threshold that is right in one is not quite right in the
    other.
    """
    pairs = np.array([0.1, 0.2, 0.5, 0.6, 0.1, 0.55, 0.7, 0.8])
    same = np.array([True, True, False, False] * 2)
    # The second fold's best threshold is 0.7, which accepts the first fold's impostors.
    # The first fold's is 0.5, which rejects 0.55 of the second.
    assert verification(pairs, same, np.arange(8) // 4) == [0.5, 0.75]


def test_intervals_are_over_people():
    samples = draws(["ann", "ann", "bob"], 200)
    assert {tuple(sample) for sample in samples.tolist()} == {(2, 2, 0), (1, 1, 1), (0, 0, 2)}
    # Ann is always rejected, Bob never, and nobody else comes near: FRR is 1, 2/3 or 0.
    values = frr_draws((np.array([0.9, 0.9, 0.1]), np.array([0.5, 0.5, 0.5])), samples)
    assert set(values.round(6)) == {1, 0.666667, 0}
    assert interval(values) == (0, 1)
    assert interval(np.full(10, np.nan)) is None


def test_samples_all_at_once_are_as_each_alone():
    rng = np.random.default_rng(0)
    people = [f"{number:03}" for number in rng.integers(200, size=700)]
    measured = rng.random(700).round(2), rng.random(700).round(2)  # with ties
    samples = draws(people, 40)
    assert samples.shape == (40, 700)
    counts = samples.astype(int)
    for far in (0.01, 0.001, 0.5):
        values = frr_draws(measured, samples, far)
        for sample, value in zip(counts, values, strict=True):
            same, other = (np.repeat(each, sample) for each in measured)
            assert value == pytest.approx(frr_at_far(same, other, far, least=1))
    cosines = np.where(rng.random(700) < 0.1, np.nan, rng.random(700))
    means = [np.nanmean(np.repeat(cosines, sample)) for sample in counts]
    assert mean_draws(cosines, samples) == pytest.approx(means)


def test_each_curve_has_its_own_crossing():
    frr = np.array([[0.5, 0.6], [0.3, 0.4], [0.1, 0.2]])
    rates = rates_at([0.1, 0.2, 0.4], frr, np.array([0.3, 0.3]))
    assert rates == pytest.approx([0.2, np.sqrt(0.2 * 0.4)])
    assert np.isnan(rates_at([0.1, 0.2, 0.4], frr, np.array([0.3, 0.1]))[1])


def test_the_falling_fit_is_that_of_isotonic_regression():
    from sklearn.isotonic import isotonic_regression

    values = np.random.default_rng(0).random((7, 30))
    wanted = [isotonic_regression(column, increasing=False) for column in values.T]
    assert falling_fit(values) == pytest.approx(np.array(wanted).T)


def test_no_worse_is_where_the_interval_has_zero_and_the_difference_stays_small():
    rates = [0.1, 0.2, 0.4, 0.8]
    # At 0.1 and 0.2 surely worse; half way to 0.4, in log rate, the low end comes down to zero.
    found = no_worse(rates, np.array([0.2, 0.004, 0.003, 0.0]), [0.1, 0.01, -0.01, -0.02])
    assert found == {"bpp": pytest.approx(np.sqrt(0.2 * 0.4))}
    # The interval has zero from 0.1 on, but the difference comes down to half a point at 0.4.
    found = no_worse(rates, np.array([0.2, 0.1, NEAR, 0.0]), [-0.1, -0.1, -0.1, -0.1])
    assert found == {"bpp": pytest.approx(0.4)}
    # It was small, and is not at 0.4: what counts is where it stays so.
    found = no_worse(rates[::-1], np.array([0.0, 0.02, 0.001, 0.1]), [-0.1, -0.1, -0.1, 0.1])
    assert 0.4 < found["bpp"] < 0.8
    assert no_worse(rates, np.array([0.2, 0.1, 0.1, 0.1]), [-1.0] * 4) == {"reason": "not reached"}
    assert no_worse(rates, np.array([0.0] * 4), [0.001] * 4) == {"reason": "not reached"}
    assert no_worse(rates, np.zeros(4), [0.0] * 4)["reason"].startswith("below 0.100 bpp")
    assert no_worse([0.1], np.zeros(1), [0.0])["reason"] == "1 setting; a line takes 2"


def test_identical_codecs_do_not_differ_and_a_shifted_one_does():
    """600 queries and their cosines, under a codec that leaves all alone and one that does not."""
    people = [f"{number:03}" for number in range(600) for _ in range(2)]
    rng = np.random.default_rng(1)
    same, other, spec = 0.6 * rng.random(600), np.full(600, 0.5), EmbeddingSpec("x")
    cosines = 0.9 + 0.1 * rng.random(1200)

    def point(codec: str, setting: float, bpp: float, shift: float) -> Point:
        distances = {spec: (same + shift, other)}
        numbers = {"bpp": bpp, "psnr": 30.0, "ms_ssim": None}
        known = {"frr": frr_at_far(*distances[spec]), "cosine": float((cosines - shift).mean())}
        return Point(
            codec, setting, numbers | {"recognition": {"x": known}}, distances,
            {spec: cosines - shift},
        )  # fmt: skip

    points = [point(*BASELINE, 0.4, 0.0)]
    points += [point("jpeg", n, 0.1 * n, 0.0) for n in (1, 2)]
    points += [point("webp", n, 0.1 * n, 0.1) for n in (1, 2)]
    output = results(points, people)["codecs"]
    for numbers in output["jpeg"]["points"]:
        alike = numbers["recognition"]["x"]["differences"]
        assert alike["frr"] == {"value": 0, "interval": (0, 0)}
        assert alike["cosine"] == {"value": 0, "interval": (0, 0)}
    for numbers in output["webp"]["points"]:
        apart = numbers["recognition"]["x"]["differences"]
        assert apart["frr"]["interval"][0] > 0.1
        assert apart["cosine"]["interval"] == pytest.approx((-0.1, -0.1))
    parity = output["jpeg"]["parity"]["x"]
    assert parity["no_worse"]["reason"] == parity["cosine"]["reason"]
    assert parity["no_worse"]["reason"] == "below 0.100 bpp, the lowest rate measured"
    parity = output["webp"]["parity"]["x"]
    assert parity["no_worse"] == parity["cosine"] == {"reason": "not reached"}
    assert parity["crossing"] == {"reason": "2 settings; a fit takes 6"}


def test_parity_in_cosine_has_its_interval_and_share():
    people = [f"{number:03}" for number in range(300)]
    spec, spread = EmbeddingSpec("x"), 0.02 * np.random.default_rng(2).random(300)

    def point(codec: str, setting: float, bpp: float, cosine: float) -> Point:
        cosines = cosine - spread * (1 + setting / 10)
        numbers = {"bpp": bpp, "psnr": 30.0, "ms_ssim": None}
        known = {"x": {"cosine": float(cosines.mean())}}
        return Point(codec, setting, numbers | {"recognition": known}, {}, {spec: cosines})

    points = [point(*BASELINE, 0.8, 0.95)]
    points += [point("jpeg", 1, 0.1, 0.8), point("jpeg", 2, 0.4, 0.98)]
    found = results(points, people)["codecs"]["jpeg"]["parity"]["x"]
    assert list(found) == ["cosine"]  # nobody asks, as everybody has one photograph
    (low, high), rate = found["cosine"]["interval"], found["cosine"]["bpp"]
    assert 0.1 < low < rate < high < 0.4
    assert found["cosine"]["share"] == pytest.approx(rate / 0.8)


def test_a_model_is_marked_by_the_recognisers_that_taught_it():
    card = SimpleNamespace(
        runs=[
            {"objective": "rec"},
            {"objective": "ipr"},
            {"objective": "ipr", "recognisers": ["espressif-mbf", "mobilefacenet-ms1m"]},
        ]
    )
    assert teachers(card) == ("mobilefacenet-ms1m", "espressif-mbf")
    assert teachers(SimpleNamespace(runs=card.runs[:1])) == ()
    output = results(points_of("l2-ipr", {1: 0.1}, {1: 0.1}), [])
    assert output["seen"] == ["espressif-mbf", "mobilefacenet-ms1m", "retail-0095"]
    assert marked(output, "mobilefacenet-ms1m") == "mobilefacenet-ms1m (seen in training)"
    assert marked(output, "x, found again") == "x (never seen, faces found again)"


def test_the_threshold_lets_one_in_a_hundred_impostors_in():
    """600 impostors at 0.001, 0.002, ...: the threshold is the element number 6, 0.007."""
    other = np.arange(1, 601)[::-1] / 1000
    assert frr_at_far(np.array([0.0069, 0.007, 0.2, 0.0]), other) == 0.5
    assert frr_at_far(np.array([0.0069, 0.0]), other) == 0


def test_too_few_queries_are_refused():
    with pytest.raises(UsageError, match="499 queries are too few"):
        frr_at_far(np.zeros(499), np.ones(499))


def test_parity_is_where_the_monotone_fit_crosses():
    assert rate_at([0.1, 0.2, 0.4], [0.5, 0.3, 0.1], 0.3) == pytest.approx(0.2)
    assert rate_at([0.4, 0.1, 0.2], [0.1, 0.5, 0.3], 0.2) == pytest.approx(np.sqrt(0.2 * 0.4))
    # The bump at 0.2 is levelled to the mean of 0.3 and 0.2: the fit is 0.25 from 0.1 to 0.2.
    assert rate_at([0.05, 0.1, 0.2, 0.4], [0.5, 0.2, 0.3, 0.1], 0.25) == pytest.approx(0.1)
    assert rate_at([0.1, 0.2], [0.5, 0.3], 0.2) is None


def test_half_the_bits_are_a_bd_rate_of_minus_fifty():
    anchor = [(0.1, 28), (0.2, 31), (0.4, 34), (0.8, 37)]
    assert bd_rate(anchor, [(rate / 2, value) for rate, value in anchor]) == pytest.approx(-50)
    assert bd_rate(anchor, [(rate, value - 9) for rate, value in anchor]) is None


def test_psnr_ssim_and_ms_ssim(picture):
    assert psnr(picture, picture) == pytest.approx(78.13, abs=0.01)
    assert psnr(np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 255, np.uint8)) == 0
    assert ssim(picture, picture) == pytest.approx(1)
    assert ssim(picture[:3, :5], picture[:3, :5]) == pytest.approx(1)
    assert ssim(picture, 255 - picture) < 0.1
    assert ms_ssim(picture, picture) is None
    large = np.tile(picture, (4, 4, 1))
    assert ms_ssim(large, large) == pytest.approx(1)
    assert ms_ssim(large, 255 - large) < 0.6


def test_a_face_that_is_not_found_is_a_rejection_and_never_an_impostor():
    lost = EMBEDDINGS.copy()
    lost[1] = np.nan  # Ann's query
    same, other = distances(lost, PEOPLE)
    assert same[0] == other[0] == np.inf
    lost = EMBEDDINGS.copy()
    lost[3] = np.nan  # Cid's gallery image
    same, other = distances(lost, PEOPLE)
    assert (same[1:] == np.inf).all()
    assert np.isfinite(other).all()


def test_the_store_keeps_what_it_was_given(tmp_path):
    store = Store(tmp_path / "new" / "bench.sqlite")
    values = {key("a", number): bytes([number % 256]) * number for number in range(1200)}
    store.put(values)
    store.put({key("a", 7): b"again"})
    store.close()
    store = Store(tmp_path / "new" / "bench.sqlite")
    assert store.get([*values, key("b", 0)]) == values | {key("a", 7): b"again"}
    assert len({key("ab", "c"), key("a", "bc"), key("abc")}) == 3


def points_of(codec: str, frr: dict[float, float], rate: dict[float, float]) -> list[Point]:
    """Returns points of 600 people with one query each, with the FRR `frr` at each setting."""
    points = []
    for setting, share in frr.items():
        same = np.where(np.arange(600) < round(600 * share), 0.9, 0.1)
        numbers = {
            "bpp": rate[setting],
            "psnr": 30.0,
            "ms_ssim": None,
            "recognition": {"seen": {"frr": share}},
        }
        points.append(
            Point(
                codec, float(setting), numbers, {EmbeddingSpec("seen"): (same, np.full(600, 0.5))}
            )
        )
    return points


def test_parity_is_told_with_its_interval_and_its_share_of_the_baseline(monkeypatch):
    monkeypatch.setattr(Format, "version", lambda self: "as if ffmpeg were here")
    people = [f"{number:03}" for number in range(600) for _ in range(2)]
    shares = {1: 0.5, 2: 0.4, 3: 0.3, 4: 0.2, 5: 0.1, 6: 0.05}
    rates = {setting: 0.05 * 2**setting for setting in shares}
    points = points_of("jpeg", shares, rates)
    points += points_of(BASELINE[0], {BASELINE[1]: 0.3}, {BASELINE[1]: 0.8})
    output = results(points, people, samples=200)
    parity = output["codecs"]["jpeg"]["parity"]["seen"]["crossing"]
    assert parity["bpp"] == pytest.approx(rates[3])
    assert parity["share"] == pytest.approx(rates[3] / 0.8)
    low, high = parity["interval"]
    assert rates[2] < low <= rates[3] <= high < rates[4]
    at_three = output["codecs"]["jpeg"]["points"][2]["recognition"]["seen"]
    assert at_three["frr_interval"][0] < 0.3 < at_three["frr_interval"][1]
    # The same people are rejected, whoever is drawn.
    assert at_three["differences"]["frr"] == {"value": 0, "interval": (0, 0)}
    at_six = output["codecs"]["jpeg"]["points"][5]["recognition"]["seen"]["differences"]["frr"]
    assert at_six["interval"][1] < -0.2
    no_worse_at = output["codecs"]["jpeg"]["parity"]["seen"]["no_worse"]["bpp"]
    assert no_worse_at == pytest.approx(rates[3])
    alone = output["codecs"][BASELINE[0]]["parity"]["seen"]
    assert alone["crossing"] == {"reason": "1 setting; a fit takes 6"}


def test_the_queries_reported_as_rejected_were_accepted_before_and_are_rejected_now():
    """600 queries; the threshold is at 0.5 before and after. 3, 4 and 5 cross it, 6 never was
    accepted.
    """
    people = [f"{number:03}" for number in range(600) for _ in range(2)]
    subjects = [
        Subject(Path("x", f"{index}.jpg"), person, None) for index, person in enumerate(people)
    ]
    other = np.full(600, 0.5)
    before, after = np.full(600, 0.1), np.full(600, 0.1)
    after[[3, 4, 5]] = 0.6, np.inf, 0.7  # in the second no face is found any more
    before[6] = after[6] = 0.9
    spec = EmbeddingSpec("seen")
    original, decoded = (Point("x", 0, {}, {spec: (same, other)}) for same in (before, after))
    rejected = rejected_queries(decoded, original, spec, Dataset("x", subjects))
    # Of person 4 the photographs are 8, enrolled, and 9, the query.
    assert [(each["query_name"], each["enrolled_name"]) for each in rejected] == [
        ("x/9.jpg", "x/8.jpg"),
        ("x/11.jpg", "x/10.jpg"),
        ("x/7.jpg", "x/6.jpg"),
    ]
    assert [(each["distance"], each["threshold"]) for each in rejected] == [
        (None, 0.5),
        (0.7, 0.5),
        (0.6, 0.5),
    ]


def test_differences_are_paired_and_between_equal_settings():
    people = [f"{number:03}" for number in range(600) for _ in range(2)]
    ours = points_of("l2-rec", {1024: 0.1, 512: 0.2}, {1024: 0.1, 512: 0.05})
    theirs = points_of("jpeg", {1024: 0.3}, {1024: 0.1})
    (output,) = differences(theirs + ours, people, 1)
    assert (output["model"], output["codec"], output["setting"], output["recogniser"]) == (
        "l2-rec",
        "jpeg",
        1024,
        "seen",
    )
    assert output["less"] == pytest.approx(0.2)
    low, high = output["interval"]
    assert 0.15 < low < 0.2 < high < 0.25


def test_bd_rates_need_four_points_each():
    points = [{"bpp": 0.1 * 2**n, "psnr": 28 + 3 * n, "ms_ssim": None} for n in range(4)]
    half = [point | {"bpp": point["bpp"] / 2} for point in points]
    assert bd_rates({"points": points}, {"points": half}) == {"PSNR": pytest.approx(-50)}
    assert bd_rates({"points": points[:3]}, {"points": half}) == {}
    assert bd_rates(None, {"points": half}) == {}


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    """A bench whose processes all tests use: each loads torch and a recogniser only once."""
    found = {"seen": find_recogniser("mobilefacenet-ms1m", None)}
    owner = Bench(found, Store(tmp_path_factory.mktemp("processes") / "bench.sqlite"))
    yield owner._processes
    owner.close()


@pytest.fixture
def bench(finds_faces, processes, tmp_path):
    """Makes benches with one recogniser and a common store."""
    made = []

    def make(**options) -> Bench:
        found = {"seen": find_recogniser("mobilefacenet-ms1m", None)}
        made.append(Bench(found, Store(tmp_path / "bench.sqlite"), **options))
        made[-1]._processes = processes
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_lfw_comes_with_its_pairs_in_ten_folds(needs_faces, faces_root, monkeypatch):
    monkeypatch.setattr(
        subjects, "cached_landmarks", lambda files: [scaled_template(250)] * len(files)
    )
    lfw = load_dataset("lfw", faces_root)
    assert (len(lfw.subjects), lfw.gallery, len(lfw.pairs)) == (3708, 1, 1000)
    assert sum(pair.same for pair in lfw.pairs) == 500
    for pair in lfw.pairs:
        assert (lfw.subjects[pair.first].person == lfw.subjects[pair.second].person) is pair.same
    assert [sum(pair.fold == fold for pair in lfw.pairs) for fold in range(10)] == [100] * 10
    assert [pair.fold for pair in lfw.pairs[:51]] == [0] * 50 + [1]

    paired = in_pairs(lfw)
    assert len(paired.subjects) == 1549
    for pair, before in zip(paired.pairs, lfw.pairs, strict=True):
        assert paired.subjects[pair.first] == lfw.subjects[before.first]
        assert paired.subjects[pair.second] == lfw.subjects[before.second]
    with pytest.raises(UsageError, match="leave out --limit"):
        in_pairs(load_dataset("lfw", faces_root, limit=20))


def test_a_folder_of_people_is_a_dataset(monkeypatch, tmp_path):
    monkeypatch.setattr(subjects, "cached_landmarks", lambda files: [None] * len(files))
    for name in ("ann/2.png", "ann/1.png", "bob/1.png", "wall.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("L", (20, 20)).save(tmp_path / name)
    people = [
        (subject.path.name, subject.person)
        for subject in load_dataset(str(tmp_path), tmp_path).subjects
    ]
    assert people == [("1.png", "ann"), ("2.png", "ann"), ("1.png", "bob"), ("wall.png", "wall")]
    assert len(load_dataset(str(tmp_path), tmp_path, limit=1).subjects) == 2
    (tmp_path / "identity.txt").write_text("1.png eve\nwall.png eve\n\non holiday.tif eve\n")
    Image.new("L", (20, 20)).save(tmp_path / "on holiday.tif")
    people = [subject.person for subject in load_dataset(str(tmp_path), tmp_path).subjects]
    assert people == ["eve", "ann", "eve", "eve", "eve"]
    (tmp_path / "identity.txt").write_text("1.png eve\nwall.png\n")
    with pytest.raises(
        UsageError, match=r"identity.txt, line 2: give a file, a space and its person"
    ):
        load_dataset(str(tmp_path), tmp_path)


@pytest.mark.parametrize("name", ["lfw", "celeba-hq", "nonsense", "celeba-wild-mini-align"])
def test_a_dataset_that_is_not_there_is_an_error_that_says_where_it_belongs(tmp_path, name):
    with pytest.raises(
        UsageError, match=str(tmp_path) if name != "nonsense" else "lfw, celeba-hq, .* or a folder"
    ):
        load_dataset(name, tmp_path)


def test_aligned_faces_are_cut_out(needs_faces, faces_root):
    whole, cut = (
        load_dataset(name, faces_root, limit=1)
        for name in ("celeba-hq-mini", "celeba-hq-mini-align")
    )
    assert len(whole.subjects) == len(cut.subjects) > 0
    assert cut.name == "celeba-hq-mini-align"
    with Image.open(cut.subjects[0].path) as image:
        assert image.size == (448, 448)


def test_aligned_faces_of_equal_file_names_stay_apart(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(
        subjects, "cached_landmarks", lambda files: [scaled_template(112)] * len(files)
    )
    for person, grey in (("ann", 40), ("bob", 200)):
        (tmp_path / "people" / person).mkdir(parents=True)
        Image.new("L", (112, 112), grey).save(tmp_path / "people" / person / "1.png")
    cut = load_dataset(f"{tmp_path / 'people'}-align", tmp_path)
    greys = [int(np.asarray(Image.open(each.path))[224, 224, 0]) for each in cut.subjects]
    assert greys == [40, 200]
    (tmp_path / "faces-align" / "eve").mkdir(parents=True)
    Image.new("L", (20, 20)).save(tmp_path / "faces-align" / "eve" / "1.png")
    (eve,) = load_dataset(str(tmp_path / "faces-align"), tmp_path).subjects
    assert eve.person == "eve"


def test_settings_of_a_codec_that_is_named_twice_are_joined():
    assert chosen(("jpeg:10", "jpeg:20,10"), ("l2-rec:3",), ()) == {
        "jpeg": (10, 20),
        "l2-rec": (3,),
    }


@pytest.mark.parametrize("part", ["quality", "speed"])
def test_a_folder_without_a_photograph_that_can_be_read_is_said(run_cli, tmp_path, part):
    (tmp_path / "faces").mkdir()
    (tmp_path / "faces" / "one.png").write_bytes(b"no picture")
    options = ("--dataset", tmp_path / "faces", "--codec", "jpeg:50", "--model", "l2-rec:3")
    done = run_cli("bench", part, *options, "-o", "out")
    assert (done.returncode, b"can be read" in done.stderr) == (2, True)
    assert b"Traceback" not in done.stderr


def test_faces_far_away_are_the_photographs_made_small(needs_faces, people_root):
    whole, small = (load_dataset(name, people_root, 4) for name in ("lfw", "lfw@80"))
    assert small.name == "lfw@80"
    assert [s.name for s in small.subjects] == [
        s.name.replace(".jpg", ".png") for s in whole.subjects
    ]
    assert [s.person for s in small.subjects] == [s.person for s in whole.subjects]
    with Image.open(small.subjects[0].path) as image:
        assert image.size == (80, 80)
    np.testing.assert_allclose(
        (small.subjects[0].landmarks + 0.5) * 250 / 80, whole.subjects[0].landmarks + 0.5
    )


def test_a_folder_whose_name_ends_like_a_size_is_a_folder(tmp_path):
    (tmp_path / "party@80").mkdir()
    Image.new("L", (20, 10)).save(tmp_path / "party@80" / "1.png")
    assert load_dataset(str(tmp_path / "party@80"), None, faces=False).subjects[0].path.parent == (
        tmp_path / "party@80"
    )
    (tmp_path / "party@80" / "2.png").write_bytes(b"damaged")
    sized = load_dataset(str(tmp_path / "party@80@10"), None, faces=False)
    assert sized.subjects[1].path == tmp_path / "party@80" / "2.png"
    with Image.open(sized.subjects[0].path) as image:
        assert image.size == (10, 5)


def test_a_few_faces_measured_for_real(bench, people_root):
    subjects = load_dataset("lfw", people_root, 4).subjects
    assert 4 <= len(subjects) < 20
    assert len({s.person for s in subjects if s.person == subjects[-1].person}) == 1
    first = bench(find_again=True)
    codecs = {"original": [0], "jpeg": [10], "hevc": [28], "l2-rec": [3]}
    points = measure(first, subjects, codecs)
    rows = {point.codec: point.numbers for point in points}
    cosines = {
        name: {face: row["cosine"] for face, row in rows[name]["recognition"].items()}
        for name in rows
    }
    ours = rows["l2-rec"]
    assert rows["original"]["bpp"] == 24
    assert cosines["original"]["seen"] == pytest.approx(1)
    assert rows["jpeg"]["psnr"] < rows["hevc"]["psnr"] < 40
    assert rows["jpeg"]["ssim"] < rows["hevc"]["ssim"] < 1
    assert 0.05 < ours["bpp"] < rows["hevc"]["bpp"] < 0.5
    assert 0.6 < cosines["l2-rec"]["seen"] < cosines["hevc"]["seen"] < 1
    assert cosines["hevc"]["seen, found again"] == pytest.approx(cosines["hevc"]["seen"], abs=0.03)
    assert cosines["hevc"]["seen, found again"] != cosines["hevc"]["seen"]
    assert "frr" not in ours["recognition"]["seen"]

    again = bench(find_again=True)
    again._measure = lambda codec, setting, work: iter(())  # nothing more can be measured
    assert measure(again, subjects, codecs) == points


def test_only_what_is_missing_is_measured(bench, people_root, monkeypatch):
    subjects = load_dataset("lfw", people_root, 4).subjects
    first = bench()
    first.photographs("jpeg", 10, subjects[:3])
    asked = []
    unwatched = first._measure
    monkeypatch.setattr(
        first,
        "_measure",
        lambda codec, setting, work: asked.append(work) or unwatched(codec, setting, work),
    )
    reported = []
    first.photographs("jpeg", 10, subjects, reported.append)
    assert [subject for subject, _ in asked[0]] == subjects[3:]
    assert reported[-1] == len(subjects)
    first.photographs("jpeg", 11, subjects[:2])
    assert len(asked[1]) == 2


def test_what_was_measured_before_an_interruption_is_kept(bench, people_root):
    subjects = load_dataset("lfw", people_root, 4).subjects[:4]
    first = bench()

    def interrupted(codec, setting, work):
        for index, (_, parts) in enumerate(work):
            if index == 3:
                raise KeyboardInterrupt
            yield dict.fromkeys(parts, b"{}")

    first._measure = interrupted
    with pytest.raises(KeyboardInterrupt):
        first.photographs("jpeg", 10, subjects)
    left = []
    again = bench()
    again._measure = lambda codec, setting, work: (
        left.extend(subject for subject, _ in work) or iter([None] * len(work))
    )
    with pytest.raises(ValueError, match="buffer"):  # what was stored here is no measurement
        again.photographs("jpeg", 10, subjects)
    assert left == subjects[3:]


def test_codecs_of_one_library_are_not_taken_for_each_other(bench, picture, tmp_path):
    pytest.importorskip("imageio_ffmpeg", reason="the 'bench' extra is not installed")
    Image.fromarray(picture).save(tmp_path / "face.png")
    subject = Subject(tmp_path / "face.png", "somebody", None)
    for one, other in (("jpeg", "jpeg-progressive"), ("hevc", "hevc-text")):
        sizes = [bench().photographs(name, 30, [subject])[0].bytes for name in (one, other)]
        assert sizes[0] != sizes[1]


def test_where_no_face_is_found_there_is_no_embedding(bench, tmp_path):
    Image.new("RGB", (200, 200), "gray").save(tmp_path / "wall.png")
    wall = Subject(tmp_path / "wall.png", "nobody", scaled_template(200))
    (measured,) = bench(find_again=True).photographs("jpeg", 50, [wall])
    given, again = measured.embeddings.values()
    assert np.isfinite(given).all()
    assert np.isnan(again).all()


def test_the_bench_writes_its_results_and_resumes(finds_faces, run_cli, people_root, tmp_path):
    options = (
        *SHIPPED,
        "--limit",
        "3",
        "--data",
        people_root,
        "--codec",
        "jpeg:10,20",
        "--model",
        "l2-rec:3",
        "-o",
        "out",
    )
    done = run_cli("bench", *options)
    assert done.returncode == 0, done.stderr
    assert b"2 queries are too few for an FRR" in done.stdout
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert list(results["codecs"]) == ["original", "jpeg", "l2-rec"]
    assert [point["setting"] for point in results["codecs"]["jpeg"]["points"]] == [10, 20]
    assert not results["codecs"]["l2-rec"]["reference"]
    assert results["dataset"]["photographs"] >= 3
    header, *lines = (tmp_path / "out" / "results.csv").read_text().splitlines()
    assert header.startswith("codec,setting,images,bpp,psnr,ssim,ms_ssim")
    rows = [["original", "0.0"], ["jpeg", "10.0"], ["jpeg", "20.0"], ["l2-rec", "3.0"]]
    assert [line.split(",")[:2] for line in lines] == rows
    assert list(results["gallery"][0]["decoded"]) == ["jpeg", "l2-rec"]
    assert (tmp_path / "out" / results["gallery"][0]["original"]).exists()
    drawn = run_cli("bench", "report", "out/results.json", "-o", "again")
    assert drawn.returncode == 0, drawn.stderr
    assert (tmp_path / "again" / "report.html").stat().st_size > 100_000
    refused = run_cli("bench", *options)
    assert (refused.returncode, b"already has a report" in refused.stderr) == (2, True)
    assert run_cli("bench", *options, "--resume").stdout == done.stdout


def test_a_folder_with_a_corrupt_image_is_measured_without_it(
    finds_faces, run_cli, picture, tmp_path
):
    for name in ("a.png", "b.png"):
        Image.fromarray(picture).save(tmp_path / name)
    (tmp_path / "faces").mkdir()
    Image.fromarray(picture).save(tmp_path / "faces" / "whole.png")
    (tmp_path / "faces" / "torn.png").write_bytes((tmp_path / "a.png").read_bytes()[:200])
    (tmp_path / "faces" / "text.jpg").write_text("no picture")
    options = (
        "--dataset",
        "faces",
        "--data",
        tmp_path,
        "--codec",
        "jpeg:50",
        "--model",
        "l2-rec:3",
    )
    done = run_cli("bench", "quality", *options)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "bench-faces" / "results.json").read_text())
    assert results["dataset"]["photographs"] == 1
    assert [name.rsplit("/")[-1] for name in results["dataset"]["unreadable"]] == [
        "text.jpg",
        "torn.png",
    ]
    assert b"torn.png could not be read" in done.stdout


def test_a_photograph_that_cannot_be_opened_is_left_out(tmp_path, picture):
    Image.fromarray(picture).save(tmp_path / "whole.png")
    files = [Subject(tmp_path / name, "someone", None) for name in ("gone.png", "whole.png")]
    bench = Bench({}, Store(tmp_path / "bench.sqlite"))
    try:
        left, unreadable = readable(bench, Dataset("faces", files))
    finally:
        bench.close()
    assert [subject.path.name for subject in left.subjects] == ["whole.png"]
    assert unreadable == [str(tmp_path / "gone.png")]


def test_photographs_are_measured_and_shown_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    Image.new("RGB", (60, 40)).save(tmp_path / "face.jpg", exif=exif)
    (shown,) = gallery([Subject(tmp_path / "face.jpg", "ann", None)], [], tmp_path / "out", print)
    with Image.open(tmp_path / "out" / shown["original"]) as picture:
        assert picture.size == (40, 60)


def test_a_folder_of_ones_own_needs_no_data_folder(finds_faces, run_cli, picture, tmp_path):
    (tmp_path / "faces").mkdir()
    Image.fromarray(picture).save(tmp_path / "faces" / "one.png")
    options = ("--dataset", "faces", "--codec", "jpeg:50", "--model", "l2-rec:3")
    environment = {
        "FACECODEC_DATA": str(tmp_path / "nowhere"),
        "FACECODEC_RECOGNISERS": str(tmp_path / "nowhere"),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }
    for part in ("identify", "speed"):
        own = ("--repeats", 1) if part == "speed" else ()
        done = run_cli("bench", part, *options, "-o", part, *own, **environment)
        assert done.returncode == 0, done.stderr
        if part == "identify":
            results = json.loads((tmp_path / part / "results.json").read_text())
            (point,) = results["codecs"]["jpeg"]["points"]
            assert list(point["recognition"]) == ["mobilefacenet-ms1m", "mobileface-v2"]


def test_a_codec_that_fails_is_left_out_with_its_reason_and_the_rest_is_reported(
    run_cli, picture, tmp_path
):
    pytest.importorskip("facenet_pytorch", reason="facenet-pytorch is not installed: make setup")
    (tmp_path / "faces").mkdir()
    Image.fromarray(picture).save(tmp_path / "faces" / "a.png")
    broken = tmp_path / "bin" / "ffmpeg"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\necho this one is broken >&2\nexit 1\n")
    broken.chmod(0o755)
    environment = {
        "PATH": f"{broken.parent}{os.pathsep}{os.environ['PATH']}",
        "IMAGEIO_FFMPEG_EXE": str(broken),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }
    given = ("--dataset", "faces", "--data", tmp_path, "-o", "out")
    codecs = ("--codec", "jpegxl:5", "--codec", "jpeg:20", "--model", "l2-rec:3")
    done = run_cli("bench", "quality", *given, *codecs, **environment)
    assert done.returncode == 0, done.stderr
    assert b"jpegxl is left out: no ffmpeg writes and reads libjxl" in done.stderr
    assert b"jpegxl was skipped: " in done.stdout
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert list(results["codecs"]) == ["original", "jpeg", "l2-rec"]
    assert list(results["skipped"]) == ["jpegxl"]
    assert "this one is broken" in results["skipped"]["jpegxl"]


def test_without_a_terminal_progress_is_a_line_a_minute(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("facecodec.cli.bench.time.monotonic", lambda: now[0])
    progress = Progress(100, {"jpeg": (10, 20)})
    for codec_setting in (10, 20):
        for done in range(1, 101):
            now[0] += 1
            progress("jpeg", codec_setting, done)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "jpeg 10: 60/100, 30% of all, 2 min left",
        "jpeg 20: 20/100, 60% of all, 1 min left",
        "jpeg 20: 80/100, 90% of all, 0 min left",
        "jpeg 20: 100/100, 100% of all, 0 min left",
    ]


@pytest.mark.parametrize("killed", [False, True], ids=["Ctrl-C", "killed"])
def test_a_bench_that_ends_takes_its_workers_along(finds_faces, people_root, tmp_path, killed):
    command = [
        sys.executable,
        "-m",
        "facecodec",
        "bench",
        "quality",
        "--data",
        str(people_root),
    ]
    settings = ",".join(map(str, range(1, 96)))
    command += ["--codec", f"jpeg:{settings}", "-o", str(tmp_path / "out")]
    running = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        start_new_session=True,
        preexec_fn=takes_interrupts,
    )
    store = tmp_path / "cache" / "facecodec" / "bench.sqlite"
    deadline = time.monotonic() + 120
    while (
        not (store.exists() and len(children_of(running.pid)) >= 2) and time.monotonic() < deadline
    ):
        time.sleep(0.1)
    time.sleep(3)
    children = children_of(running.pid)
    assert running.poll() is None, "it ended before it could be ended"
    if killed:
        running.kill()
        running.communicate(timeout=PATIENCE)
    else:
        os.killpg(running.pid, signal.SIGINT)  # as a terminal does: to all of them
        _, messages = running.communicate(timeout=PATIENCE)
        assert running.returncode == 130
        assert messages.decode().strip().endswith("facecodec: interrupted")
        assert b"Traceback" not in messages
    deadline = time.monotonic() + 20
    while any(map(runs, children)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(runs, children))
    assert not (tmp_path / "out").exists()


def runs(pid: int) -> bool:
    try:
        return "(zombie)" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def children_of(pid: int) -> list[int]:
    """Returns the process numbers of a process's children, on Linux."""
    listing = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in listing.read_text().split()] if listing.exists() else []


def test_grey_pictures_are_measured_too(finds_faces, run_cli, picture, tmp_path):
    for person in ("ann", "bob"):
        (tmp_path / "faces" / person).mkdir(parents=True)
        Image.fromarray(picture).convert("L").save(tmp_path / "faces" / person / "one.png")
    options = (
        *SHIPPED,
        "--dataset",
        "faces",
        "--data",
        tmp_path,
        "--codec",
        "jpeg:50",
        "--model",
        "l2-rec:3",
    )
    done = run_cli("bench", *options)
    assert done.returncode == 0, done.stderr
    assert b"there is no FRR" in done.stdout  # people of one picture ask nothing


def test_within_a_budget_every_codec_keeps_to_it(finds_faces, run_cli, people_root, tmp_path):
    options = (
        *SHIPPED,
        "--limit",
        "2",
        "--data",
        people_root,
        "--codec",
        "jpeg",
        "--model",
        "l2-rec",
        "-o",
        "out",
    )
    done = run_cli("bench", "budget", "--bytes", "900", "--bytes", "250", *options)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    codecs = results["codecs"]
    assert list(codecs) == ["original", "jpeg@fit", "l2-rec@fit"]
    for name in ("jpeg@fit", "l2-rec@fit"):
        point = next(each for each in codecs[name]["points"] if each["setting"] == 900)
        assert 0.5 < 250**2 / 8 * point["bpp"] / 900 <= 1
    assert "jpeg cannot make 250 bytes" in results["skipped"]["jpeg@fit 250"]
    assert b"jpeg@fit 250 is left out: jpeg cannot make 250 bytes" in done.stderr
    refused = run_cli("bench", "budget", "--codec", "jpeg:20")
    assert (refused.returncode, b"leave out settings" in refused.stderr) == (2, True)


def test_models_are_measured_at_each_effort(finds_faces, run_cli, people_root, tmp_path):
    options = ("--limit", "2", "--data", people_root, "-o", "out")
    codecs = ("--codec", "jpeg:50", "--codec", "l2-ipr:3", "--effort", "1", "--effort", "2")
    done = run_cli("bench", "quality", *options, *codecs)
    assert done.returncode == 0, done.stderr
    measured = json.loads((tmp_path / "out" / "results.json").read_text())["codecs"]
    assert list(measured) == ["original", "jpeg", "l2-ipr", "l2-ipr, effort 2"]
    rates = [measured[name]["points"][0]["bpp"] for name in list(measured)[2:]]
    assert rates[1] < rates[0]


def test_speed_is_a_report_of_its_own(finds_faces, run_cli, picture, tmp_path):
    (tmp_path / "faces").mkdir()
    Image.fromarray(picture).save(tmp_path / "faces" / "one.png")
    options = (
        "--dataset",
        "faces",
        "--data",
        tmp_path,
        "--codec",
        "jpeg:50",
        "--model",
        "l2-rec:3",
        "-o",
        "out",
    )
    done = run_cli("bench", "speed", "--repeats", "1", *options)
    assert done.returncode == 0, done.stderr
    assert b"Milliseconds a picture" in done.stdout
    speed = json.loads((tmp_path / "out" / "results.json").read_text())["speed"]
    assert [(each["codec"], each["setting"]) for each in speed["codecs"]] == [
        ("jpeg", 50),
        ("l2-rec", 3),
    ]


def test_without_a_network_the_download_says_where_to_put_lfw(run_cli, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    done = run_cli("bench", "download", "lfw")
    assert done.returncode == 2
    assert b"LFW could not be downloaded" in done.stderr
    assert str(tmp_path / "cache" / "facecodec" / "data").encode() in done.stderr
    assert b"Traceback" not in done.stderr


def test_what_was_downloaded_is_found_by_itself(monkeypatch, tmp_path):
    fetched = []

    def fetch(data_home, **options):
        fetched.append(data_home)
        (data_home / "lfw_home" / "lfw_funneled" / "Ann").mkdir(parents=True)
        (data_home / "lfw_home" / "joblib").mkdir()
        (data_home / "lfw_home" / "pairsDevTest.txt").write_text("0\n")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("sklearn.datasets.fetch_lfw_people", fetch)
    place, missing = download_lfw()
    assert sorted(path.name for path in place.iterdir()) == ["lfw_funneled", "pairsDevTest.txt"]
    assert missing == ["peopleDevTrain.txt", "peopleDevTest.txt"]
    (place / "peopleDevTest.txt").write_text("1\nAnn\t1\n")
    assert download_lfw()[1] == ["peopleDevTrain.txt"]
    assert len(fetched) == 1
    assert [photo.person for photo in lfw(place, "test")] == ["Ann"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--codec", "jpeg:x"), "settings are numbers"),
        (("--codec", "hvec"), "reference codecs: "),
        (("--dataset", "nowhere"), "no dataset 'nowhere'"),
        (("--dataset", ".", "--recogniser", "nobody"), "no recogniser nobody.onnx"),
        (("--dataset", ".", "--recognizer", "nobody"), "no recogniser nobody.onnx"),
        (("--data", "nowhere"), "no data folder"),
    ],
)
def test_what_the_bench_cannot_find_is_named(run_cli, tmp_path, options, message):
    Image.new("RGB", (20, 20)).save(tmp_path / "wall.png")
    done = run_cli("bench", *(() if "--data" in options else ("--data", tmp_path)), *options)
    assert (done.returncode, message in done.stderr.decode()) == (2, True), done.stderr


def test_a_card_says_how_a_model_was_trained_and_what_it_does(
    finds_faces, run_cli, people_root, tmp_path
):
    done = run_cli(
        "card", "l2-ipr", "-q", "2", "--limit", "3", "--data", people_root, "-o", "card.md"
    )
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "card.md").read_text()
    (row,) = json.loads((tmp_path / "card.json").read_text())["rows"]
    assert f"| 2 | {row['bpp']:.3f} | {row['psnr']:.2f} |" in text
    assert "mobilefacenet-ms1m (seen)" in text
    assert "mobileface-v2 (unseen)" in text
    assert "| l2-ipr | ipr, l2 |" in text
    assert "Written by `facecodec card l2-ipr -q 2 --limit 3 " in text


def test_a_card_in_a_folder_that_is_not_there_is_refused_first(run_cli, people_root, tmp_path):
    done = run_cli("card", "l2-ipr", "--data", people_root, "-o", "not/there/card.md")
    assert done.returncode == 2, done.stderr
    assert "the folder not/there of the card is not there" in done.stderr.decode()


def test_a_broken_recogniser_is_named(tmp_path):
    (tmp_path / "x.onnx").write_bytes(b"nonsense")
    with pytest.raises(UsageError, match=r"x\.onnx: the recogniser does not load"):
        find_recogniser(str(tmp_path / "x.onnx"), tmp_path)


@pytest.fixture
def facenet(monkeypatch):
    """facenet-pytorch with its download replaced: by a failure, or by random weights."""
    module = pytest.importorskip(
        "facenet_pytorch.models.inception_resnet_v1", reason="facenet-pytorch: make setup"
    )

    def replace(load):
        monkeypatch.setattr(module, "load_weights", load)

    return replace


def test_facenet_sees_the_crop_and_its_mirror_image_enlarged_and_standardised(facenet):
    import torch

    facenet(lambda network, name: None)
    embed = FacenetRecogniser("facenet-vggface2")
    crop = np.random.default_rng(0).uniform(0, 255, (3, 112, 112)).astype(np.float32)
    embedding = embed(crop)
    assert embedding.shape == (512,)
    assert np.linalg.norm(embedding) == pytest.approx(1)
    seen = []
    embed._network = lambda both: seen.append(both) or torch.ones(2, 1)
    crop[:, :, :56] = 0
    crop[:, :, 56:] = 255
    embed(crop)
    assert seen[0].shape == (2, 3, 160, 160)
    assert torch.allclose(seen[0][0], seen[0][1].flip(-1), atol=1e-5)
    assert seen[0][0, :, :, :70].mean() == pytest.approx(-127.5 / 128)
    assert seen[0][0, :, :, 90:].mean() == pytest.approx(127.5 / 128)


def test_facenet_without_its_weights_is_an_error(facenet, tmp_path):
    def offline(network, name):
        raise URLError("no route to host")

    facenet(offline)
    with pytest.raises(
        UsageError, match=r"facenet-casia-webface could not be downloaded: .*no route"
    ):
        find_recogniser("facenet-casia-webface", tmp_path)
