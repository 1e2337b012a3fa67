"""Options that several commands share, and the parsing of their values."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from anowild.cli import completion
from anowild.errors import UserError
from anowild.presets import PRESETS, preset
from anowild.process import MOSTLY_LEFT_OUT, mostly_left_out
from anowild.process import print_error as print_error
from anowild.settings import Settings

if TYPE_CHECKING:
    from anowild.evaluation.labels import Labels
    from anowild.scoring import Detector
    from anowild.scoring.stream import ThresholdRule

Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="IMAGES",
        help="Folders, zips and tars of images, arrays (file.npz:key), videos, packed data sets "
        "(DATASET:test), ...",
    ),
]


MaybeSources = Annotated[
    list[str] | None,
    typer.Argument(metavar="[IMAGES]", help="As for `score`; not with a table in parts."),
]


def model_path(model: str) -> Path:
    """Return the folder of a model, downloaded if it is named hf://OWNER/NAME."""
    if not model.startswith("hf://"):
        return Path(model)  # the Hub's package would import PyTorch
    from anowild.hub import model_folder

    return model_folder(model)


Model = Annotated[
    Path,
    typer.Argument(
        parser=model_path,
        metavar="MODEL",
        help="Folder of a trained model, or hf://OWNER/NAME or hf://OWNER/NAME@REVISION.",
    ),
]
ModelOrTable = Annotated[
    Path,
    typer.Argument(
        parser=model_path,
        metavar="MODEL",
        help="Folder of a trained model, or hf://OWNER/NAME; or, without IMAGES, the folder of a table of scores in "
        "parts.",
    ),
]
PresetName = Annotated[
    str,
    typer.Option(
        "--preset",
        metavar="NAME",
        help=f"One of {', '.join(PRESETS)}.",
        autocompletion=completion.presets,
    ),
]
PresetArgument = Annotated[
    str,
    typer.Argument(
        metavar="PRESET",
        help=f"One of {', '.join(PRESETS)}.",
        autocompletion=completion.presets,
    ),
]
Views = Annotated[
    str | None,
    typer.Option(
        metavar="NAMES",
        help="Ways of looking at an image, with commas; all of the preset unless given.",
        autocompletion=completion.views,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="cpu, cuda, cuda:1, ...; auto takes a GPU if there is one.",
        autocompletion=completion.devices,
    ),
]
Host = Annotated[str, typer.Option(metavar="ADDRESS", help="Address to listen on.")]
Port = Annotated[int, typer.Option(min=0, max=65535, metavar="N", help="0: any free one.")]
Token = Annotated[
    bool,
    typer.Option(
        "--token/--no-token",
        help="Without a token every account of this machine sees the images and can mark.",
    ),
]
Browser = Annotated[
    bool, typer.Option("--browser/--no-browser", help="Open the page in this machine's browser.")
]
Threads = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="CPU threads; all unless given. On a machine that is busy, 1 is faster.",
    ),
]
Engine = Annotated[
    Literal["process", "ray"],
    typer.Option(
        help="Who works: this process, or all workers of a Ray cluster (that RAY_ADDRESS names, else all cores of "
        "this machine); see docs/cluster.md.",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="With --engine ray: processes; all cores unless given."),
]
Precision = Annotated[
    Literal["float32", "bfloat16"],
    typer.Option(help="Of scoring; bfloat16 is faster on new devices, and nearly the same."),
]
Tiles = Annotated[
    int | None,
    typer.Option(
        min=0,
        metavar="PIXELS",
        help="Score images by their oddest tiles, squares of so many pixels: for small things in large images.",
    ),
]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", help="Change any setting; `anowild settings` lists them.",
        autocompletion=completion.settings,
    ),
]  # fmt: skip
Normal = Annotated[
    list[str] | None,
    typer.Option(metavar="LABEL", help="With labels: one that is normal; may be repeated."),
]
Partial = Annotated[
    bool, typer.Option("--partial", help="Images without a label do not count, as in a review.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def _rule(text: str, *names: str, **more: Any) -> Any:
    return typer.Option(*names, help=text, rich_help_panel="What is flagged (one of these)", **more)


Threshold = Annotated[
    str | None,
    _rule(
        "Flag from this score on, the same limit every time; `saved` is the one that is kept with the "
        "model (see `anowild limit`).",
        metavar="SCORE",
    ),
]
Budget = Annotated[int | None, _rule("Flag the oddest: as many as you can look at.", metavar="N")]
ExpectedShare = Annotated[
    float | None,
    _rule(
        "Flag the share of anomalies that you expect: 0.02 for 2 %.",
        "--expected-share", "--expected", metavar="SHARE",
    ),
]  # fmt: skip
Fdr = Annotated[
    float | None,
    _rule(
        "Flag so that at most this share of the flags is false, on average: 0.1 for 10 %.",
        metavar="SHARE",
    ),
]
CalibrationSources = Annotated[
    list[str] | None,
    _rule(
        "For --fdr: images like the normal ones, not trained on; may be repeated.", metavar="IMAGES"
    ),
]
Gap = Annotated[
    bool,
    _rule(
        "Flag what lies apart from the rest; rarely anything does, and then it says so.",
        "--gap", "--auto",
    ),
]  # fmt: skip


def is_table(model: Path, sources: list[str] | None) -> bool:
    """Whether a command is about a table in parts, in the place of a model and images.

    Raises:
        UserError: neither, or both at once.
    """
    from anowild.scoring.partitions import is_table as holds_table

    if not holds_table(model):
        if not sources:
            raise UserError(
                f"{model}: name the images behind the model; only a table of scores in parts stands alone, and this "
                "folder holds none"
            )
        return False
    if sources:
        raise UserError(
            f"{model}: is a table of scores, which names its images; leave {sources[0]} out"
        )
    return True


def limit_of(threshold: str, model: Path | None) -> float:
    """Return the score that ``--threshold`` names.

    Args:
        threshold: a number, or ``saved``.
        model: folder of the model whose limit ``saved`` means.

    Raises:
        UserError: it is neither, or no limit is kept with the model.
    """
    from anowild.scoring.saved_limit import chosen_limit
    from anowild.scoring.thresholds import check_score

    if threshold == "saved":
        if model is None:
            raise UserError(
                "--threshold saved needs the model that the limit is kept with (--model)"
            )
        return chosen_limit(model)
    try:
        score = float(threshold)
    except ValueError:
        raise UserError(
            f"--threshold takes a score, such as 2.5, or saved, not '{threshold}'"
        ) from None
    check_score(score, "--threshold")
    return score


def threshold_rule(
    model: Path,
    threshold: str | None,
    budget: int | None,
    expected_share: float | None,
    fdr: float | None,
    calibration: list[str] | None,
    gap: bool,
) -> ThresholdRule | None:
    """Return the one rule that the options ask for; None where they ask for none.

    Raises:
        UserError: more than one rule, or an option that belongs to another one.
    """
    from anowild.scoring import threshold_rules as rules

    if fdr is None and calibration:
        raise UserError("calibration images belong to a false discovery rate (--fdr)")
    found: list[ThresholdRule] = []
    if threshold is not None:
        found.append(rules.FixedScore(limit_of(threshold, model)))
    if budget is not None:
        found.append(rules.Budget(budget))
    if expected_share is not None:
        found.append(rules.ExpectedShare(expected_share))
    if fdr is not None:
        if not calibration:
            raise UserError(
                "a false discovery rate needs calibration images: some like the normal ones, that "
                "were not trained on (--calibration)"
            )
        found.append(rules.FalseDiscoveryRate(fdr, calibration))
    if gap:
        found.append(rules.Gap())
    if len(found) > 1:
        raise UserError(
            "one limit at a time: a threshold, a budget, an expected share, an fdr, or a gap"
        )
    return found[0] if found else None


def labels_of(labels: str | None, normal: list[str] | None, partial: bool) -> Labels | None:
    """Return the labels that the options name; None where they name none.

    Raises:
        UserError: the labels cannot be read, or options about labels stand alone.
    """
    from anowild.evaluation.labels import Labels

    for given, option in ((normal, "--normal"), (partial, "--partial")):
        if given and labels is None:
            raise UserError(f"{option} is about labels: give --labels as well")
    return None if labels is None else Labels(labels, normal or (), partial)


def load_detector(
    model: Path,
    device: str,
    threads: int | None,
    precision: Literal["float32", "bfloat16"] = "float32",
) -> Detector:
    """Load a model in a process that is set up for it.

    Raises:
        UserError: the model or the device cannot be used.
    """
    from anowild.device import configure_process
    from anowild.hub import load_model

    configure_process(threads)
    return load_model(model, device, precision)


def check_workers(engine: str, workers: int | None) -> None:
    """Check that the options of a cluster belong together.

    Raises:
        UserError: there are workers, but no engine that has some.
    """
    if workers is not None and engine != "ray":
        raise UserError("--workers is about --engine ray; give it as well")


def settings_of(preset_name: str, changes: list[str] | None, **given: Any) -> Settings:
    """Return the settings of a preset with changes; see :func:`changed`."""
    return changed(preset(preset_name).settings(), changes, **given)


def changed(before: Settings, changes: list[str] | None, **given: float | str | None) -> Settings:
    """Return settings with the changes of ``--set NAME=VALUE``, and of options that are not None.

    Raises:
        UserError: a change is malformed, names no setting, or has an impossible value.
    """
    pairs: dict[str, str | float] = {}
    for change in changes or ():
        name, equals, value = change.partition("=")
        if not equals:
            raise UserError(f"--set takes NAME=VALUE, not '{change}'")
        pairs[name] = value
    pairs.update({name: value for name, value in given.items() if value is not None})
    return before.replace(**pairs)


def numbers(text: str, option: str, what: str = "numbers with commas") -> list[float]:
    """Parse numbers with commas.

    Raises:
        UserError: ``text`` is something else; the message names the option.
    """
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise UserError(f"{option} takes {what}, not '{text}'") from None


def two_numbers(text: str, option: str) -> tuple[float, float]:
    """Parse two numbers with a comma.

    Raises:
        UserError: ``text`` is something else; the message names the option.
    """
    what = "two numbers with a comma"
    found = numbers(text, option, what)
    if len(found) != 2:
        raise UserError(f"{option} takes {what}, not '{text}'")
    return found[0], found[1]


def command_line(*words: object) -> str:
    """Return a command as a shell takes it: ``anowild train 'my images' -o model``."""
    return shlex.join(["anowild", *map(str, words)])


def new_name(path: str | Path) -> Path:
    """Return ``path``, or with a number before its ending the first that does not exist yet."""
    found, number = Path(path), 2
    while found.exists():
        found = Path(path).with_stem(f"{Path(path).stem}-{number}")
        number += 1
    return found


def check_left_out(used: int, left_out: int) -> None:
    """End the command, whose results are written, if more images were left out than used.

    Raises:
        typer.Exit: with the code ``MOSTLY_LEFT_OUT``.
    """
    if mostly_left_out(used, left_out):
        raise typer.Exit(MOSTLY_LEFT_OUT)
