"""The page of a job: shown as soon as there is a first ranking, and ranked again when all views are trained."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import nullcontext
from pathlib import Path

from anowild.errors import UserError
from anowild.files import for_terminal
from anowild.finding.job import MODEL, QUICK, REPORT, REVIEW, Job
from anowild.finding.time_left import Plan, TimeLeft, duration
from anowild.finding.worker import MODULE
from anowild.progress import Bars
from anowild.reviewing.app import Review, Status
from anowild.reviewing.ranking import Ranking
from anowild.reviewing.serve import opened
from anowild.reviewing.session import warn_unmatched_marks
from anowild.scoring.saved_limit import load_limit, save_limit
from anowild.scoring.scores import oddest_first
from anowild.signals import Interrupted
from anowild.workers import Worker

log = logging.getLogger("anowild")


def serve(
    job: Job,
    host: str = "127.0.0.1",
    port: int = 8765,
    *,
    open_browser: bool = True,
    token: bool = True,
) -> None:
    """Rank by the quick views, show the page, and train the other views meanwhile, until Ctrl-C.

    Args:
        job: what is looked for.
        host: address to listen on.
        port: 0 takes any free port.
        open_browser: whether to open the page in this machine's browser.
        token: whether the page can only be opened with the token in the address that is printed.

    Raises:
        UserError: the port is in use, another server runs in the folder, or the quick views fail.
        Interrupted: by Ctrl-C or SIGTERM before the page is there; the same job goes on.
    """
    with opened(job.out / REVIEW, host, port, token) as (server, store):
        for line in job.announcement():
            print(for_terminal(line), flush=True)
        finished = job.ranked_before()
        if finished is None:
            print(_plan(job), flush=True)
        at_once = finished is not None or job.is_quick
        if not at_once:
            job.warn_of_the_result_before()
        detector, session = finished or (job.rank() if at_once else job.rank_quickly())
        warn_unmatched_marks(session, store.marks())
        model = job.out / (MODEL if at_once else QUICK)
        ranking = Ranking(session, detector)
        review = Review(ranking, store, session.images.title, model, server.local)
        if at_once and not job.results_are_current():  # an earlier run may have ended before
            job.write_results(detector, session)
            print(f"report: {job.out / REPORT}", flush=True)
        with nullcontext() if at_once else Training(job, review):
            server.run(review, open_browser)


def _plan(job: Job) -> str:
    first = duration(job.minutes(job.quick_settings))
    rest = duration(job.minutes(job.settings))
    views = ", ".join(job.quick_settings.views)
    if job.is_quick:
        return f"ranked by {views} in {first}"
    return f"first ranking by {views} in {first}; all views ({', '.join(job.settings.views)}) {rest} later"


class Training:
    """The training of all views in a process of its own, whose end ranks the page again.

    Leaving the context saves the training's state and stops it.

    Args:
        job: what is looked for.
        review: the page.
    """

    def __init__(self, job: Job, review: Review) -> None:
        self.job, self.review = job, review
        self._stopped = threading.Event()
        review.status = Status("training", "The other views are being trained.", 0.0)
        self._worker = Worker(
            MODULE,
            {"images": str(job.packed.path), "out": str(job.out / MODEL),
             "settings": job.settings.to_json(), "device": job.device, "threads": job.threads},
            job.threads,
        )  # fmt: skip
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> Training:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        unfinished = self._worker.process.poll() is None
        self._worker.stop()
        self._thread.join()
        if unfinished:
            print("the training is saved; the same command goes on from there", flush=True)

    def _follow(self) -> None:
        """Show the progress of the training, and what it gives at its end."""
        shown = _PageProgress(self.review, self.job.plan(self.job.settings))
        try:
            while not self._worker.ended(shown):
                if self._stopped.is_set():
                    return
            if self._stopped.is_set():
                return
            self._worker.check("all views")
            self._rank_again()
        except Interrupted:
            if not self._stopped.is_set():
                self._failed(
                    "The training was stopped; the same command goes on. The first ranking stays."
                )
        except Exception as error:  # noqa: BLE001 - the page stays, and says what happened
            self._failed(f"The first ranking stays: {error}")

    def _failed(self, text: str) -> None:
        log.warning("%s", text)
        self.review.status = Status("failed", text)

    def _rank_again(self) -> None:
        detector, session = self.job.rank()
        kept, before = (load_limit(self.job.out / name) for name in (QUICK, MODEL))
        if kept is not None and (before is None or before.saved < kept.saved):
            save_limit(self.job.out / MODEL, kept.score)  # scores of all models mean the same
        self.review.show(Ranking(session, detector), self.job.out / MODEL)
        self.review.status = Status("training", "Ranked by all views; the report is being written.")
        print("ranked again by all views", flush=True)
        try:
            self.job.write_results(detector, session)
        except (UserError, OSError) as error:
            self._failed(f"Ranked by all views; the report could not be written: {error}")
            return
        self.review.status = Status("done", "Ranked by all views.")
        print(f"report: {self.job.out / REPORT}", flush=True)


class _PageProgress(Bars):
    """Shows the progress of several trainings as one, on the page and now and then in the terminal."""

    INTERVAL = 60.0

    def __init__(self, review: Review, plan: Plan) -> None:
        super().__init__(None)
        self.review, self.left = review, TimeLeft(plan)
        self._shown = time.monotonic()

    def update(self, name: str, total: float | None, done: float, note: str) -> None:
        if not total:
            return
        self.left.update(name, done / total)
        text = "; ".join(filter(None, ["The other views are being trained", self.left.words()]))
        self.review.status = Status("training", f"{text}.", self.left.fraction)
        if time.monotonic() - self._shown > self.INTERVAL:
            self._shown = time.monotonic()
            print(text, flush=True)


def find_without_page(job: Job) -> Path:
    """Do a job without a page, print the oddest images, and return its report.

    Raises:
        UserError: as the training; a page is served of the same folder.
        Interrupted: by Ctrl-C or SIGTERM; the same job goes on.
    """
    for line in job.announcement():
        print(for_terminal(line), flush=True)
    print(f"all views in {duration(job.minutes(job.settings))}", flush=True)
    detector, session = job.run()
    ranking = Ranking(session, detector)
    for rank, i in enumerate(oddest_first(session.score)[:10], 1):
        score = ranking.shown_score(float(session.score[i]))
        print(f"{rank:6}  {score:>8}  {session.names[i]!a}")
    return job.out / REPORT
