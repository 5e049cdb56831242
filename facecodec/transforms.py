"""The floating-point transforms as ONNX Runtime sessions: pixels -> latents y, z and y_hat -> pixels."""

from __future__ import annotations

import numpy as np
import onnxruntime

from facecodec.errors import ModelError


class Transforms:
    """Sessions are made when first used, so that an encoder never loads the synthesis, nor a decoder the rest.

    `downsampling` is the pixels a position of y stands for, `hyper` the positions of y that one of z
    stands for, along one side. `threads` is for one call; 0 means one per core.
    """

    def __init__(self, tensors: dict[str, np.ndarray], downsampling: int, hyper: int, threads: int = 0) -> None:
        self._tensors = tensors
        self._downsampling = downsampling
        self._hyper = hyper
        self._threads = threads
        self._sessions: dict[str, onnxruntime.InferenceSession] = {}

    def analyse(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """uint8 (H, W, 3) -> y (M, h, w) and z (C, ceil(h/hyper), ceil(w/hyper)), float32."""
        padded = pad(pixels, self._downsampling)
        image = padded.transpose(2, 0, 1)[None].astype(np.float32)
        image /= 255
        y = self._run("g_a.onnx", image)
        extra = [(0, -side % self._hyper) for side in y.shape[2:]]
        z = self._run("h_a.onnx", np.pad(y, ((0, 0), (0, 0), *extra), mode="edge"))
        return y[0], z[0]

    def synthesise(self, y_hat: np.ndarray, height: int, width: int) -> np.ndarray:
        """y_hat (M, h, w) -> uint8 (height, width, 3), the padding cropped away."""
        image = self._run("g_s.onnx", y_hat[None])[0, :, :height, :width]
        np.clip(image, 0, 1, out=image)
        return np.rint(image * 255).astype(np.uint8).transpose(1, 2, 0)

    def _run(self, name: str, values: np.ndarray) -> np.ndarray:
        if name not in self._sessions:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = self._threads
            options.log_severity_level = 3
            graph = self._tensors[name].tobytes()
            try:
                session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
            except Exception as error:  # ONNX Runtime raises a type of its own for each kind of damage
                raise ModelError(f"the model's {name} graph does not load: {error}") from None
            self._sessions[name] = session
        session = self._sessions[name]
        try:
            return session.run(None, {session.get_inputs()[0].name: values})[0]
        except Exception as error:
            if "alloc" in str(error).lower():
                raise MemoryError from None
            raise ModelError(f"the model's {name} graph does not run: {error}") from None


def pad(pixels: np.ndarray, multiple: int) -> np.ndarray:
    """Mirror at the right and bottom up to a multiple; repeat the edge where there is too little to mirror."""
    for axis in (0, 1):
        extra = -pixels.shape[axis] % multiple
        if extra:
            widths = [(0, extra) if a == axis else (0, 0) for a in range(3)]
            pixels = np.pad(pixels, widths, mode="reflect" if extra < pixels.shape[axis] else "edge")
    return pixels
