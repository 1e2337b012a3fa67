"""A trial of a study: a data set, a rate of contamination, a method and a seed -> a result.

    python -m anowild.study.trial FOLDER

runs the trial that ``cell.json`` in FOLDER describes, or goes on with it; `sweep` writes that file, and
runs trials side by side. A trial leaves the trained networks; all cues of all images, in ``bank.npz`` where
the GAN was trained by itself, and in ``cues.npz`` where a detector of several views was, with its
calibration and features of the training images beside; and, at its end, ``result.json``.
"""

from __future__ import annotations

import argparse
import logging
import platform
import shutil
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from anowild.arrays import Array
from anowild.checked import checked
from anowild.data import ImageSet
from anowild.device import configure_process, select_device
from anowild.errors import UserError
from anowild.evaluation.metrics import auroc, average_precision
from anowild.files import atomic_write, read_json, write_json
from anowild.process import exit_status
from anowild.scoring import Calibration
from anowild.scoring.scores import oddest_first
from anowild.settings import Settings
from anowild.study import cue_cache
from anowild.study.datasets import DATASETS, SETTINGS_OF, Experiment
from anowild.study.fusion_rules import DEFAULT_RULE, RULES
from anowild.study.latent_search import search
from anowild.study.methods import (
    DETECTORS,
    ENSEMBLE,
    METHODS,
    ON_FEATURES,
    Baseline,
    Ensemble,
    Training,
    settings_of,
)
from anowild.training import trusted
from anowild.training.fitting import fit_detector
from anowild.training.gan import anomaly_scorer, view_of
from anowild.training.loop import train_gan
from anowild.training.robust import Suspects
from anowild.training.sizes import network_halvings
from anowild.version import VERSION
from anowild.views import Cue, view_class, view_names

#: Cues by the name of their view.
ViewCues = Mapping[str, Sequence[Cue]]
#: ``score`` (what is ranked by), ``auroc``, ``average_precision``.
Row = dict[str, Any]

TRIAL, RESULT, CUE_CACHE, CUES = "cell.json", "result.json", "bank.npz", "cues.npz"
CALIBRATION, FEATURES = "calibration.json", "features.npy"
#: Test images of either kind that the latent search, which is slow, is tried on.
SEARCHED_EACH = 200


def place(name: str, rate: float, method: str, seed: int) -> Path:
    """Return the place of a trial in the folder of its study."""
    return Path(name) / f"{100 * rate:g}pct" / method / f"seed{seed}"


@dataclass(frozen=True)
class Trial:
    """Description of a trial."""

    set: str
    rate: float
    method: str
    seed: int
    data: str  # folder of the image sets
    settings: dict[str, Any]  # of the study; the method changes some
    search_steps: int = 0  # of AnoGAN's latent search, tried on the joint networks

    @property
    def place(self) -> Path:
        """Its place in the folder of the study."""
        return place(self.set, self.rate, self.method, self.seed)

    @staticmethod
    def load(folder: Path) -> Trial:
        """Read the description of a trial from its folder.

        Raises:
            UserError: it is missing, damaged, or of a set or method that is not known.
        """
        value = read_json(folder / TRIAL)
        try:
            trial = checked(Trial, value, "the trial")
            for kind, name, known in (
                ("set", trial.set, DATASETS),
                ("method", trial.method, METHODS),
            ):
                if name not in known:
                    raise ValueError(f"there is no {kind} '{name}'")
        except ValueError as error:
            raise UserError(
                f"{folder / TRIAL}: is damaged, or of another version ({error}); delete {folder} and run the "
                "study again"
            ) from error
        return trial

    def experiment(self) -> Experiment:
        """Load the images, with the trial's contamination.

        Raises:
            UserError: the images cannot be read, or are too few for the rate.
        """
        try:
            return DATASETS[self.set](Path(self.data), self.rate, self.seed)
        except ValueError as error:
            raise UserError(
                f"{self.set} at {100 * self.rate:g} %: {error}; give other rates"
            ) from error

    def full_settings(self) -> Settings:
        """Return the settings of the study, with those of the set and the method."""
        settings = settings_of(self.method, Settings.from_json(self.settings), self.rate)
        return settings.replace(**SETTINGS_OF.get(self.set, {}), seed=self.seed)


