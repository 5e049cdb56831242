"""The fuzzers' common part: starting them, and counting what they did."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import atheris


class Counts(dict[str, int]):
    """Counts the inputs that reached each stage, by name; `executions` counts all inputs."""

    def __init__(self, every: int, *names: str) -> None:
        super().__init__(dict.fromkeys(("executions", *names), 0))
        self._every = every

    def begin(self) -> None:
        """Counts an execution, and prints all counts now and then, as libFuzzer ends abruptly."""
        self["executions"] += 1
        if self["executions"] % self._every == 0:
            print(dict(self), file=sys.stderr, flush=True)


def fuzz(
    one_input: Callable[[bytes], None],
    mutate: Callable[[bytes, int, int], bytes],
    seeds: Sequence[bytes],
    **limits: int,
) -> None:
    """Starts libFuzzer with seeds, `limits` and the command line's options."""
    corpus = tempfile.mkdtemp()
    for number, seed in enumerate(seeds):
        Path(corpus, str(number)).write_bytes(seed)
    options = [f"-{name}={value}" for name, value in limits.items()]
    atheris.Setup([sys.argv[0], *options, *sys.argv[1:], corpus], one_input, custom_mutator=mutate)
    atheris.Fuzz()
