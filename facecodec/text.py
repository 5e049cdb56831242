"""Makes untrusted names safe to print on a terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    """Returns `text` in one line; unprintable characters are escaped as in Python, such as \\\\n.

    These are control and format characters, bidirectional overrides, line and paragraph separators,
    and bytes that are not text.
    """
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
