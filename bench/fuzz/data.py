"""Random edits of the files of images, labels and scores, each tried by a command that reads it.

A small valid source of each kind is edited, at random bytes or as its format has it (`claims`), and a command reads it
with a model of a few digits. Code that a file brings along would leave a file behind: that counts as a traceback.
"""

from __future__ import annotations

import importlib
import random
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from bench.fuzz import claims, samples
from bench.fuzz.attempts import Attempt
from bench.fuzz.claims import Edit
from bench.fuzz.models import in_this_process

#: Imported before the first fork, so that a try costs a fraction of a second.
PRELOADED = (
    "anowild.api", "anowild.data.dataset.build", "anowild.scoring.flagged_files", "anowild.scoring.growing",
    "anowild.scoring.unlike_training", "anowild.evaluation.evaluate", "anowild.training.pixels", "av", "h5py", "imagecodecs",
    "numcodecs", "pillow_heif", "pyarrow.compute", "pyarrow.dataset", "pyarrow.parquet", "tifffile", "torch._dynamo", "torch._inductor",
    "typer._adapters", "pydantic.main", "zarr", "google_crc32c",
)  # fmt: skip

#: Kinds of sources, how often each is edited, and the edits.
TARGETS: dict[str, tuple[int, Sequence[Edit]]] = {
    "png": (10, (claims.any_bytes, claims.png_chunks, claims.png_chunks, claims.numbers)),
    "jpeg": (8, (claims.any_bytes, claims.jpeg_segments, claims.jpeg_segments)),
    "gif": (4, (claims.any_bytes, claims.gif_claims, claims.numbers)),
    "tiff": (14, (claims.any_bytes, claims.tiff_tags, claims.tiff_tags, claims.tiff_made)),
    "picture": (8, (claims.any_bytes, claims.numbers, claims.long_texts)),
    "npy": (5, (claims.any_bytes, claims.npy_header, claims.npy_header)),
    "npz": (6, (claims.any_bytes, claims.zip_headers, claims.npz_made, claims.npz_made)),
    "idx": (5, (claims.inside_gzip(claims.any_bytes), claims.any_bytes, claims.numbers, claims.idx_made)),
    "cifar": (5, (claims.inside_gzip(claims.any_bytes), claims.any_bytes, claims.pickle_made)),
    "hdf5": (8, (claims.any_bytes, claims.numbers, claims.hdf5_made, claims.hdf5_made)),
    "zarr": (7, (claims.any_bytes, claims.zarr_json, claims.zarr_json, claims.zarr_made)),
    "parquet": (6, (claims.any_bytes, claims.parquet_made)),
    "tar": (7, (claims.inside_gzip(claims.any_bytes), claims.any_bytes, claims.tar_made, claims.tar_made)),
    "zip": (8, (claims.any_bytes, claims.zip_headers, claims.zip_made, claims.zip_made)),
    "tfrecord": (4, (claims.any_bytes, claims.tfrecord_made)),
    "video": (5, (claims.any_bytes, claims.numbers)),
    "folder": (6, (claims.folder_made,)),
    "labels": (6, (claims.table_cells, claims.table_cells, claims.table_arrays)),
    "scores": (5, (claims.table_cells, claims.table_cells, claims.table_arrays)),
    "packed": (6, (claims.packed_fields,)),
}  # fmt: skip
#: Encoded images: they may also lie beside a good one in a folder.
PICTURES = {"png", "jpeg", "gif", "tiff", "picture"}
#: Sources of several arrays, columns or images, which may be named by a key.
NAMED = {"npz", "hdf5", "zarr", "parquet", "tar"}
KEYS = (*("",) * 12, ":images", ":labels", ":image", ":x", ":/", ":png")
TINY = ["--set=views=pixels", "--set=resolution=8", "--kimg", "0", "--threads", "1"]


