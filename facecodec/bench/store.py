"""Stores measurements on disk, so that none is repeated."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path

TABLE = "CREATE TABLE IF NOT EXISTS measured (key BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID"
BATCH = 500  # keys of one query; SQLite takes no more than a thousand


def key(*parts: object) -> bytes:
    """Returns a hash, sixteen bytes, of the text of all that a measurement depends on."""
    return hashlib.blake2b("\0".join(map(str, parts)).encode(), digest_size=16).digest()


class Store:
    """Bytes by key, in an SQLite file that several processes may use at once."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(path, timeout=60)
        with self._database:
            self._database.execute(TABLE)

    def get(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """Returns the values of those keys that exist."""
        wanted = list(keys)
        found: dict[bytes, bytes] = {}
        for start in range(0, len(wanted), BATCH):
            batch = wanted[start : start + BATCH]
            marks = ",".join("?" * len(batch))
            found |= self._database.execute(
                f"SELECT key, value FROM measured WHERE key IN ({marks})", batch
            ).fetchall()
        return found

    def put(self, values: Mapping[bytes, bytes]) -> None:
        with self._database:
            self._database.executemany(
                "INSERT OR REPLACE INTO measured VALUES (?, ?)", values.items()
            )

    def close(self) -> None:
        self._database.close()
