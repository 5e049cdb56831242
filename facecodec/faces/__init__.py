"""Faces: landmarks, five-point alignment, recognisers, and the similarity of two faces."""

# facenet-pytorch's metadata pins old releases, but it works with current ones.
INSTALL = "pip install --no-deps 'facenet-pytorch>=2.6,<2.7'"
