"""An ffmpeg that has a given encoder: the system's if it has, else the one that imageio-ffmpeg brings."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from pathlib import Path

import numpy as np

RAW = ("-f", "rawvideo", "-pix_fmt", "rgb24")


@cache
def executable(encoder: str) -> str | None:
    """The path of an ffmpeg that has `encoder`, or None."""
    return next((path for path in _candidates() if encoder in _encoders(path)), None)


def missing(encoder: str) -> str | None:
    if executable(encoder) is None:
        return f"no ffmpeg with {encoder} is on the path, and imageio-ffmpeg, of the 'bench' extra, is not installed"
    return None


def version(encoder: str) -> str:
    shown = subprocess.run(
        [executable(encoder), "-version"], stdout=subprocess.PIPE, check=True
    ).stdout.decode()
    return shown.split(" Copyright")[0]


def encode(encoder: str, pixels: np.ndarray, options: list[str]) -> bytes:
    """What one frame becomes; `options` end with the output's format. One thread: the bench runs many at once."""
    height, width = pixels.shape[:2]
    frame = [
        *RAW,
        "-s",
        f"{width}x{height}",
        "-i",
        "-",
        "-frames:v",
        "1",
        "-c:v",
        encoder,
        *options,
        "-",
    ]
    return _run(_command(encoder, frame), pixels.tobytes())


def decode(encoder: str, data: bytes, kind: str, shape: tuple[int, int]) -> np.ndarray:
    """The frame in a file of format `kind`, uint8 (H, W, 3)."""
    pixels = _run(_command(encoder, ["-f", kind, "-i", "-", *RAW, "-"]), data)
    return np.frombuffer(pixels, np.uint8).reshape(*shape, 3)


def encode_command(encoder: str, options: list[str], source: Path, target: Path) -> list[str]:
    """As `encode`, from a file to a file."""
    return _command(
        encoder, ["-i", str(source), "-frames:v", "1", "-c:v", encoder, *options, "-y", str(target)]
    )


def decode_command(encoder: str, kind: str, source: Path, target: Path) -> list[str]:
    """As `decode`, from a file to a PNG file."""
    return _command(encoder, ["-f", kind, "-i", str(source), "-y", str(target)])


def _command(encoder: str, arguments: list[str]) -> list[str]:
    return [executable(encoder), "-v", "error", "-threads", "1", *arguments]


def _run(command: list[str], data: bytes) -> bytes:
    done = subprocess.run(command, input=data, capture_output=True)
    if done.returncode:
        raise RuntimeError(f"ffmpeg: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def _candidates() -> list[str]:
    system = shutil.which("ffmpeg")
    try:
        from imageio_ffmpeg import get_ffmpeg_exe

        return [path for path in (system, get_ffmpeg_exe()) if path]
    except (ImportError, RuntimeError):
        return [system] if system else []


@cache
def _encoders(path: str) -> set[str]:
    listed = subprocess.run(
        [path, "-v", "error", "-encoders"], stdout=subprocess.PIPE, check=False
    ).stdout.decode()
    return {words[1] for words in map(str.split, listed.splitlines()) if len(words) > 1}
