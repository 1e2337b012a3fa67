"""The watch of a folder: looks, scores what is whole, records it, and says what is flagged."""

from __future__ import annotations

import logging
import math
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from anowild.arrays import Array
from anowild.data import ImageStream
from anowild.data.image_stream import Batch
from anowild.data.prefetch import prefetch
from anowild.data.readers import FolderReader, SkippedImage
from anowild.data.readers.base import passed_over_text
from anowild.data.readers.folder import is_tiff
from anowild.data.value_range import ValueRange
from anowild.errors import UserError
from anowild.files import absolute, exclusive_lock, is_folder
from anowild.progress import bar
from anowild.scoring.detector import Detector
from anowild.scoring.drift import WINDOW, Drift
from anowild.scoring.explain import one_line
from anowild.scoring.stream import AHEAD
from anowild.scoring.table import check_output
from anowild.shown import shown_score
from anowild.signals import StopRequest, stop_request
from anowild.watching.arrivals import PATIENCE, Arrival, Arrivals, State
from anowild.watching.deliveries import AT_END, Command, Deliveries, Webhook
from anowild.watching.journal import About, Image, Journal, ScoredFile
from anowild.watching.table_file import TableFile

log = logging.getLogger("anowild")

JOURNAL = "journal.sqlite"
#: Seconds to wait for the lock of a killed watch, which a command that it was just starting may still hold.
LOCK_PATIENCE = 3.0
#: Longest sleep, in seconds, between checks for Ctrl-C.
NAP = 0.1


@dataclass(frozen=True)
class WatchOptions:
    """What may change from one run to the next.

    Raises:
        UserError: a number of seconds is out of range.
    """

    interval: float = 1.0  # seconds between looks at the folder
    once: bool = False  # end when everything that is there is scored
    table_every: float = 60.0  # seconds between two writings of the table, at least
    run: str | None = None  # command for each flagged image
    run_seconds: float = 60.0  # that it may take
    post: str | None = None  # address to which flagged images are posted

    def __post_init__(self) -> None:
        # Written so that what is not a number is refused.
        if not (self.interval > 0 and self.table_every >= 0 and self.run_seconds > 0):
            raise UserError("numbers of seconds have to be above 0 (--table-every: 0 or more)")


@dataclass
class WatchSummary:
    """What a watch did."""

    scored: int = 0
    flagged: int = 0
    unreadable: int = 0
    recorded: int = 0  # in the table, of all runs
    waiting: int = 0  # files that are not whole yet, or were not reached
    undelivered: dict[str, int] = field(default_factory=dict)  # flagged images by kind of delivery


def watch(
    detector: Detector,
    folder: Path,
    out: Path,
    limit: float,
    options: WatchOptions | None = None,
    say: Callable[[str], None] = print,
    begun: Callable[[], None] = lambda: None,
) -> WatchSummary:
    """Score image files as they arrive in a folder, each once, until Ctrl-C or SIGTERM.

    Args:
        folder: that is watched, with the folders in it.
        out: table of scores, .csv or .parquet. Beside it, a folder ``<table>.watch`` has what it is made of.
        limit: score from which images are flagged.
        options: that may change from one run to the next.
        say: is given each line for the user.
        begun: is called once nothing is left that could refuse to watch.

    Raises:
        UserError: the folder is gone, the disk is full, another process writes the table, or it was begun with
            another model or limit.
    """
    options = options or WatchOptions()
    check_output(out)
    if not is_folder(folder):
        raise UserError(f"{folder}: there is no such folder to be watched; check the path")
    beside = out.with_name(f"{out.name}.watch")
    if out.exists() and not (beside / JOURNAL).exists():
        raise UserError(
            f"{out}: exists, but was not made by `anowild watch`; name a new table, or delete this one"
        )
    about = About(
        str(absolute(folder)), detector.identity, limit, detector.precision,
        detector.view_names, detector.cue_names, str(folder), uuid.uuid4().hex,
    )  # fmt: skip
    with ExitStack() as stack:
        problem = "another `anowild watch` writes this table"
        stack.enter_context(exclusive_lock(beside, problem, LOCK_PATIENCE))
        stop = stack.enter_context(stop_request())
        journal = stack.enter_context(closing(Journal(beside / JOURNAL, about)))
        watching = _Watch(
            detector, folder, TableFile(out, journal, options.table_every), options, say
        )
        begun()
        return watching.run(stop)


