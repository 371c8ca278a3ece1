"""Photo-like scenes of textured shapes, made on demand: a data set that needs no download."""

import hashlib
from collections.abc import Callable, Iterable

import cv2
import numpy as np

from seglab.data.source import SPLITS
from seglab.errors import InputError

VERSION = 1  # part of the fingerprint: raise it whenever the same seed draws another scene

Rng = np.random.Generator
Contours = list[np.ndarray]
Outline = Callable[[Rng], Contours]  # in a unit disc
Material = Callable[[np.ndarray, np.ndarray, Rng], np.ndarray]  # u and v (h, w) in radians -> -1..1


def _arc(start: float, stop: float, points: int = 32) -> np.ndarray:
    angles = np.linspace(start, stop, points)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)  # (points, 2)


def _polygon(corners: int, inner: float = 1.0) -> np.ndarray:
    """Returns a regular polygon whose every second corner lies at radius `inner`."""
    points = _arc(0, 2 * np.pi, corners + 1)[:-1]
    points[1::2] *= inner
    return points


def _star(rng: Rng) -> Contours:
    return [_polygon(10, inner=rng.uniform(0.38, 0.48))]


def _ring(rng: Rng) -> Contours:
    circle = _arc(0, 2 * np.pi)
    return [circle, circle * rng.uniform(0.5, 0.65)]


def _cross(rng: Rng) -> Contours:
    a = rng.uniform(0.24, 0.34)
    arm = np.array([[a, a], [a, 1], [-a, 1], [-a, a]])
    turns = [np.array([[np.cos(t), -np.sin(t)], [np.sin(t), np.cos(t)]]) for t in np.pi / 2 * np.arange(4)]
    return [np.concatenate([arm @ turn.T for turn in turns])]


def _crescent(rng: Rng) -> Contours:
    outer, inner = _arc(0.9, 2 * np.pi - 0.9), _arc(2 * np.pi - 1.3, 1.3)
    tip = outer[0]
    inner = inner * (tip[1] / inner[-1, 1])  # both arcs end in the same two tips
    return [np.concatenate([outer, inner + [tip[0] - inner[-1, 0], 0]]) + [0.25, 0]]


def _blob(rng: Rng) -> Contours:
    circle, angles = _arc(0, 2 * np.pi, 48), np.linspace(0, 2 * np.pi, 48)
    order = np.arange(2, 5)[:, None]
    waves = rng.uniform(0.08, 0.16, (3, 1)) * np.sin(order * angles + rng.uniform(0, 2 * np.pi, (3, 1)))
    return [circle * (0.75 + waves.sum(0))[:, None]]


def _spokes(u: np.ndarray, v: np.ndarray, rng: Rng) -> np.ndarray:
    return np.sin(rng.integers(5, 9) * np.arctan2(v, u))


