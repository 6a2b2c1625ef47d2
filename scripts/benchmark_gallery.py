"""The gallery in a folder: enrolling, opening, searching at size; and a second run that knows the first one's people.

python scripts/benchmark_gallery.py [--vectors 100000 --dimension 256]
REID_TRACKER_DATA=... python scripts/benchmark_gallery.py --recognition
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from reid_tracker.gallery.sqlite_store import FILE, SqliteGallery
from reid_tracker.gallery.store import Model, Sighting, View
from reid_tracker.tracking.memory import VIEWS


def measure_store(folder: Path, vectors: int, dimension: int, batch: int, repeats: int) -> None:
    """Print rates and times of a gallery of random people."""
    random = np.random.default_rng(0)
    rows = random.standard_normal((vectors, dimension), dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    model = Model("benchmark", dimension)
    gallery = SqliteGallery(folder, model)
    people = -(-vectors // VIEWS)
    start = time.perf_counter()
    for first in range(0, people, batch):
        numbers = range(first, min(first + batch, people))
        gallery.enrol(
            {n + 1: Sighting([View(row) for row in rows[n * VIEWS : (n + 1) * VIEWS]], 0.0, 0.0) for n in numbers}
        )
    seconds = time.perf_counter() - start
    print(f"enrol: {vectors} vectors of {people} people, {batch} a transaction: {vectors / seconds:,.0f} vectors/s")
    gallery.close()
    print(f"file: {(folder / FILE).stat().st_size / 1e6:.0f} MB, vectors alone {rows.nbytes / 1e6:.0f} MB")
    start = time.perf_counter()
    gallery = SqliteGallery(folder, model)
    opened = time.perf_counter()
    gallery.search(rows[:1])
    print(f"open: {1e3 * (opened - start):.0f} ms, and the first search {1e3 * (time.perf_counter() - opened):.0f} ms")
    for count in (1, 10):
        taken = []
        for _ in range(repeats):
            query = rows[random.integers(0, vectors, count)]
            start = time.perf_counter()
            gallery.search(query)
            taken.append(1e3 * (time.perf_counter() - start))
        p50, p95 = np.percentile(taken, (50, 95))
        print(f"search, {count} at a time: p50 {p50:.1f} ms, p95 {p95:.1f} ms")
    gallery.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=int, default=100_000)
    parser.add_argument("--dimension", type=int, default=256)
    parser.add_argument("--batch", type=int, default=1000, help="people in a transaction")
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--recognition", action="store_true", help="two runs on PETS09-S2L1")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure_store(Path(folder), chosen.vectors, chosen.dimension, chosen.batch, chosen.repeats)


if __name__ == "__main__":
    main()
