"""Tables of a study: one row for each score of each trial, means over seeds, paired differences."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from anowild.checked import checked
from anowild.errors import UserError
from anowild.files import atomic_write, read_json
from anowild.libraries import parquet_library
from anowild.study.fusion_rules import DEFAULT_RULE
from anowild.study.methods import ENSEMBLE, ENSEMBLES, METHODS, PIXEL_BASELINES, Baseline
from anowild.study.trial import RESULT

#: One score of one trial: set, rate, method, seed, score, auroc, average_precision, ...
Row = dict[str, Any]
#: Facts of a trial that each of its rows repeats.
FACTS = ("set", "rate", "method", "seed", "resolution", "kimg", "train_seconds", "date", "machine")
#: What tells a trial from others; what every row has; and what every result has beside its rows.
_OF_TRIALS: dict[str, type] = {"set": str, "rate": float, "method": str, "seed": int}
_OF_ROWS: dict[str, type] = {**_OF_TRIALS, "score": str, "auroc": float, "average_precision": float}
_OF_RESULTS: dict[str, type] = {
    **_OF_TRIALS, "resolution": int, "kimg": float, "test_images": int, "threads": int, "train_seconds": float,
    "date": str, "machine": str,
}  # fmt: skip


def collect(out: Path) -> list[dict[str, Any]]:
    """Read the results of all trials in a study's folder.

    Earlier versions spelled "neighbours" in the names of scores; here it is "neighbors".

    Raises:
        UserError: there are none, or one is damaged.
    """
    found = []
    for path in sorted(out.glob(f"*/*/*/*/{RESULT}")):
        result = read_json(path)
        try:
            facts: Row = {n: checked(kind, result[n], n) for n, kind in _OF_RESULTS.items()}
            for row in result["rows"]:
                _check(facts | row)
                row["score"] = row["score"].replace("neighbours", "neighbors")
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{path}: is damaged, or of another version ({error}); delete its folder and run the study again"
            ) from error
        found.append(result)
    if not found:
        raise UserError(f"{out}: holds no results; make some with `anowild study run`")
    return found


def rows_of(results: Sequence[dict[str, Any]]) -> list[Row]:
    """Return all rows of all results, each with the facts of its trial."""
    return [{k: r.get(k) for k in FACTS} | row for r in results for row in r["rows"]]


def read_rows(study: Path) -> list[Row]:
    """Read the rows of a study: its folder, or a Parquet file that :func:`write_parquet` made.

    Raises:
        UserError: there are none; the file cannot be read, or holds something else.
    """
    if not study.is_file():
        return rows_of(collect(study))
    pa, parquet = parquet_library()
    try:
        rows: list[Row] = parquet.read_table(study).to_pylist()
    except (pa.ArrowException, OSError) as e:
        raise UserError(f"{study}: cannot be read as Parquet ({e}); check the file") from None
    try:
        for row in rows:
            _check(row)
    except (KeyError, ValueError) as error:
        raise UserError(
            f"{study}: has no rows of a study, or is damaged ({error}); write it again with "
            "`anowild study table --parquet`"
        ) from None
    return rows


def _check(row: Row) -> None:
    """Raise KeyError or ValueError where a row lacks a field, or has one of another kind."""
    for name, kind in _OF_ROWS.items():
        checked(kind, row[name], name)
    if row["method"] not in METHODS:
        raise ValueError(f"there is no method '{row['method']}'")


def is_main(row: Row) -> bool:
    """Whether a row stands for its method."""
    return bool(row["score"] == METHODS[row["method"]].main)


def is_of_views(row: Row) -> bool:
    """Whether a row is of a view of an ensemble alone, or of the ensemble without that view."""
    of_views = row["score"].startswith(("view ", f"{ENSEMBLE} without "))
    return row["method"] in ENSEMBLES and of_views


def write_parquet(rows: Sequence[Row], path: Path) -> None:
    """Write rows as a Parquet file.

    Raises:
        UserError: pyarrow is not installed, or the file cannot be written.
    """
    pa, parquet = parquet_library()
    with atomic_write(path) as temporary:
        parquet.write_table(pa.Table.from_pylist(list(rows)), temporary)


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
    seconds: dict[str, list[float]] = defaultdict(list)
    for r in results:
        if r["kimg"] and not isinstance(METHODS[r["method"]], Baseline):
            seconds[r["method"]].append(r["train_seconds"])
    if seconds:
        minutes = ", ".join(f"{m} {statistics.mean(s) / 60:.1f}" for m, s in seconds.items())
        trained = [r for r in results if r["method"] in seconds]
        kimg = "/".join(f"{k:g}" for k in sorted({r["kimg"] for r in trained}))
        lines.append(
            f"{kimg} kimg; minutes of training on {trained[0]['threads']} thread(s), on average: "
            f"{minutes}; {results[0]['test_images']} test images; "
            f"{', '.join(sorted({r['date'] for r in results}))} ({results[0]['machine']})."
        )
    seeds = len({r["seed"] for r in results})
    columns = " | ".join(f"{100 * rate:g} %" for rate in rates)
    lines += ["", f"| {metric}, {seeds} seeds | {columns} |", "|---" * (len(rates) + 1) + "|"]
    values: dict[tuple[str, str], dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows_of(results):
        if not brief or is_main(row):
            values[row["method"], row["score"]][row["rate"]].append(row[metric])
    order = {method: number for number, method in enumerate(METHODS)}
    for method, score in sorted(values, key=lambda key: order[key[0]]):
        cells = [mean(values[method, score].get(rate, [])) for rate in rates]
        lines.append(f"| {_title(method, score)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _title(method: str, score: str) -> str:
    own = isinstance(METHODS[method], Baseline) or method == ENSEMBLE
    return score if own else f"{method}: {score}"


def overview(
    results: Sequence[dict[str, Any]],
    rate: float,
    sets: Sequence[str] | None = None,
    metric: str = "auroc",
) -> str:
    """Format a table for one rate: a column for each set, and the mean over them.

    Rows are the methods' main scores, with each view of the ensemble alone and left out; the last says
    how far the ensemble is above the best baseline of raw pixels, and which that is. The mean over sets
    is of the seeds that all sets have.

    Args:
        sets: in the order of the columns; all unless given.
    """
    rows = [row for row in rows_of(results) if row["rate"] == rate]
    sets = list(sets or sorted({row["set"] for row in rows}))
    found: dict[str, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    order = list({**ENSEMBLES, **METHODS})
    for row in sorted(rows, key=lambda row: order.index(row["method"])):
        method, score = row["method"], row["score"]
        if is_main(row) or (method == ENSEMBLE and is_of_views(row)):
            found[_short(method) if is_main(row) else score][row["set"]][row["seed"]] = row[metric]
    seeds = len({row["seed"] for row in rows})
    head = f"{metric} at {100 * rate:g} %, {seeds} seeds"
    lines = [f"| {head} | {' | '.join(sets)} | mean |", "|---" * (len(sets) + 2) + "|"]
    for title, by_set in found.items():
        cells = [list(by_set[name].values()) for name in sets]
        common = set.intersection(*(set(by_set[name]) for name in sets))
        cells.append([statistics.mean(by_set[n][seed] for n in sets) for seed in sorted(common)])
        lines.append(f"| {title} | {' | '.join(map(mean, cells))} |")
    if ENSEMBLE in found:
        lines.append(_above_pixels(found, sets))
    return "\n".join(lines) + "\n"


def _short(method: str) -> str:
    """Return the title of a method in a table of main scores."""
    found = METHODS[method]
    return found.main if isinstance(found, Baseline) else method


def _above_pixels(found: dict[str, dict[str, dict[int, float]]], sets: Sequence[str]) -> str:
    """Format the row of the ensemble less the best baseline of raw pixels; means over seeds."""
    cells, above = [], []
    for name in sets:
        means = {
            title: statistics.mean(found[title][name].values())
            for title in (_short(method) for method in PIXEL_BASELINES)
            if title in found and found[title][name]
        }
        if means and found[ENSEMBLE][name]:
            best = max(means, key=lambda title: means[title])
            above.append(statistics.mean(found[ENSEMBLE][name].values()) - means[best])
            cells.append(f"{above[-1]:+.3f} ({best})")
        else:
            cells.append("-")
    cells.append(f"{statistics.mean(above):+.3f}" if len(above) == len(sets) else "-")
    return f"| {ENSEMBLE} - best of raw pixels | {' | '.join(cells)} |"


def mean(values: Sequence[float], sign: Literal["-", "+"] = "-") -> str:
    """Format mean ± standard deviation; a single value has no deviation.

    Args:
        sign: ``+`` where a positive mean has its sign, too.
    """
    if not values:
        return "-"
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):{sign}z.3f}{spread}"


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
    first: Iterable[Row], second: Iterable[Row], metric: str = "auroc"
) -> dict[str, list[float]]:
    """Return, by set, first minus second row of each pair with the same rate and seed."""

    def by_cell(rows: Iterable[Row]) -> dict[tuple[Any, ...], float]:
        return {(r["set"], r["rate"], r["seed"]): r[metric] for r in rows}

    a, b = by_cell(first), by_cell(second)
    found: dict[str, list[float]] = defaultdict(list)
    for key in sorted(a.keys() & b.keys()):
        found[key[0]].append(a[key] - b[key])
    return dict(found)


def paired(
    first: Sequence[Row],
    second: Sequence[Row],
    rate: float,
    methods: tuple[str, str] = (ENSEMBLE, ENSEMBLE),
    sets: Sequence[str] | None = None,
    metric: str = "auroc",
) -> str:
    """Format first minus second of two studies: of each score that both have, a column for each set.

    Pairs are of the same set, rate and seed. A cell is the mean over them ± the deviation over seeds; the
    last column is the mean over the sets' means ± their deviation.

    Args:
        first: rows, as :func:`read_rows` returns them.
        methods: of the first and of the second; of each its main score and those of views are compared.
        sets: in the order of the columns; all unless given.

    Raises:
        UserError: no trial of the one has a counterpart in the other.
    """

    def chosen(rows: Sequence[Row], method: str) -> list[Row]:
        return [
            row
            for row in rows
            if row["rate"] == rate
            and row["method"] == method
            and (sets is None or row["set"] in sets)
            and (is_main(row) or is_of_views(row))
        ]

    a, b = chosen(first, methods[0]), chosen(second, methods[1])
    shared = {row["score"] for row in b}
    found = {}
    for score in dict.fromkeys(row["score"] for row in a if row["score"] in shared):
        one, other = ([row for row in rows if row["score"] == score] for rows in (a, b))
        found[score] = differences(one, other, metric)
    names = list(sets or sorted({name for by_set in found.values() for name in by_set}))
    if not any(found.values()):
        raise UserError(
            f"at {100 * rate:g} % no trial of {methods[0]} has a counterpart of {methods[1]} with the "
            "same set and seed"
        )
    seeds = max(len(values) for by_set in found.values() for values in by_set.values())
    head = f"difference in {metric} at {100 * rate:g} %, {seeds} seed{'s' if seeds > 1 else ''}"
    lines = [f"| {head} | {' | '.join(names)} | over sets |", "|---" * (len(names) + 2) + "|"]
    for score, by_set in found.items():
        over = [statistics.mean(by_set[name]) for name in names if name in by_set]
        cells = [*(by_set.get(name, []) for name in names), over]
        lines.append(f"| {score} | {' | '.join(mean(values, '+') for values in cells)} |")
    return "\n".join(lines) + "\n"


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

    def kind(method: str, score: str) -> list[Row]:
        return [row for row in rows if row["method"] == method and row["score"] == score]

    def line(title: str, first: list[Row], second: list[Row]) -> None:
        found = differences(first, second, metric)
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
    for first in ("joint", ENSEMBLE):
        main = METHODS[first].main
        own = list(dict.fromkeys(row["score"] for row in rows if row["method"] == first))
        for score in own:
            if score != main:
                line(f"{_title(first, main)} - {score}", kind(first, main), kind(first, score))
        for method in dict.fromkeys(row["method"] for row in rows):
            other = METHODS[method]
            if isinstance(other, Baseline) or (first == ENSEMBLE and method != first):
                title = f"{_title(first, main)} - {_short(method)}"
                line(title, kind(first, main), kind(method, other.main))
    return "\n".join(lines) + "\n"


def suspects(results: Sequence[dict[str, Any]]) -> str:
    """Format how training images are ranked: precision among the k oddest, k injected ones; AUROC."""
    tables = []
    for title, start in (("precision at k", "precision"), ("AUROC of training images", "auroc")):
        found: dict[tuple[str, float], dict[str, list[float]]] = defaultdict(
            lambda: defaultdict(list)
        )
        for r in results:
            for name, value in (r.get("suspects") or {}).items():
                if name.startswith(start) and value is not None:
                    # Earlier versions called a reassessment a look.
                    several = name.endswith(("over_reassessments", "over_looks"))
                    title_of = f"{r['method']}, mean of reassessments" if several else r["method"]
                    found[r["set"], r["rate"]][title_of].append(value)
        columns = list(dict.fromkeys(name for group in found.values() for name in group))
        lines = [f"| {title} | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
        for (name, rate), group in sorted(found.items()):
            cells = " | ".join(mean(group[c]) if c in group else "-" for c in columns)
            lines.append(f"| {name}, {100 * rate:g} % | {cells} |")
        if columns:
            tables.append("\n".join(lines) + "\n")
    return "\n".join(tables)
