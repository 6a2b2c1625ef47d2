"""A file of places, and places for a video: lines and zones that were drawn once serve every video of a camera."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from reid_tracker.config import CountSettings
from reid_tracker.counting import FURTHEST, parse_shapes
from reid_tracker.errors import UserError
from reid_tracker.reading import parse_yaml, read_text

MOST_BYTES = 1_000_000
MOST_PLACES, MOST_POINTS, LONGEST_NAME = 100, 200, 64
# Pictures of one camera differ in width / height by no more than this share: encoders round sizes.
SAME_SHAPE = 0.02


@dataclass(frozen=True)
class Places:
    """Lines and zones.

    Attributes
    ----------
    shapes : dict of str to ndarray float32 [K, 2]
        By name: two points, px, are a line, more are a zone (`counting.parse_shapes`).
    size : (int, int), optional
        Width and height, px, of the picture that they were drawn in.
    fixed : dict of str to ndarray float32 [K, 2]
        Further ones, in px of whatever picture they are asked for: they are never scaled.
    """

    shapes: dict[str, np.ndarray]
    size: tuple[int, int] | None = None
    fixed: dict[str, np.ndarray] = field(default_factory=dict)

    def within(self, width: int, height: int, what: str) -> "Places":
        """The same places in a picture of this size, for ``what``, which messages name.

        They are scaled where they were drawn in a picture of the same shape and another size.

        Raises
        ------
        UserError
            If a place lies outside of the picture, or they were drawn in a picture of another shape.
        """
        shapes = self.shapes
        if not (width and height):  # a sequence without pictures that does not say
            return Places({**shapes, **self.fixed})
        if self.size is not None and self.size != (width, height):
            drawn, here = self.size[0] / self.size[1], width / height
            if abs(drawn / here - 1) > SAME_SHAPE:
                raise UserError(
                    f"{what}: its picture is {width}x{height}, but the places were drawn in one of {self.size[0]}x"
                    f"{self.size[1]}, of another shape; draw them anew with reid-tracker places."
                )
            scale = np.array([width, height]) / self.size
            shapes = {name: (points * scale).astype(np.float32) for name, points in shapes.items()}
        shapes = {**shapes, **self.fixed}
        for name, points in shapes.items():
            if lies_outside(points, width, height):
                raise UserError(f"{what}: the place {name!r} lies outside of its picture, which is {width}x{height}.")
        return Places(shapes, (width, height))


def lies_outside(points: np.ndarray, width: int, height: int) -> bool:
    """Whether all of some points [K, 2] are beyond one edge of a picture."""
    low, high = points.min(axis=0), points.max(axis=0)
    return bool((high < 0).any() or (low > [width, height]).any())


def named(settings: CountSettings) -> Places:
    """The places that settings name: those of a file, lines and zones.

    Raises
    ------
    UserError
        If the file or a place cannot be read, or two have one name.
    """
    written = parse_shapes(settings.lines, settings.zones)
    if settings.places is None:
        return Places({}, fixed=written)
    places = read(Path(settings.places).expanduser())
    both = sorted(written.keys() & places.shapes.keys())
    if both:
        raise UserError(f"{settings.places}: has a place of the name {both[0]!r} as well; name them differently.")
    return Places(places.shapes, places.size, written)


def read(path: Path) -> Places:
    """Read a file of places.

    Raises
    ------
    UserError
        If it cannot be read, or holds something else.
    """
    if path.exists() and (not path.is_file() or path.stat().st_size > MOST_BYTES):
        raise UserError(f"{path}: no file of places; draw one with reid-tracker places.")
    text = read_text(path)
    try:
        content = parse_yaml(text)
    except ValueError as error:
        raise UserError(f"{path}: not YAML ({error}); draw the places with reid-tracker places.") from error
    return parse(content, str(path))


def parse(content: Any, what: str) -> Places:
    """Places from what a file or the page says, which messages call ``what``.

    Parameters
    ----------
    content : object
        ``{"size": [width, height], "lines": {name: [[x, y], [x, y]]}, "zones": {name: [[x, y], ...]}}``; each part may
        be missing.
    what : str
        Where it is from.

    Raises
    ------
    UserError
        If it is anything else.
    """
    if not isinstance(content, dict) or not content.keys() <= {"size", "lines", "zones"}:
        raise UserError(f"{what}: a file of places has size, lines and zones, and nothing else.")
    size = content.get("size")
    if size is not None:
        whole = isinstance(size, list) and [type(each) for each in size] == [int, int]
        if not whole or not all(0 < each <= FURTHEST for each in size):
            raise UserError(f"{what}: size must be [width, height] in px.")
        size = (size[0], size[1])
    shapes: dict[str, np.ndarray] = {}
    for kind, least, most in (("lines", 2, 2), ("zones", 3, MOST_POINTS)):
        group = content.get(kind) or {}
        if not isinstance(group, dict) or len(group) > MOST_PLACES:
            raise UserError(f"{what}: {kind} must be names with points, {MOST_PLACES} at most.")
        for name, points in group.items():
            if not isinstance(name, str) or not name.strip() or len(name) > LONGEST_NAME or not name.isprintable():
                raise UserError(f"{what}: {name!r} is no name for a place (1 to {LONGEST_NAME} letters).")
            if name in shapes:
                raise UserError(f"{what}: a line and a zone are both called {name!r}; name them differently.")
            shapes[name] = _points(points, least, most, f"{what}: {kind}: {name}")
    return Places(shapes, size)


def write(places: Places) -> str:
    """Places as the YAML that `read` takes."""
    groups: dict[str, dict[str, list[list[float]]]] = {"lines": {}, "zones": {}}
    for name, points in places.shapes.items():
        kept = [[round(float(value), 1) for value in point] for point in points]
        groups["lines" if len(points) == 2 else "zones"][name] = kept
    content = {"size": list(places.size) if places.size else None, **groups}
    text: str = yaml.safe_dump(
        {key: value for key, value in content.items() if value}, sort_keys=False, allow_unicode=True, width=110
    )
    return (
        f"# Places for reid-tracker track --places, in px. Seen from a line's first point, in is to the left.\n{text}"
    )


def _points(points: Any, least: int, most: int, what: str) -> np.ndarray:
    numbers = isinstance(points, list) and all(
        isinstance(point, list) and len(point) == 2 and all(type(value) in (int, float) for value in point)
        for point in points
    )
    if not numbers or not least <= len(points) <= most:
        count = "two points" if most == 2 else f"{least} to {most} corners"
        raise UserError(f"{what}: must be {count}, each [x, y] in px.")
    # Compared before they are NumPy's, which holds fewer numbers.
    within = all(abs(value) <= FURTHEST for point in points for value in point)
    array: np.ndarray | None = np.array(points, dtype=np.float32) if within else None
    if array is None or (array == array[0]).all():
        raise UserError(f"{what}: lies outside of any picture or is a mere point.")
    return array
