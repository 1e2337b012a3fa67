"""Tables of a study: one row for each score of each trial, means over seeds, paired differences."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anowild.errors import UserError
from anowild.files import atomic_write, read_json
from anowild.study.fusion_rules import DEFAULT_RULE
from anowild.study.methods import METHODS
from anowild.study.trial import RESULT

#: One score of one trial: set, rate, method, seed, score, auroc, average_precision, ...
Row = dict[str, Any]
#: Facts of a trial that each of its rows repeats.
FACTS = ("set", "rate", "method", "seed", "resolution", "kimg", "train_seconds", "date", "machine")


def collect(out: Path) -> list[dict[str, Any]]:
    """Read the results of all trials in a study's folder.

    Earlier versions spelled "neighbours" in the names of scores; here it is "neighbors".

    Raises:
        UserError: there are none.
    """
    found = [read_json(path) for path in sorted(out.glob(f"*/*/*/*/{RESULT}"))]
    if not found:
        raise UserError(f"{out}: holds no results; make some with `anowild study run`")
    for result in found:
        for row in result["rows"]:
            row["score"] = row["score"].replace("neighbours", "neighbors")
    return found


def rows_of(results: Sequence[dict[str, Any]]) -> list[Row]:
    """Return all rows of all results, each with the facts of its trial."""
    return [{k: r.get(k) for k in FACTS} | row for r in results for row in r["rows"]]


def write_parquet(rows: Sequence[Row], path: Path) -> None:
    """Write rows as a Parquet file.

    Raises:
        UserError: pyarrow is not installed, or the file cannot be written.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise UserError("Parquet needs pyarrow: pip install 'anowild[formats]'") from error
    with atomic_write(path) as temporary:
        pq.write_table(pa.Table.from_pylist(list(rows)), temporary)


def markdown(results: Sequence[dict[str, Any]], metric: str = "auroc", brief: bool = False) -> str:
    """Format a section for each set: a column for each rate, mean ± deviation over seeds.

    Args:
        results: results of trials, as :func:`collect` returns them.
        metric: ``auroc`` or ``average_precision``.
        brief: whether each method has its main score alone.
    """
    sections: dict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
    for result in results:
        sections[result["set"], result["resolution"]].append(result)
    return "\n".join(
        _section(*key, group, metric, brief) for key, group in sorted(sections.items())
    )


def _section(
    name: str, resolution: int, results: list[dict[str, Any]], metric: str, brief: bool
) -> str:
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
        if not brief or row["score"] in (DEFAULT_RULE, METHODS[row["method"]].summary):
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
    """Format mean ± standard deviation; a single value has no deviation."""
    if not values:
        return "-"
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{spread}"


@dataclass(frozen=True)
class Interval:
    """A mean and its 95 % confidence interval (Student's t)."""

    mean: float
    low: float
    high: float
    count: int

    @staticmethod
    def from_values(values: Sequence[float]) -> Interval:
        """Compute the interval from two or more values."""
        from scipy.stats import t

        x = np.array(values)
        half = float(t.ppf(0.975, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x)))
        return Interval(float(x.mean()), float(x.mean()) - half, float(x.mean()) + half, len(x))

    def __str__(self) -> str:
        return f"{self.mean:+.3f} [{self.low:+.3f}, {self.high:+.3f}] ({self.count})"


def differences(
    rows: Sequence[Row],
    first: Callable[[Row], bool],
    second: Callable[[Row], bool],
    metric: str = "auroc",
) -> dict[str, list[float]]:
    """Return, by set, first minus second row of each pair with the same rate and seed."""

    def by_cell(wanted: Callable[[Row], bool]) -> dict[tuple[Any, ...], float]:
        return {(r["set"], r["rate"], r["seed"]): r[metric] for r in rows if wanted(r)}

    a, b = by_cell(first), by_cell(second)
    found: dict[str, list[float]] = defaultdict(list)
    for key in sorted(a.keys() & b.keys()):
        found[key[0]].append(a[key] - b[key])
    return dict(found)


def comparisons(
    results: Sequence[dict[str, Any]], rates: Sequence[float], metric: str = "auroc"
) -> str:
    """Format paired differences: between ways of training, and of our score to all others.

    Trials on one set resemble each other, so an interval over the means of the sets is given as well.
    """
    rows = [row for row in rows_of(results) if row["rate"] in rates]
    shares = " and ".join(f"{100 * rate:g} %" for rate in rates)
    sets = sorted({row["set"] for row in rows})
    lines = [
        f"| difference in {metric} at {shares} | over runs | over sets | {' | '.join(sets)} |",
        "|---" * (len(sets) + 3) + "|",
    ]

    def kind(method: str, score: str) -> Callable[[Row], bool]:
        return lambda row: row["method"] == method and row["score"] == score

    def line(title: str, first: Callable[[Row], bool], second: Callable[[Row], bool]) -> None:
        found = differences(rows, first, second, metric)
        runs = [value for values in found.values() for value in values]
        means = {name: statistics.mean(values) for name, values in found.items()}
        if len(runs) > 1:
            over_sets = Interval.from_values(list(means.values())) if len(means) > 1 else "-"
            each = " | ".join(f"{means[name]:+.3f}" if name in means else "-" for name in sets)
            lines.append(f"| {title} | {Interval.from_values(runs)} | {over_sets} | {each} |")

    for score in (DEFAULT_RULE, "latent_norm", "latent_distance"):
        for a, b in (("joint", "sequential"), ("robust", "joint"), ("refine", "joint"),
                     ("cycle", "in-turn"), ("joint", "in-turn"), ("joint", "untrained")):  # fmt: skip
            line(f"{a} - {b}: {score}", kind(a, score), kind(b, score))
    ours = kind("joint", DEFAULT_RULE)
    of_joint = list(dict.fromkeys(row["score"] for row in rows if row["method"] == "joint"))
    for score in of_joint:
        if score != DEFAULT_RULE:
            line(f"joint: {DEFAULT_RULE} - {score}", ours, kind("joint", score))
    for method in dict.fromkeys(row["method"] for row in rows):
        title = METHODS[method].summary
        if title not in of_joint:
            line(f"joint: {DEFAULT_RULE} - {title}", ours, kind(method, title))
    return "\n".join(lines) + "\n"


def suspects(results: Sequence[dict[str, Any]]) -> str:
    """Format the precision among the k oddest training images; k is the number of injected ones."""
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