def run(trial: Trial, folder: Path, device: torch.device) -> dict[str, Any]:
    """Run a trial in its folder, go on with it, or read its result.

    Raises:
        UserError: the image sets cannot be read; a view cannot be used; as in training.
        Interrupted: as in training.
    """
    if (folder / RESULT).exists():
        done: dict[str, Any] = read_json(folder / RESULT)
        return done
    settings, experiment = trial.full_settings(), trial.experiment()
    training = ImageSet.load(experiment.training, settings)
    test = ImageSet.load(experiment.test, preprocess=training.preprocess)
    method = METHODS[trial.method]
    if isinstance(method, Baseline):
        started = time.perf_counter()
        scores = method.score(training.images, test.images, trial.seed)
        facts: dict[str, Any] = {"train_seconds": round(time.perf_counter() - started, 1)}
        rows = [_row(method.main, experiment.test_labels, scores)]
    else:
        work = _gan if isinstance(method, Training) else _ensemble
        facts, rows = work(trial, experiment, training, test, settings, folder, device)
    result = {
        "set": trial.set,
        "rate": trial.rate,
        "method": trial.method,
        "seed": trial.seed,
        "resolution": training.preprocess.resolution,
        "kimg": settings.kimg,
        "training_images": len(training),
        "injected": len(experiment.contamination.indices),
        "test_images": len(test),
        "rows": rows,
        **facts,
        "threads": torch.get_num_threads(),
        "machine": f"{platform.machine()}, torch {torch.__version__}",
        "date": datetime.now(UTC).date().isoformat(),
        "anowild": VERSION,
    }
    write_json(folder / RESULT, result)
    return result


def _ensemble(
    trial: Trial, experiment: Experiment, training: ImageSet, test: ImageSet, settings: Settings,
    folder: Path, device: torch.device,
) -> tuple[dict[str, Any], list[Row]]:  # fmt: skip
    """Train a detector of several views; rows of all views, of each alone and left out, and of each cue."""
    _take_over(trial, settings, folder)
    fitted = fit_detector(training, settings, folder / "training", device)
    detector, info = fitted.detector, fitted.detector.training_info
    if info["failed"]:  # the others went on without it, but that is not the method
        raise UserError(f"{trial.method}: {'; '.join(info['failed'].values())}")
    cues = detector.measure(test.images)
    cue_cache.save(folder / CUES, {"training": fitted.training.cues, "test": cues})
    cues_of = {view.name: view.cues for view in detector.views}
    rows = ensemble_rows(
        cues_of, fitted.weights, fitted.training.cues, cues, experiment.test_labels
    )
    write_json(folder / CALIBRATION, detector.calibration.to_json())
    features = detector.features(training.images) if fitted.features is None else fitted.features
    with atomic_write(folder / FEATURES) as temporary, temporary.open("wb") as file:
        np.save(file, features.astype(np.float16))
    views = {
        view.name: {
            **info["views"][view.name],
            "cues": [cue.name for cue in view.cues],
            "gates": {
                c.name: fitted.weights[c.name] for c in view.cues if c.name in fitted.weights
            },
        }
        for view in detector.views
    }
    facts = {
        "train_seconds": round(sum(view.get("seconds", 0.0) for view in views.values()), 1),
        "views": views,
        "suspects": _suspects(experiment.injected, fitted.training.score, fitted.suspects),
    }
    if (chosen := trusted.load(folder / "training", training, settings)) is not None:
        odd = experiment.injected
        facts["left_out"] = {
            "injected": round(float(1 - chosen[odd].mean()), 4) if odd.any() else None,
            "others": round(float(1 - chosen[~odd].mean()), 4),
        }
    return facts, rows


