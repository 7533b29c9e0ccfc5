# Copyright 2026 The TubeViT authors. Licensed under the Apache License, Version 2.0.
"""Token budgets as tables, in sentences, and as a picture: accuracy against the speed of a prediction, and against its tokens."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..visualization.canvas import FAINT_INK, TUBE_COLORS, Canvas, darken
from .comparison_report import HEIGHT, LEGEND_ROW, WIDTH, draw_panel
from .records import Row, collect_rows, exceeds_spread, have_spread


PICTURE = "budgets.png"  # beside the records
MARKERS = "osD^vPX*"
NUM_COLUMNS = 3  # of the legend
# Panels of the table: what was trained, and how it is evaluated.
RANGE, DISTILLED, ALONE, FULL = "range", "distilled", "alone", "full"
TITLES = {
    RANGE: "One checkpoint, trained for the range",
    DISTILLED: "The same, with a teacher",
    ALONE: "A checkpoint for each budget",
    FULL: "Trained with all tokens",
}
RANDOM = "{}; random tokens"  # panel of a title
OTHERS = "Models of the library, each with its own tokens"
CHECKPOINTS = (RANGE, DISTILLED)  # trained for all budgets


def budgets_cells(records: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Column names, and a row of accuracies for each panel of TubeViT: the mean over seeds, and the deviation if there are several."""
    panels = panels_of(records)
    numbers = sorted({number for rows in panels.values() for number in rows}, reverse=True)
    columns = ["accuracy, % (deviation)", *(f"{number} tokens" for number in numbers)]
    return columns, [[title, *(_cell(rows.get(number)) for number in numbers)] for title, rows in panels.items()]


def _cell(row: Row | None) -> str:
    if row is None:
        return ""
    return f"{row.mean:.1f}" if row.deviation is None else f"{row.mean:.1f} ({row.deviation:.1f})"


def panels_of(records: Sequence[dict[str, Any]]) -> dict[str, dict[int, Row]]:
    """The rows of TubeViT by panel and number of tokens; panels and numbers in the order of the page."""
    found = collect_rows(records)
    order = [*TITLES.values(), *(RANDOM.format(title) for title in TITLES.values())]
    return {
        title: {row.tokens: row for row in sorted(found[title], key=lambda row: -row.tokens)}
        for title in order
        if title in found
    }


def speed_cells(records: Sequence[dict[str, Any]], speed: dict[str, Any] | None) -> tuple[list[str], list[list[str]]]:
    """
    Column names, and rows of text: the checkpoint of the range at each budget, with random tokens, and the other models.

    speed: the record of the speed, if it was measured.
    """
    panels, measured = panels_of(records), (speed or {"speed": {}})["speed"]
    lines = []
    for kind, panel in (("tokens", TITLES[RANGE]), ("random", RANDOM.format(TITLES[RANGE]))):
        title = "TubeViT" if kind == "tokens" else "TubeViT, random"
        lines += [(f"{title}, {row.title}", f"{kind}_{number}", row) for number, row in panels[panel].items()]
    lines += [(row.title, name, row) for name, row in others_of(records).items()]
    columns = ["", "accuracy, %", "tokens", "GFLOP", *(["clips/s"] if speed else [])]
    rows = []
    for title, name, row in lines:
        rate = measured.get(name, {}).get("clips_per_second")
        rate = [] if not speed else ["" if rate is None else f"{rate:,.0f}"]
        rows.append([title, f"{row.mean:.1f}", f"{row.tokens:,}", f"{row.gflops:.3g}", *rate])
    return columns, rows


def others_of(records: Sequence[dict[str, Any]]) -> dict[str, Row]:
    """The rows of the library's models by name."""
    rows = {row.title: row for row in collect_rows(records).get(OTHERS, [])}
    names = {
        row["title"]: record["name"] for record in records for row in record["rows"] if row.get("panel") == OTHERS
    }
    return {names[title]: row for title, row in rows.items()}


def describe_budgets(records: Sequence[dict[str, Any]]) -> list[str]:
    """Sentences on each checkpoint of the range: what a budget costs, and its distance from the other ways to have it."""
    panels, sentences = panels_of(records), []
    alone = panels[TITLES[ALONE]]
    for title in (TITLES[name] for name in CHECKPOINTS if TITLES[name] in panels):
        rows = panels[title]
        full, whole = next(iter(rows.items()))
        sentences.append(
            f"{title}: with all {full} tokens {_distance(whole, alone[full], 'a checkpoint of them alone')}."
        )
        for number, row in list(rows.items())[1:]:
            random = panels[RANDOM.format(title)][number]
            strided = panels[TITLES[FULL]][number]
            sentences.append(
                f"{title}: {number} tokens ({100 * number / full:.0f} %) cost {whole.mean - row.mean:.1f} points; "
                f"{_distance(row, alone[number], 'a checkpoint of that budget alone')}; "
                f"{_distance(row, random, 'random tokens')}; {_distance(row, strided, 'a checkpoint trained with all tokens')}."
            )
    return sentences


