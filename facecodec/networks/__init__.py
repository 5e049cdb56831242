"""Torch networks, one file per codec family. Nothing on the coding path imports this package."""
