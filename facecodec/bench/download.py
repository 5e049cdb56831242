"""Downloads LFW with scikit-learn into the user's cache."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from urllib.error import URLError

from facecodec.errors import UsageError
from facecodec.folders import cache_folder

LISTS = (
    "peopleDevTrain.txt",
    "peopleDevTest.txt",
)  # LFW's people split, which the fetcher leaves out


def download_lfw() -> tuple[Path, list[str]]:
    """Downloads LFW.

    Returns its folder, and those of LISTS that are not there. Raises UsageError if the download
    fails.
    """
    from sklearn.datasets import fetch_lfw_people

    place = cache_folder() / "data"
    if not (place / "lfw_funneled").is_dir():
        scratch = cache_folder() / "download"
        try:
            # The fetcher also reads pictures: here few, because only one person has five hundred.
            fetch_lfw_people(data_home=scratch, min_faces_per_person=500, resize=0.1)
        except (URLError, OSError) as error:
            raise UsageError(
                f"LFW could not be downloaded: {error}. Put its folder and {' and '.join(LISTS)} "
                f"into {place}, or name another folder of data (docs/data.md)"
            ) from None
        place.mkdir(parents=True, exist_ok=True)
        for item in (scratch / "lfw_home").iterdir():
            if item.name != "joblib":  # the fetcher's own cache
                os.replace(item, place / item.name)
        shutil.rmtree(scratch)
    return place, [name for name in LISTS if not (place / name).exists()]
