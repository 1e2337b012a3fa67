"""Commands about experiments: study run, table, compare, recalibrate, rules."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from anowild.cli import options
from anowild.cli.help import Command
from anowild.cli.options import numbers, print_error
from anowild.errors import UserError
from anowild.libraries import parquet_library, require

study_app = typer.Typer(
    help="Experiments: how well methods find known anomalies at known contamination.",
    no_args_is_help=True,
)
Study = Annotated[Path, typer.Option("-o", "--out", metavar="FOLDER", help="Folder of the study.")]


@study_app.command("run", cls=Command)
def study_run(
    out: Study,
    data: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Folder of the image sets; digits_* need none."),
    ] = None,
    sets: Annotated[
        str,
        typer.Option(metavar="NAMES", help="With commas; choosing, reporting: all of that group."),
    ] = "digits_3,digits_blurred",
    rates: Annotated[
        str, typer.Option(metavar="SHARES", help="Contamination, with commas.")
    ] = "0,0.05,0.1",
    methods: Annotated[
        str, typer.Option(metavar="NAMES", help="With commas.")
    ] = "joint,untrained,pca,knn,contrast",
    seeds: Annotated[int, typer.Option(min=1, metavar="N", help="How many, from 0.")] = 3,
    kimg: Annotated[
        float | None,
        typer.Option(metavar="N", help="Length of each training, in thousands of images shown."),
    ] = None,
    preset_name: options.PresetName = "laptop",
    changes: options.Changes = None,
    search_steps: Annotated[
        int, typer.Option(min=0, metavar="N", help="Of AnoGAN's latent search.")
    ] = 0,
    jobs: Annotated[int | None, typer.Option(min=1, metavar="N", help="Trials at a time.")] = None,
    threads: Annotated[int, typer.Option(min=1, metavar="N", help="CPU threads of each.")] = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the cost and stop.")] = False,
) -> None:
    """Run what is not done yet of a study: sets x rates x methods x seeds."""
    from anowild.device import configure_process, gpus, select_device
    from anowild.study import sweep
    from anowild.study.datasets import names_of

    settings = options.settings_of(preset_name, changes, kimg=kimg, transforms_kimg=kimg)
    trials = sweep.plan(
        data, names_of(sets), numbers(rates, "--rates"), methods.split(","), range(seeds),
        settings, search_steps,
    )  # fmt: skip
    devices = gpus() or ["cpu"]
    configure_process(threads)
    print(sweep.cost(trials, out, select_device(devices[0])), flush=True)
    if dry_run:
        return
    if jobs is None:
        jobs = len(devices) if gpus() else max(1, (os.cpu_count() or 1) // threads)
    failed = sweep.run(trials, out, jobs, threads, devices)
    for folder in failed:
        lines = (folder / "error.txt").read_text(errors="replace").strip().splitlines()
        reason = lines[-1].removeprefix("anowild: ") if lines else "no reason given"
        print_error(f"anowild: {folder}: failed ({reason})")
    print(f"next: {options.command_line('study', 'table', '-o', out)}")
    if failed:
        raise typer.Exit(1)


@study_app.command("table", cls=Command)
def study_table(
    out: Study,
    metric: Annotated[
        Literal["auroc", "average_precision"], typer.Option(help="What is tabulated.")
    ] = "auroc",
    parquet: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write all rows there.")
    ] = None,
    rates: Annotated[
        str, typer.Option(metavar="SHARES", help="Of paired differences and overviews.")
    ] = "0.05,0.1",
    plots: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Folder for the plots.")
    ] = None,
    brief: Annotated[bool, typer.Option("--brief", help="One row for each method.")] = False,
    overview: Annotated[
        bool,
        typer.Option("--overview", help="Only a table of sets x methods, for each of --rates."),
    ] = False,
    sets: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES", help="Columns of the overview, with commas; all unless given."
        ),
    ] = None,
) -> None:
    """Print the results of a study as Markdown: tables, paired differences, lists of suspects."""
    from anowild.study import tables
    from anowild.study.datasets import names_of

    if plots is not None:
        require("plots", "matplotlib")
    if parquet is not None:
        parquet_library()
    results = tables.collect(out)
    if parquet is not None:
        tables.write_parquet(tables.rows_of(results), parquet)
    if overview:
        for rate in numbers(rates, "--rates"):
            columns = names_of(sets) if sets else sorted({r["set"] for r in results})
            print(tables.overview(results, rate, columns, metric))
            if plots is not None:
                from anowild.study.plots import verdicts

                path = plots / f"verdicts_{100 * rate:g}pct.png"
                verdicts(results, rate, columns, path)
                print(path)
        return
    print(tables.markdown(results, metric, brief))
    print(tables.comparisons(results, numbers(rates, "--rates"), metric))
    print(tables.suspects(results))
    if plots is not None:
        from anowild.study.plots import draw_all

        for path in draw_all(results, out, plots):
            print(path)


@study_app.command("compare", cls=Command)
def study_compare(
    first: Annotated[
        Path, typer.Argument(metavar="STUDY", help="Folder, or a Parquet file of its rows.")
    ],
    second: Annotated[Path, typer.Argument(metavar="OTHER", help="The same of another study.")],
    rates: Annotated[str, typer.Option(metavar="SHARES", help="A table for each.")] = "0.05",
    methods: Annotated[
        str,
        typer.Option(metavar="NAMES", help="A method of the one and, after a comma, of the other."),
    ] = "ensemble",
    sets: Annotated[
        str | None,
        typer.Option(metavar="NAMES", help="Columns, with commas; all unless given."),
    ] = None,
    metric: Annotated[
        Literal["auroc", "average_precision"], typer.Option(help="What is compared.")
    ] = "auroc",
) -> None:
    """Print paired differences of two studies, STUDY - OTHER: same sets, rates and seeds."""
    from anowild.study import tables
    from anowild.study.datasets import names_of
    from anowild.study.methods import check

    names = methods.split(",")
    check(names)
    if len(names) > 2:
        raise UserError(f"--methods takes one method or two, not '{methods}'")
    rows = tables.read_rows(first), tables.read_rows(second)
    for rate in numbers(rates, "--rates"):
        columns = names_of(sets) if sets else None
        print(tables.paired(*rows, rate, (names[0], names[-1]), columns, metric))


@study_app.command("recalibrate", cls=Command)
def study_recalibrate(out: Study) -> None:
    """Join the views of trials that are done as they are joined today; nothing is trained again."""
    from anowild.study import trial

    found = sorted(out.glob(f"*/*/*/*/{trial.CUES}"))
    done = [path.parent for path in found if (path.parent / trial.RESULT).exists()]
    for folder in done:
        trial.recalibrate(folder)
    print(f"{len(done)} trials of several views were joined again")
    print(f"next: {options.command_line('study', 'table', '-o', out)}")


@study_app.command("rules", cls=Command)
def study_rules(
    out: Study,
    sets: Annotated[
        str | None,
        typer.Option(metavar="NAMES", help="With commas; choosing, reporting: all of that group."),
    ] = None,
    rate: Annotated[float, typer.Option(metavar="SHARE", help="Contamination.")] = 0.05,
    method: Annotated[str, typer.Option(metavar="NAME", help="Of several views.")] = "ensemble",
    without: Annotated[
        str | None, typer.Option(metavar="VIEWS", help="With commas: views that are left out.")
    ] = None,
) -> None:
    """Compare rules that join the views of a study's trials into one score."""
    from anowild.study import view_rules
    from anowild.study.datasets import names_of

    left_out = without.split(",") if without else ()
    print(view_rules.compare(out, names_of(sets) if sets else None, rate, method, left_out))
