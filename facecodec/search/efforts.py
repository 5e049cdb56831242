"""Levels of effort, and the search with one model from a picture's latents to better ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property, partial
from importlib import import_module
from typing import Any

import numpy as np

from facecodec.container import MAX_QUALITY_BYTE
from facecodec.errors import ModelError
from facecodec.families import Family
from facecodec.families.hyperlatent import HYPER
from facecodec.families.hyperprior import DOWNSAMPLING
from facecodec.frozen import ModelCard
from facecodec.search.annealing import Rounding, Schedule, anneal
from facecodec.search.detector import Detector
from facecodec.search.files import FacesFile, load_faces, load_search, search_file
from facecodec.search.objective import GradientRecogniser, Objective, Weights
from facecodec.search.relaxed import rounded
from facecodec.search.trimming import trimmed
from facecodec.search.windows import Window, hyper, windows
from facecodec.template import similarity
from facecodec.text import printable

# Chosen on training people (docs/effort.md). Level 1 does not search.
LEVELS = {
    2: Schedule(8, cold=0.1),
    3: Schedule(15, cold=0.1),
    4: Schedule(25, cold=0.05),
    5: Schedule(40, cold=0.03),
    6: Schedule(70, cold=0.03),
    7: Schedule(120),
    8: Schedule(250),
    9: Schedule(500),
}
RELAXED = {  # the families that can be searched, and their modules here
    "hyperprior": "facecodec.search.hyperprior",
    "sliced": "facecodec.search.sliced",
}

# NumPy raises these if a graph's output has the wrong shape for the next step, or is not finite.
MISFIT = (ValueError, IndexError, OverflowError, np.linalg.LinAlgError)

# Takes the share of the work that is done, and that of the bits saved in the window at hand.
Progress = Callable[[float, float], None]


class Search:
    """The search with one model. It needs the model's tensors, its search file and that for faces.

    Raises ModelError for a family without a search, and for a missing file, which it names.
    """

    def __init__(self, card: ModelCard, tensors: Mapping[str, np.ndarray], family: Family) -> None:
        if card.family not in RELAXED:
            raise ModelError(f"family {card.family} has no search: use effort 1")
        self._relaxed = import_module(RELAXED[card.family])
        self._file = load_search(card, tensors)
        self._transforms = self._relaxed.transforms(self._file.graphs)
        self._family: Any = family  # of a module of RELAXED
        self._card = card
        if self._keeps_identity:
            _ = self._faces  # a missing file is reported before any work is done

    def improve(
        self,
        pixels: np.ndarray,
        latents: tuple[np.ndarray, ...],
        quality_byte: int,
        effort: int,
        progress: Progress | None = None,
    ) -> tuple[np.ndarray, ...]:
        """Returns better latents, floats of the same shapes, for a quality byte.

        `latents` are those of `pixels`, uint8 (H, W, 3); `effort` is one of LEVELS. A window keeps
        its latents if its loss did not fall. The same arguments give the same latents. Raises
        ModelError if the graphs of the search files do not fit each other.
        """
        try:
            return self._in_windows(pixels, latents, quality_byte, LEVELS[effort], progress)
        except MISFIT as error:
            raise ModelError(
                f"the graphs in {search_file(self._card.path)}, or in the file for faces, do not fit: "
                f"{printable(str(error))}"
            ) from None

    def _in_windows(
        self,
        pixels: np.ndarray,
        latents: tuple[np.ndarray, ...],
        quality_byte: int,
        schedule: Schedule,
        progress: Progress | None,
    ) -> tuple[np.ndarray, ...]:
        matrix = self._matrix(pixels)
        better = tuple(each.copy() for each in latents)
        parts = list(windows(latents[0].shape[1], latents[0].shape[2], matrix))
        total = sum(window.area for window in parts) * schedule.steps
        free = np.ones(latents[0].shape[1:], np.float32)
        done = 0

        def step(window: Window, saved: float) -> None:
            nonlocal done
            done += window.area
            if progress is not None:
                progress(done / total, saved)

        for window in parts:
            self._improve(pixels, better, window, free, quality_byte, schedule, matrix, step)
        return better

    def trimmed(
        self, latents: tuple[np.ndarray, ...], quality_byte: int, bits: float
    ) -> tuple[np.ndarray, ...]:
        """Returns latents that need about `bits` fewer bits, at the least cost."""
        chosen = partial(self._relaxed.chosen, self._family, latents, quality_byte)
        return trimmed(self._family.tables, chosen, bits), latents[1]

    def _improve(
        self,
        pixels: np.ndarray,
        latents: tuple[np.ndarray, ...],
        window: Window,
        free: np.ndarray,
        quality_byte: int,
        schedule: Schedule,
        matrix: np.ndarray | None,
        step: Callable[[Window, float], None],
    ) -> None:
        """Searches one window and writes the result to the `free` positions of `latents`."""
        rows, columns = window.seen
        seen = pixels[
            DOWNSAMPLING * rows.start : DOWNSAMPLING * rows.stop,
            DOWNSAMPLING * columns.start : DOWNSAMPLING * columns.stop,
        ]
        if matrix is not None and window.for_face:
            corner = [[0, 0, DOWNSAMPLING * columns.start], [0, 0, DOWNSAMPLING * rows.start]]
            objective = Objective(
                seen, self._weights(quality_byte), matrix - corner, self._recognisers
            )
        else:
            objective = Objective(seen, self._weights(quality_byte))
        boxes = [window.seen, (hyper(rows), hyper(columns))]
        views = [each[:, a, b] for each, (a, b) in zip(latents, boxes, strict=True)]
        relaxed = self._relaxed.Relaxed(
            self._family, self._transforms, views, quality_byte, window.seen
        )
        own = np.zeros_like(free)
        own[window.own] = free[window.own]
        free[window.own] = 0
        masks = [own[window.seen], own[::HYPER, ::HYPER][boxes[1]]]

        first = relaxed.at(relaxed.start, rounded)
        unsearched = first.bits + objective.loss(first.picture)

        def gradient(
            values: list[np.ndarray], soften: Rounding, rng: np.random.Generator
        ) -> list[np.ndarray]:
            evaluated = relaxed.at(values, soften)
            step(window, 1 - evaluated.bits / max(first.bits, 1))
            whole = evaluated.gradient(objective.gradient(evaluated.picture, rng))
            return [each * mask for each, mask in zip(whole, masks, strict=True)]

        rng = np.random.default_rng([rows.start, columns.start])
        found = anneal(relaxed.start, gradient, schedule, rng)
        last = relaxed.at(found, rounded)
        if last.bits + objective.loss(last.picture) < unsearched:
            for view, new, mask in zip(views, relaxed.latents(found), masks, strict=True):
                np.copyto(view, new, where=mask > 0)

    def _weights(self, quality_byte: int) -> Weights:
        """Returns the weights of the training loss at a quality byte, in bits."""
        low, high = self._file.rate_weights
        weight = low * (high / low) ** (quality_byte / MAX_QUALITY_BYTE)
        return Weights(
            self._file.pixels / weight,
            self._file.averages / weight,
            1 / weight if self._keeps_identity else 0.0,
        )

    def _matrix(self, pixels: np.ndarray) -> np.ndarray | None:
        """Returns the alignment (2, 3) of the face.

        It is None if there is no face, or if the model was not trained to keep identity.
        """
        if not self._keeps_identity:
            return None
        landmarks = self._detector.landmarks(pixels)
        return None if landmarks is None else similarity(landmarks)

    @property
    def _keeps_identity(self) -> bool:
        return self._card.objective != "rec"

    @cached_property
    def _faces(self) -> FacesFile:
        return load_faces(self._card)

    @cached_property
    def _recognisers(self) -> list[GradientRecogniser]:
        faces = self._faces
        return [GradientRecogniser(faces.graphs.transform(name)) for name in faces.recognisers]

    @cached_property
    def _detector(self) -> Detector:
        return Detector(self._faces.graphs)
