"""The page that shows .fic files in a browser, and the script that other pages need to do so.

Its JavaScript is web/, packed by `make web` into facecodec/web. A page holds all that it needs: the
script, ONNX Runtime's wasm, the decoding half of models, and files.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from string import Template

from facecodec import container, frozen
from facecodec.errors import FacecodecError

BUILT = Path(__file__).parent / "web"
SCRIPT, WASM, LISTING = "facecodec.js", "ort.wasm.gz", "models.json"


def page(
    files: Sequence[tuple[str, bytes]], models: Iterable[Path], alive: str | None = None
) -> bytes:
    """An HTML page that shows files, (name, bytes), and others of these models that are dropped on it.

    `alive` is an address of the page's server, to which it keeps a connection open; a page without
    one connects to nothing. Raises ModelError for a model that cannot be read.
    """
    script = (BUILT / SCRIPT).read_text("utf-8").replace("</script", r"<\/script")
    style = (BUILT / "page.css").read_text("utf-8")
    reached = "'self'" if alive else "'none'"
    policy = (
        "default-src 'none'; base-uri 'none'; form-action 'none'; img-src blob: data:; "
        f"script-src '{_digest(script)}' 'wasm-unsafe-eval'; style-src '{_digest(style)}'; "
        f"connect-src {reached}"
    )
    held = [_held((BUILT / WASM).read_bytes(), {"id": "ort-wasm"})]
    for path in models:
        name, fingerprint, content = decoding_half(path)
        held.append(_held(content, {"data-model": name, "data-fingerprint": fingerprint}))
    held += [_held(content, {"data-file": name}) for name, content in files]
    text = Template((BUILT / "page.html").read_text("utf-8")).substitute(
        policy=policy,
        title=html.escape(files[0][0] if len(files) == 1 else "facecodec"),
        alive=f'<link rel="alive" href="{html.escape(alive)}">\n' if alive else "",
        style=style,
        data="\n".join(held),
        script=script,
    )
    return text.encode("utf-8", "surrogateescape")  # a file's name need not be text


def write_script(folder: Path, models: Iterable[Path]) -> None:
    """Put facecodec.js, and what it fetches from beside it, into a folder that is made as needed.

    Raises ModelError for a model that cannot be read, and OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in (SCRIPT, WASM):
        shutil.copyfile(BUILT / name, folder / name)
    names = {}
    for path in models:
        name, fingerprint, content = decoding_half(path)
        (folder / f"{name}.safetensors").write_bytes(content)
        names[fingerprint] = name
    (folder / LISTING).write_text(json.dumps(names, indent=1) + "\n")


def models_of(files: Iterable[bytes]) -> list[Path]:
    """The default model, and the installed ones that files name; bad files name none.

    Raises ModelError if two installed models have a file's fingerprint and differ.
    """
    found = {frozen.model_path(None): None}
    for data in files:
        try:
            fingerprint = container.unpack(data).fingerprint
        except FacecodecError:
            continue  # the page says what is wrong with it
        path = frozen.path_of_fingerprint(fingerprint)
        if path is not None:
            found[path] = None
    return list(found)


def decoding_half(path: Path) -> tuple[str, str, bytes]:
    """Name, fingerprint, and the model file without what encoders alone need: half of its bytes.

    Raises ModelError.
    """
    from safetensors.numpy import save

    card, tensors = frozen.load(path)
    needed = {
        name: tensor for name, tensor in tensors.items() if not name.startswith(frozen.ENCODER_ONLY)
    }
    metadata = {
        "format": frozen.FORMAT,
        "fingerprint": card.fingerprint,
        "card": json.dumps({"family": card.family}),
    }
    return card.name, card.fingerprint, save(needed, metadata)


def _digest(text: str) -> str:
    """What a content-security policy calls an inline script or style."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _held(content: bytes, attributes: dict[str, str]) -> str:
    told = " ".join(f'{name}="{html.escape(value)}"' for name, value in attributes.items())
    return f'<script type="text/plain" {told}>{base64.b64encode(content).decode()}</script>'
