"""Kill what writes files at random moments: what was whole stays whole, and the next run goes on.

    python scripts/kill.py VIDEO [--rounds 20] [--seed 0] [--what track live gallery train]

- track: a run with video, text, JSON lines and a gallery, killed over the results of an earlier one, which must stay as
  they are; then it is run to its end.
- live: a run that records and enrols; every recording must be decoded to within the last fragment (a second).
- gallery: a program that enrols without pause and prints whom it has; everyone printed must be there with the crops.
- train: a small run; the model must be loaded, and --resume go on.
"""

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av
import cv2
import numpy as np

from reid_tracker import open_gallery
from reid_tracker.appearance.checkpoint import load_checkpoint
from reid_tracker.gallery.store import Model, Sighting, View

COMMAND = [sys.executable, "-m", "reid_tracker"]
DIMENSION, FRAMES = 32, 60


def kill(command: list[str | Path], seconds: float, output: Path) -> bool:
    """Start a command, kill it and all its processes after so long; whether it still ran."""
    with output.open("w") as file:
        running = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
        time.sleep(seconds)
        is_running = running.poll() is None
        if is_running:
            os.killpg(running.pid, signal.SIGKILL)
        running.wait()
    return is_running


def digests(folder: Path) -> dict[str, str]:
    """What the files of a folder hold, but for those that a run has not finished."""
    files = [path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def count_frames(video: Path) -> int:
    """Frames that can be decoded."""
    with av.open(str(video)) as container:
        return sum(1 for _ in container.decode(video=0))


def is_whole(path: Path) -> bool:
    """Whether a result holds all of `FRAMES`."""
    if path.suffix == ".mp4":
        return count_frames(path) == FRAMES
    text = path.read_text()
    if path.suffix == ".jsonl":
        return [json.loads(line)["index"] for line in text.splitlines()] == list(range(FRAMES))
    rows = [line.split(",") for line in text.splitlines()]
    return text.endswith("\n") and all(len(row) == 10 for row in rows) and int(rows[-1][0]) > FRAMES - 10


def of_track(folder: Path, video: Path, random: np.random.Generator, rounds: int) -> None:
    """See above."""
    command = [*COMMAND, "track", video, "-o", folder / "out", "--video", "--mot", "--jsonl"]
    command += ["--gallery", folder / "people", "--set", f"source.end={FRAMES}", "--set", "gallery.save_seconds=1"]
    start = time.monotonic()
    subprocess.run(command, check=True, capture_output=True)
    whole = time.monotonic() - start
    for _ in range(rounds):
        before = digests(folder / "out")
        if kill(command, random.uniform(0, whole), folder / "log"):
            after = digests(folder / "out")
            for name in (
                each for each in before if ".part" not in each
            ):  # killed while the new ones took the old ones' places, each is one or the other
                assert after[name] == before[name] or is_whole(folder / "out" / name), f"{name} was changed"
        gallery = open_gallery(folder / "people")
        assert all(len(gallery.views(each.number)) == each.views for each in gallery.people())
        gallery.close()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(is_whole(folder / "out" / name) for name in digests(folder / "out"))


def of_live(folder: Path, video: Path, random: np.random.Generator, rounds: int) -> None:
    """See above."""
    command = [*COMMAND, "live", "--source", video, "--realtime", "--record", folder / "recorded", "--no-serve"]
    command += ["--gallery", folder / "people", "--set", "output.segment_seconds=3", "--set", "gallery.save_seconds=1"]
    for _ in range(rounds):
        known = set((folder / "recorded").glob("*.mp4"))
        kill(command, random.uniform(4, 14), folder / "log")
        new = sorted(set((folder / "recorded").glob("*.mp4")) - known)
        for path in new[:-1]:
            assert count_frames(path) > 10, path
        for path in new[-1:]:  # the one under way: what is in it can be seen, unless it is younger than a fragment
            if path.stat().st_size > 100_000:
                assert count_frames(path) > 0, path
        if (folder / "people").exists():
            gallery = open_gallery(folder / "people")
            assert all(len(gallery.views(each.number)) == each.views for each in gallery.people())
            gallery.close()


def enrol_for_ever(folder: Path) -> None:
    """Enrol strangers with a crop each, and print their numbers once that is done."""
    gallery = open_gallery(folder, Model("kill", DIMENSION))
    random = np.random.default_rng()
    crop = cv2.imencode(".jpg", np.zeros((64, 32, 3), np.uint8))[1].tobytes()
    while True:
        number, vector = gallery.new_numbers()[0], random.standard_normal(DIMENSION).astype(np.float32)
        gallery.enrol({number: Sighting([View(vector / np.linalg.norm(vector), crop)], 0.0, 1.0)})
        print(number, flush=True)


def of_gallery(folder: Path, _: Path, random: np.random.Generator, rounds: int) -> None:
    """See above."""
    told: set[int] = set()
    for _ in range(rounds):
        command = [sys.executable, __file__, "-", "--enrol", folder / "people"]
        kill(command, random.uniform(4, 9), folder / "log")
        told |= set(map(int, (folder / "log").read_text().split("\n")[:-1]))
        if (folder / "people/gallery.sqlite").exists():
            gallery = open_gallery(folder / "people")
            known = {each.number for each in gallery.people()}
            assert told <= known, sorted(told - known)
            assert all(gallery.views(number)[0].crop for number in known)
            gallery.close()
    assert told
    print(f"  {len(told)} people enrolled in all")


def of_train(folder: Path, _: Path, random: np.random.Generator, rounds: int) -> None:
    """See above."""
    for person in range(8):
        for image in range(4):
            path = folder / f"crops/{person:04d}/{image}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), random.integers(0, 255, (64, 32, 3), dtype=np.uint8))
    settings = ["network.backbone=mobilenet_v3_small", "network.dimension=16", "network.input_size=[64, 32]"]
    settings += ["batch.people=2", "batch.images=2", "schedule.validation_identities=0", "schedule.epochs=400"]
    command = [*COMMAND, "train", folder / "crops", "-o", folder / "model"]
    command += [word for setting in settings for word in ("--set", setting)]
    for _ in range(rounds):
        resumed = ["--resume"] if (folder / "model/last.pt").exists() else ["--overwrite"]
        kill([*command, *resumed], random.uniform(6, 14), folder / "log")
        text = (folder / "log").read_text()
        assert "Error" not in text, text
        model = folder / "model/appearance.safetensors"
        if model.exists():
            load_checkpoint(model)
    print(f"  reached {text.strip().splitlines()[-1].strip()[:60]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    kinds = {"track": of_track, "live": of_live, "gallery": of_gallery, "train": of_train}
    parser.add_argument("--what", nargs="+", choices=kinds, default=list(kinds))
    parser.add_argument("--enrol", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.enrol:
        enrol_for_ever(arguments.enrol)
    for name in arguments.what:
        with tempfile.TemporaryDirectory() as folder:
            kinds[name](Path(folder), arguments.video, np.random.default_rng(arguments.seed), arguments.rounds)
        print(f"{name}: {arguments.rounds} kills, nothing lost")


if __name__ == "__main__":
    main()
