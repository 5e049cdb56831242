"""Makes names that strangers chose fit for a terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    """One line of `text`: what is not printable is escaped as Python does, a newline as \\\\n.

    That is every control character and escape sequence, bidirectional overrides and other format
    characters, line and paragraph separators, and bytes that are no text.
    """
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
