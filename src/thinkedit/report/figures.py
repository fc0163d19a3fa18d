"""Pictures for papers and terminals' companions: PNG files drawn from `summarise`'s figures."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from thinkedit.files import whole_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, RULE = "#1f2733", "#667085", "#d9dde3"
CONTROL_COLOURS = {"attn": "#0b6e8f", "mlp": "#b4560f"}
ARM_COLOURS = {"base": "#7a8494", "edited": "#0b6e8f"}
SPARE_COLOURS = ("#0b6e8f", "#b4560f", "#6b4e9b", "#3f7d3a", "#a3376b")
DASHES = ("-", (0, (5, 2)), (0, (1.2, 1.6)), (0, (6, 2, 1.2, 2)))
STYLE: dict[str, Any] = {
    "font.family": "sans-serif", "font.size": 9.5, "text.color": INK, "axes.edgecolor": MUTED, "axes.labelcolor": INK,
    "axes.linewidth": 0.7, "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 10.5,
    "axes.titleweight": "bold", "axes.titlelocation": "left", "axes.grid": True, "grid.color": RULE,
    "grid.linewidth": 0.6, "axes.axisbelow": True, "xtick.color": MUTED, "ytick.color": MUTED, "xtick.labelcolor": INK,
    "ytick.labelcolor": INK, "legend.frameon": False, "legend.fontsize": 9, "savefig.dpi": 180,
    "figure.constrained_layout.use": True,
}  # fmt: skip


@contextmanager
def drawing(path: Path, columns: int = 1, size: tuple[float, float] = (6.4, 3.8)) -> Iterator[tuple["Figure", Any]]:
    """A figure and its axes, saved as `path` at the end. No window system, no global pyplot state."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):  # type: ignore[arg-type]
        figure = Figure(figsize=size)
        FigureCanvasAgg(figure)
        axes = figure.subplots(1, columns, squeeze=False)[0]
        yield figure, axes if columns > 1 else axes[0]
        with whole_file(path) as temporary:
            figure.savefig(temporary, format="png")


