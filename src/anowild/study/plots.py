"""Plots of a study: views beside their verdict, AUROC against contamination, histograms of scores and norms."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from anowild.files import atomic_write
from anowild.libraries import require
from anowild.study import cue_cache
from anowild.study.fusion_rules import DEFAULT_RULE, RULES
from anowild.study.methods import ENSEMBLE, METHODS, PIXEL_BASELINES
from anowild.study.tables import is_main, rows_of
from anowild.study.trial import CUE_CACHE, Trial, place


def _figure(columns: int, height: float = 3.2) -> tuple[Any, Any]:
    """Make a figure with ``columns`` panels.

    Raises:
        UserError: matplotlib is not installed.
    """
    require("plots", "matplotlib").use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        1, columns, figsize=(3.6 * columns, height), squeeze=False, layout="constrained"
    )
    return figure, axes[0]


def _save(figure: Any, path: Path) -> None:
    from matplotlib import pyplot

    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
    pyplot.close(figure)


#: Marker of each row of :func:`verdicts`, in the order of the legend.
_MARKERS = {
    "view gan": "v", "view transforms": "^", "view pixels": "s", "view pretrained": "D",
    "view lookalikes": "*", "best of raw pixels": "x", "10 nearest neighbors, embeddings": "+",
}  # fmt: skip


def verdicts(
    results: Sequence[dict[str, Any]], rate: float, sets: Sequence[str], path: Path
) -> None:
    """Plot the AUROC of the ensemble as a bar for each set, with its views and what a user would pick instead."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows_of(results):
        own = row["method"] == ENSEMBLE and row["score"].startswith("view ")
        if row["rate"] == rate and (own or is_main(row)):
            title = row["score"] if own else row["method"]
            found[row["set"]][title].append(row["auroc"])
    means = {
        name: {title: statistics.mean(values) for title, values in found[name].items()}
        for name in sets
    }
    for of in means.values():
        pixels = [of[method] for method in PIXEL_BASELINES if method in of]
        if pixels:
            of["best of raw pixels"] = max(pixels)
        if "embedding-knn" in of:
            of["10 nearest neighbors, embeddings"] = of["embedding-knn"]
    figure, (axis,) = _figure(1, 3.8)
    figure.set_size_inches(max(5.0, 1.1 * len(sets) + 2.5), 3.8)
    places = np.arange(len(sets))
    bars = [means[name].get(ENSEMBLE, np.nan) for name in sets]
    axis.bar(places, bars, 0.7, color="#cfe3f5", label="AnoWild, all views")
    shown = {t: m for t, m in _MARKERS.items() if any(t in of for of in means.values())}
    for offset, (title, marker) in zip(
        np.linspace(-0.25, 0.25, len(shown)), shown.items(), strict=True
    ):
        values = [means[name].get(title, np.nan) for name in sets]
        axis.plot(places + offset, values, marker, color="black", markersize=5, label=title)
    axis.set(ylabel="AUROC", ylim=(0, 1.02), title=f"{100 * rate:g} % anomalies in training")
    axis.set_xticks(places, sets, rotation=20, ha="right", fontsize=8)
    axis.axhline(0.5, color="gray", linewidth=0.5)
    figure.legend(fontsize=7, loc="outside right upper")
    _save(figure, path)


def against_contamination(results: Sequence[dict[str, Any]], path: Path) -> None:
    """Plot the AUROC of each method's main score ± deviation over seeds, a panel for each set."""
    found: dict[str, dict[str, dict[float, list[float]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    for row in rows_of(results):
        if is_main(row):
            found[row["set"]][row["method"]][row["rate"]].append(row["auroc"])
    figure, axes = _figure(len(found))
    for axis, (name, methods) in zip(axes, sorted(found.items()), strict=True):
        for method in METHODS:
            if method not in methods:
                continue
            rates = sorted(methods[method])
            middle = [statistics.mean(methods[method][r]) for r in rates]
            spread = [statistics.pstdev(methods[method][r]) for r in rates]
            x = [100 * rate for rate in rates]
            axis.errorbar(x, middle, spread, marker="o", markersize=3, capsize=2, label=method)
        axis.set(title=name, xlabel="contamination, %", ylim=(0, 1.02))
        axis.axhline(0.5, color="gray", linewidth=0.5)
    axes[0].set_ylabel("AUROC")
    axes[-1].legend(fontsize=6, loc="lower left")
    _save(figure, path)


def histograms(out: Path, trials: Sequence[Path], path: Path, cue: str | None = None) -> None:
    """Plot histograms of normal and anomalous test images, a panel for each trial.

    Args:
        out: folder of the study.
        trials: folders of the trials, relative to ``out``.
        path: the PNG file to write.
        cue: cue whose logarithm is shown, with that of G's own images; None for the combined score.

    Raises:
        UserError: the cues of a trial cannot be read.
    """
    figure, axes = _figure(len(trials), 2.6)
    for axis, where in zip(axes, trials, strict=True):
        trial = Trial.load(out / where)
        measured = cue_cache.load(out / where / CUE_CACHE)
        labels = trial.experiment().test_labels
        if cue is None:
            scored = RULES[DEFAULT_RULE](measured["training"], measured["test"])
            groups = {"normal": scored[labels == 0], "anomalous": scored[labels == 1]}
        else:
            log = {g: np.log(np.maximum(measured[g][cue], 1e-12)) for g in ("test", "samples")}
            groups = {
                "normal": log["test"][labels == 0],
                "anomalous": log["test"][labels == 1],
                "generated": log["samples"],
            }
        bins = np.histogram_bin_edges(np.concatenate(list(groups.values())), 60)
        for title, values in groups.items():
            axis.hist(values, bins, density=True, alpha=0.5, label=title)
        axis.set(title=f"{trial.set}, {100 * trial.rate:g} %", yticks=[])
        axis.set_xlabel("combined score" if cue is None else f"log {cue}")
    axes[-1].legend(fontsize=7, loc="upper right")
    _save(figure, path)


def draw_all(results: Sequence[dict[str, Any]], out: Path, folder: Path) -> list[Path]:
    """Draw all plots; histograms are of the joint trial with the lowest seed at the highest rate."""
    chosen: dict[str, Path] = {}
    for r in sorted(results, key=lambda r: (-r["rate"], r["seed"])):
        where = place(r["set"], r["rate"], r["method"], r["seed"])
        if r["method"] == "joint" and (out / where / CUE_CACHE).exists():
            chosen.setdefault(r["set"], where)
    places = [chosen[name] for name in sorted(chosen)]
    paths = [folder / name for name in ("contamination.png", "scores.png", "latent_norm.png")]
    against_contamination(results, paths[0])
    if not places:
        return paths[:1]
    histograms(out, places, paths[1])
    histograms(out, places, paths[2], "latent_norm")
    return paths
