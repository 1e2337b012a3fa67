"""Results of a study as tables: one row for each way of scoring of each cell, and what sums them up."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anowild.errors import UserError
from anowild.files import read_json, written_whole
from anowild.study.cell import RESULT
from anowild.study.methods import METHODS
from anowild.study.rules import OWN

#: A row: set, rate, method, seed, score, auroc, average_precision, resolution, kimg, ...
Row = dict[str, Any]
#: Facts of a cell that every one of its rows repeats.
FACTS = ("set", "rate", "method", "seed", "resolution", "kimg", "train_seconds", "date", "machine")


def collect(out: Path) -> list[dict[str, Any]]:
    """The results of all cells in a study's folder.

    Raises:
        UserError: there are none.
    """
    found = [read_json(path) for path in sorted(out.glob(f"*/*/*/*/{RESULT}"))]
    if not found:
        raise UserError(f"{out}: holds no results; make some with `anowild study run`")
    return found


def rows_of(results: Sequence[dict[str, Any]]) -> list[Row]:
    """All rows of all results, each with the facts of its cell."""
    return [{k: r.get(k) for k in FACTS} | row for r in results for row in r["rows"]]


def write_parquet(rows: Sequence[Row], path: Path) -> None:
    """Raises UserError if pyarrow is not installed, or the file cannot be written."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise UserError("Parquet needs pyarrow: pip install 'anowild[formats]'") from error
    with written_whole(path) as temporary:
        pq.write_table(pa.Table.from_pylist(list(rows)), temporary)


def markdown(results: Sequence[dict[str, Any]], metric: str = "auroc") -> str:
    """A section for each set, a column for each rate, mean ± deviation over seeds."""
    sections: dict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
    for result in results:
        sections[result["set"], result["resolution"]].append(result)
    return "\n".join(_section(*key, group, metric) for key, group in sorted(sections.items()))


def _section(name: str, resolution: int, results: list[dict[str, Any]], metric: str) -> str:
    rates = sorted({r["rate"] for r in results})
    lines = [f"### `{name}` at {resolution}x{resolution}", ""]
    trained = [r for r in results if r["kimg"] and r["method"] in ("joint", "sequential", "robust")]
    if trained:
        minutes = statistics.mean(r["train_seconds"] for r in trained) / 60
        kimg = "/".join(f"{k:g}" for k in sorted({r["kimg"] for r in trained}))
        lines.append(
            f"{kimg} kimg, {minutes:.1f} minutes of training on average on "
            f"{trained[0]['threads']} thread(s); {results[0]['test_images']} test images; "
            f"{', '.join(sorted({r['date'] for r in results}))} ({results[0]['machine']})."
        )
    seeds = len({r["seed"] for r in results})
    columns = " | ".join(f"{100 * rate:g} %" for rate in rates)
    lines += ["", f"| {metric}, {seeds} seeds | {columns} |", "|---" * (len(rates) + 1) + "|"]
    values: dict[tuple[str, str], dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows_of(results):
        values[row["method"], row["score"]][row["rate"]].append(row[metric])
    order = {method: number for number, method in enumerate(METHODS)}
    for method, score in sorted(values, key=lambda key: order[key[0]]):
        cells = [mean(values[method, score].get(rate, [])) for rate in rates]
        title = (
            score if method == score or score == METHODS[method].summary else f"{method}: {score}"
        )
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def mean(values: Sequence[float]) -> str:
    """Mean ± standard deviation, the latter of two values or more."""
    if not values:
        return "-"
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{spread}"


@dataclass(frozen=True)
class Difference:
    """A mean difference over pairs of runs, and its 95 % interval (Student's)."""

    mean: float
    low: float
    high: float
    pairs: int

    def __str__(self) -> str:
        return f"{self.mean:+.3f} [{self.low:+.3f}, {self.high:+.3f}], {self.pairs} pairs"


def difference(
    rows: Sequence[Row],
    first: Callable[[Row], bool],
    second: Callable[[Row], bool],
    metric: str = "auroc",
) -> Difference | None:
    """What the first kind of row has more than the second, over the same set, rate and seed."""
    from scipy.stats import t

    def by_cell(wanted: Callable[[Row], bool]) -> dict[tuple[Any, ...], float]:
        return {(r["set"], r["rate"], r["seed"]): r[metric] for r in rows if wanted(r)}

    a, b = by_cell(first), by_cell(second)
    found = np.array([a[key] - b[key] for key in sorted(a.keys() & b.keys())])
    if len(found) < 2:
        return None
    half = float(t.ppf(0.975, len(found) - 1) * found.std(ddof=1) / np.sqrt(len(found)))
    middle = float(found.mean())
    return Difference(middle, middle - half, middle + half, len(found))


def comparisons(
    results: Sequence[dict[str, Any]], rates: Sequence[float], metric: str = "auroc"
) -> str:
    """Markdown: ways of training, and the combined score against everything else, in pairs."""
    rows = [row for row in rows_of(results) if row["rate"] in rates]
    shares = " and ".join(f"{100 * rate:g} %" for rate in rates)
    lines = [f"| difference in {metric} at {shares} | mean, 95 % interval |", "|---|---|"]

    def line(title: str, found: Difference | None) -> None:
        if found is not None:
            lines.append(f"| {title} | {found} |")

    def kind(method: str, score: str) -> Callable[[Row], bool]:
        return lambda row: row["method"] == method and row["score"] == score

    for score in (OWN, "latent_norm", "latent_distance"):
        for a, b in (("joint", "sequential"), ("robust", "joint"), ("refine", "joint"),
                     ("joint", "untrained")):  # fmt: skip
            line(f"{a} - {b}: {score}", difference(rows, kind(a, score), kind(b, score), metric))
    for score in dict.fromkeys(row["score"] for row in rows if row["method"] == "joint"):
        if score != OWN:
            line(
                f"joint: {OWN} - {score}",
                difference(rows, kind("joint", OWN), kind("joint", score), metric),
            )
    for method in dict.fromkeys(row["method"] for row in rows):
        title = METHODS[method].summary
        if not any(kind("joint", title)(row) for row in rows):
            line(
                f"joint: {OWN} - {title}",
                difference(rows, kind("joint", OWN), kind(method, title), metric),
            )
    return "\n".join(lines) + "\n"


def suspects(results: Sequence[dict[str, Any]]) -> str:
    """Markdown: precision among the k most suspicious training images, k as many as were injected."""
    found: dict[tuple[str, float], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for r in results:
        for name, value in (r.get("suspects") or {}).items():
            if name.startswith("precision") and value is not None:
                over_looks = ", mean of looks" if name.endswith("looks") else ""
                found[r["set"], r["rate"]][f"{r['method']}{over_looks}"].append(value)
    columns = list(dict.fromkeys(name for group in found.values() for name in group))
    lines = [f"| precision at k | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for (name, rate), group in sorted(found.items()):
        cells = " | ".join(mean(group[column]) if column in group else "-" for column in columns)
        lines.append(f"| {name}, {100 * rate:g} % | {cells} |")
    return "\n".join(lines) + "\n"
