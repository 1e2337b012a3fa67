"""The main command: find."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from anowild.cli import options
from anowild.files import exists, is_folder


def find(
    sources: options.Sources,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            metavar="FOLDER",
            help="Folder for model, scores, report and marks; else named after the images.",
        ),
    ] = None,
    preset_name: options.PresetName = "laptop",
    browser: options.Browser = True,
    report: Annotated[
        bool, typer.Option("--report", help="No page: write report.html at the end, and stop.")
    ] = False,
    host: options.Host = "127.0.0.1",
    port: options.Port = 8765,
    token: options.Token = True,
    views: options.Views = None,
    features: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Another pretrained network; see `anowild train`."),
    ] = None,
    tiles: options.Tiles = None,
    changes: options.Changes = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
) -> None:
    """Find the odd images in a folder: a page of them in a minute, ranked again when all is trained.

    Images are read once and never changed. Ctrl-C stops everything; the same command goes on.
    """
    from anowild.finding.job import Job
    from anowild.finding.serve import find_without_page, serve

    settings = options.settings_of(
        preset_name, changes, views=views, features=features, tiles=tiles
    )
    job = Job(sources, out or _named_after(sources[0]), settings, device, threads)
    if not report:
        serve(job, host, port, open_browser=browser, token=token)
        return
    print(f"report: {find_without_page(job)}")


def _named_after(source: str) -> Path:
    """Return the folder of the result for a source: in the current folder, named after the source.

    A file loses the ending of its format; of ``file.npz:key`` the key becomes part of the name.
    """
    from anowild.data.readers import arrays, hdf5, parquet, video, webdataset

    formats = (arrays, hdf5, parquet, video, webdataset)
    endings = {".zip", ".gz", ".tfrecord", ".tfrecords"}.union(*(one.SUFFIXES for one in formats))
    path, key = Path(source), ""
    if not exists(path):
        head, colon, after = source.rpartition(":")
        if colon:
            path, key = Path(head), "-" + re.sub(r"[^\w.-]+", "-", after)
    name = path.absolute().resolve().name if path.name in ("", "..") else path.name
    if not is_folder(path):
        fitting = [end for end in endings if name.lower().endswith(end) and len(name) > len(end)]
        name = name[: len(name) - max(map(len, fitting), default=0)]
    return Path(f"{name or 'images'}{key}.anowild")
