"""Opening a gallery by its place, and what is done with a whole one."""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from reid_tracker.errors import UserError
from reid_tracker.gallery.sqlite_store import SqliteGallery
from reid_tracker.gallery.store import Gallery, Model, is_database
from reid_tracker.writing import make_empty, write_whole

DAY = 86_400.0  # s


class AppearanceNetwork(Protocol):
    """What describes pictures: `Embedder`."""

    def embed_batch(self, images: Sequence[np.ndarray], boxes: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Vectors [N, D] of the boxes [N, 4] (px) of each BGR image."""


def open_gallery(where: str | Path, model: Model | None = None) -> Gallery:
    """Open a gallery.

    Parameters
    ----------
    where : str or Path
        A folder, or the URL of a PostgreSQL database with pgvector: ``postgresql://user@host/database?gallery=name``.
    model : Model, optional
        The model whose vectors will be enrolled or searched for; a gallery that is not there yet is made for it.

    Raises
    ------
    UserError
        If it is not there and no model is given, cannot be opened, or holds vectors of another model.
    """
    if is_database(where):
        from reid_tracker.gallery.postgres_store import PostgresGallery

        return PostgresGallery(str(where), model)
    if "://" in str(where):
        kind = str(where).partition("://")[0]
        raise UserError(f"A gallery is a folder or the address of a database, postgresql://...; {kind}:// is neither.")
    return SqliteGallery(Path(where).expanduser(), model)


def forget_unseen(gallery: Gallery, days: float) -> list[int]:
    """Forget everyone who has not been seen for so many days; their numbers."""
    numbers = [each.number for each in gallery.people() if each.last_seen < time.time() - days * DAY]
    if numbers:
        gallery.forget(numbers)
    return numbers


def export(gallery: Gallery, folder: Path) -> int:
    """Write everything to a new folder: gallery.json, vectors.npz (``number``, ``vector``), crops/<number>/<view>.jpg.

    The crops are a data set that `train` reads. Only this user may read any of it. Returns the number of people.
    """
    entries: list[dict[str, Any]] = []
    numbers, vectors = [], []
    try:
        for each in (folder, folder / "crops"):
            each.mkdir(0o700, parents=True)
        for person in gallery.people():
            entry = {**asdict(person), "views": []}
            for position, view in enumerate(gallery.views(person.number), 1):
                crop = None
                if view.crop is not None:
                    crop = f"crops/{person.number:06d}/{position}.jpg"
                    write_whole(folder / crop, view.crop, private=True)
                entry["views"].append({"crop": crop, "source": view.source, "time": view.time, "quality": view.quality})
                numbers.append(person.number)
                vectors.append(view.vector)
            entries.append(entry)
        matrix = np.stack(vectors) if vectors else np.zeros((0, gallery.model.dimension), np.float32)
        make_empty(folder / "vectors.npz", private=True)
        np.savez(folder / "vectors.npz", number=np.array(numbers, np.int64), vector=matrix)
        text = json.dumps({"model": asdict(gallery.model), "people": entries}, indent=1, ensure_ascii=False)
        write_whole(folder / "gallery.json", (text + "\n").encode(), private=True)
    except FileExistsError as error:
        raise UserError(f"{folder}: is there already; name a new folder.") from error
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}).") from error
    return len(entries)


def describe_crops(network: AppearanceNetwork, crops: Sequence[bytes]) -> np.ndarray:
    """Vectors float32 [N, D] of crops, JPEG; UserError if one is no picture."""
    pictures, whole = [], []
    for crop in crops:
        picture = cv2.imdecode(np.frombuffer(crop, np.uint8), cv2.IMREAD_COLOR) if crop else None
        if picture is None:
            raise UserError("a crop of the gallery is not a picture any more; restore the gallery from a copy.")
        pictures.append(picture)
        whole.append(np.array([[0, 0, picture.shape[1], picture.shape[0]]], np.float32))
    return np.concatenate(network.embed_batch(pictures, whole))