def _grain(u: np.ndarray, v: np.ndarray, rng: Rng) -> np.ndarray:
    coarse = rng.uniform(-1.5, 1.5, ((u.shape[0] + 1) // 2, (u.shape[1] + 1) // 2)).astype(np.float32)
    return cv2.resize(coarse, u.shape[::-1], interpolation=cv2.INTER_LINEAR)


# Outline, material and tint of each class. Tints are faint beside the random colours: they help, and decide nothing.
OBJECTS: dict[str, tuple[Outline, Material, tuple[int, int, int]]] = {
    "disc": (lambda rng: [_arc(0, 2 * np.pi)], _spokes, (230, 40, 40)),
    "ring": (_ring, lambda u, v, rng: np.sin(u), (40, 220, 60)),
    "square": (lambda rng: [_polygon(4)], lambda u, v, rng: np.sign(np.sin(u) * np.sin(v)), (40, 60, 230)),
    "triangle": (lambda rng: [_polygon(3)], lambda u, v, rng: np.sin(u + 2 * np.sin(v)), (240, 220, 40)),
    "star": (_star, lambda u, v, rng: np.cos(u) * np.cos(v) ** 2, (220, 40, 220)),
    "cross": (_cross, lambda u, v, rng: np.tanh(u / 8), (40, 220, 220)),
    "crescent": (_crescent, lambda u, v, rng: np.sin(np.hypot(u, v)), (245, 245, 245)),
    "blob": (_blob, _grain, (20, 20, 20)),
}


def _box(shape: np.ndarray) -> tuple[slice, slice]:
    x, y, width, height = cv2.boundingRect(shape)
    return slice(y, y + height), slice(x, x + width)


def _squeeze(rng: Rng) -> np.ndarray:
    """Returns the (2, 2) map that flattens by up to a quarter along a random axis: a tilt away from the camera."""
    tilt = rng.uniform(0, 2 * np.pi)
    axis = np.array([np.cos(tilt), np.sin(tilt)])
    return np.eye(2) - rng.uniform(0, 0.25) * np.outer(axis, axis)


def _paint(
    field: np.ndarray, rng: Rng, contrast: float, tint: tuple[int, int, int] = (0, 0, 0), share: float = 0.0
) -> np.ndarray:
    """Returns a field of -1..1 (h, w) between two random colours with their share of the tint, (h, w, 3) in 0..255."""
    first, second = rng.uniform(20, 235, (2, 3)) * (1 - share) + np.multiply(tint, share)
    reach = (second - first) / 2 * contrast
    return cv2.transform(field, np.stack([reach, first + reach], axis=1).astype(np.float32))


class Shapes:
    """Nine classes of scenes with occlusion, shading, shadows and noise.

    A class has its own outline and its own material, such as stripes or grain. Its colours are random with a faint tint
    of the class, so that colour alone tells little. A band of two pixels along every outline carries `ignore_index`, as
    in PASCAL VOC.
    """

    class_names = ("background", *OBJECTS)

    def __init__(
        self, size: int = 96, train: int = 1000, val: int = 200, test: int = 200, seed: int = 0, ignore_index: int = 9
    ) -> None:
        """Check the parameters.

        Args:
            size: height and width of a scene in pixels, at least 16.
            train: number of training scenes.
            val: number of validation scenes.
            test: number of test scenes.
            seed: another seed draws other scenes.
            ignore_index: label of the band, never scored.

        Raises:
            InputError: if a parameter makes no sense.
        """
        self.size, self.seed, self.ignore_index = size, seed, ignore_index
        self.counts = dict(zip(SPLITS, (train, val, test), strict=True))
        if size < 16:
            raise InputError(f"data.crop_size={size}: a made scene, which is as large, needs at least 16 pixels a side")
        if seed < 0:
            raise InputError(f"data.source.seed={seed}: give 0 or more")
        if ignore_index < len(self.class_names):
            raise InputError(
                f"data.source.ignore_index={ignore_index} is one of the classes: give {len(self.class_names)}"
            )
        self._grid = np.mgrid[:size, :size].astype(np.float32) / size  # (2, size, size): y and x in 0..1

    def names(self, split: str) -> np.ndarray:
        """Returns the names of the split's scenes, (n,) of str."""
        return np.array([f"{split}_{i:05d}" for i in range(self._count(split))])

    def sizes(self, split: str) -> np.ndarray:
        """Returns height and width of every scene, (n, 2)."""
        return np.full((self._count(split), 2), self.size)

    def fingerprint(self) -> str:
        """Returns a hash of all that the scenes depend on."""
        parts = ("shapes", VERSION, self.size, sorted(self.counts.items()), self.seed, self.ignore_index)
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    def content_digest(self) -> str:
        """Returns the fingerprint: scenes have no files that could differ."""
        return self.fingerprint()

    def check(self, splits: Iterable[str] = SPLITS) -> None:
        """Accepts every split that has scenes; made scenes have no faults."""
        for split in splits:
            self._count(split)

    def read(self, split: str, i: int) -> tuple[np.ndarray, np.ndarray]:
        """Draws scene `i` of a split.

        Returns:
            image: (size, size, 3) uint8 RGB.
            mask: (size, size) uint8 class indices, `ignore_index` along the outlines.
        """
        if not 0 <= i < self._count(split):
            raise IndexError(f"scene {i} of {self._count(split)} in split {split!r}")
        rng = np.random.default_rng((self.seed, SPLITS.index(split), i))
        image = self._background(rng)
        mask = np.zeros((self.size, self.size), np.uint8)
        light = rng.uniform(0, 2 * np.pi)
        for _ in range(rng.integers(2, 5)):
            self._place(image, mask, rng, light)
        band = cv2.dilate(mask, np.ones((3, 3))) != cv2.erode(mask, np.ones((3, 3)))
        mask[band] = self.ignore_index
        return self._photograph(image, rng, light), mask

    def _count(self, split: str) -> int:
        if self.counts.get(split, 0) < 1:
            raise InputError(f"shapes: split {split!r} has no scenes; give data.source.{split} a number above 0")
        return self.counts[split]

    def _place(self, image: np.ndarray, mask: np.ndarray, rng: Rng, light: float) -> None:
        """Draws one object and its shadow over whatever is there."""
        label = int(rng.integers(1, len(self.class_names)))
        outline, material, tint = OBJECTS[self.class_names[label]]
        place, angle = rng.uniform(0.12, 0.88, 2), rng.uniform(0, 2 * np.pi)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        warp = _squeeze(rng) @ turn * rng.uniform(0.2, 0.38)
        contours = [((c @ warp.T + place) * self.size * 16).astype(np.int32) for c in outline(rng)]
        shape = cv2.fillPoly(np.zeros_like(mask), contours, 255, cv2.LINE_AA, 4)
        self._shadow(image, shape, rng, light)
        rows, cols = _box(shape)
        coverage = shape[rows, cols, None].astype(np.float32) / 255  # (h, w, 1)
        y, x = self._grid[:, rows, cols] - place[:, None, None][::-1].astype(np.float32)
        (a, b), (c, d) = (turn.T * rng.uniform(40, 65)).astype(np.float32)  # radians over the scene: 6 to 10 waves
        field = material(a * x + b * y, c * x + d * y, rng)
        surface = _paint(field, rng, rng.uniform(0.4, 0.9), tint, share=rng.uniform(0.2, 0.65))
        image[rows, cols] += coverage * (surface - image[rows, cols])
        mask[shape > 127] = label

    def _shadow(self, image: np.ndarray, shape: np.ndarray, rng: Rng, light: float) -> None:
        """Darkens what lies beside the shape on the side away from the light."""
        reach = self.size * rng.uniform(0.02, 0.06)
        move = np.float32([[1, 0, -reach * np.cos(light)], [0, 1, -reach * np.sin(light)]])
        shadow = cv2.GaussianBlur(cv2.warpAffine(shape, move, shape.shape), (0, 0), self.size / 48)
        image *= cv2.transform(shadow.astype(np.float32), np.float32([[-rng.uniform(0.1, 0.45) / 255, 1]] * 3))

    def _background(self, rng: Rng) -> np.ndarray:
        """Returns two clouded grounds that meet at a wavy horizon, (size, size, 3) float32 in 0..255."""
        y, x = self._grid
        tilt, depth, phase = rng.uniform(-0.4, 0.4), rng.uniform(0.02, 0.1), rng.uniform(0, 6)
        horizon = rng.uniform(0.1, 0.9) + tilt * (x - 0.5) + depth * np.sin(rng.uniform(3, 12) * x + phase)
        return np.where((y > horizon)[..., None], self._clouds(rng), self._clouds(rng))

    def _clouds(self, rng: Rng) -> np.ndarray:
        cells = rng.integers(3, 9)
        coarse = rng.uniform(-1, 1, (cells, cells)).astype(np.float32)
        field = cv2.resize(coarse, (self.size, self.size), interpolation=cv2.INTER_CUBIC)
        return _paint(field, rng, rng.uniform(0.1, 0.5))

    def _photograph(self, image: np.ndarray, rng: Rng, light: float) -> np.ndarray:
        """Lights the scene from one side, then adds the camera's blur and noise."""
        y, x = self._grid
        strength = rng.uniform(0, 0.5)
        shade = 1 + np.float32(strength) * (
            (x - 0.5) * np.float32(np.cos(light)) + (y - 0.5) * np.float32(np.sin(light))
        )
        image = cv2.GaussianBlur(image * shade[..., None], (3, 3), rng.uniform(0.3, 0.8))
        image += rng.standard_normal(image.shape, np.float32) * np.float32(rng.uniform(1, 6))
        return np.clip(image, 0, 255).astype(np.uint8)
