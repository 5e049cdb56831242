"""Times codecs: with one process per picture, and with all pictures in a batch."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from facecodec import images
from facecodec.bench.codecs import find_codec, is_reference, unusable
from facecodec.bench.codecs.fit import nearest
from facecodec.errors import FacecodecError
from facecodec.processes import usable_cores

BPP = 0.25  # the rate at which codecs are timed unless a setting is given
TASKS = ("encode", "decode", "encode_batch", "decode_batch")


def speed_results(
    settings: Mapping[str, Sequence[float]],
    pictures: Sequence[Path],
    repeats: int,
    report: Callable[[int, int], None] = lambda done, total: None,
    leave_out: Callable[[dict[str, str]], None] = lambda skipped: None,
    alone: int | None = None,
) -> dict[str, Any]:
    """Returns the seconds per picture of each codec: medians and interquartile ranges.

    The first `alone` pictures, or all, get one process each; the batch has all pictures. Each codec
    is tried first; for one that fails, "skipped" has the reason, and `leave_out` takes it at once.
    A codec without settings gets the setting nearest to BPP on the first picture. Every round runs
    each codec once, so that a slow minute of the machine slows all codecs. `report` takes the
    number of rounds done, and of all rounds.
    """
    pixels = images.load(pictures[0])
    timed, skipped = {}, {}
    for name, given in settings.items():
        codec = find_codec(name)
        reason = unusable(name)
        if reason:
            skipped[name] = reason
        elif codec.commands is not None:
            timed[name] = (
                given[0]
                if given
                else nearest(codec, pixels, BPP * pixels.shape[0] * pixels.shape[1] / 8)[0]
            )
    leave_out(skipped)
    seconds: dict[tuple[str, str], list[float]] = {
        (name, task): [] for name in timed for task in TASKS
    }
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "pictures").mkdir()
        for number, path in enumerate(pictures):
            shutil.copyfile(path, Path(folder, "pictures", f"{number}{path.suffix}"))
        for number in range(repeats + 1):
            for name, setting in timed.items():
                once = _round(name, setting, Path(folder), alone)
                for task, each in (
                    once.items() if number else ()
                ):  # the first round warms the disk's cache
                    seconds[name, task] += each
            report(number, repeats)
    return {
        "images": len(pictures),
        "size": f"{pixels.shape[1]}x{pixels.shape[0]}",
        "rounds": repeats,
        "cores": usable_cores(),
        "skipped": skipped,
        "codecs": [
            {"codec": name, "setting": setting, "reference": is_reference(name)}
            | {task: summary(seconds[name, task]) for task in TASKS}
            for name, setting in timed.items()
        ],
    }


def summary(seconds: list[float]) -> dict[str, float]:
    """Returns median and interquartile range."""
    low, median, high = np.quantile(seconds, [0.25, 0.5, 0.75])
    return {"median": float(median), "spread": float(high - low)}


def _round(name: str, setting: float, folder: Path, alone: int | None) -> dict[str, list[float]]:
    """Returns the seconds per picture: for the first `alone` with one process each, and a batch."""
    commands = find_codec(name).commands
    assert commands is not None, "codecs without programs are left out before"
    places = [folder / part for part in ("pictures", "coded", "restored")]
    for place in places[1:]:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
    pictures = sorted(places[0].iterdir())
    coded = [
        places[1] / f"{path.stem}.fic" for path in pictures
    ]  # the files of every codec have this suffix here
    restored = [places[2] / f"{path.stem}.png" for path in pictures]
    encoders = [commands.encode(setting, *each) for each in zip(pictures, coded, strict=True)]
    decoders = [commands.decode(*each) for each in zip(coded, restored, strict=True)]
    seconds = {
        "encode": [_timed(command) for command in encoders[:alone]],
        "decode": [_timed(command) for command in decoders[:alone]],
    }
    began = time.perf_counter()
    if commands.encode_many:
        _timed(commands.encode_many(setting, *places[:2]))
    else:
        _all(encoders)
    between = time.perf_counter()
    if commands.decode_many:
        _timed(commands.decode_many(*places[1:]))
    else:
        _all(decoders)
    seconds["encode_batch"] = [(between - began) / len(pictures)]
    seconds["decode_batch"] = [(time.perf_counter() - between) / len(pictures)]
    return seconds


def _all(commands: Sequence[list[str]]) -> None:
    with ThreadPoolExecutor(usable_cores()) as pool:  # the threads only wait for processes
        list(pool.map(_timed, commands))


def _timed(command: list[str]) -> float:
    began = time.perf_counter()
    try:
        subprocess.run(command, check=True, capture_output=True)
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip().splitlines() or ["nothing"]
        raise FacecodecError(f"{Path(command[0]).name} failed, and said: {said[-1]}") from None
    return time.perf_counter() - began
