"""What the documentation points at exists: files, headings, scripts, and the options of its commands."""

import os
import re
import shlex
import sqlite3
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
from command_world import make_clip
from typer.testing import CliRunner

from reid_tracker.cli import app

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [
        ROOT / "README.md",
        ROOT / "SECURITY.md",
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "reid_tracker" / "weights").glob("*.md"),
    ]
)


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    commands_page = (tmp_path / "site" / "reference" / "commands" / "index.html").read_text()
    assert "reid-tracker gallery re-describe" in commands_page and "'cam*/*.mp4'" in commands_page
    settings_page = (tmp_path / "site" / "reference" / "settings" / "index.html").read_text()
    assert "tracker.return_false_match_rate" in settings_page
    python_page = (tmp_path / "site" / "reference" / "python" / "index.html").read_text()
    assert "register_miner" in python_page
    # The pages work without a network: neither scripts, styles nor fonts come from elsewhere.
    for page in (tmp_path / "site").rglob("*.html"):
        assert not re.findall(r'(?:src|rel="stylesheet" href)="(?:https?:)?//[^"]+', page.read_text()), page


def headings(page: Path) -> set[str]:
    """The anchors of a page, as they are made of its headings."""
    found = re.findall(r"(?m)^#+ (.+)$", page.read_text())
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in found}


def commands(page: Path) -> list[list[str]]:
    """The words of each `reid-tracker` command in the page's shell blocks."""
    blocks = re.findall(r"(?ms)^```bash\n(.*?)^```", page.read_text())
    lines = [line for block in blocks for line in re.sub(r"\\\n", " ", block).splitlines()]
    words = [shlex.split(line, comments=True) for line in lines]
    return [each[1:] for each in words if each[:1] == ["reid-tracker"]]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith("http"):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        assert not anchor or anchor in headings(there), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_script_that_is_named_exists(page: Path) -> None:
    for name in re.findall(r"\b((?:scripts|configs)/\w+\.\w+)", page.read_text()):
        assert (ROOT / name).is_file(), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_has_the_options_it_is_shown_with(page: Path) -> None:
    for words in commands(page):
        command: Any = typer.main.get_command(app)
        rest = list(words)
        while hasattr(command, "commands"):
            name = rest.pop(0)
            assert name in command.commands, words
            command = command.commands[name]
        known = {option for each in command.params for option in (*each.opts, *each.secondary_opts)}
        for word in rest:
            if re.match(r"--?[a-z]", word):
                assert word.split("=")[0] in known, (words, word)


def leaves(command: Any, words: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    """Every command below this one, with the words that call it."""
    if not hasattr(command, "commands"):
        return [(words, command)]
    return [leaf for name, each in command.commands.items() for leaf in leaves(each, (*words, name))]


@pytest.mark.parametrize(("words", "command"), leaves(typer.main.get_command(app)), ids=lambda each: str(each)[:40])
def test_help_shows_every_option_s_text_whole(words: tuple[str, ...], command: Any) -> None:
    """Text in brackets is markup to what draws the help, unless it is written so that it is not."""
    shown = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "600", "TERM": "dumb"}).output
    drawn = " ".join(re.sub("[│\n]", " ", shown).split())
    for each in command.params:
        said = " ".join((getattr(each, "help", None) or "").replace("\\[", "[").split())
        assert said in drawn, each.name


def test_every_python_block_runs_beside_a_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_clip(tmp_path / "video.mp4", frames=37)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"(?ms)^```python\n(.*?)^```", (ROOT / "docs" / "python.md").read_text())
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, "docs/python.md", "exec"), names)
    assert len(blocks) >= 7 and "[1] [0]" in capsys.readouterr().out
    with sqlite3.connect("tracks.db") as database:
        assert database.execute("SELECT count(*) FROM boxes WHERE identity = 1").fetchone() == (37,)


def test_measurements_are_listed_and_run_by_their_names() -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "scripts/run.py", *words]
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120, check=False)

    listed = run().stdout
    assert "benchmark_gallery" in listed and "peers" not in listed
    assert "--vectors" in run("benchmark_gallery", "--help").stdout
    assert run("nothing").returncode == 1


def test_every_part_s_licence_is_told() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {name: parts for name, parts in project["optional-dependencies"].items() if name != "dev"}
    told = (ROOT / "docs" / "licences.md").read_text(encoding="utf-8")
    for each in [*project["dependencies"], *(part for parts in extras.values() for part in parts)]:
        package = re.split(r"[\[<>=!; ]", each)[0]
        assert re.search(rf"[| ,]{re.escape(package)}[ ,]", told), package