class _Watch:
    """The state of a watch while it runs."""

    def __init__(
        self,
        detector: Detector,
        folder: Path,
        table: TableFile,
        options: WatchOptions,
        say: Callable[[str], None],
    ) -> None:
        self.detector, self.folder, self.table = detector, folder, table
        self.options, self.say = options, say
        self.journal, self.limit = table.journal, table.journal.about.limit
        self.summary = WatchSummary()
        self.arrivals = Arrivals(folder, self._knows, PATIENCE * options.interval)
        self.values = ValueRange()
        self.drift = Drift(detector.training_images)
        self.drift.follow(
            self.journal.last_scores(WINDOW)
        )  # what was told before is not told again
        self._told: set[str] = set()  # reasons for passing over
        self._warned = False  # of values unlike those of the training images
        self.deliveries = self._deliveries()

    def _deliveries(self) -> list[Deliveries]:
        options, about = self.options, self.journal.about
        # Both are checked before either begins.
        command = None if options.run is None else Command(options.run, options.run_seconds)
        webhook = None if options.post is None else Webhook(options.post, about.id, about.limit)
        found = []
        if command is not None:
            found.append(Deliveries(self.journal, "run", command, retry=False))
        if webhook is not None:
            found.append(Deliveries(self.journal, "post", webhook, retry=True))
        return found

    def run(self, stop: StopRequest) -> WatchSummary:
        """Watch until a signal comes or, if asked to look once, until all is scored."""
        try:
            self._watch(stop)
        except UserError:
            with suppress(UserError):
                self._finish(stop)
            raise
        self._finish(stop)
        return self.summary

    def _watch(self, stop: StopRequest) -> None:
        options, arrivals = self.options, self.arrivals
        look = arrivals.look
        progress = time.monotonic()  # when something was scored last
        while stop.signum is None:
            begun = time.monotonic()
            whole = look()
            self._tell_passed_over()
            if options.once:
                look = arrivals.look_again  # nothing that comes later
            # A second look at what is new, so that it waits for half an interval instead of a whole one.
            second = time.monotonic() + options.interval / 2
            self._score(whole, stop)
            _sleep(second, stop)
            again = [] if _is_asked(stop) else arrivals.look_again()
            self._score(again, stop)
            self._wake()
            if whole or again:
                progress = time.monotonic()
            patience = (PATIENCE + 1) * options.interval
            given_up = time.monotonic() > progress + patience
            if options.once and (not arrivals.waiting or given_up):
                return
            _sleep(begun + max(options.interval, arrivals.pause), stop)

    def _wake(self) -> None:
        """Have the other threads do what is due."""
        self.table.update(self.journal.count())
        for deliveries in self.deliveries:
            deliveries.wake()

    def _finish(self, stop: StopRequest) -> None:
        """Write the table, and do what is still to be done for flagged images."""
        summary, journal = self.summary, self.journal
        try:
            self.table.finish()
        finally:
            end = time.monotonic() + AT_END
            for deliveries in self.deliveries:
                deliveries.finish(
                    lambda: time.monotonic() < end or (self.options.once and not _is_asked(stop))
                )
        for deliveries in self.deliveries:
            summary.undelivered[deliveries.kind] = journal.deliveries(deliveries.kind)
        summary.recorded, summary.waiting = journal.count(), self.arrivals.waiting

    def _score(self, arrivals: Sequence[Arrival], stop: StopRequest) -> None:
        """Score files and record them, batch by batch; a signal ends it after the batch."""
        if not arrivals:
            return
        reader = FolderReader(str(self.folder), [arrival.path for arrival in arrivals])
        stream = ImageStream([reader], self.detector.preprocess, quiet=True)
        stream.values = self.values
        results = _Results(stream)
        number = {str(arrival.path): i for i, arrival in enumerate(arrivals)}
        size, done = self.detector.batch_size, 0
        with ExitStack() as stack:
            shown = None
            if len(arrivals) > size:
                shown = stack.enter_context(bar("scoring, files", len(arrivals)))
            batches = stack.enter_context(prefetch(_usable(stream, size), AHEAD, stream.stop))
            for batch in batches:
                for path, image in self._images(batch):
                    results.images[path].append(image)
                last = str(batch.origins[-1].source)
                # Further pages of a TIFF may come with the next batch.
                whole = number[last] + (0 if is_tiff(last) else 1)
                self._record(arrivals[done:whole], results)
                done = whole
                if shown is not None:
                    shown.update(done)
                if stop.signum is not None:
                    return
            self._record(arrivals[done:], results)
        self._compare_values()

    def _images(self, batch: Batch) -> Iterator[tuple[str, Image]]:
        """Score a batch; yield the file and the result of each image."""
        detector = self.detector
        scores = detector.score(batch.images, batch.owners, batch.names)
        columns = [scores.views[view] for view in detector.view_names]
        columns += [scores.cues[cue] for cue in detector.cue_names]
        table = np.stack(columns, axis=1).tolist()
        found = zip(
            batch.names, batch.origins, scores.score.tolist(), detector.reasons(scores), table, strict=True
        )  # fmt: skip
        for name, origin, score, reasons, values in found:
            path = str(origin.source)
            part = name.removeprefix(path)
            yield path, Image(part, score, score >= self.limit, one_line(reasons), values)

    def _record(self, arrivals: Sequence[Arrival], results: _Results) -> None:
        """Record files that were read to their end, and tell what is flagged or unreadable."""
        recorded: list[tuple[Arrival, ScoredFile]] = []
        for arrival in arrivals:
            images, bad = results.take(arrival.path)
            if State.of(arrival.path)[0] != arrival.state:
                continue  # it changed while it was read: the next looks wait for it again
            if bad and not arrival.tried:
                self.arrivals.try_later(arrival)
                continue
            nothing = [math.nan] * len(self.journal.about.views + self.journal.about.cues)
            for part, reason in bad:
                log.warning("%s%s: cannot be read (%s)", arrival.path, part, reason)
                images.append(Image(part, math.nan, False, f"unreadable: {reason}", nothing))
            recorded.append((arrival, ScoredFile(self._below(arrival.path), arrival.state, images)))
        if not recorded:
            return
        kinds = [deliveries.kind for deliveries in self.deliveries]
        self.journal.add([file for _, file in recorded], kinds)
        for arrival, file in recorded:
            # An unreadable file may still grow, which changes nothing that a listing shows.
            readable = not any(math.isnan(image.score) for image in file.images)
            self.arrivals.settle(arrival, readable)
            for image in file.images:
                self._tell(f"{arrival.path}{image.part}", image)
        self._wake()
        scores = [image.score for _, file in recorded for image in file.images]
        self._follow_drift(np.array([score for score in scores if not math.isnan(score)]))

    def _tell_passed_over(self) -> None:
        """Log what the last look passed over, each reason once."""
        new = [one for one in self.arrivals.passed_over if one.reason not in self._told]
        if new:
            self._told.update(one.reason for one in new)
            log.warning("%s", passed_over_text(new))

    def _tell(self, name: str, image: Image) -> None:
        """Count an image, and print it if it is flagged."""
        if math.isnan(image.score):
            self.summary.unreadable += 1
            return
        self.summary.scored += 1
        if image.odd:
            self.summary.flagged += 1
            score = shown_score(image.score, self.detector.training_images)
            self.say(f"{score:>7}  {name}  {image.why}")

    def _follow_drift(self, scores: Array) -> None:
        told = self.drift.follow(scores)
        if told and self.drift.drifted:
            log.warning("%s", told)
        elif told:
            self.say(told)

    def _compare_values(self) -> None:
        """Warn once if the values of the images are not like those of the training images."""
        if self._warned:
            return
        for warning in self.detector.value_warnings(self.values):
            self._warned = True
            log.warning("%s", warning)

    def _knows(self, path: Path, state: State) -> bool:
        return self.journal.knows(self._below(path), state)

    def _below(self, path: Path) -> str:
        return str(path.relative_to(self.folder))


