"""The page that shows .fic files in a browser, and the script for other pages that show them.

`make web` packs their JavaScript from web/ into facecodec/web. A page contains everything it needs:
the script, ONNX Runtime's wasm, the decoding half of the models, and the files.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from string import Template

from facecodec import container, frozen
from facecodec.errors import FacecodecError
from facecodec.steps import packed

BUILT = Path(__file__).parent / "web"
SCRIPT, WASM, LISTING = "facecodec.js", "ort.wasm.gz", "models.json"


def page(
    files: Sequence[tuple[str, bytes]], models: Iterable[Path], alive: str | None = None
) -> bytes:
    """Returns an HTML page that shows files, and further files that are dropped on it.

    `files` are (name, bytes); `models` are the models that it can decode. `alive` is an address of
    the page's server, to which the page keeps a connection open; without it the page connects to
    nothing. Raises ModelError for a model that cannot be read.
    """
    script = (BUILT / SCRIPT).read_text("utf-8").replace("</script", r"<\/script")
    style = (BUILT / "page.css").read_text("utf-8")
    reached = "'self'" if alive else "'none'"
    policy = (
        "default-src 'none'; base-uri 'none'; form-action 'none'; img-src blob: data:; "
        f"script-src '{_digest(script)}' 'wasm-unsafe-eval'; style-src '{_digest(style)}'; "
        f"connect-src {reached}"
    )
    parts = [_inline((BUILT / WASM).read_bytes(), {"id": "ort-wasm"})]
    for path in models:
        name, fingerprint, content = decoding_half(path)
        parts.append(_inline(content, {"data-model": name, "data-fingerprint": fingerprint}))
    parts += [_inline(content, {"data-file": name}) for name, content in files]
    text = Template((BUILT / "page.html").read_text("utf-8")).substitute(
        policy=policy,
        title=html.escape(files[0][0] if len(files) == 1 else "facecodec"),
        alive=f'<link rel="alive" href="{html.escape(alive)}">\n' if alive else "",
        style=style,
        data="\n".join(parts),
        script=script,
    )
    return text.encode("utf-8", "surrogateescape")  # a file's name need not be text


def script(models: Iterable[Path]) -> dict[str, bytes]:
    """Returns facecodec.js and the files that it fetches, by name.

    Raises ModelError for a model that cannot be read.
    """
    files = {name: (BUILT / name).read_bytes() for name in (SCRIPT, WASM)}
    names = {}
    for path in models:
        name, fingerprint, content = decoding_half(path)
        files[f"{name}.safetensors"] = content
        names[fingerprint] = name
    return files | {LISTING: (json.dumps(names, indent=1) + "\n").encode()}


def models_of(files: Iterable[bytes]) -> list[Path]:
    """Returns the default model and the installed models of `files`. Bad files are ignored.

    Raises ModelError if two installed models have a file's fingerprint and differ.
    """
    found = {frozen.model_path(None): None}
    for data in files:
        try:
            fingerprint = container.unpack(data).fingerprint
        except FacecodecError:
            continue  # the page itself reports a bad file
        path = frozen.path_of_fingerprint(fingerprint)
        if path is not None:
            found[path] = None
    return list(found)


def decoding_half(path: Path) -> tuple[str, str, bytes]:
    """Returns a model's name, fingerprint, and file without the tensors that only encoders need.

    About half of the bytes remain. Raises ModelError.
    """
    card, tensors = frozen.load(path)
    needed = {
        name: tensor for name, tensor in tensors.items() if not name.startswith(frozen.ENCODER_ONLY)
    }
    metadata = {
        "format": frozen.FORMAT,
        "fingerprint": card.fingerprint,
        "card": json.dumps({"family": card.family}),
    }
    return card.name, card.fingerprint, frozen.serialised(packed(needed), metadata)


def _digest(text: str) -> str:
    """Returns the hash of an inline script or style in the form of a content-security policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _inline(content: bytes, attributes: dict[str, str]) -> str:
    listed = " ".join(f'{name}="{html.escape(value)}"' for name, value in attributes.items())
    return f'<script type="text/plain" {listed}>{base64.b64encode(content).decode()}</script>'
