"""Adds the page that decodes .fic files, with the default model, to mkdocs's site."""

from __future__ import annotations

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from facecodec import frozen, viewer


def on_files(files: Files, config: MkDocsConfig) -> Files:
    page = viewer.page([], [frozen.model_path(None)])
    files.append(File.generated(config, "page.html", content=page))
    return files
