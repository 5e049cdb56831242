"""facecodec desktop: shows .fic files in file managers, by freedesktop.org's standards."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import click

from facecodec.cli.console import complain, tell
from facecodec.cli.files import Job
from facecodec.cli.outputs import write_output
from facecodec.errors import FacecodecError, UsageError
from facecodec.folders import desktop_folder

MIME_TYPE = "image/x-facecodec"
# The first twelve bits of a file and the first four bits of its third byte are fixed.
MIME = f"""<?xml version="1.0" encoding="UTF-8"?>
<mime-info xmlns="http://www.freedesktop.org/standards/shared-mime-info">
  <mime-type type="{MIME_TYPE}">
    <comment>facecodec image</comment>
    <magic>
      <match type="big16" offset="0" mask="0xfff0" value="0xf1c0">
        <match type="byte" offset="2" mask="0xf0" value="0x00"/>
      </match>
    </magic>
    <glob pattern="*.fic"/>
  </mime-type>
</mime-info>
"""
MAGIC = f"""\
0       beshort&0xfff0  0xf1c0
>2      byte&0xf0       0       facecodec image
!:mime  {MIME_TYPE}
!:ext   fic
>>1     byte&0x0f       x       \\b, version %d
"""
# The output of a thumbnailer exists and is open in its reader, who would not see a new file.
THUMBNAILER = f"""[Thumbnailer Entry]
Exec=sh -c '"{{program}}" decode --quiet --max-side "$1" -o - "$2" > "$3"' facecodec %s %i %o
MimeType={MIME_TYPE};
"""
ENTRY = f"""[Desktop Entry]
Type=Application
Name=facecodec
Comment=Shows .fic images in the browser
Exec="{{program}}" view %F
Icon=image-x-facecodec
Terminal=false
NoDisplay=true
MimeType={MIME_TYPE};
"""
ICON = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64">
<rect x="8" y="4" width="48" height="56" rx="6" fill="#2a6fdb"/>
<ellipse cx="32" cy="31" rx="14" ry="18" fill="#fff"/>
<g fill="#2a6fdb"><circle cx="26.5" cy="28" r="2"/><circle cx="37.5" cy="28" r="2"/></g>
<path d="M26 38q6 5 12 0" fill="none" stroke="#2a6fdb" stroke-width="2" stroke-linecap="round"/>
</svg>
"""
# The files to install, by their path in the user's data folder.
FILES = {
    "mime/packages/facecodec.xml": MIME,
    "thumbnailers/facecodec.thumbnailer": THUMBNAILER,
    "applications/facecodec.desktop": ENTRY,
    "icons/hicolor/scalable/mimetypes/image-x-facecodec.svg": ICON,
}
# For each folder, the program that rebuilds its index, and the package of the program.
INDEXED = {
    "mime": ("update-mime-database", "shared-mime-info"),
    "applications": ("update-desktop-database", "desktop-file-utils"),
}


@click.group()
def desktop() -> None:
    """Show .fic files in file managers: as thumbnails, and by double click."""


@desktop.command()
def install() -> None:
    """Register .fic files with the desktop, in your own data folder."""
    _refuse_elsewhere()
    folder, program = desktop_folder(), _program()
    for name, text in FILES.items():
        content = text.replace("{program}", program).encode("utf-8", "surrogateescape")
        write_output(Job(None, folder / name, makes_folders=True), content, force=True)
        tell(f"wrote {folder / name}")
    _index(folder)


@desktop.command()
def uninstall() -> None:
    """Remove what install wrote."""
    _refuse_elsewhere()
    folder = desktop_folder()
    for name in FILES:
        path = folder / name
        try:
            path.unlink()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise FacecodecError(f"cannot remove {path}: {error.strerror}") from None
        tell(f"removed {path}")
    _index(folder)
    for name in FILES:
        for parent in (folder / name).relative_to(folder).parents:
            with contextlib.suppress(OSError):  # the folder is not empty, or not there
                (folder / parent).rmdir()


@desktop.command()
def magic() -> None:
    """Print the rule by which `file` recognises .fic: facecodec desktop magic >> ~/.magic"""
    for line in MAGIC.splitlines():
        tell(line)


def _refuse_elsewhere() -> None:
    if sys.platform in ("win32", "darwin"):
        raise UsageError("this works only on desktops that follow freedesktop.org, as on Linux")


def _program() -> str:
    """Returns this program's path, escaped for quotation marks in the desktop's files."""
    own = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    found = shutil.which("facecodec", path=own)
    if found is None:
        raise FacecodecError("no program facecodec beside Python or on the path: pip install it")
    path = os.path.abspath(found)
    if any(letter in "\"'`$\\" or not letter.isprintable() for letter in path):
        raise FacecodecError(f"{path}: the desktop cannot start a program of that name: move it")
    return path.replace("%", "%%")


def _index(folder: Path) -> None:
    """Rebuilds the desktop's indices with its own programs, or reports that they are missing."""
    for name, (program, package) in INDEXED.items():
        if not (folder / name).is_dir():
            continue
        command = [program, str(folder / name)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, errors="replace")
        except FileNotFoundError:
            complain(
                f"{program} is not there: install {package}, then run {program} {folder / name}"
            )
            continue
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
            raise FacecodecError(f"{' '.join(command)}: {lines[-1]}")
