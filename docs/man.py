"""Writes a manual page for each command, from its help.

python docs/man.py FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import click
from click_man.core import write_man_pages

from facecodec import __version__
from facecodec.cli import cli


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    context = click.Context(cli)
    for name in cli.list_commands(context):  # click-man looks for commands that are loaded
        command = cli.get_command(context, name)
        assert command is not None
        cli.add_command(command, name)
    write_man_pages("facecodec", cli, version=__version__, target_dir=str(folder))


if __name__ == "__main__":
    main()
