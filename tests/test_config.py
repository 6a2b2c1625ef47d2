"""Settings: written out, read back, refused by name."""

from pathlib import Path

import pytest
import yaml

from reid_tracker.cli.shared import parse_settings
from reid_tracker.config import CONFIGS, LiveConfig, TrackConfig, load, write_yaml
from reid_tracker.errors import UserError
from reid_tracker.reading import parse_yaml

CONFIG_FOLDER = Path(__file__).parents[1] / "configs"


@pytest.mark.parametrize("name", CONFIGS)
def test_the_file_in_configs_is_what_the_settings_write(name):
    assert (CONFIG_FOLDER / f"{name}.yaml").read_text() == write_yaml(CONFIGS[name]())


def test_every_setting_is_written_with_its_meaning_and_read_back(tmp_path):
    config = TrackConfig()
    config.tracker.lost_seconds = 7.5
    config.source.start = "1:30"
    config.detector.classes = ["person", 2]
    path = tmp_path / "track.yaml"
    path.write_text(write_yaml(config))
    assert load(TrackConfig, path) == config
    lines = path.read_text().splitlines()
    settings = [i for i, line in enumerate(lines) if line.strip() and not line.strip().startswith("#")]
    assert len(settings) > 30 and all(lines[i - 1].strip().startswith("# ") for i in settings)


def test_flags_override_the_file_and_none_does_not(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("tracker: {lost_seconds: 9}\noutput:\n")
    config = load(TrackConfig, path, {"tracker.lost_seconds": None, "tracker.new_confidence": 0.5, "output.mot": True})
    assert (config.tracker.lost_seconds, config.tracker.new_confidence, config.output.mot) == (9, 0.5, True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tracker: {lost_second: 3}", r"no setting tracker.lost_second; did you mean tracker.lost_seconds\?"),
        ("tracker: {nonsense: 3}", r"no setting tracker.nonsense; tracker has high_confidence, .*, camera_motion\.$"),
        ("trackr: {}", r"no setting trackr; did you mean tracker\?"),
        ("tracker: {lost_seconds: -1}", "tracker.lost_seconds cannot be -1"),
        ("tracker: {confirm_sightings: many}", "tracker.confirm_sightings cannot be 'many'"),
        ("tracker: 3", "tracker cannot be 3"),
        ("- a list", "name: value"),
        ("a: b: c", "not YAML"),
    ],
)
def test_mistakes_are_refused_by_name(tmp_path, text, message):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        load(TrackConfig, path)
    assert "bad.yaml" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("source.clock", "2026-11-29 14:00:05"),
        ("source.clock", "2026-11-29T14:00:05+01:00"),
        ("source.clock", "2026-11-29"),
        ("output.folder", "2026-11-29"),
        ("source.start", "1:30"),
        ("source.start", "0:02"),
        ("source.end", "0:01:30.5"),
    ],
)
def test_dates_and_times_stay_what_is_written(tmp_path, name, text):
    group, leaf = name.split(".")
    path = tmp_path / "mine.yaml"
    path.write_text(f"{group}: {{{leaf}: {text}}}")
    for config in (load(TrackConfig, path), load(TrackConfig, None, parse_settings([f"{name}={text}"]))):
        assert getattr(getattr(config, group), leaf) == text
        path.write_text(write_yaml(config))
        assert load(TrackConfig, path) == config


def test_numbers_are_numbers_still():
    assert parse_yaml("[1, -2.5, 1_000, .5, 1.0e+3, 0x10]") == [1, -2.5, 1000, 0.5, 1000.0, 16]


def test_a_missing_file_is_named():
    with pytest.raises(UserError, match=r"nowhere.yaml: cannot be read"):
        load(TrackConfig, "nowhere.yaml")


def test_yaml_of_the_defaults_is_plain_yaml():
    assert yaml.safe_load(write_yaml(TrackConfig()))["tracker"]["confirm_sightings"] == 3


def test_returns_are_recognised_at_the_same_rate_everywhere() -> None:
    for kind in (TrackConfig, LiveConfig):
        assert load(kind, None, {"tracker.lost_seconds": 1.0}).tracker.return_false_match_rate == 0.01


def test_what_is_no_file_of_settings_is_refused_at_once(tmp_path):
    (tmp_path / "deep.yaml").write_text("[" * 50_000)
    (tmp_path / "large.yaml").write_text("# x\n" * 500_000)
    for path in ("/dev/zero", tmp_path, tmp_path / "deep.yaml", tmp_path / "large.yaml"):
        with pytest.raises(UserError):
            load(TrackConfig, path)


def test_half_of_a_letter_is_no_setting(tmp_path):
    (tmp_path / "half.yaml").write_text(r'output: {folder: "runs\ud800"}')
    with pytest.raises(UserError, match=r"half\.yaml: not YAML \(.* half of a letter in line 1\)"):
        load(TrackConfig, tmp_path / "half.yaml")
    assert parse_yaml('folder: "läuft \U0001f3c3"') == {"folder": "läuft \U0001f3c3"}


def test_what_stands_twice_is_an_error(tmp_path):
    (tmp_path / "twice.yaml").write_text("tracker:\n  lost_seconds: 2\n  motion_limit: 0.7\n  lost_seconds: 5\n")
    with pytest.raises(UserError, match=r"twice\.yaml: not YAML \('lost_seconds' stands twice in line 4\)"):
        load(TrackConfig, tmp_path / "twice.yaml")
    # The same name in two groups is two names, and what an anchor brings along may be said anew.
    fine = "base: &base {lost_seconds: 2}\ntracker: {<<: *base, lost_seconds: 5}\n"
    assert parse_yaml(fine)["tracker"] == {"lost_seconds": 5}
