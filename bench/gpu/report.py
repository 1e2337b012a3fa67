"""The results of the GPU kit as Markdown."""

from __future__ import annotations

from typing import Any

from anowild.paper.parity import TOLERANCE
from anowild.views.gan import CUES
from bench.gpu.ledger import failure

_TITLES = {"score": "combined score"} | {cue: cue.replace("_", " ") for cue in CUES}


def markdown(results: dict[str, Any]) -> str:
    """All of results.json that a reader wants to see."""
    lines = ["# What `python -m bench.gpu` measured", ""]
    if results["tiny"]:
        lines += ["**Tiny networks, to try the kit itself: no figure here means anything.**", ""]
    lines += [f"{results['seconds'] / 60:.1f} minutes of {results['minutes']:g}.", ""]
    lines += _environment(results["environment"])
    lines += _parity(results["parity"], results["scores"], results["scores_tolerance"])
    lines += _speed(results["speed"])
    lines += _hours(results["hours"])
    for name, run in results["training"].items():
        lines += _training(name, run)
    return "\n".join(lines).rstrip() + "\n"


def _missing(result: Any) -> list[str] | None:
    """What to say in the place of a part that is not there."""
    if result is None:
        return ["Not done.", ""]
    why = failure(result)
    return None if why is None else [f"Failed: {why}.", ""]


def _environment(facts: Any) -> list[str]:
    lines = ["## Machine", ""]
    if (missing := _missing(facts)) is not None:
        return lines + missing
    lines += [f"- {name}: {value}" for name, value in facts.items() if name != "peaks"]
    lines += [
        f"- matrix-product peak, {name}: {peak / 1e12:.2f} TFLOP/s"
        for name, peak in facts["peaks"].items()
    ]
    return [*lines, ""]


def _parity(groups: Any, scores: Any, tolerance: float) -> list[str]:
    lines = [
        "## Parity with the reference, on the device", "",
        f"Float64, but for the fades of real images, which are float32. {TOLERANCE:.0e} is what a "
        "CPU has to keep to; here is what the device reaches.", "",
    ]  # fmt: skip
    if (missing := _missing(groups)) is None:
        lines += ["| group | arrays | worst relative error | array |", "|---|---|---|---|"]
        for name, group in groups.items():
            lines.append(f"| {name} | {group['arrays']} | {group['error']:.1e} | {group['key']} |")
        lines.append("")
    else:
        lines += missing
    lines += [
        "Scores of a small model, device against CPU, largest relative difference "
        f"(asked for: {tolerance:.0e}):",
        "",
    ]
    if (missing := _missing(scores)) is None:
        for name, error in scores.items():
            verdict = "" if error <= tolerance else " **too much**"
            lines.append(f"- {_TITLES[name]}: {error:.1e}{verdict}")
        lines.append("")
    else:
        lines += missing
    return lines


def _speed(rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        "## Speed", "",
        "At the preset's own minibatch; level k.5 is the middle of a fade. FLOPs are those of "
        "convolutions and matrix products; the share is of the peak of that type.", "",
        "| preset | level | precision | step | s/iteration | s/kimg | images/s | GFLOP/s | of peak "
        "| peak MB |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for row in rows:
        step = row["order"] + (", graphs" if row["graphs"] else "")
        start = f"| {row['preset']} | {row['lod']:g} | {row['precision']} | {step} |"
        why = failure(row)
        if why is not None:
            lines.append(f"{start} {why} | | | | | |")
        else:
            lines.append(
                f"{start} {row['s_per_iteration']:.4f} | {row['s_per_kimg']:.3f} | "
                f"{row['images_per_s']:.0f} | {row['gflops']:.0f} | {row['of_peak']:.2f} | "
                f"{row['peak_memory_mb']} |"
            )
    return [*lines, ""]


def _hours(hours: dict[str, dict[str, float | None]]) -> list[str]:
    lines = ["## Hours of the whole schedule, at these rates", ""]
    lines += [f"| | {' | '.join(hours)} |", "|---" * (len(hours) + 1) + "|"]
    for variant in next(iter(hours.values()), {}):
        cells = [
            "not all levels measured" if found[variant] is None else f"{found[variant]:.2f}"
            for found in hours.values()
        ]
        lines.append(f"| {variant} | {' | '.join(cells)} |")
    return [*lines, ""]


def _training(name: str, run: dict[str, Any]) -> list[str]:
    changes = ", ".join(f"{key} = {value}" for key, value in run["settings"].items())
    lines = [f"## Training: {name}, {100 * run['rate']:g} % contaminated", "",
             f"The preset's settings, but {changes}. One run.", ""]  # fmt: skip
    if (missing := _missing(run["baselines"])) is not None:
        return lines + missing
    facts = run["baselines"]
    lines += [
        f"{facts['training_images']} training images, {facts['test_images']} test images.",
        "",
    ]
    lines += [f"- {title}: AUROC {value:.3f}" for title, value in facts["auroc"].items()]
    lines.append("")
    if run["failed"] is not None:
        lines += [f"Training stopped: {run['failed']}", ""]
    lines += [f"| run | kimg | s/kimg | {' | '.join(_TITLES.values())} |",
              "|---" * (3 + len(_TITLES)) + "|"]  # fmt: skip
    for line in run["measured"]:
        pace = "" if line["s_per_kimg"] is None else f"{line['s_per_kimg']:.2f}"
        cells = " | ".join(f"{line['auroc'][key]:.3f}" for key in _TITLES)
        lines.append(f"| {line['run']} | {line['kimg']:g} | {pace} | {cells} |")
    return [*lines, ""]
