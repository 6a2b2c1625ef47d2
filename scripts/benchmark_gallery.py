"""A gallery at size: enrolling, opening, searching; and a second run that knows the first one's people.

python scripts/benchmark_gallery.py [--vectors 100000 --views 8] [--gallery postgresql://... --bulk 90000]
REID_TRACKER_DATA=... python scripts/benchmark_gallery.py --recognition
"""

import argparse
import os
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from resident import memory
from scipy.optimize import linear_sum_assignment

from reid_tracker import TrackConfig, track
from reid_tracker.gallery.opening import open_gallery
from reid_tracker.gallery.postgres_store import NEAR
from reid_tracker.gallery.recorder import GalleryMemory
from reid_tracker.gallery.sqlite_file import FILE
from reid_tracker.gallery.sqlite_store import SqliteGallery
from reid_tracker.gallery.store import Gallery, Model, Sighting, View
from reid_tracker.motchallenge import FRAME, HEIGHT, IDENTITY, LEFT, read_rows
from reid_tracker.tracking.costs import iou
from reid_tracker.tracking.memory import VIEWS

# The truth of PETS09-S2L1 numbers people anew who come back; who is who there, by their pictures.
SEQUENCE, SAME = "PETS09-S2L1", {1: 19, 2: 13, 3: 11, 4: 12, 5: 9, 6: 10, 8: 14, 15: 14, 18: 14}
SPREAD = 0.6  # of views about their person, in deviations of people about each other
FIRST_PART, SEEN = 400, 10  # last frame of the first run; frames below which a visit is not counted


