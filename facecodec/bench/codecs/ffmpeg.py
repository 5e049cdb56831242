"""Codes still pictures with ffmpeg's video encoders.

The system's ffmpeg is used if it can write and read the format, otherwise that of the package
imageio-ffmpeg. Each is tested with a picture, because an ffmpeg may list an encoder and still fail:
Debian 12's writes JPEG XL but cannot read it from a pipe.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

RAW = ("-f", "rawvideo", "-pix_fmt", "rgb24")
TRIAL = 16  # pixels along each side of the trial picture


@dataclass(frozen=True)
class Format:
    """A file format, by ffmpeg's names of its encoder, its muxer and its demuxer."""

    encoder: str
    muxer: str
    demuxer: str

    def missing(self) -> str | None:
        """Returns why no ffmpeg here writes and reads this format, or None if one does."""
        _, reasons = _chosen(self)
        return reasons

    def version(self) -> str:
        command = [self._executable(), "-version"]
        shown = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout.decode()
        return shown.split(" Copyright")[0]

    def encode(self, pixels: np.ndarray, options: list[str]) -> bytes:
        """Returns uint8 (H, W, 3) as a file of one frame.

        Raises RuntimeError with ffmpeg's message.
        """
        return _encode(self._executable(), self, pixels, options)

    def decode(self, data: bytes, shape: tuple[int, int]) -> np.ndarray:
        """Returns the frame in a file, uint8 (H, W, 3).

        Raises RuntimeError with ffmpeg's message, and ValueError for a frame of another size.
        """
        return _decode(self._executable(), self, data, shape)

    def encode_command(self, options: list[str], source: Path, target: Path) -> list[str]:
        """Returns the command that encodes a file to a file."""
        frame = ["-frames:v", "1", "-c:v", self.encoder, *options, "-f", self.muxer]
        return _command(self._executable(), ["-i", str(source), *frame, "-y", str(target)])

    def decode_command(self, source: Path, target: Path) -> list[str]:
        """Returns the command that decodes a file to a PNG file."""
        files = ["-f", self.demuxer, "-i", str(source), "-y", str(target)]
        return _command(self._executable(), files)

    def _executable(self) -> str:
        path, reasons = _chosen(self)
        if path is None:
            raise RuntimeError(reasons)
        return path


@cache
def _chosen(kind: Format) -> tuple[str | None, str | None]:
    """Returns the path of the first ffmpeg that can write and read `kind`, or why none can."""
    paths, reasons = _candidates()
    for path in paths:
        try:
            _try(path, kind)
            return path, None
        except (OSError, RuntimeError, ValueError) as error:
            reasons.append(f"{path}: {error}")
    return None, f"no ffmpeg writes and reads {kind.encoder} here ({'; '.join(reasons)})"


def _try(path: str, kind: Format) -> None:
    """Encodes and decodes a small picture. Raises OSError, and as `decode` does."""
    ramp = np.linspace(0, 255, TRIAL * TRIAL * 3).astype(np.uint8).reshape(TRIAL, TRIAL, 3)
    _decode(path, kind, _encode(path, kind, ramp, []), (TRIAL, TRIAL))


def _candidates() -> tuple[list[str], list[str]]:
    """Returns the paths of the ffmpegs here, the system's first, and why others are missing."""
    system = shutil.which("ffmpeg")
    paths, reasons = ([system], []) if system else ([], ["none is on the path"])
    try:
        from imageio_ffmpeg import get_ffmpeg_exe

        paths.append(get_ffmpeg_exe())
    except ImportError:
        reasons.append("imageio-ffmpeg is not installed: pip install 'facecodec[bench]'")
    except RuntimeError as error:
        reasons.append(f"imageio-ffmpeg: {error}")
    return list(dict.fromkeys(paths)), reasons


def _encode(path: str, kind: Format, pixels: np.ndarray, options: list[str]) -> bytes:
    height, width = pixels.shape[:2]
    source = [*RAW, "-s", f"{width}x{height}", "-i", "-"]
    target = ["-frames:v", "1", "-c:v", kind.encoder, *options, "-f", kind.muxer, "-"]
    return _run(_command(path, [*source, *target]), pixels.tobytes())


def _decode(path: str, kind: Format, data: bytes, shape: tuple[int, int]) -> np.ndarray:
    pixels = _run(_command(path, ["-f", kind.demuxer, "-i", "-", *RAW, "-"]), data)
    if len(pixels) != shape[0] * shape[1] * 3:
        raise ValueError(f"gave {len(pixels)} bytes for {shape[1]}x{shape[0]} pixels")
    return np.frombuffer(pixels, np.uint8).reshape(*shape, 3)


def _command(path: str, arguments: list[str]) -> list[str]:
    """Returns a command with one thread, because the bench runs many processes at once."""
    return [path, "-v", "error", "-threads", "1", *arguments]


def _run(command: list[str], data: bytes) -> bytes:
    done = subprocess.run(command, input=data, capture_output=True)
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise RuntimeError(lines[-1] if lines else f"ffmpeg ended with status {done.returncode}")
    return done.stdout
