"""What a tracker knows, as arrays and a JSON header: kept in a safetensors file, from which nothing is unpickled."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from reid_tracker.errors import UserError
from reid_tracker.reading import parse_json

FORMAT = "reid_tracker.state/1"


@dataclass(frozen=True, slots=True)
class TrackerState:
    """A tracker between two frames (`Tracker.state`, `Tracker.restore`).

    Attributes
    ----------
    header : dict
        What JSON can hold: the settings, the clock, the next numbers.
    arrays : dict of str to ndarray
        Tracks, the memory, what camera motion needs of the last frame.
    """

    header: dict[str, Any]
    arrays: dict[str, np.ndarray]

    def save(self, path: Path | str, model: str | None = None) -> None:
        """Write a file; an older one is replaced only once the new one is whole.

        Parameters
        ----------
        path : path
            Its folder is made.
        model : str, optional
            Hash of the appearance model whose vectors these are (`Embedder.hash`).

        Raises
        ------
        UserError
            If it cannot be written.
        """
        path = Path(path)
        arrays = {name: np.ascontiguousarray(array) for name, array in self.arrays.items()}
        header = {**self.header, "format": FORMAT, "model": model, "sha256": _digest(arrays)}
        part = path.with_name(path.name + ".part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            save_file(arrays, part, metadata={"header": json.dumps(header, sort_keys=True)})
            part.replace(path)
        except (OSError, SafetensorError) as error:
            part.unlink(missing_ok=True)
            raise UserError(f"{path}: the state cannot be written ({error}).") from error

    @classmethod
    def load(cls, path: Path | str, model: str | None = None) -> "TrackerState":
        """Read a file that `save` wrote.

        Raises
        ------
        UserError
            If it is missing, damaged, no such file, or its vectors are those of another model than ``model``.
        """
        path = Path(path)
        if not path.is_file():
            raise UserError(f"{path}: no such file.")
        try:
            with safe_open(path, framework="np") as file:
                header = parse_json((file.metadata() or {}).get("header", "{}"))
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        except (SafetensorError, OSError, ValueError, TypeError) as error:
            raise UserError(f"{path}: not a readable state of a tracker ({error}).") from error
        if not isinstance(header, dict) or header.get("format") != FORMAT:
            raise UserError(f"{path}: not a state that this version of reid-tracker wrote with --save-state.")
        if header.get("sha256") != _digest(arrays):
            raise UserError(f"{path}: is damaged; resume from another copy.")
        if header.get("model") != model:
            raise UserError(f"{path}: was made with another appearance model (or none); resume with the same one.")
        return cls(header, arrays)


def _digest(arrays: dict[str, np.ndarray]) -> str:
    whole = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        whole.update(f"{name} {array.dtype} {array.shape}".encode())
        whole.update(array.tobytes())
    return whole.hexdigest()
