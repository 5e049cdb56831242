"""Measuring codecs on faces: reference codecs, recognition, protocols, metrics."""

SCHEMA = 3  # of results.json, docs/bench.md
SEEN, UNSEEN = "mobilefacenet-ms1m", "mobileface-v2"  # by the training of our models
