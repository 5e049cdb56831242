"""Measuring codecs on faces: reference codecs, recognition, protocols, metrics."""
