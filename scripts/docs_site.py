"""What mkdocs is told beyond the pages in docs/: the reference, written from the code, and links that leave docs/.

A hook of mkdocs.yml: `make docs` builds the site in build/docs, and any warning fails it.
"""

import re
from pathlib import Path
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import reid_tracker
from reid_tracker.cli import app
from reid_tracker.config import CONFIGS, Settings

ROOT = Path(__file__).parents[1]
# Files of the repository that are pages of the site, too.
PAGES = {
    "reference/detector.md": "reid_tracker/weights/detector.md",
    "reference/appearance.md": "reid_tracker/weights/appearance.md",
    "reference/changes.md": "CHANGELOG.md",
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that no one writes by hand."""
    made = {"reference/commands.md": commands(), "reference/settings.md": settings(), "reference/python.md": python()}
    made |= {page: (ROOT / source).read_text() for page, source in PAGES.items()}
    for page, content in made.items():
        files.append(File.generated(config, page, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links to files that the site has as pages at those, and others at nothing: their text stays."""
    home = (ROOT / PAGES.get(page.file.src_uri, f"docs/{page.file.src_uri}")).parent

    def lead(match: re.Match[str]) -> str:
        text, target = match.groups()
        path, hash_, anchor = target.partition("#")
        if "://" in target or not path:
            return match[0]
        there = (home / path).resolve()
        known = {(ROOT / source).resolve(): uri for uri, source in PAGES.items()}
        known |= {(ROOT / "configs" / f"{name}.yaml").resolve(): "reference/settings.md" for name in CONFIGS}
        known[(ROOT / "README.md").resolve()] = "index.md"
        if there in known:
            depth = page.file.src_uri.count("/")
            return f"[{text}]({'../' * depth}{known[there]}{hash_}{anchor})"
        return match[0] if there.is_relative_to(ROOT / "docs") else f"`{there.relative_to(ROOT)}`"

    return re.sub(r"\[([^\]]+)\]\(([^)\s]+)\)", lead, markdown)


def cell(text: str) -> str:
    """Text as a cell of a Markdown table."""
    return re.sub(r"([|<>\[\]*])", r"\\\1", " ".join(text.replace("\\[", "[").split()))


def prose(help_text: str) -> str:
    """A command's help as Markdown, its paragraphs kept."""
    return "\n\n".join(cell(each) for each in help_text.replace("\b", "").split("\n\n"))


def commands() -> str:
    """Every command with its arguments and options."""
    lines = ["# Commands", "", "`reid-tracker COMMAND --help` says the same.", ""]

    def describe(command: Any, words: tuple[str, ...]) -> None:
        if hasattr(command, "commands"):
            for name, each in command.commands.items():
                describe(each, (*words, name))
            return
        lines.extend([f"## {' '.join(words)}", "", prose(command.help or ""), "", "| | |", "|---|---|"])
        for each in command.params:
            shown = each.opts[0] if not each.opts[0].startswith("-") else ", ".join(each.opts + each.secondary_opts)
            name = f"`{shown.upper() if each.param_type_name == 'argument' else shown}`"
            lines.append(f"| {name} | {cell(getattr(each, 'help', None) or '')} |")
        lines.append("")

    describe(typer.main.get_command(app), ("reid-tracker",))
    return "\n".join(lines)


def settings() -> str:
    """Every setting of the three jobs, with its default and its meaning."""
    lines = [
        "# Settings",
        "",
        "`--config FILE` reads them, `--set NAME=VALUE` sets one, `reid-tracker config track` writes them as YAML.",
        "",
    ]

    def describe(group: type[Settings], prefix: str) -> list[tuple[str, str, str]]:
        rows = []
        for name, field in group.model_fields.items():
            if isinstance(field.annotation, type) and issubclass(field.annotation, Settings):
                rows += describe(field.annotation, f"{prefix}{name}.")
            else:
                default = field.get_default(call_default_factory=True)
                rows.append((f"{prefix}{name}", "null" if default is None else str(default), field.description or ""))
        return rows

    for name, model in CONFIGS.items():
        lines += [f"## reid-tracker {name}", "", "| setting | default | meaning |", "|---|---|---|"]
        lines += [f"| `{each}` | `{default}` | {cell(meaning)} |" for each, default, meaning in describe(model, "")]
        lines.append("")
    return "\n".join(lines)


def python() -> str:
    """Every public name, from its docstring."""
    homes = reid_tracker._HOMES
    lines = ["# Python", "", "The names of `reid_tracker.__all__`, which is what versions promise to keep.", ""]
    for name in sorted(homes, key=str.lower):
        home = homes[name] if homes[name].startswith("training.") else f"reid_tracker.{homes[name]}"
        lines += [f"::: {home}.{name}", ""]
    return "\n".join(lines)
