"""Faces: landmarks, five-point alignment, recognisers, and the similarity of two faces."""

# facenet-pytorch pins old releases in its metadata, and works with current ones.
INSTALL = "pip install --no-deps 'facenet-pytorch>=2.6,<2.7'"
