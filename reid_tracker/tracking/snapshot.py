"""The parts of a tracker as named arrays, and back, with everything from a file checked."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from reid_tracker.tracking.camera_motion import CameraMotion
from reid_tracker.tracking.memory import IdentityMemory
from reid_tracker.tracking.track_table import TrackTable

Arrays = dict[str, np.ndarray]


def to_arrays(table: TrackTable, memory: IdentityMemory, camera: CameraMotion, learned: Mapping[str, Any]) -> Arrays:
    """Copies of all arrays, named ``part.array``; ``learned`` gives further parts by their names."""
    arrays = {f"table.{name}": array.copy() for name, array in vars(table).items()}
    arrays |= {f"memory.{name}": getattr(memory, name).copy() for name in memory.COLUMNS}
    arrays |= {f"camera.{name}": array.copy() for name, array in vars(camera).items() if array is not None}
    for part, owner in learned.items():
        arrays |= {f"{part}.{name}": array.copy() for name, array in vars(owner).items()}
    return arrays


def from_arrays(
    arrays: Arrays, table: TrackTable, memory: IdentityMemory, camera: CameraMotion, learned: Mapping[str, Any]
) -> None:
    """Fill the parts of a new tracker with what `to_arrays` gave.

    Raises
    ------
    KeyError, TypeError, ValueError
        If something is missing, or of another kind or shape than it can have.
    """
    for part, owner in learned.items():
        for name, fresh in vars(owner).items():
            given = arrays.get(f"{part}.{name}", fresh)  # states from before this was learned
            if np.shape(given) != np.shape(fresh):
                raise ValueError(f"{part}.{name}")
            setattr(owner, name, given.copy())
    columns = _part(arrays, "table")
    count = len(columns["identity"])
    columns.setdefault("resembles", np.zeros(count, dtype=np.int64))  # states from before these columns
    columns |= {name: columns.get(name, np.zeros((count, 2))) for name in ("residual", "surprise")}
    lengths = _check(columns, vars(table))
    vars(table).update(columns)
    columns = _part(arrays, "memory")
    lengths |= _check(columns, {name: getattr(memory, name) for name in memory.COLUMNS})
    memory.set_columns(columns)
    vars(camera).update(_part(arrays, "camera"))
    if len(lengths) > 1:
        raise ValueError("vectors of several lengths")


def _part(arrays: Arrays, part: str) -> Arrays:
    """Copies of the arrays of one part, by their own names."""
    return {name.partition(".")[2]: array.copy() for name, array in arrays.items() if name.startswith(f"{part}.")}


def _check(columns: Arrays, expected: Mapping[str, np.ndarray]) -> set[int]:
    """Compare columns with empty ones of the same table; the lengths of vectors, which only columns with rows tell."""
    if columns.keys() != expected.keys() or len({len(array) for array in columns.values()}) != 1:
        raise ValueError("columns")
    lengths = set()
    for name, empty in expected.items():
        inner = list(zip(columns[name].shape[1:], empty.shape[1:], strict=True))
        if columns[name].dtype != empty.dtype or any(size not in (own, 0) for own, size in inner):
            raise ValueError(name)
        lengths |= {own for own, size in inner if own and not size}
    return lengths
