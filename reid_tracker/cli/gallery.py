"""The command line of the gallery: ``reid-tracker gallery ...``."""

import json as json_text
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reid_tracker.errors import UserError
from reid_tracker.writing import printable

if TYPE_CHECKING:
    import numpy as np

    from reid_tracker.gallery.store import Gallery

app = typer.Typer(help="The people that track --gallery has enrolled.", no_args_is_help=True)

Where = Annotated[str, typer.Option("--gallery", metavar="DIR|URL", help="The gallery.")]
Number = Annotated[int, typer.Argument(help="A person's number.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Network = Annotated[str | None, typer.Option("--embedder", help="Appearance network \\[bundled].")]
DEFAULT = "gallery"


@app.command("list")
def list_people(gallery: Where = DEFAULT, json: Json = False) -> None:
    """Everyone: number, name, when seen, views."""
    with _opened(gallery) as opened:
        people = opened.people()
    if json:
        _print_json([asdict(person) for person in people])
        return
    rows = [
        (str(each.number), each.name or "", _date(each.first_seen), _date(each.last_seen), str(each.views))
        for each in people
    ]
    _print_table(("number", "name", "first seen", "last seen", "views"), rows)


@app.command()
def show(number: Number, gallery: Where = DEFAULT, json: Json = False) -> None:
    """One person: views, and who looks most alike (to merge, where that is the same person)."""
    from reid_tracker.gallery.merging import parts_of

    with _opened(gallery) as opened:
        person, views = opened.person(number), opened.views(number)
        found = opened.search(_mean([view.vector for view in views]), 4)[0] if views else []
        alike = [match for match in found if match.number != number][:3]
        parts = sorted(parts_of(number, opened.merges()))
    shown = [
        {"view": place, "source": view.source, "time": view.time, "quality": round(view.quality, 3)}
        for place, view in enumerate(views, 1)
    ]
    if json:
        _print_json({**asdict(person), "merged": parts, "views": shown, "alike": [asdict(match) for match in alike]})
        return
    print(f"#{person.number} {printable(person.name or '')}".rstrip())
    print(f"seen from {_date(person.first_seen)} to {_date(person.last_seen)}")
    if parts:
        print(f"merged with {', '.join(map(str, parts))} (gallery unmerge takes one out)")
    rows = [(str(row["view"]), row["source"], f"{row['time']:.1f} s", f"{row['quality']:.2f}") for row in shown]
    _print_table(("view", "source", "time", "quality"), rows)
    _print_matches("looks like", alike)


@app.command()
def search(
    image: Annotated[Path, typer.Argument(help="A picture of one person, cut out like the gallery's crops.")],
    limit: Annotated[int, typer.Option(min=1, help="So many people.")] = 5,
    gallery: Where = DEFAULT,
    embedder: Network = None,
    json: Json = False,
) -> None:
    """Who looks most like this picture?"""
    with _opened(gallery) as opened:
        matches = opened.search(_describe(gallery, opened, image, embedder), limit)[0]
    if json:
        _print_json([asdict(match) for match in matches])
    else:
        _print_matches("number", matches)


@app.command()
def verify(
    a: Annotated[str, typer.Argument(help="A person's number, or a picture of one person.")],
    b: Annotated[str, typer.Argument(help="Another.")],
    gallery: Where = DEFAULT,
    embedder: Network = None,
    json: Json = False,
) -> None:
    """Are these two the same person? With the calibrated distance and the odds."""
    from reid_tracker.gallery import views

    with _opened(gallery) as opened:
        statistics, origin = views.statistics_of(opened)
        found = (_vectors_of(gallery, opened, each, embedder) for each in (a, b))
        verdict = views.verify(statistics, *found)
    if json:
        _print_json({**asdict(verdict), "calibration": origin})
        return
    ratio = verdict.likelihood_ratio if verdict.same else 1 / verdict.likelihood_ratio
    other = "two people" if verdict.same else "one person"
    print("same" if verdict.same else "different")
    print(
        f"cosine {verdict.cosine:.2f}, calibrated distance {verdict.distance:.2f} (0 as one person's pictures, 1 as "
        f"strangers'); {_times(ratio)} as likely as for {other}."
    )
    print(f"Of pairs of strangers about {100 * verdict.false_match_rate:.1f} % are called the same, by {origin}.")


@app.command()
def check(gallery: Where = DEFAULT, json: Json = False) -> None:
    """Likely doubles (two numbers, one person) and mixtures (one number, two people), with what mends them."""
    from reid_tracker.gallery import views

    with _opened(gallery) as opened:
        doubts = views.find_doubts(opened)
    if json:
        _print_json([asdict(doubt) for doubt in doubts])
        return
    rows = []
    for doubt in doubts:
        numbers = " ".join(map(str, doubt.numbers))
        if doubt.kind == "double":
            rows.append((f"{numbers} are one", _times(doubt.odds), f"gallery merge {numbers}"))
        else:
            chosen = " ".join(map(str, doubt.views))
            rows.append((f"{numbers} are two", _times(doubt.odds), f"gallery split {numbers} {chosen}"))
    if rows:
        _print_table(("likely", "likelier than not", "if so"), rows)
    else:
        print("Nothing is doubtful.")


def link(
    gallery: Annotated[str, typer.Argument(metavar="DIR|URL", help="The gallery.")] = DEFAULT,
    rate: Annotated[
        float, typer.Option(help="Of people who are in it once, at most this share may be joined with another person.")
    ] = 0.05,
    new: Annotated[
        bool, typer.Option("--new", help="Only joins with somebody who is new since the last --apply: far quicker.")
    ] = False,
    apply: Annotated[bool, typer.Option("--apply", help="Merge the numbers; otherwise they are listed only.")] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Take back what the last --apply merged.")] = False,
    json: Json = False,
) -> None:
    """Find who is in a gallery under several numbers, over all its videos at once.

    Example: reid-tracker link people; look at it; then reid-tracker link people --apply.

    Two people seen at once are never the same person. Merges can be taken back: all of the last --apply by --undo, \
one of them by reid-tracker gallery unmerge.
    """
    from reid_tracker.gallery.link import apply_links, find_links, undo_links

    if undo and (new or apply):
        raise UserError("link --undo takes back and links nothing; leave out --new and --apply.")
    with _opened(gallery) as opened:
        if undo:
            _print_undone(undo_links(opened), json)
            return
        until = max((person.number for person in opened.people()), default=0)
        links = find_links(opened, rate, opened.linked() if new else 0)
        if apply:
            apply_links(opened, links, until)
    if json:
        _print_json([asdict(each) for each in links])
        return
    rows = []
    for each in links:
        closest = max(each.joins, key=lambda join: join.chance)
        told = (f"{closest.into} and {closest.number}", f"{closest.cosine:.2f} ({closest.asked:.2f})")
        rows.append((" ".join(map(str, each.numbers)), *told, _share(closest.chance)))
    if not rows:
        print("No one is in it twice, as far as can be told.")
        return
    heading = ("merged" if apply else "one person", "closest call", "likeness (needed)", "of strangers as alike")
    _print_table(heading, rows)


def _share(chance: float) -> str:
    return f"{100 * chance:.2g} %" if chance >= 1e-4 else "under 0.01 %"


def _print_undone(undone: list[tuple[int, int]], json: bool) -> None:
    if json:
        _print_json([{"number": number, "was_part_of": whole} for number, whole in undone])
    for number, whole in [] if json else undone:
        print(f"{number} is no longer part of {whole}.")


@app.command()
def name(
    number: Number,
    text: Annotated[str, typer.Argument(help='The name; "" takes it away.')],
    gallery: Where = DEFAULT,
) -> None:
    """Name a person."""
    with _opened(gallery) as opened:
        opened.name(number, text)


@app.command()
def merge(
    number: Number,
    others: Annotated[list[int], typer.Argument(help="Who is the same person; these numbers go.")],
    gallery: Where = DEFAULT,
) -> None:
    """Make one person of several numbers; 'gallery unmerge' takes it back."""
    with _opened(gallery) as opened:
        for other in others:
            opened.merge(number, other)


@app.command()
def unmerge(
    numbers: Annotated[list[int], typer.Argument(help="Numbers that were merged into others.")],
    gallery: Where = DEFAULT,
) -> None:
    """Take merges back: each number is a person again, with the views and the name it had."""
    with _opened(gallery) as opened, opened.alone():
        undone = [(number, opened.unmerge(number)) for number in numbers]
    _print_undone(undone, json=False)


@app.command()
def split(
    number: Number,
    views: Annotated[list[int], typer.Argument(help="Views (of 'gallery show') that show another person.")],
    gallery: Where = DEFAULT,
) -> None:
    """Make a new person of some views; prints the new number."""
    with _opened(gallery) as opened:
        print(opened.split(number, [view - 1 for view in views]))


@app.command()
def forget(
    numbers: Annotated[list[int] | None, typer.Argument(help="Their numbers.")] = None,
    retention: Annotated[
        float | None, typer.Option(metavar="DAYS", min=0, help="And people not seen for so long.")
    ] = None,
    gallery: Where = DEFAULT,
) -> None:
    """Delete people: vectors, crops, names; nothing of them is left in the gallery's files."""
    from reid_tracker.gallery.opening import forget_unseen

    if not numbers and retention is None:
        raise UserError("gallery forget: name numbers, or --retention DAYS.")
    with _opened(gallery) as opened:
        if numbers:
            opened.forget(numbers)
        unseen = forget_unseen(opened, retention) if retention is not None else []
    print(f"Forgotten: {', '.join(str(each) for each in [*(numbers or []), *unseen]) or 'no one'}.")


@app.command("re-describe")
def describe_anew(gallery: Where = DEFAULT, embedder: Network = None) -> None:
    """Describe the crops kept with another appearance network: numbers, names and views stay, old vectors go."""
    from reid_tracker.appearance.embedder import Embedder
    from reid_tracker.gallery.opening import describe_crops
    from reid_tracker.gallery.store import Model

    network = Embedder(embedder)
    model = Model(network.hash, network.dimension, network.header.get("calibration", {}))
    with _opened(gallery) as opened:
        if (opened.model.hash, opened.model.dimension) == (model.hash, model.dimension):
            print("Its vectors are of this network already.")
            return
        lost = opened.describe_anew(model, partial(describe_crops, network))
        views = sum(person.views for person in opened.people())
    print(f"{views} views are described anew" + (f"; {lost} had no crop and are gone." if lost else "."))


@app.command()
def export(
    output: Annotated[Path, typer.Option("--output", "-o", help="A new folder.")],
    gallery: Where = DEFAULT,
) -> None:
    """Write everything out: gallery.json, vectors.npz, crops by number."""
    from reid_tracker.gallery import opening

    with _opened(gallery) as opened:
        print(f"{opening.export(opened, output)} people: {output}")


def _opened(where: str) -> Any:
    from contextlib import closing

    from reid_tracker.gallery.opening import open_gallery

    return closing(open_gallery(where))


def _describe(where: str, opened: "Gallery", image: Path, model: str | None) -> "np.ndarray":
    """Vector [1, D] of a whole picture, by the gallery's model."""
    import numpy as np

    from reid_tracker.appearance.embedder import Embedder
    from reid_tracker.gallery.store import Model, check_model, shown
    from reid_tracker.pictures import read_picture

    if not image.is_file():
        raise UserError(f"{image}: no such picture.")
    picture = read_picture(image)
    if picture is None:
        raise UserError(f"{image}: not a picture.")
    embedder = Embedder(model)
    check_model(shown(where), opened.model, Model(embedder.hash, embedder.dimension))
    height, width = picture.shape[:2]
    return embedder.embed(picture, np.array([[0, 0, width, height]], np.float32))


def _vectors_of(where: str, opened: "Gallery", what: str, model: str | None) -> "np.ndarray":
    """Vectors [K, D] of a person of the gallery or of a picture."""
    import numpy as np

    if not what.isdecimal():
        return _describe(where, opened, Path(what), model)
    views = opened.views(int(what[:40]))  # Python reads no number of thousands of digits, and nobody has one
    if not views:
        raise UserError(f"{what}: has no views; choose another number.")
    return np.stack([view.vector for view in views])


def _mean(vectors: "list[np.ndarray]") -> "np.ndarray":
    """The direction [1, D] between unit vectors."""
    import numpy as np

    mean = np.sum(vectors, axis=0)
    return (mean / max(float(np.linalg.norm(mean)), 1e-12))[None]


def _print_matches(heading: str, matches: list[Any]) -> None:
    _print_table(
        (heading, "name", "cosine"), [(f"#{each.number}", each.name or "", f"{each.cosine:.2f}") for each in matches]
    )


def _print_table(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False)
    for row in rows:  # as text: a name is no markup, and an old gallery's may hold control characters
        table.add_row(*(Text(printable(cell), overflow="fold") for cell in row))
    Console().print(table)


def _print_json(value: Any) -> None:
    print(json_text.dumps(value, ensure_ascii=False, indent=1))


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def _times(ratio: float) -> str:
    return f"{ratio:.1f} times" if ratio < 1000 else "more than 1000 times"