def draw_heads(contributions: NDArray[np.floating], edited: Sequence[tuple[int, int]], path: Path) -> None:
    """Heat map of head contributions [layers, heads], colours centred at zero; edited (layer, head) pairs outlined."""
    from matplotlib.patches import Rectangle

    values = np.asarray(contributions, dtype=np.float64)
    layers, heads = values.shape
    size = (min(11.0, max(4.6, 1.9 + 0.3 * heads)), min(12.0, max(2.4, 1.3 + 0.3 * layers)))
    with drawing(path, size=size) as (figure, axes):
        reach = float(np.abs(values[np.isfinite(values)]).max(initial=0.0)) or 1.0
        image = axes.imshow(values, cmap=_diverging(), vmin=-reach, vmax=reach, aspect="equal", interpolation="nearest")
        for layer, head in edited:
            corner = (head - 0.5, layer - 0.5)
            axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=INK, linewidth=1.8, clip_on=False))
        axes.set_xticks(range(0, heads, max(1, heads // 10)))
        axes.set_yticks(range(0, layers, max(1, layers // 10)))
        outlined = f"head (outlined: the {len(edited)} edited)" if edited else "head"
        axes.set(xlabel=outlined, ylabel="layer", title="Head contributions")
        axes.grid(False)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        bar = figure.colorbar(image, ax=axes, shrink=0.85, pad=0.02, aspect=22)
        bar.outline.set_visible(False)


def draw_steering(rows: list[dict[str, Any]], path: Path) -> None:
    """Mean thinking length and accuracy against alpha with 95 % bands: a colour a control, a dash a group."""
    controls = _controls(rows)
    groups = list(dict.fromkeys(name for row in rows for name in row["groups"]))
    with drawing(path, 2, (9.6, 4.0)) as (figure, (left, right)):
        for control in controls:
            curve = [row for row in rows if row["control"] in (control, None)]
            for place, group in enumerate([None, *groups]):
                parts = [(row["alpha"], row if group is None else row["groups"].get(group)) for row in curve]
                style: dict[str, Any] = {
                    "color": CONTROL_COLOURS.get(control, INK),
                    "linestyle": DASHES[place % len(DASHES)],
                }
                style["label"] = control if group is None else f"{control}, {group}"
                style |= {"linewidth": 2.0, "marker": "o", "markersize": 3.6} if group is None else {"linewidth": 1.2}
                _curve(left, [(a, p["thinking_length"]) for a, p in parts if p], style, band=group is None)
                _curve(right, [(a, p["accuracy"]) for a, p in parts if p], style, 100, band=group is None)
        left.set(xlabel="steering strength alpha", ylabel="tokens", title="Mean thinking length", ylim=(0, None))
        right.set(xlabel="steering strength alpha", ylabel="%", title="Accuracy", ylim=(0, 102))
        for axes in (left, right):
            axes.axvline(0, color=MUTED, linewidth=0.7)
        handles, labels = left.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=max(1, len(controls)))


def draw_layer_scan(rows: list[dict[str, Any]], path: Path) -> None:
    """Mean thinking length for each layer steered alone: a panel a control, a line a strength."""
    controls = _controls(rows)
    with drawing(path, max(1, len(controls)), (4.8 * max(1, len(controls)), 3.6)) as (_, panels):
        for control, axes in zip(controls, np.atleast_1d(panels), strict=True):
            own = [row for row in rows if row["control"] == control and row["layer"] is not None]
            alphas = sorted({row["alpha"] for row in own})
            for place, alpha in enumerate(alphas):
                style: dict[str, Any] = {"label": f"alpha {alpha:+g}", "linestyle": DASHES[place // 2 % len(DASHES)]}
                style |= {"marker": "o" if alpha > 0 else "s", "markersize": 4, "linewidth": 1.8}
                style["color"] = CONTROL_COLOURS.get(control, INK) if alpha > 0 else ARM_COLOURS["base"]
                _curve(axes, [(row["layer"], row["thinking_length"]) for row in own if row["alpha"] == alpha], style)
            axes.set(xlabel="layer steered", ylabel="tokens", title=f"One layer at a time, {control}", ylim=(0, None))
            axes.xaxis.get_major_locator().set_params(integer=True)
            if axes.get_legend_handles_labels()[0]:
                axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=len(alphas))


def draw_lengths(task: dict[str, Any], arms: Sequence[str], path: Path) -> None:
    """Histograms of thinking length, as shares of each arm's closed thoughts, with the means marked."""
    edges = np.asarray(task["histogram_edges"])
    with drawing(path) as (_, axes):
        for place, arm in enumerate(arms):
            counts = np.asarray(task["arms"][arm]["histogram"], dtype=float)
            colour = _arm_colour(arm, place)
            share = 100 * counts / max(counts.sum(), 1)
            axes.stairs(share, edges, fill=True, color=colour, alpha=0.22)
            axes.stairs(share, edges, color=colour, linewidth=1.6, label=arm)
            mean = task["arms"][arm]["thinking_length"]
            if mean:
                axes.axvline(mean["value"], color=colour, linewidth=1.2, linestyle=(0, (4, 2)))
        if edges[-1] - edges[-2] > 2 * (edges[1] - edges[0]):  # the bins are of equal width on this scale
            axes.set_xscale("log")
        axes.set(xlabel="thinking tokens (dashed: mean)", ylabel="% of closed thoughts", title="Thinking length")
        axes.legend()


def draw_accuracy_by_length(task: dict[str, Any], arms: Sequence[str], path: Path) -> None:
    """Accuracy of the answers whose thought has at most so many tokens, with 95 % bands."""
    curves = [(arm, _arm_colour(arm, place), task["thresholds"], task["arms"][arm]) for place, arm in enumerate(arms)]
    _draw_thresholds(curves, "Accuracy of thoughts up to a length", path)


def draw_bases(summaries: Mapping[str, dict[str, Any]], task: str, path: Path) -> None:
    """The same for the bases of several models on one task, the paper's plot."""
    curves = []
    for place, (model, summary) in enumerate(summaries.items()):
        found = summary.get("evaluation", {}).get(task)
        if found:
            arm = found["arms"].get("base") or next(iter(found["arms"].values()))
            curves.append((model, SPARE_COLOURS[place % len(SPARE_COLOURS)], found["thresholds"], arm))
    _draw_thresholds(curves, f"{task}: accuracy of thoughts up to a length", path)


def draw_models(summaries: Mapping[str, dict[str, Any]], tasks: Sequence[str], path: Path, published: bool = False) -> None:
    """Accuracy of base and edit with 95 % intervals: a panel a task, a row a model; crosses are the paper's own figures."""
    from thinkedit.report.tables import paper_accuracy

    names = list(summaries)
    with drawing(path, len(tasks), (2.2 + 2.5 * len(tasks), 1.5 + 0.62 * len(names))) as (figure, panels):
        for task, axes in zip(tasks, np.atleast_1d(panels), strict=True):
            for row, summary in enumerate(summaries.values()):
                edit = summary.get("verdict", {}).get("primary", {}).get("arm", "edited")
                arms = summary.get("evaluation", {}).get(task, {}).get("arms", {})
                for arm, label, shift in (("base", "base", -0.14), (edit, "edited", 0.14)):
                    own = arms.get(arm, {}).get("accuracy")
                    if own:
                        axes.plot(100 * own["value"], row + shift, "o", color=ARM_COLOURS[label], markersize=6, label=label)
                        if own["low"] is not None:
                            ends = [100 * own["low"], 100 * own["high"]]
                            axes.plot(ends, [row + shift] * 2, color=ARM_COLOURS[label], linewidth=1.6)
                    paper = paper_accuracy(summary, task, arm) if published else None
                    if paper is not None:
                        axes.plot(paper, row + shift, "x", color=INK, markersize=5.5, label="paper")
            axes.set(title=task, xlabel="accuracy, %", ylim=(len(names) - 0.5, -0.5))
            axes.set_yticks(range(len(names)), names if axes is np.atleast_1d(panels)[0] else [""] * len(names))
            axes.grid(axis="y", visible=False)
            handles, labels = axes.get_legend_handles_labels()
            seen = dict(zip(labels, handles, strict=True))
        figure.legend(seen.values(), seen.keys(), loc="outside lower center", ncols=3)


def _draw_thresholds(curves: list[tuple[str, str, list[float], dict[str, Any]]], title: str, path: Path) -> None:
    """Curves of (label, colour, thresholds, arm's figures)."""
    with drawing(path) as (_, axes):
        spans = [1.0]
        for label, colour, thresholds, arm in curves:
            curve = arm["under_threshold"]
            points = zip(thresholds, curve["accuracy"], curve["low"], curve["high"], strict=True)
            figures = [(x, None if v is None else {"value": v, "low": a, "high": b}) for x, v, a, b in points]
            _curve(axes, figures, {"color": colour, "linewidth": 1.9, "label": label}, 100)
            spans.append(thresholds[-1] / max(thresholds[0], 1))
        if max(spans) > 30:
            axes.set_xscale("log")
        axes.set(xlabel="threshold (thinking tokens)", ylabel="%", title=title, ylim=(0, 102))
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="lower right")


def _curve(
    axes: "Axes",
    points: list[tuple[float, dict[str, Any] | None]],
    style: dict[str, Any],
    scale: float = 1,
    band: bool = True,
) -> None:
    kept = [(x, figure) for x, figure in points if figure]
    if not kept:
        return
    x = [point for point, _ in kept]
    axes.plot(x, [figure["value"] * scale for _, figure in kept], **style)
    whole = [(point, figure) for point, figure in kept if figure["low"] is not None]
    if band and whole:
        low, high = ([figure[side] * scale for _, figure in whole] for side in ("low", "high"))
        axes.fill_between([point for point, _ in whole], low, high, color=style["color"], alpha=0.15, linewidth=0)


def _controls(rows: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(row["control"] for row in rows if row["control"])) or ["none"]


def _arm_colour(arm: str, place: int) -> str:
    return ARM_COLOURS.get(arm, SPARE_COLOURS[place % len(SPARE_COLOURS)])


def _diverging() -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("thinkedit", ["#7a3a06", "#d98a45", "#f7f5f0", "#4b9ab5", "#064a63"])
