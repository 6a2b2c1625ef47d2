"""The whole-array MOT metrics against slow versions that follow the definitions box by box, on random sequences."""

import tempfile
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reid_tracker.evaluation.mot import COMBINED, DISTRACTORS, evaluate_mot

Box = tuple[float, float, float, float]
ALPHAS = [step / 20 for step in range(1, 20)]
INI = "[Sequence]\nname=x\nimDir=img1\nframeRate=10\nseqLength={}\nimWidth=640\nimHeight=480\nimExt=.jpg\n"


@dataclass
class Frame:
    """Boxes by identity, and the class and flag of the truth's."""

    truth: dict[int, Box] = field(default_factory=dict)
    result: dict[int, Box] = field(default_factory=dict)
    kind: dict[int, int] = field(default_factory=dict)
    flag: dict[int, int] = field(default_factory=dict)


def random_sequence(seed: int, spread: float, people: int = 4) -> list[Frame]:
    """People who stand close or far apart, and a tracker that misses, shifts, swaps and invents."""
    rng = np.random.default_rng(seed)
    places = np.arange(people)[:, None] * [spread, 0.0] + rng.uniform(0, 15, (people, 2))
    sizes = rng.uniform(30, 50, (people, 2))
    kinds, names = rng.choice([1, 1, 1, 1, 6, 7, 3], people), rng.permutation(people)
    miss, noise, absent, idle = rng.choice([0.05, 0.4]), rng.choice([1, 6]), rng.choice([0, 0.3]), rng.choice([0, 0.3])
    frames = []
    for number in range(int(rng.integers(1, 13))):
        frame = Frame()
        if rng.random() < 0.3:
            first, second = rng.integers(0, people, 2)
            names[[first, second]] = names[[second, first]]
        if rng.random() < 0.1:
            names[rng.integers(0, people)] = 100 + number
        no_result = rng.random() < idle
        for person in range(people):
            box = np.concatenate([places[person] + rng.normal(0, 2, 2), sizes[person]])
            if rng.random() >= absent:
                frame.truth[person] = tuple(box.tolist())
                frame.kind[person], frame.flag[person] = int(kinds[person]), int(rng.random() > 0.1)
            if rng.random() >= miss and not no_result:
                frame.result[int(names[person])] = tuple((box + np.r_[rng.normal(0, noise, 2), 0, 0]).tolist())
        frames.append(frame)
    return frames


def evaluate(sequences: dict[str, list[Frame]], **options) -> dict[str, dict[str, float]]:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for sequence, frames in sequences.items():
            folder = root / "truth" / sequence
            (folder / "gt").mkdir(parents=True)
            (folder / "seqinfo.ini").write_text(INI.format(len(frames)))
            truth = [
                f"{number},{who},{','.join(map(repr, box))},{frame.flag[who]},{frame.kind[who]},1"
                for number, frame in enumerate(frames, start=1)
                for who, box in frame.truth.items()
            ]
            result = [
                f"{number},{who},{','.join(map(repr, box))},1,-1,-1,-1"
                for number, frame in enumerate(frames, start=1)
                for who, box in frame.result.items()
            ]
            (folder / "gt" / "gt.txt").write_text("\n".join(truth))
            (root / f"{sequence}.txt").write_text("\n".join(result[::-1]))  # The order of the rows must not matter.
        return evaluate_mot(root / "truth", root, **options)


def slow_iou(one: Box, other: Box) -> float:
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    common = max(width, 0) * max(height, 0)
    return common / (one[2] * one[3] + other[2] * other[3] - common)


def slow_match(scores: dict[tuple[int, int], float]) -> list[tuple[int, int]]:
    """Try every one-to-one matching of the pairs that have a score; the highest sum wins."""

    def best(rows: list[int], taken: frozenset[int]) -> tuple[float, list[tuple[int, int]]]:
        if not rows:
            return 0.0, []
        options = [best(rows[1:], taken)]
        for (row, column), score in scores.items():
            if row == rows[0] and column not in taken:
                total, pairs = best(rows[1:], taken | {column})
                options.append((total + score, [(row, column), *pairs]))
        return max(options, key=lambda option: option[0])

    return best(sorted({row for row, _ in scores}), frozenset())[1]


