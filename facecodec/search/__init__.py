"""Searches for the best file: better latents for one picture, in the same format.

The analysis transform only estimates the latents; given time, `Search.improve` finds better ones.
It needs only NumPy and ONNX Runtime, because the gradients are graphs, made when a model is frozen
(facecodec/training/gradients.py).
"""

DEFAULT_EFFORT = 1  # one pass, no search
EFFORTS = range(1, 10)
