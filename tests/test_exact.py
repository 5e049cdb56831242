import os
import platform
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from facecodec.exact import LIMIT, HyperSynthesis, Layer, read_layers, rescale
from facecodec.frozen import load


def random_layers(rng: np.random.Generator) -> list[Layer]:
    shapes = [(8, 3, 3, 3), (24, 8, 1, 1), (8, 6, 3, 3), (10, 2, 1, 1)]
    return [
        Layer(
            rng.integers(-(2**15), 2**15, shape).astype(np.int16),
            rng.integers(-(2**24), 2**24, shape[0]),
            shift=15,
            upsample=number in (1, 2),
        )
        for number, shape in enumerate(shapes)
    ]


def reference(layers: list[Layer], z_hat: np.ndarray) -> np.ndarray:
    """Computes the same with loops over int64, written from docs/format.md."""
    x = np.clip(z_hat, -LIMIT, LIMIT).astype(np.int64)
    for number, layer in enumerate(layers):
        out_channels, _, kernel, _ = layer.weight.shape
        height, width = x.shape[1:]
        r = kernel // 2
        padded = np.pad(x, ((0, 0), (r, r), (r, r)))
        out = np.zeros((out_channels, height, width), np.int64)
        for dy in range(kernel):
            for dx in range(kernel):
                view = padded[:, dy : dy + height, dx : dx + width]
                taps = layer.weight[:, :, dy, dx].astype(np.int64)
                depthwise = taps.shape[1] < len(x)
                out += taps[..., None] * view if depthwise else np.einsum("oi,ihw->ohw", taps, view)
        x = (out + layer.bias[:, None, None] + (1 << (layer.shift - 1))) >> layer.shift
        if number < len(layers) - 1:
            x = np.clip(x, 0, LIMIT)
        if layer.upsample:
            shuffled = np.zeros((out_channels // 4, 2 * height, 2 * width), np.int64)
            for i in range(2):
                for j in range(2):
                    shuffled[:, i::2, j::2] = x[2 * i + j :: 4]
            x = shuffled
    return x


@pytest.mark.parametrize("seed", range(5))
def test_float64_gives_the_integers_of_an_int64_reference(seed):
    rng = np.random.default_rng(seed)
    layers = random_layers(rng)
    z_hat = rng.integers(-2 * LIMIT, 2 * LIMIT, (3, 5, 7))
    np.testing.assert_array_equal(HyperSynthesis(layers)(z_hat), reference(layers, z_hat))


def test_the_shipped_model_agrees_with_the_reference_far_outside_what_it_was_trained_on(shipped):
    _, tensors = load(shipped.card.path)
    networks = {"h_s": shipped.family.z.h_s}
    networks |= {f"slice{i}": each for i, each in enumerate(shipped.family.networks, 1)}
    assert len(networks) == len(shipped.family.parts)
    for name, network in networks.items():
        values = np.random.default_rng(0).integers(-LIMIT, LIMIT, (network.channels[0], 4, 4))
        expected = reference(read_layers(tensors, name), values)
        np.testing.assert_array_equal(network(values), expected)


def test_weights_that_could_overflow_are_refused():
    layer = Layer(np.full((1, 1, 1, 1), 2**40), np.zeros(1, np.int64), 15, False)
    with pytest.raises(ValueError, match="overflow"):
        HyperSynthesis([layer])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": np.zeros((10, 2, 2, 2), np.int16)}, "malformed"),
        ({"shift": 0}, "malformed"),
        ({"bias": np.zeros(9, np.int64)}, "malformed"),
        ({"bias": np.full(10, -(2**63))}, "overflow"),
        ({"upsample": True}, "upsample four times"),
    ],
)
def test_malformed_layers_are_refused(change, message):
    layers = random_layers(np.random.default_rng(0))
    with pytest.raises(ValueError, match=message):
        HyperSynthesis([*layers[:-1], replace(layers[-1], **change)])


def test_rescale_rounds_half_up_for_negative_numbers_too():
    np.testing.assert_array_equal(
        rescale(np.array([-3, -2, -1, 0, 1, 2, 3]), np.array([1]), 1), [-1, -1, 0, 0, 1, 1, 2]
    )


SYMBOLS = """
import hashlib, sys
import threadpoolctl
from facecodec.codec import Codec, open_container
from pathlib import Path
codec = Codec(Path(sys.argv[1]), threads=int(sys.argv[2]))
for name in sorted(Path(sys.argv[3]).glob("*.fic")):
    symbols = codec.symbols(open_container(name.read_bytes()))
    print(name.name, hashlib.sha256(symbols.z.tobytes() + symbols.y.tobytes() + symbols.means.tobytes()).hexdigest())
print({info.get("architecture") for info in threadpoolctl.threadpool_info()}, file=sys.stderr)
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="names kernels of x86-64 processors")
def test_symbols_are_the_same_under_other_threads_and_blas_kernels(shipped, tmp_path):
    rng = np.random.default_rng(0)
    for number in range(4):
        pixels = (
            rng.integers(0, 256, (9, 9, 3), dtype=np.uint8).repeat(20, axis=0).repeat(20, axis=1)
        )
        (tmp_path / f"{number}.fic").write_bytes(shipped.encode(pixels, 2 * number + 1))

    def digests(threads: str, **environment: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", SYMBOLS, str(shipped.card.path), threads, str(tmp_path)],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=True,
        )
        assert environment.get("OPENBLAS_CORETYPE", "") in done.stderr
        return done.stdout

    pytest.importorskip("threadpoolctl", reason="the 'bench' extra is not installed")
    expected = digests("1", OPENBLAS_NUM_THREADS="1")
    assert expected.count("\n") == 4
    for kernel in ("Prescott", "Nehalem", "Sandybridge", "Haswell"):
        assert digests("2", OPENBLAS_CORETYPE=kernel, OPENBLAS_NUM_THREADS="2") == expected