def overlaps(frame: Frame, least: float) -> dict[tuple[int, int], float]:
    pairs = {(t, r): slow_iou(a, b) for t, a in frame.truth.items() for r, b in frame.result.items()}
    return {pair: iou for pair, iou in pairs.items() if iou >= least}


def slow_prepare(frames: list[Frame], distractors: tuple[int, ...]) -> list[Frame]:
    prepared = []
    for frame in frames:
        dropped = {r for t, r in slow_match(overlaps(frame, 0.5)) if frame.kind[t] in distractors}
        prepared.append(
            Frame(
                {t: box for t, box in frame.truth.items() if frame.kind[t] == 1 and frame.flag[t]},
                {r: box for r, box in frame.result.items() if r not in dropped},
            )
        )
    return prepared


def slow_clear(frames: list[Frame]) -> dict[str, float]:
    count: Counter[str] = Counter()
    iou_sum = 0.0
    last: dict[int, int] = {}
    previous: dict[int, int] = {}
    present: Counter[int] = Counter()
    tracked: Counter[int] = Counter()
    runs: Counter[int] = Counter()
    for frame in frames:
        present.update(frame.truth.keys())
        if not frame.truth or not frame.result:
            count["CLR_FN"] += len(frame.truth)
            count["CLR_FP"] += len(frame.result)
            continue
        near = overlaps(frame, 0.5)
        pairs = slow_match({(t, r): 1000 * (previous.get(t) == r) + iou for (t, r), iou in near.items()})
        for t, r in pairs:
            count["IDSW"] += last.get(t, r) != r
            runs[t] += t not in previous
            iou_sum += near[t, r]
            tracked[t] += 1
        previous = dict(pairs)
        last |= previous
        count["CLR_TP"] += len(pairs)
        count["CLR_FN"] += len(frame.truth) - len(pairs)
        count["CLR_FP"] += len(frame.result) - len(pairs)
    ratios = [tracked[t] / present[t] for t in present]
    boxes = sum(present.values())
    tp, fp, switches = count["CLR_TP"], count["CLR_FP"], count["IDSW"]
    return {
        **{name: count[name] for name in ("CLR_TP", "CLR_FN", "CLR_FP", "IDSW")},
        "MT": sum(ratio > 0.8 for ratio in ratios),
        "PT": sum(0.2 <= ratio <= 0.8 for ratio in ratios),
        "ML": sum(ratio < 0.2 for ratio in ratios),
        "Frag": sum(number - 1 for number in runs.values()),
        "MOTA": (tp - fp - switches) / boxes if boxes else 0,
        "MODA": (tp - fp) / boxes if boxes else 0,
        "sMOTA": (iou_sum - fp - switches) / boxes if boxes else 0,
        "MOTP": iou_sum / tp if tp else 0,
    }


def slow_identity(frames: list[Frame]) -> dict[str, float]:
    together = Counter(pair for frame in frames for pair in overlaps(frame, 0.5))
    tp = sum(together[pair] for pair in slow_match(dict(together)))
    truth, result = sum(len(frame.truth) for frame in frames), sum(len(frame.result) for frame in frames)
    f1 = 2 * tp / (truth + result) if truth + result else 0
    return {"IDTP": tp, "IDFN": truth - tp, "IDFP": result - tp, "IDF1": f1}


