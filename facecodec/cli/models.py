"""facecodec models: lists the installed models, with rate and PSNR at each quality."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from facecodec.cli.console import complain, tell, tell_json
from facecodec.errors import ModelError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


class ModelName(click.ParamType):
    """The type of an argument that is a model's name or file; the shell can complete both."""

    name = "model"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        from facecodec.frozen import installed_models

        if os.sep in incomplete:
            return [CompletionItem(incomplete, type="file")]
        return [
            CompletionItem(name)
            for name in sorted(installed_models())
            if name.startswith(incomplete)
        ]


MODEL = ModelName()


def reader_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds -m to a command that reads .fic files. Its `model` is the path of a file, or None."""
    return click.option(
        "-m",
        "--model",
        metavar="MODEL",
        type=MODEL,
        callback=_path,
        help="Model of the files, by name or file; by default the installed one they were made with.",
    )(command)


def _path(context: click.Context, option: click.Parameter, name: str | None) -> Path | None:
    if name is None:
        return None
    from facecodec.frozen import model_path

    return model_path(name)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON per model.")
def models(as_json: bool) -> None:
    """List the installed models: fingerprint, family, objective, training data, rate and PSNR.

    Rates were measured on held-back training people when the model was frozen. FACECODEC_MODELS
    may name further folders of models.
    """
    from facecodec.frozen import (
        DEFAULT_MODEL,
        has_head,
        installed_models,
        read_card,
        search_path,
    )

    found = installed_models()
    failed = not found
    if not found:
        complain("no models in " + ", ".join(map(str, search_path())))
    for name, path in sorted(found.items()):
        try:
            card = read_card(path)
        except ModelError as error:
            failed = True
            complain(str(error))
            continue
        facts = {
            "name": name,
            "default": name == DEFAULT_MODEL,
            "fingerprint": card.fingerprint,
            "family": card.family,
            "objective": card.objective,
            "distortion": card.distortion,
            "data": card.data,
            "steps": card.steps,
            "path": str(path),
            "rates": card.rates,
            "embeds": has_head(card),
        }
        if as_json:
            tell_json(facts)
            continue
        mark = " (default)" if facts["default"] else ""
        tell(
            f"{name}{mark}: {card.family}, {card.objective} with {card.distortion}, "
            f"fingerprint {card.fingerprint}"
        )
        embeds = ", with a head: see facecodec embed" if facts["embeds"] else ""
        tell(f"  trained on {card.data} for {card.steps} steps{embeds}")
        for key, style in (("q", "8.0f"), ("bpp", "8.3f"), ("psnr", "8.2f")):
            tell(f"  {key:<5}" + "".join(f"{row[key]:{style}}" for row in card.rates))
    if failed:
        sys.exit(1)
