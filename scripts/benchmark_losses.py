"""Batch-all triplet loss and distance-weighted mining: time, memory, anchors kept; beside them pytorch-metric-learning.

    python scripts/benchmark_losses.py [--peers-python /path/to/peers/bin/python] [--threads 2]

Batch-all: embeddings of 512 dimensions, four images of each identity, forward and backward from the embeddings with
Euclidean distances and margin 0.3. Memory is the growth of the process's resident peak over what it held before the
first batch. Every measurement has a process of its own. pytorch-metric-learning lives in an environment of its own
(`pip install pytorch-metric-learning==2.9.0`); its all-triplets loss is only asked for batches of up to 1,024.
Linux only, for the peak.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from resident import memory, start_measuring

DIMENSION, IMAGES, MARGIN = 512, 4, 0.3
OURS, PEER = "reid_tracker", "pytorch-metric-learning"
PEER_LARGEST = 1024


def unit_embeddings(identities: int, dimension: int, noise: float, alike: int = 0):
    """Rows around a random centre for each identity; the first `alike` identities have nearly the same centre."""
    import torch

    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(identities, dimension, generator=generator)
    centres[:alike] = centres[:1] + 0.3 * centres[:alike]
    rows = centres.repeat_interleave(IMAGES, 0)
    rows = rows + noise * torch.randn(rows.shape, generator=generator)
    return torch.nn.functional.normalize(rows), torch.arange(identities).repeat_interleave(IMAGES)


def batch_all(system: str) -> Callable:
    if system == PEER:
        from pytorch_metric_learning.losses import TripletMarginLoss

        return TripletMarginLoss(margin=MARGIN, triplets_per_anchor="all")

    from reid_tracker.training.batch_all import batch_all_loss
    from reid_tracker.training.distances import pairwise_distance

    return lambda rows, labels: batch_all_loss(pairwise_distance(rows), labels, MARGIN)[0]


def measure_batch_all(system: str, size: int, rounds: int) -> dict:
    loss_of = batch_all(system)

    def step(size: int) -> tuple[float, float]:
        embeddings, labels = unit_embeddings(size // IMAGES, DIMENSION, noise=1.5)
        embeddings.requires_grad_()
        resident = start_measuring()
        start = time.perf_counter()
        loss = loss_of(embeddings, labels)
        loss.backward()
        return 1000 * (time.perf_counter() - start), memory("VmHWM") - resident, float(loss.detach())

    step(64)  # libraries load on first use
    steps = [step(size) for _ in range(rounds)]
    times = [milliseconds for milliseconds, _, _ in steps[1:] or steps]
    return {
        "best": min(times),
        "median": statistics.median(times),
        "memory": steps[0][1],  # later rounds reuse what the first one freed
        "loss": steps[0][2],
    }


def measure_distance_weighted(system: str, dimension: int) -> dict:
    """Anchors that get a negative, of 128 in a batch of eight look-alikes and 24 strangers."""
    import torch

    torch.manual_seed(0)
    embeddings, labels = unit_embeddings(32, dimension, noise=0.3, alike=8)
    if system == PEER:
        from pytorch_metric_learning.miners import DistanceWeightedMiner

        anchors = DistanceWeightedMiner(cutoff=0.5, nonzero_loss_cutoff=1.4)(embeddings, labels)[0]
    else:
        from reid_tracker.training.distances import pairwise_distance
        from reid_tracker.training.mining import distance_weighted

        anchors = distance_weighted(pairwise_distance(embeddings), labels, dimension).anchor
    return {"anchors": len(anchors.unique()), "of": len(labels)}


def in_a_process(python: str, threads: int, *task: str) -> dict:
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run([python, __file__, "--task", *task], capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(f"{' '.join(task)} could not be measured:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers-python", help="Python of an environment that has pytorch-metric-learning 2.9")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 1024, 8192])
    parser.add_argument("--rounds", type=int, default=10, help="for sizes up to 1,024; larger ones take two")
    parser.add_argument("--task", nargs="+", help=argparse.SUPPRESS)  # one measurement, for the processes below
    arguments = parser.parse_args()
    if arguments.task:
        name, system, *numbers = arguments.task
        measure = {"batch-all": measure_batch_all, "distance-weighted": measure_distance_weighted}[name]
        print(json.dumps(measure(system, *map(int, numbers))))
        return

    pythons = {OURS: sys.executable, **({PEER: arguments.peers_python} if arguments.peers_python else {})}
    print(f"batch-all, forward and backward, {DIMENSION}-d, K = {IMAGES}, {arguments.threads} threads")
    print(f"{'batch':>6}  {'system':<24}{'best ms':>10}{'median ms':>11}{'extra MiB':>11}{'loss':>9}")
    for size in arguments.sizes:
        for system, python in pythons.items():
            if system == OURS or size <= PEER_LARGEST:
                rounds = arguments.rounds if size <= 1024 else 2
                found = in_a_process(python, arguments.threads, "batch-all", system, str(size), str(rounds))
                print(
                    f"{size:>6}  {system:<24}{found['best']:>10.1f}{found['median']:>11.1f}{found['memory']:>11.0f}"
                    f"{found['loss']:>9.5f}",
                    flush=True,
                )
    print("\ndistance-weighted, anchors kept in a batch of look-alikes and strangers")
    for dimension in (128, 512, 2048):
        kept = {
            system: in_a_process(python, arguments.threads, "distance-weighted", system, str(dimension))
            for system, python in pythons.items()
        }
        print(f"{dimension:>6}-d  " + "   ".join(f"{name} {one['anchors']}/{one['of']}" for name, one in kept.items()))


if __name__ == "__main__":
    main()