def make_base(folder: Path) -> None:
    """Make a model of digits, a packed data set, and a sample of each kind."""
    for name in PRELOADED:
        importlib.import_module(name)
    np.save(folder / "digits.npy", samples.DIGITS)
    np.save(folder / "few.npy", samples.DIGITS[:12])
    samples.make_samples(folder / "samples")
    (folder / "samples" / "packed").mkdir()
    for command in (
        ["train", "digits.npy", "-o", "model", *TINY],
        ["prepare", "digits.npy", "-o", "samples/packed/packed", "--like", "model"],
    ):
        code, said = in_this_process(command, folder)
        if code:
            raise RuntimeError(said)


def attempt(base: Path, work: Path, seed: int, number: int) -> tuple[str, str, Attempt]:
    """Make edit ``number`` of a source, and try it: its kind, command, how it ended."""
    rng = random.Random(f"{seed}/{number}")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    kind = rng.choices([*TARGETS], [weight for weight, _ in TARGETS.values()])[0]
    sample = rng.choice(sorted((base / "samples" / kind).iterdir()))
    source = work / "images" if kind in PICTURES else work
    source.mkdir(exist_ok=True)
    source = source / sample.name
    if kind == "tfrecord":  # its labels lie beside it
        sample, source = sample.parent, work / "records"
    shutil.copytree(sample, source) if sample.is_dir() else shutil.copy(sample, source)
    rng.choice(TARGETS[kind][1])(source, rng)
    if rng.random() < 0.1:
        claims.any_bytes(source, rng)
    command = _command(kind, source, base, work, rng)
    found = Attempt.of(command, work)
    if (work / samples.RAN).exists():
        found = replace(found, outcome="traceback", said=f"code was run\n{found.said}")
    return kind, command[0], found


def _command(kind: str, source: Path, base: Path, work: Path, rng: random.Random) -> list[str]:
    """Choose a command that reads a source."""
    model, given = str(base / "model"), str(source.relative_to(work))
    few = str(base / "few.npy")
    score = ["score", model, given, "-o", "scores.csv"]
    if kind == "scores":
        commands = [["clean", given, "-o", "kept", "--how", "list"]] * 3
        if source.suffix == ".csv":
            source.rename(work / "scores.csv")
            commands = [[*commands[0][:1], "scores.csv", *commands[0][2:]]] * 3
        return rng.choice(
            [*commands, ["score", model, few, "-o", f"scores{source.suffix}", "--new-only"]]
        )
    if kind == "labels":
        given += ":labels" * (source.suffix == ".npz")
        shutil.copy(few, work / "digits.npy")
        return rng.choice((
            ["evaluate", model, "digits.npy", "--labels", given],
            ["evaluate", model, "digits.npy", "--labels", given, "--partial", "--normal", "0"],
            ["prepare", "digits.npy", "-o", "set", "--size", "8", "--labels", given],
        ))  # fmt: skip
    if kind == "packed":
        return rng.choice((
            score, ["train", given, "-o", "new", "--set=views=pixels", "--kimg", "0"], ["data", "show", given],
            ["contaminate", given, "-o", "new", "--rate", "0.1", "--normal", "0"],
            ["evaluate", model, f"{given}:train", "--labels", "source"],
        ))  # fmt: skip
    if kind in PICTURES and rng.random() < 0.6:
        (work / "images" / "good.png").write_bytes(samples.encoded(pixels=samples.DIGITS[0]))
        given = "images"
    elif source.is_dir() and kind in ("idx", "cifar", "tfrecord") and rng.random() < 0.3:
        given = str(rng.choice(sorted(source.iterdir())).relative_to(work))
    elif kind in NAMED:
        given += rng.choice(KEYS)
    if rng.random() < 0.75:
        return [*score[:2], given, *score[3:]]
    return rng.choice((
        ["prepare", given, "-o", "set", "--like", model], ["prepare", given, "-o", "set", "--size", "8"],
        ["train", given, "-o", "new", *TINY], ["evaluate", model, given, "--labels", "source", "--partial"],
    ))  # fmt: skip
