"""The MOT evaluation through its public interface: reference figures, cases worked out by hand, and bad input."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

from reid_tracker.errors import UserError
from reid_tracker.evaluation.mot import COMBINED, SUMMARY_FIGURES, evaluate_mot, write_csv, write_json

DATA = os.environ.get("REID_TRACKER_DATA")
EMPTY: list[str] = []


def box(frame: int, identity: int, left: float = 0, tail: str = "1,-1,-1,-1", width: float = 100) -> str:
    return f"{frame},{identity},{left},0,{width},100,{tail}"


def truth_box(frame: int, identity: int, left: float = 0, flag: int = 1, kind: int = 1) -> str:
    return box(frame, identity, left, tail=f"{flag},{kind},1")


def write_truth(root: Path, rows: list[str], name: str = "walk", length: int = 20) -> Path:
    folder = root / name
    (folder / "gt").mkdir(parents=True)
    (folder / "gt" / "gt.txt").write_text("\n".join(rows))
    (folder / "seqinfo.ini").write_text(
        f"[Sequence]\nname={name}\nimDir=img1\nframeRate=10\nseqLength={length}\nimWidth=640\nimHeight=480\nimExt=.jpg\n"
    )
    return folder


@pytest.fixture
def evaluate(tmp_path):
    """Evaluate rows of one sequence, written to files."""

    def evaluate_rows(truth: list[str], result: list[str], name: str = "walk", **options):
        file = tmp_path / "result.txt"
        file.write_text("\n".join(result))
        return evaluate_mot(write_truth(tmp_path / "truth", truth, name), file, **options)[name]

    return evaluate_rows


@pytest.mark.needs_data
@pytest.mark.skipif(not DATA, reason="needs the evaluation data that REID_TRACKER_DATA names")
def test_every_figure_of_the_reference_evaluation_is_reproduced(tmp_path):
    source = Path(DATA or "") / "mot17"
    expected = json.loads((source / "trackeval_expected.json").read_text())["results"]
    for sequence in expected.keys() - {COMBINED}:
        (tmp_path / f"{sequence}.txt").symlink_to(source / sequence / "mpntrack.txt")

    figures = evaluate_mot(source, tmp_path)

    assert figures.keys() == expected.keys()
    for sequence, values in expected.items():
        found = {name: figures[sequence][name] for name in values}
        counts = [name for name, value in values.items() if value.is_integer()]
        assert {name: found[name] for name in counts} == {name: values[name] for name in counts}
        assert found == pytest.approx(values, abs=1e-9)


def test_figures_of_a_track_with_a_miss_a_switch_and_a_false_positive(evaluate):
    truth = [truth_box(frame, 7) for frame in (1, 2, 3, 4)]
    result = [box(1, 5), box(2, 5), box(4, 6), box(1, 9, left=300), box(3, 9, left=300)]

    figures = evaluate(truth, result)

    assert figures == pytest.approx(
        figures  # and of these, by hand:
        | {"CLR_TP": 3, "CLR_FN": 1, "CLR_FP": 2, "IDSW": 1, "Frag": 1, "MOTA": 0, "MODA": 0.25, "MOTP": 1, "sMOTA": 0}
        | {"MT": 0, "PT": 1, "ML": 0, "PTR": 1, "CLR_Re": 3 / 4, "CLR_Pr": 3 / 5}
        | {"IDTP": 2, "IDFN": 2, "IDFP": 3, "IDF1": 4 / 9, "IDR": 1 / 2, "IDP": 2 / 5}
        # Identity 5 is right in 2 of the 4 frames that it and 7 are in, identity 6 in 1 of 4: (2 * 2/4 + 1/4) / 3.
        | {"DetA": 3 / 6, "AssA": 5 / 12, "HOTA": np.sqrt(3 / 6 * 5 / 12), "LocA": 1, "AssRe": 5 / 12, "AssPr": 1}
        | {"DetRe": 3 / 4, "DetPr": 3 / 5, "OWTA": np.sqrt(3 / 4 * 5 / 12), "HOTA(0)": np.sqrt(5 / 24), "LocA(0)": 1}
        | {"Dets": 5, "GT_Dets": 4, "IDs": 3, "GT_IDs": 1}
    )


def test_hota_counts_a_match_at_every_alpha_up_to_its_iou(evaluate):
    # 100 px boxes, 60 px apart: IoU 40 / 160 = 0.25, which five of the nineteen alphas accept.
    figures = evaluate([truth_box(1, 1)], [box(1, 1, left=60)])
    assert figures["HOTA"] == pytest.approx(5 / 19)
    assert figures["LocA"] == pytest.approx((5 * 0.25 + 14) / 19)
    assert (figures["HOTA(0)"], figures["LocA(0)"], figures["HOTALocA(0)"]) == pytest.approx((1, 0.25, 0.25))
    assert (figures["CLR_TP"], figures["IDTP"]) == (0, 0)


def test_an_iou_of_exactly_one_half_is_a_match(evaluate):
    figures = evaluate([truth_box(1, 1)], [box(1, 1, width=50)])
    assert (figures["CLR_TP"], figures["IDTP"]) == (1, 1)


@pytest.mark.parametrize(
    ("second_frame", "switches", "fragments"),
    [
        pytest.param([], 0, 0, id="a frame without results is no timestep"),
        pytest.param([box(2, 3, left=400)], 1, 1, id="a frame with a result elsewhere is one"),
    ],
)
def test_a_pair_of_the_previous_timestep_goes_on_before_a_better_one(evaluate, second_frame, switches, fragments):
    truth = [truth_box(frame, 1) for frame in (1, 2, 3)]
    figures = evaluate(truth, [box(1, 1), *second_frame, box(3, 1, left=20), box(3, 2, left=5)])
    assert (figures["IDSW"], figures["Frag"]) == (switches, fragments)


def test_mostly_tracked_begins_above_eighty_percent(evaluate):
    truth = [truth_box(frame, person, left=300 * person) for frame in range(1, 11) for person in range(4)]
    seen = {0: 9, 1: 8, 2: 2, 3: 1}
    result = [box(frame, person, left=300 * person) for person in seen for frame in range(1, seen[person] + 1)]
    figures = evaluate(truth, result)
    assert (figures["MT"], figures["PT"], figures["ML"]) == (1, 2, 1)


def test_truth_as_result_is_perfect(evaluate):
    rng = np.random.default_rng(3)
    places = rng.uniform(0, 200, (20, 6))  # Crowded: 100 px boxes in 200 px.
    rows = [truth_box(frame, who, places[frame - 1, who]) for frame in range(1, 21) for who in range(6)]
    figures = evaluate(rows, rows)
    faults = {"IDSW", "Frag", "CLR_FP", "CLR_FN", "IDFP", "IDFN", "PT", "ML", "PTR", "MLR"}
    counts = dict.fromkeys(("CLR_TP", "IDTP", "Dets", "GT_Dets"), 120) | dict.fromkeys(("MT", "IDs", "GT_IDs"), 6)
    assert figures == pytest.approx(dict.fromkeys(figures, 1) | dict.fromkeys(faults, 0) | counts)


@pytest.mark.parametrize("engine", ["native", "motmetrics"])
def test_an_empty_result_misses_everything(evaluate, engine):
    figures = evaluate([truth_box(1, 1), truth_box(2, 1), truth_box(2, 2)], EMPTY, engine=engine)
    assert (figures["CLR_FN"], figures["IDFN"], figures["ML"]) == (3, 3, 2)
    assert [figures[name] for name in ("MOTA", "MOTP", "IDF1", "IDP", "CLR_FP")] == [0] * 5
    assert figures.get("HOTA", 0) == 0


@pytest.mark.parametrize("engine", ["native", "motmetrics"])
def test_results_without_any_truth_are_false(evaluate, engine):
    figures = evaluate(EMPTY, [box(1, 1), box(2, 1)], engine=engine)
    assert (figures["CLR_FP"], figures["IDFP"], figures["CLR_FN"]) == (2, 2, 0)
    assert [figures[name] for name in ("MOTA", "MOTP", "IDF1", "CLR_Re", "CLR_Pr")] == [0] * 5


def test_neither_truth_nor_result_gives_finite_figures(evaluate):
    assert np.isfinite(list(evaluate(EMPTY, EMPTY).values())).all()


def test_ignored_truth_and_distractors_are_prepared_as_motchallenge_prescribes(evaluate):
    truth = [
        truth_box(1, 1),
        truth_box(1, 2, left=300, flag=0),  # a pedestrian to ignore: the result there still counts as false
        truth_box(1, 3, left=600, flag=0, kind=7),  # a static person: the result there counts for nothing
        truth_box(1, 4, left=900, kind=3),  # a car: no distractor
    ]
    result = [box(1, person, left=300 * (person - 1)) for person in (1, 2, 3, 4)]
    figures = evaluate(truth, result)
    assert (figures["GT_Dets"], figures["Dets"], figures["CLR_TP"], figures["CLR_FP"]) == (1, 3, 1, 2)


@pytest.mark.parametrize(
    ("name", "options", "false_positives"),
    [
        ("MOT20-05", {}, 0),
        ("MOT17-02-FRCNN", {}, 1),
        ("walk", {}, 1),
        ("walk", {"benchmark": "mot20"}, 0),
        ("2DMOT2015-walk", {}, 1),
        ("MOT20-05", {"benchmark": "MOT17"}, 1),
    ],
)
def test_other_vehicles_are_distractors_on_mot20_only(evaluate, name, options, false_positives):
    truth = [truth_box(1, 1, kind=6), truth_box(1, 2, left=500)]
    assert evaluate(truth, [box(1, 1)], name, **options)["CLR_FP"] == false_positives


@pytest.mark.parametrize("name", ["walk", "MOT15-walk", "dancetrack0001"])
def test_truth_without_classes_keeps_every_flagged_box(evaluate, name):
    # MOT15 has world coordinates where later benchmarks have class and visibility; results may have them too.
    truth = [box(1, 1, tail="1,-3.5,7.2,0"), box(1, 2, left=300, tail="1,7,2,0"), box(1, 3, left=600, tail="0,1,1,0")]
    figures = evaluate(truth, [box(1, 1, tail="1,12.5,3,0"), box(1, 2, left=300)], name)
    assert (figures["CLR_TP"], figures["CLR_FN"], figures["CLR_FP"]) == (2, 0, 0)


def test_the_parent_folder_can_name_the_benchmark(tmp_path):
    write_truth(tmp_path / "MOT20" / "train", [truth_box(1, 1, kind=6), truth_box(1, 2, left=500)])
    (tmp_path / "walk.txt").write_text(box(1, 1))
    assert evaluate_mot(tmp_path / "MOT20" / "train", tmp_path)["walk"]["CLR_FP"] == 0


def test_sequences_are_evaluated_apart_and_together(tmp_path):
    results = tmp_path / "results"
    results.mkdir()
    for name, frames in {"long": 9, "short": 1}.items():
        write_truth(tmp_path / "truth", [truth_box(frame, 1) for frame in range(1, 11)], name)
        (results / f"{name}.txt").write_text("\n".join(box(frame, 1) for frame in range(1, frames + 1)))
    (results / "notes.txt").write_text("not a result")

    figures = evaluate_mot(str(tmp_path / "truth"), str(results))

    assert list(figures) == ["long", "short", COMBINED]
    assert [values["MOTA"] for values in figures.values()] == pytest.approx([0.9, 0.1, 0.5])
    assert figures[COMBINED]["AssA"] == pytest.approx((9 * 0.9 + 1 * 0.1) / 10)  # Each true positive weighs the same.
    assert (figures[COMBINED]["MT"], figures[COMBINED]["ML"], figures[COMBINED]["GT_IDs"]) == (1, 1, 2)

    chosen = evaluate_mot(tmp_path / "truth", results, sequences=["short"])
    assert chosen == {"short": figures["short"], COMBINED: figures["short"]}


def test_one_sequence_folder_takes_a_folder_of_results(tmp_path):
    folder = write_truth(tmp_path, [truth_box(1, 1)])
    (tmp_path / "walk.txt").write_text(box(1, 4))
    assert evaluate_mot(folder, tmp_path)["walk"]["MOTA"] == 1


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("row", "message"),
    [
        (box(2, 1), "result.txt: identity 1 in frame 2 is there twice; give each identity one box"),
        (box(21, 1), "identity 1 in frame 21 is not in the sequence; number frames from 1 .* 20"),
        (box(0, 1), "identity 1 in frame 0 is not in the sequence"),
        (box(3, 1, left=np.nan), "identity 1 in frame 3 is not finite"),
        (box(3, 1, left=np.inf), "identity 1 in frame 3 is not finite"),
        (box(3, 1, width=0), "identity 1 in frame 3 has no width or height; leave"),
        (box(3, 1, width=-5), "identity 1 in frame 3 has no width or height"),
        ("3,1.5,0,0,100,100,1,-1,-1,-1", "identity 1.5 in frame 3 is no whole number"),
        ("3,1e300,0,0,100,100,1,-1,-1,-1", r"identity 1e\+300 in frame 3 is no whole number"),
        (box(3, 1, left=1.7e308, width=1.7e308), "identity 1 in frame 3 has a box that lies beyond any picture"),
        (box(3, 1, left=-1e10), "identity 1 in frame 3 has a box that lies beyond any picture"),
        ("3.5,1,0,0,100,100,1,-1,-1,-1", "identity 1 in frame 3.5 is no whole number"),
        (box(3, 1, tail="1,3,-1,-1"), r"identity 1 in frame 3 is of another class .* leave other classes out"),
        ("3,one,0,0,100,100,1,-1,-1,-1", "line 2 is not numbers"),
    ],
)
def test_a_result_that_cannot_be_evaluated_is_refused_by_row(evaluate, row, message):
    with pytest.raises(UserError, match=message):
        evaluate([truth_box(1, 1)], [box(2, 1), row])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("row", "options", "message"),
    [
        (truth_box(1, 1), {}, r"gt\.txt: identity 1 in frame 1 is there twice"),
        (truth_box(2, 10**300), {}, r"gt\.txt: identity 1e\+300 in frame 2 is no whole number"),
        (truth_box(99, 1), {}, r"gt\.txt: identity 1 in frame 99 is not in the sequence"),
        (box(2, 1, tail="1,-1,-1"), {"benchmark": "MOT17"}, "column 8 holds no MOT17 classes .* give benchmark MOT15"),
    ],
)
def test_truth_that_cannot_be_evaluated_is_refused_by_row(evaluate, row, options, message):
    with pytest.raises(UserError, match=message):
        evaluate([truth_box(1, 1), row], [box(1, 1)], **options)


def test_truth_without_flags_is_refused(evaluate):
    with pytest.raises(UserError, match="6 columns; truth needs a 7th"):
        evaluate(["1,1,0,0,10,10"], [box(1, 1)])


def test_what_is_missing_is_named(tmp_path):
    truth, results = tmp_path / "truth", tmp_path / "results"
    with pytest.raises(UserError, match="truth: no such folder"):
        evaluate_mot(truth, results)
    truth.mkdir()
    with pytest.raises(UserError, match=r"truth: no <sequence>/gt/gt\.txt"):
        evaluate_mot(truth, results)
    for name in ("one", "two", "three"):
        write_truth(truth, [truth_box(1, 1)], name)
    with pytest.raises(UserError, match="results: no such file or folder"):
        evaluate_mot(truth, results)
    results.mkdir()
    (results / "one.txt").write_text(box(1, 1))
    with pytest.raises(
        UserError, match=r"results: no result file three\.txt, two\.txt; add .* or choose the sequences"
    ):
        evaluate_mot(truth, results)
    with pytest.raises(UserError, match=r"one\.txt: one file, but the truth has 3 sequences"):
        evaluate_mot(truth, results / "one.txt")
    with pytest.raises(UserError, match="no sequence four there; it has one, three, two"):
        evaluate_mot(truth, results, sequences=["one", "four"])
    with pytest.raises(UserError, match="name at least one"):
        evaluate_mot(truth, results, sequences=[])
    (truth / "one" / "seqinfo.ini").unlink()
    with pytest.raises(UserError, match=r"one: no seqinfo\.ini there"):
        evaluate_mot(truth, results, sequences=["one"])


def test_unknown_benchmark_and_engine_are_refused(evaluate, tmp_path):
    with pytest.raises(UserError, match="MOT19: no such benchmark; give one of MOT15, MOT16"):
        evaluate_mot(tmp_path, tmp_path, benchmark="MOT19")
    with pytest.raises(UserError, match="fast: no such engine; give native or motmetrics"):
        evaluate_mot(tmp_path, tmp_path, engine="fast")  # type: ignore[arg-type]


def test_motmetrics_differs_from_the_native_engine_as_documented(tmp_path):
    truth = [truth_box(frame, 1) for frame in (1, 2, 3, 4, 5)]
    cases = {
        # Tracked in exactly 80 % of the frames, with a frame without results between.
        "eighty": [box(frame, 1) for frame in (1, 2, 4, 5)],
        # After a gap the partner of long ago is there, and a better one.
        "carried": [box(1, 1), box(2, 3, left=400), box(3, 1, left=20), box(3, 2, left=5)],
    }
    for name, rows in cases.items():
        write_truth(tmp_path / "truth", truth, name)
        (tmp_path / f"{name}.txt").write_text("\n".join(rows))
    native, other = (evaluate_mot(tmp_path / "truth", tmp_path, engine=engine) for engine in ("native", "motmetrics"))
    assert [(figures["eighty"]["MT"], figures["eighty"]["Frag"]) for figures in (native, other)] == [(0, 0), (1, 1)]
    assert [figures["carried"]["IDSW"] for figures in (native, other)] == [1, 0]
    assert other[COMBINED].keys() <= native[COMBINED].keys()


def test_figures_are_written_whole(tmp_path):
    figures = {"=walk": {"HOTA": 0.5, "IDSW": -3.0}, COMBINED: {"HOTA": 0.25, "IDSW": 4.0}}
    (tmp_path / "figures.json").write_text("old")
    write_json(figures, tmp_path / "figures.json")
    write_csv(figures, tmp_path / "deeper" / "figures.csv")
    assert json.loads((tmp_path / "figures.json").read_text()) == figures
    assert (tmp_path / "deeper" / "figures.csv").read_text() == (
        "sequence,HOTA,IDSW\n'=walk,0.5,-3.0\nCOMBINED_SEQ,0.25,4.0\n"  # no text that a spreadsheet would run
    )
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["deeper", "figures.csv", "figures.json"]


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file" / "figures.json", tmp_path / "folder"):
        with pytest.raises(UserError, match=f"{path}: cannot be written .* choose another place"):
            write_json({"walk": {"HOTA": 1.0}}, path)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder"]


def test_the_summary_names_figures_that_exist(evaluate):
    assert set(SUMMARY_FIGURES) <= evaluate([truth_box(1, 1)], [box(1, 1)]).keys()


def write_cars(folder, flag="1", classes=(1, 1, 1), bom=b""):
    """A sequence of a name that tells nothing, and perfect results for it."""
    (folder / "truth/cars-01/gt").mkdir(parents=True)
    (folder / "results").mkdir()
    about = "[Sequence]\nname=cars-01\nimDir=img1\nframeRate=25\nseqLength=9\nimWidth=640\nimHeight=360\nimExt=.jpg\n"
    (folder / "truth/cars-01/seqinfo.ini").write_bytes(bom + about.encode())
    boxes = [(frame, number, 100 * number + frame) for frame in range(1, 10) for number in (1, 2, 3)]
    truth = (f"{frame},{number},{left},50,60,40,{flag},{classes[number - 1]},1\n" for frame, number, left in boxes)
    (folder / "truth/cars-01/gt/gt.txt").write_text("".join(truth))
    found = (f"{frame},{number},{left},50,60,40,1,-1,-1,-1\n" for frame, number, left in boxes)
    (folder / "results/cars-01.txt").write_text("".join(found))
    return folder / "truth", folder / "results"


def test_what_was_guessed_and_left_out_is_told(tmp_path, caplog):
    truth, results = write_cars(tmp_path, classes=(1, 2, 3))
    assert evaluate_mot(truth, results)["cars-01"]["GT_Dets"] == 9
    assert "taken for MOT17's; 18 boxes of other classes than 1 (column 8) are left out" in caplog.text
    caplog.clear()
    assert evaluate_mot(truth, results, "MOT15")["cars-01"]["HOTA"] == pytest.approx(1)
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"flag": "0.9"}, "identity 1 in frame 1 has a fraction in column 7, as a detector's confidence"),
        ({"flag": "0"}, "none of its 27 boxes counts"),
        ({"classes": (3, 3, 3)}, "none of its 27 boxes counts"),
    ],
)
def test_a_truth_of_which_nothing_counts_is_an_error(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        evaluate_mot(*write_cars(tmp_path, **changes))


def test_a_byte_order_mark_and_trackevals_folders_are_read(tmp_path):
    truth, results = write_cars(tmp_path, bom=b"\xef\xbb\xbf")
    (tmp_path / "tracker").mkdir()
    results.rename(tmp_path / "tracker/data")
    assert evaluate_mot(truth, tmp_path / "tracker")["cars-01"]["HOTA"] == pytest.approx(1)


@pytest.mark.parametrize("line", ["seqLength=1000000000", "frameRate=1e-300", "frameRate=1e9", "imWidth=9999999"])
def test_what_is_no_cameras_is_refused_at_once(tmp_path, line):
    truth, results = write_cars(tmp_path)
    info = truth / "cars-01/seqinfo.ini"
    info.write_text(re.sub(rf"{line.partition('=')[0]}=.*", line, info.read_text()))
    with pytest.raises(UserError, match="is no camera's"):
        evaluate_mot(truth, results)


def test_a_frame_of_a_million_boxes_is_refused_at_once(tmp_path):
    truth, results = write_cars(tmp_path)
    rows = "".join(f"1,{number},1,1,9,9,1,-1,-1,-1\n" for number in range(1, 20_000))
    (results / "cars-01.txt").write_text(rows)
    with pytest.raises(UserError, match="19999 boxes in frame 1"):
        evaluate_mot(truth, results)
