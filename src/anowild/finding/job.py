"""The steps of `anowild find`: each leaves files behind, and a step that is done is not done again."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from anowild.arrays import Array
from anowild.checked import checked
from anowild.data import PackedSet, choose_preprocess, open_all
from anowild.data.dataset.build import check_libraries
from anowild.data.dataset.format import DESCRIPTION as IMAGES_DESCRIPTION
from anowild.data.image_set import ImageSet
from anowild.data.readers import ImageSource
from anowild.data.seen import seen_in_all
from anowild.data.sources import Source, listed_sources, source_name
from anowild.device import configure_process, select_device
from anowild.errors import LaterVersion, UserError, ViewUnavailable
from anowild.files import exclusive_lock, exists, printable, read_json, write_json
from anowild.finding.time_left import Plan
from anowild.reviewing.folder import ANOTHER_SERVER, FACTS
from anowild.reviewing.images import ReviewImages, prepare_images
from anowild.reviewing.session import ReviewSession, identity
from anowild.scoring import Detector, Scores, Table
from anowild.scoring.model_file import DESCRIPTION
from anowild.scoring.saved_limit import LIMIT, load_limit
from anowild.scoring.table import write_rows
from anowild.scoring.threshold_rules import FixedScore
from anowild.settings import Settings
from anowild.training.by_parts import by_parts
from anowild.training.fitting import check_views, pieces_of
from anowild.training.pretrained import SAMPLE, are_handed_on, extractor_of
from anowild.training.run import load_training_scores, train
from anowild.training.transforms import NETWORKS
from anowild.views import features_of
from anowild.views.pretrained import PretrainedView

log = logging.getLogger("anowild")

#: What a job leaves behind in its folder.
IMAGES, QUICK, MODEL, REVIEW = "images", "quick", "model", "review"
SCORES, REPORT, ABOUT = "scores.csv", "report.html", "find.json"
#: Seconds, on two cores of a laptop at 32x32: of a thousand images shown to a network of a view that is trained, and
#: of an image that a view looks at (docs/speed.md, "Time and memory").
SECONDS_PER_KIMG = {"transforms": 4.0, "gan": 5.0}
SECONDS_PER_IMAGE = {"pixels": 0.001, "pretrained": 0.004, "transforms": 0.0015, "gan": 0.0007}
#: Seconds that a view takes for any number of images, and the start of a process.
SECONDS_PER_STEP = 2.0


@dataclass(frozen=True)
class _About:
    """What a folder holds."""

    sources: tuple[str, ...]
    images: str | None = None  # identity of the data set


class Job:
    """A search for the odd images of some sources.

    Args:
        sources: as for `anowild.train`.
        out: folder of everything that the job leaves behind.
        settings: of the final model.
        device: as for `anowild.train`.
        threads: CPU threads; None: as they are.

    Raises:
        UserError: there is no such view; the sources cannot be read; or ``out`` holds something else.
    """

    def __init__(
        self,
        sources: Source | Sequence[Source],
        out: Path,
        settings: Settings,
        device: str = "auto",
        threads: int | None = None,
    ) -> None:
        check_libraries()
        check_views(settings)
        self.sources = listed_sources(sources)
        self.out, self.settings, self.device = out, settings, device
        self.torch_device: torch.device = select_device(device)
        configure_process(threads)
        self.threads = torch.get_num_threads()
        self._claim()

    def _claim(self) -> None:
        """Mark the folder as this job's, before anything else is written into it."""
        names = [source_name(source) for source in self.sources]
        about = self.out / ABOUT
        if about.exists():
            before = list(self._about().sources)
            if before != names and [*map(_place, before)] != [*map(_place, names)]:
                raise UserError(
                    f"{self.out}: holds the result for other images "
                    f"({printable(', '.join(before))}); name another folder with -o"
                )
            # As they were spelled before, so that images keep their names.
            self.sources = [
                given if isinstance(given, np.ndarray) else name
                for given, name in zip(self.sources, before, strict=True)
            ]
        elif self.out.exists() and (not self.out.is_dir() or any(self.out.iterdir())):
            raise UserError(f"{self.out}: holds other files; name a new folder with -o")
        else:
            self.readers  # noqa: B018 - a misspelled path leaves nothing behind
            write_json(about, {"sources": names})

    def _about(self) -> _About:
        """Read what the folder says of itself."""
        path = self.out / ABOUT
        try:
            return checked(_About, read_json(path), "the file")
        except (ValueError, UserError) as error:
            raise UserError(f"{path}: is damaged ({error}); name another folder with -o") from error

    @cached_property
    def readers(self) -> list[ImageSource]:
        """The sources, opened.

        Raises:
            UserError: one cannot be opened.
        """
        return open_all(self.sources)

    @cached_property
    def packed(self) -> PackedSet:
        """The images, read once; what other sources or settings left behind gives way.

        Raises:
            UserError: no image could be read; a full disk.
            Interrupted: by Ctrl-C or SIGTERM; the same job goes on.
        """
        preprocess = choose_preprocess(self.readers, self.settings)
        packed = prepare_images(self.sources, self.out / IMAGES, preprocess)
        about = self._about()
        if about.images not in (None, packed.id):
            log.warning("the images or how they are read changed: everything is looked at again")
            for name in (QUICK, MODEL):
                _clear_but_limit(self.out / name)
        write_json(self.out / ABOUT, asdict(replace(about, images=packed.id)))
        return packed

    @cached_property
    def pictures(self) -> ReviewImages:
        """The images as people see them."""
        return ReviewImages(self.packed, Path.cwd())

    @property
    def image_set(self) -> ImageSet:
        """The images as the views see them."""
        return ImageSet.load(str(self.packed.path), self.settings)

    @cached_property
    def quick_settings(self) -> Settings:
        """The settings of the first ranking: the views that train no network, or the pixels at least."""
        names = [v for v in self.settings.views if not pieces_of(v, self.settings)]
        return self.settings.replace(views=tuple(names) or ("pixels",))

    @property
    def is_quick(self) -> bool:
        """Whether nothing is left to train after the first ranking."""
        return self.quick_settings.views == self.settings.views

    def rank_quickly(self) -> tuple[Detector, ReviewSession]:
        """Rank by the views that train no network, or return the ranking that was made before."""
        try:
            return self._ranked(QUICK, self.quick_settings)
        except ViewUnavailable:
            pixels = self.settings.replace(views=("pixels",))
            if self.quick_settings == pixels:
                raise
            return self._ranked(QUICK, pixels)

    def ranked_before(self) -> tuple[Detector, ReviewSession] | None:
        """Return the final ranking where its model is there, made with these settings from these images."""
        made = self._made(MODEL, self.settings)
        return None if made is None else (made[0], self._session(*made, features=None))

    def rank(self) -> tuple[Detector, ReviewSession]:
        """Rank by all views, or return the ranking that was made before.

        Raises:
            UserError: divergence, or a full disk.
            Interrupted: by Ctrl-C or SIGTERM, after the state was saved.
        """
        return self._ranked(MODEL, self.settings)

    def _made(self, name: str, settings: Settings) -> tuple[Detector, Scores] | None:
        """Return a model that is there already, and the scores of its training images; None: it has to be made."""
        folder = self.out / name
        digest = self.image_set.digest  # models of other images give way first
        if not (folder / DESCRIPTION).exists():
            return None
        try:
            detector = Detector.load(folder, self.torch_device)
            made = Settings.from_json(detector.training_info["settings"])
            scores = load_training_scores(folder, detector.identity, digest)
        except LaterVersion:
            raise
        except (UserError, KeyError, TypeError) as error:
            # A run that was killed while it wrote the model; the trainings are done, and are not done again.
            log.warning("%s; the model is made again", error)
            return None
        same = made == settings and not self._can_be_mended(detector, folder)
        return (detector, scores) if same else None

    def _can_be_mended(self, detector: Detector, folder: Path) -> bool:
        """Whether a view failed that may not fail now, or a file of features is newer than the model."""
        features, model = Path(self.settings.features), folder / DESCRIPTION
        if "pretrained" in self.settings.views and features.is_file() and _newer(features, model):
            return True
        failed = set(detector.training_info.get("failed", ()))
        if failed == {"pretrained"}:  # nothing is tried where it is not installed still
            with suppress(UserError):
                extractor_of(self.settings.features, self.image_set, self.torch_device)
                return True
            return False
        return bool(failed)

    def _ranked(self, name: str, settings: Settings) -> tuple[Detector, ReviewSession]:
        folder, features = self.out / name, None
        if made := self._made(name, settings):
            detector, scores = made
        else:
            if name == MODEL:
                self.warn_of_the_result_before()
            fitted = train(str(self.packed.path), folder, settings, self.device, self.threads)
            detector, scores, features = fitted.detector, fitted.training, fitted.features
        return detector, self._session(detector, scores, features)

    def _session(self, detector: Detector, scores: Scores, features: Array | None) -> ReviewSession:
        """Return the review of a ranking; features are looked for unless given."""
        folder = self.out / REVIEW
        scored = identity(detector, self.packed)
        origin = f"{self.packed.id} {self.settings.features}"
        known = None
        try:
            known = ReviewSession.load(folder)
            facts = read_json(folder / FACTS)
            if facts.get("scored") == scored:
                return known
            if facts.get("features") != origin:
                known = None
        except UserError:
            known = None
        if features is None:
            features = self._features(detector, scores, known)
        return ReviewSession.write(folder, self.packed, scored, scores, features, origin)

    def _features(self, detector: Detector, scores: Scores, known: ReviewSession | None) -> Array:
        """Return features of all images; those of `pretrained`, which take minutes, of the ranking before if possible."""
        count = len(scores.score)
        if scores.tile is not None:  # another tile may decide
            return detector.features(self.pictures.deciding(scores, np.arange(count)))
        views = detector.views
        pretrained = [view for view in views if isinstance(view, PretrainedView)]
        if pretrained and known is not None:
            return known.features
        if any(not are_handed_on(view, count) for view in pretrained):
            cheap = [name for name in self.quick_settings.views if name != "pretrained"]
            views = tuple(view for view in views if view.name in cheap) or views
        found = by_parts(
            "features, images", self.pictures.squares, np.arange(count),
            lambda part: {"features": features_of(views, part)},
        )  # fmt: skip
        return found["features"]

    def write_results(self, detector: Detector, session: ReviewSession) -> None:
        """Write the table of scores and the report, with the limit that is kept with the model."""
        from anowild.reporting.page import write_review_report

        table = Table(detector.cue_names, views=detector.view_names, reasons=detector.reasons)
        table.append(session.names, session.scores)
        words = {session.names[i]: said for i, said in session.images.finding_words.items()}
        rows = (replace(row, findings=words.get(row.path, "")) for row in table.ranked())
        write_rows(rows, table.cue_names, self.out / SCORES, views=table.view_names, checked=True)
        kept = load_limit(self.out / MODEL)
        rule = None if kept is None else FixedScore(kept.score)
        write_review_report(detector, session, self.out / REPORT, rule)

    def results_are_current(self) -> bool:
        """Whether table and report are there: of the final model, its kept limit, and the images as named."""
        read = [self.out / MODEL / DESCRIPTION, self.packed.path / IMAGES_DESCRIPTION]
        read += [path for path in [self.out / MODEL / LIMIT] if path.exists()]
        written = (self.out / SCORES, self.out / REPORT)
        return all(
            path.exists() and not any(_newer(before, path) for before in read) for path in written
        )

    def warn_of_the_result_before(self) -> None:
        """Say, before a model is made, that table and report are not its own until they are written anew."""
        if before := [name for name in (SCORES, REPORT) if (self.out / name).exists()]:
            log.warning(
                "%s: until this run ends, %s there show what was found before, in other images or by another model",
                self.out, " and ".join(before),
            )  # fmt: skip

    def run(self) -> tuple[Detector, ReviewSession]:
        """Do everything without a page in between.

        Raises:
            UserError: as the training; a page is served of the same folder.
            Interrupted: by Ctrl-C or SIGTERM; the same job goes on.
        """
        with exclusive_lock(self.out / REVIEW, ANOTHER_SERVER):
            detector, session = self.rank()
            self.write_results(detector, session)
            return detector, session

    def announcement(self) -> list[str]:
        """Say what was found, how it is seen, and how long it will take."""
        p, pictures = self.packed.preprocess, self.pictures
        sizes = sorted({(int(w), int(h)) for w, h in pictures.sizes})
        named = [f"{w}x{h}" for w, h in sizes]
        of = named[0] if len(named) == 1 else f"{named[0]} to {named[-1]}"
        color = (
            "color" if p.channels == 3 else "gray" if p.channels == 1 else f"{p.channels} channels"
        )
        lines = [f"{len(pictures)} images, {color}, {of} pixels. {seen_in_all(p, pictures.sizes)}"]
        for left in pictures.left_out:
            lines.append(f"not used: {left.count} ({left.reason}), as {left.first}")
        lines += [f"warning: {text}" for text in pictures.warnings]
        return lines

    def minutes(self, settings: Settings) -> float:
        """Estimate how long the views of some settings take here, in minutes."""
        seconds = sum(sum(parts.values()) for parts in self.plan(settings))
        if "pixels" in settings.views:
            seconds += SECONDS_PER_IMAGE["pixels"] * len(self.pictures.squares)
        return (seconds + SECONDS_PER_STEP * (1 + len(settings.views))) / 60

    def plan(self, settings: Settings) -> Plan:
        """Estimate how long the parts of a training take here that report their progress."""
        count, side = len(self.pictures.squares), self.packed.preprocess.resolution
        network = SECONDS_PER_IMAGE["pretrained"]
        plan: list[dict[str, float]] = [{}, {}, {}, {}]
        if "pretrained" in settings.views:
            plan[0]["pretrained network, images"] = network * min(count, SAMPLE)
            again = network * count if count > SAMPLE else SECONDS_PER_IMAGE["pixels"] * count
            if self.packed.preprocess.tiles:
                plan[1]["pretrained network, all tiles"] = again
            elif count > SAMPLE:
                plan[1]["pretrained network, all images"] = again
        area = (min(side, settings.max_network_resolution or side) / 32) ** 2
        scale = area / min(2, self.threads)  # that run side by side
        if "gan" in settings.views:
            plan[2]["GAN, kimg"] = SECONDS_PER_KIMG["gan"] * scale * settings.kimg
            plan[3]["calibrating the GAN, images"] = SECONDS_PER_IMAGE["gan"] * area * count
        if "transforms" in settings.views:
            seconds = SECONDS_PER_KIMG["transforms"] * scale * settings.transforms_kimg
            looking = SECONDS_PER_IMAGE["transforms"] * area * count / NETWORKS
            for name in (f"transforms {i + 1}/{NETWORKS}" for i in range(NETWORKS)):
                plan[2][f"{name}, kimg"] = seconds
                plan[3][f"calibrating {name}, images"] = looking
        return plan


def _clear_but_limit(folder: Path) -> None:
    """Remove a model; a limit that somebody has chosen stays, as scores of all models mean the same."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name == LIMIT:
            log.warning("%s: the limit that was kept stays; look whether it still fits", path)
        elif path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _newer(path: Path, other: Path) -> bool:
    """Whether a file was written after another one."""
    return path.stat().st_mtime > other.stat().st_mtime


def _place(source: str) -> str:
    """Return where a source lies, however it is spelled; ``:key`` after a path stays."""
    head, colon, key = source.rpartition(":")
    if not colon or exists(source):
        return str(Path(source).resolve())
    return f"{Path(head).resolve()}:{key}"
