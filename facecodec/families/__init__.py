"""Latents <-> streams, one file per codec family; the frozen model's family tag chooses."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

FAMILIES = ("hyperprior",)


def family_module(tag: str) -> ModuleType:
    """The module of a family tag. Raises KeyError for one this version does not know."""
    if tag not in FAMILIES:
        raise KeyError(tag)
    return import_module(f"{__name__}.{tag}")