def measure_store(where: str, vectors: int, dimension: int, views: int, batch: int, repeats: int, bulk: int) -> None:
    """Print rates and times of a gallery of random people; the index is built at once over the first `bulk` vectors."""
    random = np.random.default_rng(0)
    people = -(-vectors // views)
    rows = random.standard_normal((people, dimension), dtype=np.float32).repeat(views, axis=0)[:vectors]
    rows += SPREAD * random.standard_normal(rows.shape, dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    model = Model("benchmark", dimension)
    gallery: Any = open_gallery(where, model)
    at_once = bulk // views
    if at_once:
        gallery._run("DROP INDEX views_near")
        enrol(gallery, rows, views, range(at_once), batch, "without an index")
        start = time.perf_counter()
        gallery._run("SET maintenance_work_mem = '4GB'")
        gallery._run(NEAR)
        print(f"the index of {at_once * views} vectors: {time.perf_counter() - start:.0f} s", flush=True)
    enrol(gallery, rows, views, range(at_once, people), batch, "with all that is kept")
    if isinstance(gallery, SqliteGallery):
        size = (Path(where) / FILE).stat().st_size
    else:
        gallery._run("VACUUM ANALYZE views")  # as the server's own autovacuum does in time
        size = gallery._run("SELECT pg_total_relation_size('views')")[0][0]
        measure_index(gallery, rows[random.integers(0, vectors, repeats)])
    gallery.close()
    print(f"on disk: {size / 1e6:.0f} MB, vectors alone {rows.nbytes / 1e6:.0f} MB")
    start = time.perf_counter()
    gallery = open_gallery(where, model)
    opened = time.perf_counter()
    gallery.search(rows[:1])
    print(f"open: {1e3 * (opened - start):.0f} ms, and the first search {1e3 * (time.perf_counter() - opened):.0f} ms")
    for count in (1, 10):
        taken, used = [], time.process_time()
        for _ in range(repeats):
            query = rows[random.integers(0, vectors, count)]
            start = time.perf_counter()
            gallery.search(query)
            taken.append(1e3 * (time.perf_counter() - start))
        p50, p95 = np.percentile(taken, (50, 95))
        used = 1e3 * (time.process_time() - used) / repeats
        print(f"search, {count} at a time: p50 {p50:.1f} ms, p95 {p95:.1f} ms; processor time {used:.1f} ms")
    gallery.close()
    gallery, held, start = open_gallery(where, model), memory("VmRSS"), time.perf_counter()
    known = GalleryMemory(gallery)
    seconds, mib = time.perf_counter() - start, memory("VmRSS") - held
    print(f"a run that knows these {len(known)} people starts {seconds:.1f} s later and holds {mib:.0f} MiB more")
    gallery.close()


def enrol(gallery: Gallery, rows: np.ndarray, views: int, people: range, batch: int, how: str) -> None:
    """Enrol these people, so many a transaction, and print the rate."""
    start = time.perf_counter()
    for first in people[::batch]:
        numbers = range(first, min(first + batch, people.stop))
        gallery.enrol(
            {n + 1: Sighting([View(row) for row in rows[n * views : (n + 1) * views]], 0.0, 0.0) for n in numbers}
        )
    rate = len(people) * views / (time.perf_counter() - start)
    print(f"enrol {how}: {len(people)} people, {batch} a transaction: {rate:,.0f} vectors/s", flush=True)


def measure_index(gallery: Any, queries: np.ndarray) -> None:
    """Print how many of the people whom comparing all finds the index finds: the first, and of the first ten."""
    found = []
    for threshold in (0, 2**62):  # the index; all
        with mock.patch("reid_tracker.gallery.postgres_store.APPROXIMATE_FROM", threshold):
            start = time.perf_counter()
            found.append([[match.number for match in row] for row in gallery.search(queries)])
            print(
                f"{'all' if threshold else 'index'}: {1e3 * (time.perf_counter() - start) / len(queries):.1f} ms each"
            )
    first = np.mean([near[:1] == exact[:1] for near, exact in zip(*found, strict=True)])
    ten = np.mean([len({*near} & {*exact}) / len(exact) for near, exact in zip(*found, strict=True)])
    print(f"the index finds {100 * first:.1f} % of the first, {100 * ten:.1f} % of the first ten")


def numbers_of(truth: np.ndarray, result: np.ndarray) -> dict[int, Counter[int]]:
    """Frames in which each of the truth's visits had each number (boxes that overlap by half)."""
    given: dict[int, Counter[int]] = {int(visit): Counter() for visit in np.unique(truth[:, IDENTITY])}
    for frame in np.unique(result[:, FRAME]):
        rows, found = truth[truth[:, FRAME] == frame], result[result[:, FRAME] == frame]
        i, j = (each.ravel() for each in np.indices((len(rows), len(found))))
        overlap = iou(corners(rows)[i], corners(found)[j]).reshape(len(rows), len(found))
        for one, other in zip(*linear_sum_assignment(-overlap), strict=True):
            if overlap[one, other] >= 0.5:
                given[int(rows[one, IDENTITY])][int(found[other, IDENTITY])] += 1
    return given


def corners(rows: np.ndarray) -> np.ndarray:
    boxes = rows[:, LEFT : HEIGHT + 1].astype(np.float32)
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def measure_recognition(folder: Path, data: Path) -> None:
    """Run on the first part, then, apart, on the second; print whom the second run took for whom."""
    truth, given = read_rows(data / "gt" / "gt.txt"), []
    for part, (start, end) in enumerate(((1, FIRST_PART), (FIRST_PART + 1, None))):
        config = TrackConfig()
        config.source.start, config.source.end = start, end
        config.output.folder, config.output.mot = str(folder / str(part)), True
        config.gallery.where = str(folder / "gallery")
        (summary,) = track(data, config)
        print(f"frames {start}-{end or 'end'}: {summary.notes[-1]}")
        rows = truth[(truth[:, FRAME] >= start) & (truth[:, FRAME] <= (end or np.inf))]
        given.append(numbers_of(rows, read_rows(folder / str(part) / f"{data.name}.txt")))
    owners: dict[int, Counter[int]] = {}
    for visit, numbers in given[0].items():
        for number, frames in numbers.items():
            owners.setdefault(number, Counter())[SAME.get(visit, visit)] += frames
    owner = {number: people.most_common(1)[0][0] for number, people in owners.items()}
    outcomes: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
    gallery, first = open_gallery(folder / "gallery"), Counter[bool]()
    for visit, numbers in given[1].items():
        person = SAME.get(visit, visit)
        if numbers.total() < SEEN:
            continue
        number, frames = numbers.most_common(1)[0]
        outcome = "a new number" if number not in owner else "their own" if owner[number] == person else "another's"
        known = person in owner.values()
        outcomes[known][outcome] += 1
        if known and number not in owner and gallery.views(number):
            mean = np.mean([view.vector for view in gallery.views(number)], axis=0)
            alike = [each.number for each in gallery.search(mean / np.linalg.norm(mean), 100)[0]]
            first[owner[next(each for each in alike if each in owner)] == person] += 1
        print(f"  visit {visit:2} of person {person:2}: {number:3} in {frames} of {numbers.total()} frames, {outcome}")
    for known, text in ((True, "of people of the first part"), (False, "of strangers")):
        counts = ", ".join(f"{count} {outcome}" for outcome, count in outcomes[known].items())
        print(f"{outcomes[known].total()} visits {text}: {counts}")
    print(f"Of {first.total()} known who got a new number {first[True]} look most like themselves ('gallery show').")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=int, default=100_000)
    parser.add_argument("--dimension", type=int, default=256)
    parser.add_argument("--views", type=int, default=VIEWS, help="of each person")
    parser.add_argument("--batch", type=int, default=1000, help="people in a transaction")
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--gallery", help="address of one that is not there yet, instead of a folder")
    parser.add_argument("--bulk", type=int, default=0, help="vectors of a server over which the index is built at once")
    parser.add_argument("--recognition", action="store_true", help="two runs on PETS09-S2L1")
    chosen = parser.parse_args()
    if chosen.bulk and not chosen.gallery:
        parser.error("--bulk is for a server; name it with --gallery.")
    with tempfile.TemporaryDirectory() as folder:
        if chosen.recognition:
            measure_recognition(Path(folder), Path(os.environ["REID_TRACKER_DATA"]) / "mot15" / SEQUENCE)
            return
        where = chosen.gallery or str(Path(folder) / "gallery")
        measure_store(where, chosen.vectors, chosen.dimension, chosen.views, chosen.batch, chosen.repeats, chosen.bulk)


if __name__ == "__main__":
    main()
