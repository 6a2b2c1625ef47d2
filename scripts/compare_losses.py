"""The losses and miners beside each other: the same network, start, data and number of steps for each of them.

    python scripts/compare_losses.py /data/market1501/bounding_box_train --start efficientnet-lite0-57934424.pth \
        --output runs/losses [--teacher teacher.xml]

Trains on the first 551 identities of the folder and measures on the others (Market-1501's training folder has 751).
Each loss runs with and without the cross-entropy on the BNNeck; then the best three run with a second seed. The queue
can be stopped at any time: called again with the same arguments it goes on in the run where it was. Prints a Markdown
table.
"""

import argparse
import json
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reid_tracker.config import TrainConfig
from reid_tracker.training.command import train
from reid_tracker.training.trainer import STATE

PEOPLE, IMAGES, IDENTITIES = 16, 4, 551

ON_COSINE = {"metric": "cosine", "unit_length": True, "margin": 0.3}
LOSSES: dict[str, dict[str, Any]] = {
    "contrastive": {"name": "contrastive", "metric": "euclidean", "unit_length": True, "margin": 1.0},
    "triplet, batch-all": {"miner": {1: "batch_all"}, **ON_COSINE},
    "triplet, batch-hard": {"miner": {1: "batch_hard"}, **ON_COSINE},
    "triplet, semi-hard": {"miner": {1: "semi_hard"}, **ON_COSINE},
    "triplet, distance-weighted": {"miner": {1: "distance_weighted"}, **ON_COSINE},
    "triplet, offline hard": {"miner": {1: "offline_hard"}, **ON_COSINE},
}


@dataclass(frozen=True)
class Run:
    """One line of the queue."""

    loss: str
    classifier: bool
    seed: int = 0
    taught: bool = False

    @property
    def folder(self) -> str:
        """Where its files lie."""
        name = self.loss.replace(", ", "_").replace(" ", "_").replace("-", "_")
        return f"{name}{'_classifier' * self.classifier}{'_teacher' * self.taught}_seed{self.seed}"

    @property
    def label(self) -> str:
        """Its name in the table."""
        return self.loss + ", teacher" * self.taught


def settings(run: Run, arguments: argparse.Namespace) -> TrainConfig:
    batches = -(-IDENTITIES // PEOPLE)
    values = {
        "network": {"frozen_blocks": arguments.frozen_blocks},
        "batch": {"people": PEOPLE, "images": IMAGES},
        "schedule": {
            "epochs": max(1, round(arguments.steps / batches)),
            "warm_up_epochs": 1,
            "validation_identities": 0,
        },
        "loss": {**LOSSES[run.loss], "classifier_weight": float(run.classifier)},
        "distillation": {"teacher": arguments.teacher if run.taught else None},
        "compute": {"threads": arguments.threads, "seed": run.seed},
    }
    return TrainConfig.model_validate(values)


def measure(run: Run, arguments: argparse.Namespace) -> dict[str, float]:
    """Figures of a run, from its file or by training, to its end, what is not yet trained."""
    folder = Path(arguments.output) / run.folder
    done = folder / "figures.json"
    if not done.is_file():
        figures = train(
            [f"{arguments.data}[:{IDENTITIES}]"],
            folder,
            settings(run, arguments),
            tests={"test": f"{arguments.data}[{IDENTITIES}:]"},
            start=arguments.start,
            resume=(folder / STATE).is_file(),
        )["test"]
        done.write_text(json.dumps({name: figures[name] for name in ("rank1", "mAP", "mINP")}))
    found: dict[str, float] = json.loads(done.read_text())
    print(f"{run.folder}: rank-1 {100 * found['rank1']:.1f}  mAP {100 * found['mAP']:.1f}", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="Market-1501's bounding_box_train")
    parser.add_argument("--start", required=True, help="weights that every run starts from")
    parser.add_argument("--output", default="runs/losses")
    parser.add_argument("--steps", type=int, default=350, help="of 64 crops")
    parser.add_argument("--seeds", type=int, default=2, help="for the best three")
    parser.add_argument("--teacher", help="also learn from this network (batch-hard, with the cross-entropy)")
    parser.add_argument("--frozen-blocks", type=int, default=3, help="of the backbone keep their starting weights")
    parser.add_argument("--threads", type=int, default=0)
    arguments = parser.parse_args()

    queue = [Run(loss, classifier) for classifier in (True, False) for loss in LOSSES]
    figures = {run: [measure(run, arguments)] for run in queue}
    best = sorted(queue, key=lambda run: -figures[run][0]["mAP"])[:3]
    for run in best:
        for seed in range(1, arguments.seeds):
            figures[run].append(measure(Run(run.loss, run.classifier, seed), arguments))
    if arguments.teacher:
        taught = Run("triplet, batch-hard", classifier=True, taught=True)
        figures[taught] = [measure(taught, arguments)]

    print("\n| loss | cross-entropy | seeds | Rank-1 | mAP | mINP |\n|---|---|---|---|---|---|")
    for run, found in figures.items():
        cells = " | ".join(_cell([100 * one[name] for one in found]) for name in ("rank1", "mAP", "mINP"))
        print(f"| {run.label} | {'yes' if run.classifier else 'no'} | {len(found)} | {cells} |")


def _cell(values: list[float]) -> str:
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{spread}"


if __name__ == "__main__":
    main()
