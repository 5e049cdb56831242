"""Measuring codecs on faces: reference codecs, recognition, protocols, metrics."""

SCHEMA = 3  # the version of results.json (docs/bench.md)
SEEN, UNSEEN = "mobilefacenet-ms1m", "mobileface-v2"  # whether models are trained against it
