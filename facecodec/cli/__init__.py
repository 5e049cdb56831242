"""The command line, one module per subcommand. A subcommand is imported when it is called."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from importlib import import_module

import click

from facecodec import __version__
from facecodec.cli.console import complain, complain_of_usage, message_of, tell
from facecodec.errors import FacecodecError, UsageError

COMMANDS = {
    "encode": "Compress images to .fic files.",
    "decode": "Restore images from .fic files.",
    "info": "Show what a .fic file contains.",
    "embed": "Embed the faces in .fic files.",
    "verify": "Check .fic files without decoding pictures.",
    "view": "Show .fic files in your browser.",
    "desktop": "Show .fic files in file managers.",
    "models": "List the installed models.",
    "train": "Train a model (needs the 'train' extra).",
    "freeze": "Turn a training run into a model file (needs the 'train' extra).",
    "bench": "Measure codecs on faces (needs 'train' and 'bench').",
    "card": "Measure a model on faces and write its card (needs 'train' and 'bench').",
}
INTERRUPTED, TERMINATED = 130, 143


class LazyGroup(click.Group):
    """Lists the subcommands without importing them: `facecodec --help` stays instant."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        return getattr(import_module(f"facecodec.cli.{name}"), name) if name in COMMANDS else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name == "help":
            if not args[1:]:
                for line in ctx.get_help().splitlines():
                    tell(line)
                ctx.exit()
            return self.resolve_command(ctx, [args[1], "--help"])
        if name not in COMMANDS and ("." in name or os.sep in name):
            meant = "decode" if name.endswith(".fic") else "encode"
            ctx.fail(f"No such command '{name}': for a file, facecodec {meant} {name}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-V", "--version", prog_name="facecodec")
def cli() -> None:
    """A learned codec for images of faces.

    \b
      facecodec encode face.jpg -q 3        writes face.fic
      facecodec decode face.fic             writes face.png
      find . -name '*.jpg' -print0 | facecodec encode --files0-from - -o out/

    Exit status: 0 all good, 1 some input failed, 2 wrong usage, 130 or 143 interrupted.
    """


def program() -> None:
    """Runs `main` and exits at once: Python's own shutdown takes longer than coding a face."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))  # so that clean-up still runs
    try:
        main()
    except SystemExit as end:
        if "torch" in sys.modules:  # training and measuring need Python's own shutdown
            raise
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or None
                stream.flush()
        os._exit(end.code if isinstance(end.code, int) else int(end.code is not None))


def main() -> None:
    """Runs the command line. Expected errors give one line and an exit code, not a traceback."""
    # NumPy reads this when it is imported. Our matrix products are too small to gain from threads.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        status = cli.main(standalone_mode=False, prog_name="facecodec")
    except click.exceptions.Abort:
        complain("interrupted")
        status = INTERRUPTED
    except click.ClickException as error:
        complain_of_usage(error)
        status = error.exit_code
    except FacecodecError as error:
        complain(message_of(error))
        status = 2 if isinstance(error, UsageError) else 1
    except OSError as error:
        # Tasks handle the errors of inputs and outputs, so this one is about writing to stdout.
        from facecodec.cli.paths import explain

        named = (
            f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
        )
        complain(named + explain(error))
        status = 1
    sys.exit(status or 0)