def recalibrate(folder: Path) -> None:
    """Join the views of a trial that is done as they are joined today, from its cues; nothing is trained or measured.

    Raises:
        UserError: a file is missing or damaged; an earlier version ran the trial, which kept less; or a view
            is not known any more.
    """
    trial, result = Trial.load(folder), read_json(folder / RESULT)
    views, gates = cues_and_gates(folder)
    cues, experiment = cue_cache.load(folder / CUES), trial.experiment()
    calibration = Calibration.fit(views, cues["training"], gates)
    write_json(folder / CALIBRATION, calibration.to_json())
    score = calibration.score(cues["training"])
    result["suspects"] |= _suspects(experiment.injected, score, None)
    result["rows"] = ensemble_rows(
        views, gates, cues["training"], cues["test"], experiment.test_labels
    )
    write_json(folder / RESULT, result | {"anowild": VERSION})


def cues_and_gates(folder: Path) -> tuple[ViewCues, dict[str, float]]:
    """Return the cues of each view of a trial that is done, and what their fits said of the cues' weights.

    Raises:
        UserError: the result is missing or damaged; an earlier version ran the trial, which kept less; or a view
            is not known any more.
    """
    result = read_json(folder / RESULT)
    views: dict[str, Sequence[Cue]] = {}
    gates: dict[str, float] = {}
    try:
        for name, facts in result["views"].items():
            views[name] = [
                cue for cue in view_class(name).known_cues() if cue.name in facts["cues"]
            ]
            gates |= facts["gates"]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{folder / RESULT}: was written by an earlier version, which kept less, or is damaged ({error!r}); "
            "delete it, and run the study again: what was trained stays"
        ) from error
    return views, gates


def left_in(views: ViewCues, left_out: Iterable[str]) -> ViewCues:
    """Return the cues of some views but for those of views, or voices, that are left out.

    What `lookalikes` says stays as it is, though it was told by all views, and goes with `pretrained`.
    """
    out = {voice for name in left_out for voice in voices_of(name)}
    found = {
        name: [cue for cue in cues if (cue.voice or name) not in out]
        for name, cues in views.items()
    }
    return {name: cues for name, cues in found.items() if cues}


def _take_over(trial: Trial, settings: Settings, folder: Path) -> None:
    """Copy the trained views that a method has in common with another one from that one's trial, if it is done."""
    method = METHODS[trial.method]
    assert isinstance(method, Ensemble)
    if method.like is None:
        return
    other = folder.parents[1] / method.like / folder.name
    if (other / RESULT).exists():
        for name in settings.views:
            source, target = (place / "training" / name for place in (other, folder))
            if name not in method.trains and source.is_dir() and not target.exists():
                begun = target.with_name(f"{name}.part")
                shutil.rmtree(begun, ignore_errors=True)
                shutil.copytree(source, begun)
                begun.replace(target)


def ensemble_rows(
    views: ViewCues,
    gates: Mapping[str, float],
    training: Mapping[str, Array],
    cues: Mapping[str, Array],
    labels: Array,
) -> list[Row]:
    """Compute the rows of a detector of several views from its cues of training and test images."""
    calibration = Calibration.fit(views, training, gates)
    rows = [_row(ENSEMBLE, labels, calibration.score(cues))]
    for name in calibration.views:
        if others := left_in(views, [name]):
            score = Calibration.fit(others, training, gates).raw_score(cues)
            rows.append(_row(f"{ENSEMBLE} without {name}", labels, score))
    for name, surprise in calibration.view_surprises(cues).items():
        rows.append(_row(f"view {name}", labels, surprise))
    for name, cue in calibration.cues.items():
        rows.append(_row(name, labels, cue.surprise(cues[name])))
    return rows