def _distance(one: Row, other: Row, name: str) -> str:
    difference = one.mean - other.mean
    spread = ""
    if have_spread([one, other]):
        spread = ", beyond the spread" if exceeds_spread(one, other) else ", within the spread"
    return f"{abs(difference):.1f} points {'above' if difference >= 0 else 'below'} {name}{spread}"


def format_budgets(records: Sequence[dict[str, Any]], speed: dict[str, Any] | None) -> str:
    """Tables and sentences for a terminal."""
    from ..tables import format_table

    first = records[0]
    row = next(iter(next(iter(panels_of(records).values())).values()))
    parts = [
        f"{first['title']}: accuracy on {first['scores']['video']['number']} clips; always the most frequent class: {row.chance:.1f} %",
        format_table(*budgets_cells(records)),
        format_table(*speed_cells(records, speed)),
    ]
    return "\n".join([*parts, *describe_budgets(records), first["about"]])


def draw_budgets(path: Path, records: Sequence[dict[str, Any]], speed: dict[str, Any] | None, title: str) -> None:
    """Write the picture as a PNG file; without a speed, only with the panel of tokens."""
    from matplotlib import rc_context

    panels, others = panels_of(records), others_of(records)
    lines = len(panels) + len(others)
    canvas = Canvas(WIDTH, HEIGHT + LEGEND_ROW * -(-lines // NUM_COLUMNS))
    first = next(iter(next(iter(panels.values())).values()))
    number = len(first.scores)
    seeds = f"{number} seeds, bars from the lowest to the highest" if number > 1 else "one seed"
    kind, _, data = title.partition(" on ")
    steps = {record["name"]: record["steps"] for record in records}
    canvas.heading(kind, f"{data}; {steps[FULL]:,} steps, of the range {steps[RANGE]:,} for the same FLOPs; {seeds}")
    with rc_context({"font.size": 9}):
        axes = draw_panel(canvas, 0, "Accuracy, %, against tube tokens of a clip")
        _draw_lines(axes, panels, others, first.chance, lambda name, row: row.tokens)
        if speed:
            measured = speed["speed"]
            faster = draw_panel(canvas, 1, f"Accuracy, %, against clips/s, {_device(speed)}")
            _draw_lines(
                faster,
                panels,
                others,
                first.chance,
                lambda name, row: measured[name]["clips_per_second"],
                is_speed=True,
            )
        handles, names = axes.get_legend_handles_labels()
        canvas.figure.legend(handles, names, loc="lower center", ncols=NUM_COLUMNS, frameon=False)
    canvas.figure.savefig(path)


def _device(speed: dict[str, Any]) -> str:
    settings = speed["settings"]
    device = "one GPU" if settings["device"] == "cuda" else f"CPU, threads: {settings['threads']}"
    return f"batches of {settings['batch_size']}, {device}"


def _draw_lines(
    axes: Any,
    panels: dict[str, dict[int, Row]],
    others: dict[str, Row],
    chance: float,
    place: Any,
    is_speed: bool = False,
) -> None:
    """
    place: from the name of a measured speed and a row to the place on the horizontal axis. Of tokens the axis is turned, so that cheaper
    is to the right in both panels.
    """
    from matplotlib.ticker import LogLocator

    axes.set_xscale("log")
    colors = {title: darken(TUBE_COLORS[index]) for index, title in enumerate(TITLES.values())}
    for title, rows in panels.items():
        own = next(each for each in colors if title.startswith(each))
        is_random = title != own
        names = [f"{'random' if is_random else 'tokens'}_{number}" for number in rows]
        places = [place(name, row) for name, row in zip(names, rows.values(), strict=True)]
        means = [row.mean for row in rows.values()]
        bars = [
            [row.mean - min(row.scores) for row in rows.values()],
            [max(row.scores) - row.mean for row in rows.values()],
        ]
        style = {"linestyle": ":", "marker": "x"} if is_random else {"marker": "o"}
        axes.errorbar(places, means, bars, color=colors[own], capsize=3, label=title, **style)
    for (name, row), marker in zip(others.items(), MARKERS * len(others), strict=False):
        bar = [[row.mean - min(row.scores)], [max(row.scores) - row.mean]]
        label = f"{row.title}, {row.tokens:,} tokens"
        axes.errorbar(place(name, row), row.mean, bar, fmt=marker, color=FAINT_INK, capsize=3, label=label)
    if is_speed:
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    else:
        axes.invert_xaxis()
        axes.set_xticks(sorted({number for rows in panels.values() for number in rows}))
    axes.axhline(chance, color=FAINT_INK, linestyle=":", linewidth=1)
    axes.annotate(
        "most frequent class", (axes.get_xlim()[0], chance), (4, 4), color=FAINT_INK, textcoords="offset points"
    )
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter(lambda value, _: "")
