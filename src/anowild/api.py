"""The jobs, from `find` and `train` to `watch`, `serve` and `export`, as functions.

Each takes sources as `anowild.data.readers` reads them, and models as folders. What is heavy, or needs an
extra, is imported by the job that needs it; so preparing data starts without PyTorch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from anowild.arrays import Array
from anowild.data import PackedSet, choose_preprocess, open_all
from anowild.data.contamination import contaminate_set
from anowild.data.crops import CropReader, CropSettings
from anowild.data.dataset.build import build_set, check_libraries
from anowild.data.dataset.contact_sheet import SheetCollector
from anowild.data.dataset.finalize import Leaks
from anowild.data.dataset.writer import Part
from anowild.data.label_file import LabelFile
from anowild.data.readers import ImageSource, open_source
from anowild.data.sources import Source, listed_sources, source_name
from anowild.errors import UserError
from anowild.presets import preset
from anowild.settings import Settings

if TYPE_CHECKING:
    from anowild.cluster.prepare import ClusterSource
    from anowild.evaluation.evaluate import Evaluation
    from anowild.evaluation.labels import Labels
    from anowild.portable.facts import Facts
    from anowild.scoring import Detector, Table
    from anowild.scoring.saved_limit import SavedLimit
    from anowild.scoring.stream import ThresholdRule
    from anowild.serving.limits import ServiceLimits
    from anowild.watching.watch import WatchOptions, WatchSummary

__all__ = [
    "clean",
    "contaminate",
    "evaluate",
    "export",
    "find",
    "limit",
    "marks",
    "prepare",
    "report",
    "report_table",
    "review",
    "review_table",
    "score",
    "serve",
    "share",
    "train",
    "undo_clean",
    "watch",
]

#: Settings of packed data sets, unless others are given.
PREPARED = Settings().replace(max_resolution=64)


def prepare(
    sources: Source | Sequence[Source],
    out: str | Path,
    settings: Settings | None = None,
    *,
    test: Source | Sequence[Source] = (),
    labels: str | Path | None = None,
    crops: CropSettings | None = None,
    masks: Sequence[str] = (),
    like: str | Path | None = None,
    leaks: Leaks = "refuse",
    engine: Literal["process", "ray"] = "process",
    workers: int | None = None,
) -> PackedSet:
    """Pack sources into a data set, or go on with a preparation that was stopped.

    Args:
        sources: whatever can be read; see `anowild.data.readers`.
        out: folder of the data set.
        settings: those under "Images" count. Unless given, images are at most 64x64.
        test: sources of the test split.
        labels: file of labels, for sources that do not know their classes.
        crops: cut objects out of the sources' images, which are frames then.
        masks: instance masks in the place of the detection of objects, one source for each of
            ``sources`` and ``test``.
        like: folder of a model whose preprocessing is used, so that it can score the data set.
        leaks: what to do with test images that are in training as well, or nearly.
        engine: who decodes and preprocesses: this process, or the workers of a Ray cluster, for the same data set.
            Sources may then be URLs, as ``s3://bucket/images``.
        workers: of the cluster; one for each of its cores unless given.

    Raises:
        UserError: nothing to prepare; leaks; another data set in ``out``; a full disk.
        Interrupted: by Ctrl-C or SIGTERM; the same call goes on.
    """
    _check_choice("leaks", leaks, get_args(Leaks))
    _check_choice("engine", engine, ("process", "ray"))
    check_libraries()
    training, tests = listed_sources(sources), listed_sources(test)
    names = [source_name(source) for source in (*training, *tests)]
    if len(set(names)) < len(names):
        raise UserError(f"{max(names, key=names.count)}: is given twice; leave one out")
    on_cluster: list[ClusterSource] = []
    if engine == "ray":
        on_cluster = _open_on_cluster([*training, *tests], workers, crops)
    readers: list[ImageSource] = [*on_cluster] or open_all([*training, *tests])
    sheet = None
    if masks and (crops is None or len(masks) != len(readers)):
        raise UserError(
            "give one source of masks for each source, and cut objects (--crop-objects)"
        )
    if crops is not None:
        sheet = SheetCollector()
        mask_readers: list[ImageSource | None] = [open_source(mask) for mask in masks]
        mask_readers = mask_readers or [None] * len(readers)
        readers = [
            CropReader(reader, crops, mask, sheet)
            for reader, mask in zip(readers, mask_readers, strict=True)
        ]
    if like is not None:
        if settings is not None and settings != PREPARED:
            raise UserError(f"the model {like} says how images are prepared; omit the settings")
        from anowild.scoring.model_file import read_brief

        preprocess = read_brief(Path(like)).preprocess
    else:
        preprocess = choose_preprocess(readers, settings or PREPARED)
    how: dict[str, Any] = {
        "sources": names[: len(training)],
        "test": names[len(training) :],
        "labels": None if labels is None else str(labels),
        "crops": None if crops is None else crops.to_json(),
        "masks": list(masks),
    }
    for source in on_cluster:
        source.preprocess = preprocess
    # No files of this machine tell whether what is on servers has changed.
    if remote := [source.cut.digest for source in on_cluster if source.cut.reader is None]:
        how |= {"files": remote}
    if any(reader.packed is not None for reader in readers):
        raise UserError("a packed data set is prepared already; give the sources it was made of")
    parts = [Part(readers[: len(training)]), Part(readers[len(training) :], "test")]
    named = None if labels is None else LabelFile(labels)
    return build_set(parts, Path(out), preprocess, how, named, leaks, sheet)


def contaminate(
    dataset: str | Path,
    out: str | Path,
    rate: float,
    seed: int = 0,
    normal: str | Sequence[str] = (),
    protocol: str | None = None,
) -> PackedSet:
    """Make a data set like another, with a known share of anomalies in its training split.

    Args:
        dataset: folder of a packed data set with labels.
        out: folder of the new data set.
        rate: share of anomalies in the new training split, from 0 to below 1.
        seed: of the draw.
        normal: label or labels of normal images.
        protocol: a protocol of the paper's code in the place of ``normal``.

    Raises:
        UserError: the data set has no labels, or too few anomalies; an unknown protocol.
    """
    return contaminate_set(PackedSet(dataset), Path(out), rate, seed, normal, protocol)


def train(
    sources: Source | Sequence[Source],
    out: str | Path,
    settings: Settings | None = None,
    device: str = "auto",
    threads: int | None = None,
    track: str | None = None,
) -> Detector:
    """Train a detector on unlabeled images, or go on with a training that was stopped.

    Args:
        sources: folders, image files or array files (``file.npz:key``), or arrays.
        out: folder of the model; the training state lies in its subfolder ``training``. ``suspects.csv``
            says which training images are odd, and why.
        settings: the preset ``laptop`` unless given.
        device: ``cpu``, ``cuda``, ``cuda:1``, ...; ``auto`` takes a GPU if there is one.
        threads: CPU threads of this process from now on; None: as they are.
        track: draws the curves of the training elsewhere as well: ``tensorboard``, ``mlflow`` or ``wandb``, with
            ``:WHERE`` (a folder or an address) if it shall not be beside the training.

    Raises:
        UserError: nothing to train on, another run in ``out``, a full disk, divergence; no such tracker.
        Interrupted: by Ctrl-C or SIGTERM; the same call goes on.
    """
    from anowild.tracking import parse_choice
    from anowild.training.run import train as run_training

    settings = settings or preset("laptop").settings()
    choice = None if track is None else parse_choice(track)
    return run_training(sources, Path(out), settings, device, threads, choice).detector


def find(
    sources: Source | Sequence[Source],
    out: str | Path,
    settings: Settings | None = None,
    device: str = "auto",
    threads: int | None = None,
) -> Detector:
    """Find the odd images in a folder: read them once, train on them, score, and write a report.

    The command `anowild find` does the same, and shows a page as soon as there is a first ranking.

    Args:
        sources: as for :func:`train`.
        out: folder of the result: ``images``, ``model``, ``scores.csv``, ``report.html``, ``review``.
        settings: the preset ``laptop`` unless given.
        device: as for :func:`train`.
        threads: as for :func:`train`.

    Raises:
        UserError: as for :func:`train`; ``out`` holds something else.
        Interrupted: by Ctrl-C or SIGTERM; the same call goes on.
    """
    from anowild.finding.job import Job

    settings = settings or preset("laptop").settings()
    detector, _ = Job(sources, Path(out), settings, device, threads).run()
    return detector


def score(
    model: Detector | str | Path,
    sources: Source | Sequence[Source],
    out: str | Path | None = None,
    rule: ThresholdRule | None = None,
    new_only: bool = False,
) -> Table:
    """Score a source: return a table, and write it, ranked, if ``out`` names a .csv or .parquet file.

    Args:
        model: a detector, or the folder of one.
        sources: folders, archives, arrays, videos, packed data sets, ...
        out: .csv or .parquet.
        rule: which images are flagged: ``FixedScore``, ``Budget``, ``ExpectedShare``,
            ``FalseDiscoveryRate`` or ``Gap``. The table then has a ``threshold``, and the file a column
            ``odd``.
        new_only: score only images that the table in ``out`` does not list, or whose files have changed
            since, and join them to it. They are the first in the result.

    Raises:
        UserError: the model or the source cannot be used, or the file cannot be written.
    """
    from anowild.scoring import growing, stream

    if new_only:
        if out is None:
            raise UserError("only what is new can be scored where there is a table: give `out`")
        return growing.score_new(model, sources, out, rule)
    return stream.score(model, sources, out, rule)


def evaluate(
    model: Detector | str | Path,
    sources: Source | Sequence[Source],
    labels: Labels,
    threshold: float | None = None,
) -> Evaluation:
    """Score a labeled source and measure the ranking, with 95 % intervals.

    Args:
        model: a detector, or the folder of one.
        sources: as for :func:`score`.
        labels: they measure, and never choose a threshold.
        threshold: score from which an image is flagged; unless given, the one that 5 % of the training
            images reach.

    Raises:
        UserError: as for :func:`score`; or labels are missing, or all of one kind.
    """
    from anowild.evaluation.evaluate import evaluate as evaluate_source

    return evaluate_source(model, sources, labels, threshold)


def report(
    model: Detector | str | Path,
    sources: Source | Sequence[Source],
    out: str | Path,
    rule: ThresholdRule | None = None,
    labels: Labels | None = None,
    shown: int = 24,
    notes: Sequence[str] = (),
    others: Mapping[str, Array] | None = None,
) -> None:
    """Score a source and write one HTML page about it.

    Args:
        model: a detector, or the folder of one.
        sources: as for :func:`score`.
        out: .html.
        rule: which images are flagged; else those at the score that 5 % of the training images reach.
        labels: for a table of how good the ranking is; they choose nothing.
        shown: images in each gallery.
        notes: sentences for the top of the page.
        others: other scores of the same images, [N] each, to be held against the labels as well.

    Raises:
        UserError: the model or the source cannot be used, or the page cannot be written.
    """
    from anowild.reporting.page import write_report

    write_report(model, sources, out, rule, labels, shown, notes, others)


def report_table(
    table: str | Path,
    out: str | Path,
    rule: ThresholdRule | None = None,
    shown: int = 24,
) -> None:
    """Write the page of :func:`report` about a table in parts, however many images it has.

    The pictures are made of the originals, which have to be where the table names them. What needs the pixels of all
    images is left out.

    Args:
        table: folder of the table.
        out: .html.
        rule: which images are flagged: ``FixedScore``, ``Budget``, ``ExpectedShare``, or another that needs no more
            than scores; else the table's limit, or without one the score that 5 % of the training images reach.
        shown: odd images on the page.

    Raises:
        UserError: there is no whole table, the rule needs the model, or the page cannot be written.
    """
    from anowild.reporting.of_table import write_table_report

    write_table_report(table, out, rule, shown)


def review(
    model: Detector | str | Path,
    sources: Source | Sequence[Source],
    out: str | Path,
    host: str = "127.0.0.1",
    port: int = 8765,
    again: bool = False,
    token: bool = True,
    open_browser: bool = False,
) -> None:
    """Serve a page on which people mark images, the oddest first, until Ctrl-C.

    A limit that is chosen on the page is kept with the model, unless that is a copy in the Hub's cache.

    Args:
        model: a detector, or the folder of one.
        sources: as for :func:`score`.
        out: folder of the review; it keeps the marks.
        host: address to listen on.
        port: 0 takes any free one.
        again: score once more, even if this model has scored these images; the marks stay.
        token: whether the page can only be opened with the token in the address that is printed.
        open_browser: whether to open the page in this machine's browser.

    Raises:
        UserError: the port is in use, another server runs in the folder, or as for :func:`score`.
    """
    from anowild.hub import is_hub_copy
    from anowild.reviewing.serve import serve as serve_page
    from anowild.scoring import Detector

    detector = Detector.of(model)
    kept = detector.folder
    if kept is not None and is_hub_copy(kept):
        kept = None
    serve_page(
        detector, sources, Path(out), host, port,
        again=again, model=kept, open_browser=open_browser, token=token,
    )  # fmt: skip


def review_table(
    table: str | Path,
    out: str | Path | None = None,
    host: str = "127.0.0.1",
    port: int = 8765,
    token: bool = True,
    open_browser: bool = False,
) -> None:
    """Serve the page of :func:`review` for a table in parts, however many images it has.

    Originals are decoded when somebody looks at them. What needs the pixels of all images is not offered.

    Args:
        table: folder of the table.
        out: folder of the review; ``review`` in the table's folder unless given.
        host: as for :func:`review`.
        port: as for :func:`review`.
        token: as for :func:`review`.
        open_browser: as for :func:`review`.

    Raises:
        UserError: there is no whole table, or as for :func:`review`.
    """
    from anowild.reviewing.serve import serve_table

    folder = None if out is None else Path(out)
    serve_table(Path(table), folder, host, port, open_browser=open_browser, token=token)


def marks(review: str | Path, out: str | Path) -> int:
    """Write the marks of a review to a .csv, .json or .parquet file, and return their number.

    Args:
        review: its folder, or that of what :func:`find` made.
        out: .csv, .json or .parquet.

    Raises:
        UserError: there is no review, nothing is marked in it, or the file has an unknown ending or cannot be written.
    """
    from anowild.reviewing.export import write_marks

    return write_marks(Path(review), Path(out))


def limit(model: str | Path, score: float | None = None) -> SavedLimit | None:
    """Keep a limit with a model; without ``score``, return the one that is kept, None if none is.

    Args:
        model: folder of the model.
        score: from which images are flagged by :func:`watch`, :func:`serve` and the rule ``FixedScore.saved(model)``.

    Raises:
        UserError: there is no model, ``score`` is no number, the kept limit is damaged, or the folder cannot be
            written or is of the Hub's cache.
    """
    from anowild.hub import is_hub_copy
    from anowild.scoring.saved_limit import load_limit, save_limit

    folder = Path(model)
    if score is None:
        return load_limit(folder)
    if is_hub_copy(folder):
        raise UserError(
            f"{folder}: is a copy in the Hub's cache, which stays as it is; get one of your own with "
            "`hf download OWNER/NAME --local-dir model`"
        )
    return save_limit(folder, score)


def watch(
    model: Detector | str | Path,
    folder: str | Path,
    out: str | Path,
    threshold: float | None = None,
    options: WatchOptions | None = None,
    say: Callable[[str], None] = print,
) -> WatchSummary:
    """Score image files as they arrive in a folder, each once, until Ctrl-C; the same call goes on.

    Args:
        model: a detector, or the folder of one.
        folder: that is watched, with the folders in it.
        out: table that grows, .csv or .parquet.
        threshold: score from which images are flagged; unless given, the limit that is kept with the model, or
            what 5 % of the training images reach.
        options: how often to look, what to do with flagged images; ``WatchOptions(once=True)`` scores what is
            there, and ends.
        say: is given a line for each flagged image.

    Raises:
        UserError: the model cannot be used, the folder is gone, another process writes the table, it was begun
            with another model or limit, or the disk is full.
    """
    from anowild.scoring import Detector
    from anowild.scoring.saved_limit import limit_in_use
    from anowild.watching.watch import watch as watch_folder

    detector = Detector.of(model)
    score = limit_in_use(detector.folder, threshold).score
    return watch_folder(detector, Path(folder), Path(out), score, options, say)


def serve(
    model: Detector | str | Path,
    threshold: float | None = None,
    limits: ServiceLimits | None = None,
    host: str = "127.0.0.1",
    port: int = 8766,
) -> None:
    """Score images that are sent over HTTP, until Ctrl-C; docs/serve.md has requests and answers.

    Args:
        model: a detector, or the folder of one.
        threshold: as for :func:`watch`.
        limits: on what is accepted.
        host: address to listen on. A token is required where other machines reach it, or where the environment
            variable ``ANOWILD_TOKEN`` has one.
        port: 0 takes any free one.

    Raises:
        UserError: the model or the address cannot be used, a library is missing, or the token is too short.
    """
    from anowild.scoring import Detector
    from anowild.serving import require_libraries

    require_libraries()
    from anowild.serving.serve import serve as serve_scores

    detector = Detector.of(model)
    serve_scores(detector, threshold, limits, host, port)


def clean(
    source: str | Path,
    out: str | Path,
    how: Literal["list", "links", "copies", "quarantine"] = "links",
    threshold: float | None = None,
) -> Counter[str]:
    """Drop the images that are marked ``remove``: write what stays and what goes into a new folder, and why.

    Args:
        source: folder of a review, or of what :func:`find` made; or a table of scores with a column ``odd``.
        out: new folder.
        how: only lists; also links to the images that stay, or copies; or ``quarantine``: the originals
            that go are moved into ``out``.
        threshold: of a review: images without a mark go if they score at least this.

    Returns:
        How many images stay or go, by reason.

    Raises:
        UserError: the source cannot be used, ``out`` exists, or nothing would stay.
    """
    from anowild.reviewing.clean import clean as clean_images

    return clean_images(Path(source), Path(out), how, threshold)


def undo_clean(out: str | Path) -> int:
    """Move the originals that :func:`clean` put into quarantine back, and return their number.

    Args:
        out: the folder that :func:`clean` made.

    Raises:
        UserError: there is no quarantine, another file has taken an original's place, or a file is missing or
            cannot be moved; the same call goes on.
    """
    from anowild.reviewing.quarantine import undo

    return undo(Path(out))


def share(
    table: str | Path,
    sources: Source | Sequence[Source],
    to: str,
    out: str | Path,
    *,
    marks: str | Path | None = None,
    how: Literal["reference", "links", "hardlinks", "copies"] | None = None,
    threshold: float | None = None,
    url_prefix: str | None = None,
    by_limit: bool = False,
) -> Counter[str]:
    """Write scored images as another tool reads them, into a new folder.

    Args:
        table: of scores, .csv or .parquet, as :func:`score` writes it.
        sources: that were scored.
        to: the format, such as ``fiftyone``; docs/tools.md has all.
        out: new folder.
        marks: folder of a review, or of what :func:`find` made; or its marks as .csv, .json or .parquet.
        how: name the image files where they are, or put links, hard links or copies into ``out``; None:
            as the format has it. Images that are no files of their own are written as PNG.
        threshold: score from which an image is flagged; None: the table's limit, or without one, the score that
            5 % of the training images reach.
        url_prefix: of label-studio: what addresses of images begin with, before their paths relative to the
            folder that all have in common.
        by_limit: of anomalib: the limit decides about images without a mark.

    Returns:
        The number of images that were shared, flagged, marked, written as PNG, not decided, missing.

    Raises:
        UserError: an input cannot be used, ``out`` exists, none of the images is in the sources, a name cannot
            be expressed in the format, or a full disk.
    """
    from anowild.exchange.formats.base import Options
    from anowild.exchange.share import share as share_images

    return share_images(
        Path(table),
        listed_sources(sources),
        to,
        Path(out),
        marks=None if marks is None else Path(marks),
        how=how,
        threshold=threshold,
        options=Options(url_prefix, by_limit),
    )


def export(
    model: Detector | str | Path,
    out: str | Path,
    kind: str | None = None,
    pixels: str | None = None,
    runtime: str | Path | None = None,
) -> Facts:
    """Write a model as one file for other runtimes, from raw images to scores.

    Args:
        model: a detector on the CPU, or the folder of a model.
        out: model.onnx, model.xml (OpenVINO; beside it model.bin), model.pt2 (PyTorch), or page.html, which scores
            in a browser.
        kind: ``onnx``, ``openvino``, ``torch`` or ``page``; what the ending of ``out`` says unless given.
        pixels: type of the images that the file takes, ``uint8``, ``uint16`` or ``float32``; that of the
            model's images unless given.
        runtime: of a page, the folder ``dist`` of npm's package onnxruntime-web; node_modules/onnxruntime-web/dist
            unless given.

    Returns:
        What the file says of itself.

    Raises:
        UserError: the model cannot be exported, a library is missing, or the file cannot be written.
    """
    from anowild.exporting import formats
    from anowild.scoring import Detector

    detector = Detector.of(model, "cpu")
    out, place = Path(out), None if runtime is None else Path(runtime)
    return formats.export(detector, out, kind or formats.kind_of(out), pixels, place)


def _check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    if value not in choices:
        raise UserError(f"{name} is {value!r}: take one of {', '.join(choices)}")


def _open_on_cluster(
    sources: list[Source], workers: int | None, crops: CropSettings | None
) -> list[ClusterSource]:
    from anowild.cluster.prepare import open_sources

    if crops is not None:
        raise UserError("objects are cut out by one process; leave out --engine ray")
    return open_sources(sources, workers)
