"""Draws faces, the same on every machine, for tests that need people but not real ones.

A face detector finds them and their landmarks. Measurements on them do not hold for photographs.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SIDE = 250  # pixels, as of LFW
SCALE = 3  # drawn larger, and reduced
SKIN = ((236, 200, 176), (214, 168, 138), (178, 126, 94), (126, 84, 62))
HAIR = ((40, 30, 26), (92, 62, 40), (150, 112, 66), (70, 66, 64))


def draw_face(person: int, number: int = 1) -> np.ndarray:
    """Returns photograph `number` of a person, uint8 (SIDE, SIDE, 3).

    The person sets colours and proportions, the number light, place and background.
    """
    own, shot = np.random.default_rng(person), np.random.default_rng((person, number))
    skin = np.array(SKIN[person % len(SKIN)]) + own.integers(-8, 9, 3)
    hair = np.array(HAIR[own.integers(len(HAIR))])
    wide, high = own.uniform(50, 58), own.uniform(66, 76)
    apart, eye = own.uniform(19, 23), own.uniform(7.5, 9)
    mouth, nose = own.uniform(16, 21), own.uniform(15, 19)
    x, y = 125 + shot.uniform(-6, 6), 128 + shot.uniform(-6, 6)

    image = Image.new("RGB", (SIDE * SCALE, SIDE * SCALE), tuple(shot.integers(60, 200, 3)))
    canvas = ImageDraw.Draw(image)

    def oval(cx: float, cy: float, rx: float, ry: float, colour: np.ndarray) -> None:
        box = [SCALE * v for v in (x + cx - rx, y + cy - ry, x + cx + rx, y + cy + ry)]
        canvas.ellipse(box, fill=tuple(int(v) for v in np.clip(colour, 0, 255)))

    oval(0, 130, 95, 60, shot.integers(20, 230, 3))  # shoulders
    oval(0, 70, 26, 40, skin * 0.8)  # neck
    oval(0, -18, wide + 9, high + 4, hair)
    for side in (-1, 1):
        oval(side * wide, 2, 8, 14, skin * 0.9)  # ears
    oval(0, 0, wide, high, skin)
    oval(0, -high * 0.82, wide * 0.8, 20, hair)  # fringe
    blurred = image.filter(ImageFilter.GaussianBlur(2 * SCALE))
    image.paste(blurred)
    for side in (-1, 1):
        oval(side * apart, -12, eye * 1.7, eye * 1.25, skin * 0.78)  # sockets
        oval(side * apart, -27, eye * 1.6, 2.6, hair * 0.8)  # brows
        oval(side * apart, -24.5, eye * 1.6, 2.2, skin * 0.9)
    oval(0, 16, 8, nose, skin * 1.04)
    oval(0, 14 + nose * 0.8, 10.5, 5.5, skin * 0.86)
    oval(0, 12 + nose * 0.8, 9.5, 5.5, skin * 1.03)
    oval(0, 45, mouth * 1.25, 9, skin * 0.94)
    image.paste(image.filter(ImageFilter.GaussianBlur(2 * SCALE)))
    for side in (-1, 1):
        oval(side * apart, -12, eye, eye * 0.58, np.array([238, 236, 232]))
        oval(side * apart, -12, eye * 0.5, eye * 0.5, hair * 0.9)
        oval(side * apart, -12, eye * 0.24, eye * 0.24, np.array([8, 8, 8]))
        oval(side * apart + 2, -13.5, 1, 1, np.array([250, 250, 250]))
        oval(side * apart, -16.5, eye * 1.1, 1.4, skin * 0.4)  # lashes
        oval(side * 4.6, 16 + nose * 0.8, 2.4, 1.6, skin * 0.45)  # nostrils
    oval(0, 44, mouth, 5.5, skin * (0.8, 0.58, 0.58))
    oval(0, 44, mouth * 0.96, 1.1, skin * 0.42)
    small = image.filter(ImageFilter.GaussianBlur(0.8 * SCALE)).resize((SIDE, SIDE), Image.BOX)

    row, column = np.mgrid[:SIDE, :SIDE] / SIDE - 0.5
    from_side, above = shot.uniform(-0.5, 0.5), shot.uniform(0.1, 0.4)
    light = 1 + from_side * column - above * row - 0.35 * (column**2 + row**2)
    grain = shot.normal(0, 2.5, (SIDE, SIDE, 1))
    return np.clip(np.asarray(small) * light[..., None] + grain, 0, 255).astype(np.uint8)


def write_people(root: Path, people: int, photographs: int) -> Path:
    """Writes people in LFW's layout, half to train on and half to test on; returns `root`."""
    folder = root / "lfw-deepfunneled"
    halves = {"Train": range(0, people, 2), "Test": range(1, people, 2)}
    for split, numbers in halves.items():
        names = [f"Person_{number:02d}" for number in numbers]
        for name, person in zip(names, numbers, strict=True):
            (folder / name).mkdir(parents=True)
            for number in range(1, photographs + 1):
                face = Image.fromarray(draw_face(person, number))
                face.save(folder / name / f"{name}_{number:04d}.jpg", quality=90)
        lines = [str(len(names)), *(f"{name}\t{photographs}" for name in names)]
        (root / f"peopleDev{split}.txt").write_text("\n".join(lines) + "\n")
    return root
