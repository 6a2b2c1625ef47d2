"""The report as one HTML file that needs nothing else: people, timeline, occupancy, places, paths."""

import base64
import io
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from reid_tracker.counting import Counts
from reid_tracker.offline import own_matplotlib
from reid_tracker.report.visits import Person, Visit, VisitLog
from reid_tracker.review.doubts import CROSSING, GAP, Doubt
from reid_tracker.video.annotate import css_color

TEMPLATE = Path(__file__).with_name("page.html")
LINES_OF_TIMELINE = 60  # people; of more those who were there longest
SHORT = 20.0  # s; times of shorter videos are given with tenths
MOMENTS = 600  # of the curve of occupancy


def make_page(log: VisitLog, title: str, about: dict[str, str]) -> bytes:
    """The page of a finished run.

    Parameters
    ----------
    log : VisitLog
        What the run has told.
    title : str
        What the video is called.
    about : dict
        What made the report, by name: settings, models.
    """
    from jinja2 import Environment, FileSystemLoader

    people, visits = log.people(), log.visits()
    counts: Counts = log.counter.counts() if log.counter else {}
    dwell: dict[str, list[float]] = defaultdict(list)
    for visit in visits:
        if visit.place and not visit.direction:
            dwell[visit.place].append(visit.left - visit.entered)
    queues = log.queues(visits) if log.counter else {}
    zones = [
        {
            "name": name,
            **each,
            "median": _share(dwell[name], 50),
            "most": _share(dwell[name], 90),
            "queue": "{:.1f} / {}".format(*queues[name]),
        }
        for name, each in counts.get("zones", {}).items()
    ]
    lines = [{"name": name, **each} for name, each in counts.get("lines", {}).items()]
    stays = [visit for visit in visits if not visit.place]
    present = np.linspace(0, max(log.end, 1e-3), MOMENTS)
    occupancy = np.zeros(MOMENTS, dtype=int)
    for visit in stays:
        occupancy += (present >= visit.entered) & (present <= visit.left)
    pictures = {}
    if people:
        pictures = {"timeline": _timeline(log.end, people, stays), "occupancy": _occupancy(present, occupancy)}
        if log.still is not None:
            pictures["places"] = _paths(log)
    environment = Environment(loader=FileSystemLoader(TEMPLATE.parent), autoescape=True)
    environment.filters.update(clock=partial(clock, short=log.end < SHORT), data=_data, colour=css_color)
    text = environment.get_template(TEMPLATE.name).render(
        title=title,
        people=people,
        zones=zones,
        lines=lines,
        pictures=pictures,
        length=log.end,
        busiest=int(occupancy.max(initial=0)),
        longest=_share([visit.left - visit.entered for visit in stays], 50),
        doubts=[(_question(each), each) for each in log.doubts()],
        about=about | ({"began": log.began.isoformat(" ", "seconds")} if log.began else {}),
    )
    return text.encode("utf-8", "replace")  # the name of a video may hold bytes that are no text


def _question(doubt: Doubt) -> str:
    """What a person should check."""
    own, other = f"#{doubt.identity}", f"#{doubt.other}"
    if doubt.kind == GAP:
        return f"Is {own} the same person after being out of sight?"
    if doubt.kind == CROSSING:
        return f"Did {own} and {other} keep their numbers when they crossed?"
    return f"Is the newcomer {own} really {other}?"


def clock(seconds: float | None, short: bool = False) -> str:
    """Seconds of a video as m:ss or h:mm:ss; of a ``short`` one with tenths."""
    if seconds is None:
        return "-"
    if short:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _share(values: list[float], percent: float) -> float | None:
    return float(np.percentile(values, percent)) if values else None


def _data(picture: bytes, kind: str = "jpeg") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"


def _drawn(size: tuple[float, float], draw: Any) -> bytes:
    """A PNG of what ``draw(axes)`` draws."""
    with own_matplotlib():
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=size, dpi=110, layout="constrained")
        draw(figure.add_subplot())
        drawn = io.BytesIO()
        FigureCanvasAgg(figure).print_png(drawn)
        return drawn.getvalue()


def _label_time(axes: Any, end: float) -> None:
    axes.xaxis.set_major_formatter(lambda value, _: clock(max(value, 0), end < SHORT))
    axes.grid(alpha=0.3)


def _timeline(end: float, people: list[Person], stays: list[Visit]) -> bytes:
    shown = sorted(sorted(people, key=lambda each: -each.seconds)[:LINES_OF_TIMELINE], key=lambda each: each.first)
    row = {each.number: place for place, each in enumerate(shown)}

    def draw(axes: Any) -> None:
        for visit in stays:
            if visit.number in row:
                bar = (visit.entered, max(visit.left - visit.entered, end / 500))
                axes.broken_barh([bar], (row[visit.number] - 0.4, 0.8), facecolors=css_color(visit.number))
        axes.set_yticks(range(len(shown)), [f"#{each.number} {each.name}".strip() for each in shown])
        axes.set(xlim=(0, max(end, 1e-3)), ylim=(len(shown) - 0.4, -0.6))
        _label_time(axes, end)

    return _drawn((10, 0.8 + 0.22 * len(shown)), draw)


def _occupancy(seconds: np.ndarray, people: np.ndarray) -> bytes:
    def draw(axes: Any) -> None:
        axes.fill_between(seconds, people, step="mid", alpha=0.4)
        axes.step(seconds, people, where="mid")
        axes.set(xlim=(0, seconds[-1]), ylim=(0, max(people.max(), 1) * 1.1), ylabel="people in view")
        axes.yaxis.get_major_locator().set_params(integer=True)
        _label_time(axes, seconds[-1])

    return _drawn((10, 2.6), draw)


def _paths(log: VisitLog) -> bytes:
    """Where people walked and stood, over the first picture, with the places."""
    still = log.still
    assert still is not None
    (height, width), paths = still.shape[:2], log.paths()

    def draw(axes: Any) -> None:
        axes.imshow(still[:, :, ::-1], alpha=0.75)
        everyone = [stretch for stretches in paths.values() for stretch in stretches]
        feet = np.array([np.concatenate(column) for column in zip(*everyone, strict=True)][1:])
        heat, *edges = np.histogram2d(feet[1], feet[0], bins=(72, 128), range=((0, height), (0, width)))
        heat = gaussian_filter(heat, 2.0)
        shown = np.ma.masked_less(heat, 0.05 * heat.max())
        axes.pcolormesh(edges[1], edges[0], shown, cmap="YlOrRd", alpha=0.5, linewidth=0)
        for number, stretches in paths.items():
            for _, x, y in stretches:
                axes.plot(x, y, color=css_color(number), linewidth=1)
        for name, points in (log.counter.shapes if log.counter else {}).items():
            around = log.scale * (np.vstack([points, points[:1]]) if len(points) > 2 else points)
            axes.plot(*around.T, color="white", linewidth=2)
            behind = {"facecolor": "black", "alpha": 0.6, "edgecolor": "none", "pad": 2}
            axes.annotate(name, around[0], color="white", fontsize=10, weight="bold", bbox=behind)
        axes.set(xlim=(0, width), ylim=(height, 0))
        axes.set_axis_off()

    return _drawn((10, 10 * height / width), draw)
