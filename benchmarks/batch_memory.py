"""Measures the peak memory of batches of LFW photographs of several lengths.

    python benchmarks/batch_memory.py [--counts 1000 10000] [--data DIR]

It prints the memory of the command alone, and with all its processes.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from facecodec.folders import data_root


def tree(pid: int) -> list[int]:
    """Returns a process and all its descendants."""
    found = [pid]
    for each in found:
        try:
            for task in Path(f"/proc/{each}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
        except OSError:
            pass  # it has ended
    return found


def peaks(pid: int) -> dict[int, int]:
    """Returns the peak memory so far of each process, in bytes."""
    found = {}
    for each in tree(pid):
        try:
            status = Path(f"/proc/{each}/status").read_text()
            found[each] = 1024 * int(status.partition("VmHWM:")[2].split()[0])
        except (OSError, IndexError):
            pass
    return found


def measured(paths: list[Path], *arguments: str) -> tuple[float, int, int]:
    """Returns the seconds, and the peak bytes of the command alone and with its processes."""
    listing = b"\0".join(str(path).encode() for path in paths)
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "facecodec", *arguments, "--quiet"], stdin=subprocess.PIPE
    )
    assert process.stdin is not None
    process.stdin.write(listing)
    process.stdin.close()
    seen: dict[int, int] = {}
    while process.poll() is None:
        seen |= peaks(process.pid)
        time.sleep(0.2)
    if process.returncode:
        raise SystemExit("the batch failed")
    return time.perf_counter() - began, seen[process.pid], sum(seen.values())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--counts", type=int, nargs="+", default=[1000, 10000])
    parser.add_argument("--data", type=Path)
    arguments = parser.parse_args()
    photographs = sorted((data_root(arguments.data) / "lfw-deepfunneled").glob("*/*.jpg"))
    print(
        "| pictures | seconds | peak of the command | of it and its processes |\n| --- | --- | --- | --- |"
    )
    for count in arguments.counts:
        with tempfile.TemporaryDirectory() as folder:
            out = ("encode", "--files0-from", "-", "-o", f"{folder}/")
            seconds, alone, together = measured(photographs[:count], *out)
        print(
            f"| {count} | {seconds:.1f} | {alone / 1e6:.0f} MB | {together / 1e6:.0f} MB |",
            flush=True,
        )


if __name__ == "__main__":
    main()