class _Results:
    """What a pass has found, by file."""

    def __init__(self, stream: ImageStream) -> None:
        self.images: dict[str, list[Image]] = defaultdict(list)
        self._bad: dict[str, list[SkippedImage]] = defaultdict(list)
        self._stream, self._seen = stream, 0

    def take(self, path: Path) -> tuple[list[Image], list[tuple[str, str]]]:
        """Return the images of a file, and of what cannot be used in it the page and the reason."""
        for skipped in self._stream.left_out[self._seen :]:
            self._seen += 1
            self._bad[str(skipped.origin.source)].append(skipped)
        images, key = self.images.pop(str(path), []), str(path)
        bad = [
            (skipped.name.removeprefix(key), skipped.reason) for skipped in self._bad.pop(key, [])
        ]
        if not images and not bad:
            bad = [("", "it holds no image")]
        return images, bad


def _usable(stream: ImageStream, size: int) -> Generator[Batch, None, None]:
    """Yield the batches of a stream; it may be that none of its files can be read."""
    try:
        yield from stream.batches(size)
    except UserError:
        if not stream.left_out:
            raise


def _is_asked(stop: StopRequest) -> bool:
    """Whether a signal has come meanwhile."""
    return stop.signum is not None


def _sleep(until: float, stop: StopRequest) -> None:
    """Sleep until a time of the monotonic clock, or a signal."""
    while stop.signum is None and (left := until - time.monotonic()) > 0:
        time.sleep(min(left, NAP))
