"""Measuring codecs on faces: reference codecs, recognition, protocols, metrics."""

SEEN, UNSEEN = "mobilefacenet-ms1m", "mobileface-v2"  # by the training of our models
