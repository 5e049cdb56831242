"""Measures the peak memory and processor time of files of 17 bytes, by the pixels they claim.

python benchmarks/claimed_pixels.py [--threads 1 2] [--sizes 1024x1024 5792x5792 524288x64]

Prints a table for docs/security.md. Memory is that of the whole process, its interpreter included.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from facecodec import frozen
from facecodec.container import Container, pack

MB = 1 << 20
# A process inherits the peak of the process that forked it, so a small one starts each call.
LAUNCHER = """
import json, resource, subprocess, sys
subprocess.run([sys.executable, "-m", "facecodec", *sys.argv[1:]], stdout=sys.stderr, check=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([1024 * used.ru_maxrss, used.ru_utime + used.ru_stime]))
"""


def cost(threads: int, *arguments: object) -> tuple[float, float]:
    """Returns the peak bytes and the processor seconds of a call of the command line."""
    done = subprocess.run(
        [sys.executable, "-c", LAUNCHER, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "FACECODEC_THREADS": str(threads)},
        check=True,
    )
    peak, seconds = json.loads(done.stdout)
    return peak, seconds


def claim(width: int, height: int) -> bytes:
    """Returns a file of the default model that claims a size but has no content."""
    mark = bytes.fromhex(frozen.read_card(frozen.model_path(None)).fingerprint)
    return pack(Container(mark, 96, width, height, [b"", b""]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument(
        "--sizes", nargs="+", default=["1024x1024", "2896x2896", "5792x5792", "524288x64"]
    )
    given = parser.parse_args()
    calls = [("info", 1), ("verify", 1), *(("decode", threads) for threads in given.threads)]
    print("| claimed | bytes |", *(_heading(*call) for call in calls))
    print("| --- " * (2 + len(calls)) + "|")
    with tempfile.TemporaryDirectory() as folder:
        for size in given.sizes:
            width, height = map(int, size.split("x"))
            path = Path(folder, f"{size}.fic")
            path.write_bytes(claim(width, height))
            row = [size, str(path.stat().st_size)]
            for command, threads in calls:
                output = ["-o", Path(folder, "x.ppm"), "-f"] if command == "decode" else []
                peak, seconds = cost(threads, command, path, *output)
                row.append(f"{peak / MB:.0f} MB, {seconds:.1f} s")
            print(f"| {' | '.join(row)} |", flush=True)


def _heading(command: str, threads: int) -> str:
    return f"`{command}`{f', {threads} threads' if threads > 1 else ''} |"


if __name__ == "__main__":
    main()
