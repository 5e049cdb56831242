"""The search for the best file: better latents for one picture, in the same format.

The analysis transform only guesses the latents. Given time, `efforts.improve` finds better ones.
NumPy and ONNX Runtime are enough: the gradients are graphs, made when a model is frozen
(facecodec/training/gradients.py).
"""

DEFAULT_EFFORT = 1  # the single pass
EFFORTS = range(1, 10)
