"""Makes a web page from a folder of faces: .fic files, and the scripts that show them.

    python examples/page.py photos/ site/
    python -m http.server -d site/       # then open http://localhost:8000

Browsers load no scripts from a disk, so the page needs a server.
"""

from __future__ import annotations

import html
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

PAGE = """<!doctype html>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Faces</title>
<style>fic-image {{ width: 10rem; margin: .25rem }}</style>
<script type="module" src="facecodec/facecodec.js"></script>
{pictures}
"""


def main(photos: str, site: Path) -> None:
    faces = site / "faces"
    # Where a photo fails, its line says why, and the others are on the page.
    subprocess.run(["facecodec", "encode", photos, "-o", f"{faces}/", "-q", "3", "-f"])
    subprocess.run(["facecodec", "view", faces, "--script", site / "facecodec", "-f"], check=True)
    pictures = [
        f'<fic-image src="{quote(path.relative_to(site).as_posix())}" alt="{html.escape(path.stem)}">'
        "</fic-image>"
        for path in sorted(faces.rglob("*.fic"))
    ]
    (site / "index.html").write_text(PAGE.format(pictures="\n".join(pictures)))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