def voices_of(name: str) -> set[str]:
    """Return the names under which the cues of a view have a say; of another name, itself."""
    known = view_class(name).known_cues() if name in view_names() else ()
    return {name, *(cue.voice for cue in known if cue.voice is not None)}


def _gan(
    trial: Trial, experiment: Experiment, training: ImageSet, test: ImageSet, settings: Settings,
    folder: Path, device: torch.device,
) -> tuple[dict[str, Any], list[Row]]:  # fmt: skip
    scorer = anomaly_scorer(training, settings) if settings.robust else None
    trained = train_gan(training, settings, folder / "training", device, scorer)
    shrink = network_halvings(training.preprocess.resolution, settings)
    view = view_of(trained.networks, trained.lod, settings, shrink)
    measured = cue_cache.make(
        view, training.images, test.images, settings.latent_scale, settings.seed
    )
    cue_cache.save(folder / CUE_CACHE, measured)
    labels = experiment.test_labels
    rows = rows_of(measured, labels)
    if trial.search_steps:
        kinds = [np.flatnonzero(labels == kind)[:SEARCHED_EACH] for kind in (0, 1)]
        chosen = np.concatenate(kinds)
        scores = search(view, test.images[chosen], trial.search_steps, settings)
        rows.append(_row("latent search (AnoGAN)", labels[chosen], scores))
    score = RULES[DEFAULT_RULE](measured["training"], measured["training"])
    facts = {
        "train_seconds": round(trained.seconds, 1),
        "suspects": _suspects(experiment.injected, score, trained.suspects),
    }
    return facts, rows


def rows_of(measured: dict[str, cue_cache.CueArrays], labels: Array) -> list[Row]:
    """Compute the row of every way of scoring that a cue cache allows."""
    training, test = measured["training"], measured["test"]
    rows = [_row(title, labels, rule(training, test)) for title, rule in RULES.items()]
    rows += [_row(name, labels, test[name]) for name in cue_cache.cues(measured)]
    izi_f = test["squared_residual"] + test["squared_features"]
    rows.append(_row("squared residual and features (f-AnoGAN)", labels, izi_f))
    for name in ON_FEATURES:
        detector = DETECTORS[name]
        if detector.available():
            scores = detector.score(training["latent"], test["latent"], 0)
            rows.append(_row(f"{detector.summary}, E's features", labels, scores))
    return rows


def _suspects(odd: Array, score: Array, found: Suspects | None) -> Row:
    """Measure how well the training images themselves are ranked: AUROC, and precision at k.

    Args:
        odd: which training images are injected anomalies, bool [N]; k is their number.
        score: of the training images, [N].
        found: what robust training suspects.
    """
    row: Row = {
        "auroc": round(auroc(odd, score), 5) if odd.any() else None,
        "precision_at_k": _precision(odd, score),
    }
    if found is not None:
        row |= {
            "precision_at_k_over_reassessments": _precision(odd, found.oddness),
            "left_out": int(found.dropped.sum()),
            "left_out_injected": int((found.dropped & odd).sum()),
            "estimated_rate": round(found.rate, 4),
        }
    return row


def _precision(odd: Array, score: Array) -> float | None:
    count = int(odd.sum())
    return float(odd[oddest_first(score)[:count]].mean()) if count else None


def _row(title: str, labels: Array, scores: Array) -> Row:
    return {
        "score": title,
        "auroc": round(auroc(labels, scores), 5),
        "average_precision": round(average_precision(labels, scores), 5),
    }


def write(trial: Trial, folder: Path) -> None:
    """Write the description of a trial into its folder."""
    write_json(folder / TRIAL, asdict(trial))


def main(arguments: list[str]) -> int:
    """Run the trial of a folder; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m anowild.study.trial")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=None)
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")

    def work() -> int:
        trial = Trial.load(given.folder)
        configure_process(given.threads)
        run(trial, given.folder, select_device(given.device))
        return 0

    return exit_status(work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
