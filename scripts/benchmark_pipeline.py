"""Frames per second and accuracy of the whole job, pixels to an annotated video, beside Ultralytics' own tracking.

    python scripts/benchmark_pipeline.py VIDEO --truth SEQUENCE [--fps 7] [--frames 300] [--detector MODEL]
        [--sizes 640 800] [--rounds 2] [--peers-python /path/to/peers/bin/python]

Every contender gets the same video and the same detector weights (as OpenVINO on a CPU) and saves a video; each runs in
a process of its own, in turns. Rows: this package at its defaults; at each of `--sizes` Ultralytics BoT-SORT with this
package's appearance network as an ONNX file of the kind it takes, and without appearance; with `--peers-python` (an
environment with boxmot 25, ultralytics and onnxruntime) `boxmot track` with BotSort and the same network, whose
detectors are checkpoints in PyTorch. Ultralytics needs the package lapx, which this one does without: pip install lapx.
Loading is not timed; the first frame is left out (BoxMOT's own report has it in). The seconds to the first frame
(imports and loading included) are printed beside. With `--frames` video and truth are cut, so that the figures are of
these frames.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

STAGES = ("read", "detect", "embed", "associate", "write")


def run_ours(options: dict[str, str], output: Path) -> dict[str, float]:
    began = time.perf_counter()
    from reid_tracker import TrackConfig, track
    from reid_tracker.config import load

    first: list[float] = []

    def progress(source: object, done: int) -> None:
        if done == 1:
            first.append(time.perf_counter())

    settings = {
        "detector.model": options["detector"],
        "embedder.model": options["embedder"],
        "backend": "auto",
        "source.fps": float(options["fps"]) if options["fps"] else None,
        "output.folder": str(output),
        "output.video": True,
        "output.mot": True,
    }
    (summary,) = track(options["video"], load(TrackConfig, None, settings), progress=progress)
    seconds = time.perf_counter() - first[0]
    stages = {stage: 1000 * summary.stage_seconds[stage] / summary.frames for stage in STAGES}
    return {"fps": (summary.frames - 1) / seconds, "start": first[0] - began, **stages}


def run_ultralytics(options: dict[str, str], output: Path) -> dict[str, float]:
    began = time.perf_counter()
    import torch

    threads = torch.get_num_threads()
    from reid_tracker.offline import import_ultralytics

    ultralytics = import_ultralytics()
    import yaml

    settings = yaml.safe_load((Path(ultralytics.__file__).parent / "cfg/trackers/botsort.yaml").read_text())
    if options["reid"]:
        settings |= {"with_reid": True, "model": options["reid"]}
    tracker = output / "botsort.yaml"
    tracker.write_text(yaml.safe_dump(settings))
    torch.set_num_threads(threads)
    yolo = ultralytics.YOLO(options["detector"], task="detect")
    results = yolo.track(
        options["video"],
        stream=True,
        save=True,
        verbose=False,
        tracker=str(tracker),
        classes=[0],
        imgsz=options["size"],
        conf=0.1,  # as its tracker's second round expects
        project=str(output),
        name="run",
        exist_ok=True,
    )
    first, rows, number = 0.0, [], 0
    for number, result in enumerate(results, 1):
        first = first or time.perf_counter()
        boxes = result.boxes
        if boxes.id is not None:
            for identity, (x1, y1, x2, y2) in zip(boxes.id.int().tolist(), boxes.xyxy.tolist(), strict=True):
                rows.append(f"{number},{identity},{x1:.2f},{y1:.2f},{x2 - x1:.2f},{y2 - y1:.2f},1,-1,-1,-1\n")
    seconds = time.perf_counter() - first
    (output / f"{Path(options['video']).stem}.txt").write_text("".join(rows))
    return {"fps": (number - 1) / seconds, "start": first - began}


def run_boxmot(python: str, options: dict[str, str], output: Path) -> dict[str, float]:
    """`boxmot track`, by its command line; its rate is frames over its own runtime, which knows no loading."""
    command = [python, "-c", "from boxmot.engine.cli import main; main()", "track", "--tracker", "botsort"]
    command += ["--source", options["video"], "--detector", options["detector"], "--reid", options["reid"]]
    command += ["--classes", "0", "--device", "cpu", "--save", "--save-txt", "--project", str(output)]
    began = time.perf_counter()
    environment = {**os.environ, "YOLO_OFFLINE": "1"}
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    seconds = time.perf_counter() - began
    told = re.search(r"([\d.]+) s runtime", done.stdout)
    written = sorted(output.rglob("tracks.txt"), key=lambda path: path.stat().st_mtime)
    if done.returncode or not told or not written:
        sys.exit(f"boxmot track failed:\n{done.stdout}")
    rows = [line.split(",") for line in written[-1].read_text().splitlines()]
    text = "".join(f"{frame},{int(number) + 1},{','.join(row[:5])},-1,-1,-1\n" for frame, number, *row in rows)
    (output / f"{Path(options['video']).stem}.txt").write_text(text)
    frames, runtime = int(re.search(r"(\d+) frames", done.stdout)[1]), float(told[1])
    return {"fps": frames / runtime, "start": seconds - runtime}


def cut(video: Path, truth: Path | None, frames: int, folder: Path) -> tuple[Path, Path | None]:
    """The first frames of a video, its packets untouched, and of its truth."""
    import av

    short = folder / video.name
    with av.open(str(video)) as source, av.open(str(short), "w") as copy:
        stream = copy.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(source.demux(video=0)):
            if number == frames or packet.dts is None:
                break
            packet.stream = stream
            copy.mux(packet)
    if truth is None:
        return short, None
    less = folder / truth.name
    (less / "gt").mkdir(parents=True)
    rows = (truth / "gt" / "gt.txt").read_text().splitlines(keepends=True)
    (less / "gt" / "gt.txt").write_text("".join(row for row in rows if int(row.split(",")[0]) <= frames))
    info = (truth / "seqinfo.ini").read_text()
    (less / "seqinfo.ini").write_text(re.sub(r"(?i)(seqlength\s*=\s*)\d+", rf"\g<1>{frames}", info))
    return short, less


def reid_for_peers(path: Path, mean: tuple[float, ...] = (0.0, 0.0, 0.0), std: tuple[float, ...] = (1.0,) * 3) -> Path:
    """Write the bundled appearance network as others call one: RGB 0..1 less a mean, over a spread, [N, 3, H, W]."""
    import torch
    from torch import nn

    from reid_tracker.appearance.checkpoint import load_checkpoint
    from reid_tracker.appearance.network import fold_batch_norms
    from reid_tracker.weights import APPEARANCE

    network, header = load_checkpoint(APPEARANCE)
    fold_batch_norms(network)

    class Adapted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network
            self.register_buffer("mean", torch.tensor(header["mean"]).view(3, 1, 1))
            self.register_buffer("std", torch.tensor(header["std"]).view(3, 1, 1))
            self.register_buffer("their_mean", torch.tensor(mean).view(3, 1, 1))
            self.register_buffer("their_std", torch.tensor(std).view(3, 1, 1))

        def forward(self, pictures: torch.Tensor) -> torch.Tensor:
            pictures = pictures * self.their_std + self.their_mean
            return self.network((pictures.flip(1) - self.mean) / self.std)

    example = torch.zeros(2, 3, *header["input_size"])
    axes = {"images": {0: "count"}, "output0": {0: "count"}}
    names = {"input_names": ["images"], "output_names": ["output0"]}
    torch.onnx.export(Adapted().eval(), (example,), path, dynamo=False, dynamic_axes=axes, **names)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path)
    parser.add_argument("--truth", type=Path, help="MOTChallenge sequence folder of the video")
    parser.add_argument("--fps", help="frames a second, where the file does not say it rightly")
    parser.add_argument("--frames", type=int, help="only so many")
    parser.add_argument("--detector", default="", help="an ..._openvino_model or .pt [bundled]")
    parser.add_argument("--embedder", default="", help="this package's appearance network [bundled]")
    parser.add_argument("--sizes", type=int, nargs="+", default=[640], help="px, at which Ultralytics looks")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--peers-python", help="Python of an environment that has boxmot 25")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        kind, options = arguments.worker[0], json.loads(arguments.worker[1])
        work = run_ours if kind == "ours" else run_ultralytics
        print("\n" + json.dumps(work(options, Path(options["output"]))))
        return

    from reid_tracker.backends import detector_form
    from reid_tracker.evaluation.mot import evaluate_mot

    with tempfile.TemporaryDirectory() as folder:
        video, truth = arguments.video.resolve(), arguments.truth
        if arguments.frames:
            video, truth = cut(video, truth, arguments.frames, Path(folder))
        reid = reid_for_peers(Path(folder) / "reid.onnx")
        detector = str(detector_form(arguments.detector or None, device="cpu"))
        shared = {"video": str(video), "fps": arguments.fps}
        contenders = {
            "reid_tracker": ("ours", {"detector": arguments.detector or None, "embedder": arguments.embedder or None}),
        }
        for size in arguments.sizes:
            for kind, model in (("appearance", str(reid)), ("motion", "")):
                options = {"detector": detector, "reid": model, "size": size}
                contenders[f"Ultralytics BoT-SORT, {size}, {kind}"] = ("peer", options)
        if arguments.peers_python:
            reid = reid_for_peers(Path(folder) / "reid_imagenet.onnx", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
            checkpoint = str(detector_form(arguments.detector or None, "torch"))
            contenders["BoxMOT BotSort, appearance"] = ("boxmot", {"detector": checkpoint, "reid": str(reid)})
        figures: dict[str, list[dict[str, float]]] = {name: [] for name in contenders}
        for _ in range(arguments.rounds):
            for number, (name, (kind, options)) in enumerate(contenders.items()):
                output = Path(folder) / str(number)
                output.mkdir(exist_ok=True)
                if kind == "boxmot":
                    figures[name].append(run_boxmot(arguments.peers_python, {**shared, **options}, output))
                    continue
                text = json.dumps({**shared, **options, "output": str(output)})
                command = [sys.executable, __file__, str(arguments.video), "--worker", kind, text]
                done = subprocess.run(command, capture_output=True, text=True, env=os.environ)
                if done.returncode:
                    sys.exit(f"{name} failed:\n{done.stderr}")
                figures[name].append(json.loads(done.stdout.splitlines()[-1]))
        ours = max(run["fps"] for run in figures["reid_tracker"])
        print(
            f"{'best of rounds':<34}{'fps':>7}{'all rounds':>16}{'ours is':>9}{'first frame s':>15}"
            f"{'HOTA / MOTA / IDF1 / switches':>32}"
        )
        for number, (name, runs) in enumerate(figures.items()):
            best = max(run["fps"] for run in runs)
            accuracy = "-"
            if truth:
                row = evaluate_mot(truth, Path(folder) / str(number) / f"{video.stem}.txt")[truth.name]
                accuracy = " / ".join(f"{100 * row[key]:.1f}" for key in ("HOTA", "MOTA", "IDF1"))
                accuracy += f" / {row['IDSW']:.0f}"
            every = " ".join(f"{run['fps']:.1f}" for run in runs)
            start = min(run["start"] for run in runs)
            print(f"{name:<34}{best:>7.1f}{every:>16}{ours / best:>8.2f}x{start:>15.1f}{accuracy:>32}")
        best_run = max(figures["reid_tracker"], key=lambda run: run["fps"])
        print(
            "reid_tracker, ms a frame (stages overlap): "
            + ", ".join(f"{stage} {best_run[stage]:.1f}" for stage in STAGES)
        )


if __name__ == "__main__":
    main()
