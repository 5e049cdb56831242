"""Faces: landmarks, five-point alignment, recognisers and how like two faces are."""

# facenet-pytorch pins old releases in its metadata, and works with current ones.
INSTALL = "pip install --no-deps 'facenet-pytorch>=2.6,<2.7'"