def slow_hota(frames: list[Frame]) -> dict[str, float]:
    in_truth = Counter(t for frame in frames for t in frame.truth)
    in_result = Counter(r for frame in frames for r in frame.result)
    shared: defaultdict[tuple[int, int], float] = defaultdict(float)
    for frame in frames:
        ious = overlaps(frame, 1e-12)
        for (t, r), iou in ious.items():
            around = sum(value for (a, b), value in ious.items() if a == t) + sum(
                value for (a, b), value in ious.items() if b == r
            )
            shared[t, r] += iou / (around - iou)
    matches = []
    for frame in frames:
        ious = overlaps(frame, 1e-12)
        scores = {(t, r): v * shared[t, r] / (in_truth[t] + in_result[r] - shared[t, r]) for (t, r), v in ious.items()}
        matches += [(pair, ious[pair]) for pair in slow_match(scores)]
    rows = []
    for alpha in ALPHAS:
        accepted = [(pair, iou) for pair, iou in matches if iou >= alpha]
        together = Counter(pair for pair, _ in accepted)
        tp = len(accepted)
        fn, fp = sum(in_truth.values()) - tp, sum(in_result.values()) - tp
        of = [(together[t, r], in_truth[t], in_result[r]) for (t, r), _ in accepted]
        det_a = tp / (tp + fn + fp) if tp else 0
        ass_a = float(np.mean([both / (one + other - both) for both, one, other in of])) if tp else 0
        rows.append(
            {
                "HOTA": (det_a * ass_a) ** 0.5,
                "DetA": det_a,
                "AssA": ass_a,
                "DetRe": tp / (tp + fn) if tp else 0,
                "DetPr": tp / (tp + fp) if tp else 0,
                "AssRe": np.mean([both / one for both, one, _ in of]) if tp else 0,
                "AssPr": np.mean([both / other for both, _, other in of]) if tp else 0,
                "LocA": np.mean([iou for _, iou in accepted]) if tp else 1,
            }
        )
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def slow_figures(frames: list[Frame]) -> dict[str, float]:
    return slow_hota(frames) | slow_clear(frames) | slow_identity(frames)


def joined(sequences: list[list[Frame]]) -> list[Frame]:
    """Put sequences one after the other, nobody being in two of them."""
    return [
        Frame(*({1000 * number + who: box for who, box in boxes.items()} for boxes in (frame.truth, frame.result)))
        for number, frames in enumerate(sequences)
        for frame in frames
    ]


@settings(deadline=None, max_examples=40)
@given(seeds=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=2), spread=st.floats(2, 40))
@pytest.mark.parametrize("benchmark", ["MOT17", "MOT20"])
def test_figures_follow_their_definitions(benchmark, seeds, spread):
    sequences = {f"s{number}": random_sequence(seed, spread) for number, seed in enumerate(seeds)}
    prepared = {name: slow_prepare(frames, DISTRACTORS[benchmark] or ()) for name, frames in sequences.items()}
    expected = {name: slow_figures(frames) for name, frames in prepared.items()}
    expected[COMBINED] = slow_figures(joined(list(prepared.values())))

    figures = evaluate(sequences, benchmark=benchmark)

    assert figures.keys() == expected.keys()
    for name, values in expected.items():
        assert {figure: figures[name][figure] for figure in values} == pytest.approx(values, abs=1e-9)


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 2**32 - 1), spread=st.floats(2, 40))
def test_motmetrics_agrees_on_identity_figures(seed, spread):
    sequences = {name: random_sequence(seed + number, spread) for number, name in enumerate("ab")}
    native, other = (evaluate(sequences, benchmark="MOT17", engine=engine) for engine in ("native", "motmetrics"))
    for name in native:
        for figure in ("IDTP", "IDFN", "IDFP", "IDF1", "IDR", "IDP"):
            assert other[name][figure] == pytest.approx(native[name][figure])


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 2**32 - 1))
def test_motmetrics_agrees_on_clear_figures_where_nobody_is_near_two_others(seed):
    sequences = {name: random_sequence(seed + number, spread=100) for number, name in enumerate("ab")}
    native, other = (evaluate(sequences, benchmark="MOT17", engine=engine) for engine in ("native", "motmetrics"))
    for name in native:
        for figure in ("CLR_TP", "CLR_FN", "CLR_FP", "IDSW", "ML", "MOTA", "MOTP", "CLR_Re", "CLR_Pr"):
            assert other[name][figure] == pytest.approx(native[name][figure]), figure
