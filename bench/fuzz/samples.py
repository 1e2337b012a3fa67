"""Small valid sources of every kind that is read; the fuzzer edits them."""

from __future__ import annotations

import csv
import gzip
import io
import json
import pickle
import struct
import tarfile
import zipfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin
from sklearn.datasets import load_digits

from anowild.arrays import Array

#: What encoders and containers are given: digits [40, 8, 8], and a picture in color.
DIGITS: Array = (load_digits().images[:40] / 16 * 255).astype(np.uint8)
COLOR = np.stack([np.tile(DIGITS[i], (2, 3)) for i in range(3)], -1)
#: Anything that unpickles this leaves a file in the folder that the command runs in.
PAYLOAD = b"cos\nsystem\n(S'touch RAN'\ntR."
RAN = "RAN"


def encoded(kind: str = "PNG", pixels: Array = DIGITS[0], **options: Any) -> bytes:
    """Encode a picture with Pillow."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def _exif() -> Any:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x9003] = 6, "Maker", "2026:01:01 00:00:00"
    exif.get_ifd(0x8769)[0x927C] = b"note" * 20
    return exif


def make_png(folder: Path) -> None:
    gray, color = Image.fromarray(DIGITS[0]), Image.fromarray(COLOR)
    text = PngImagePlugin.PngInfo()
    text.add_text("Title", "digit", zip=True)
    text.add_itxt("XML:com.adobe.xmp", '<x tiff:Orientation="6"/>')
    gray.save(folder / "text.png", pnginfo=text, exif=_exif())
    color.save(folder / "color.png", icc_profile=bytes(300))
    color.quantize(16).save(folder / "palette.png", transparency=3)
    gray.convert("1").save(folder / "bit.png")
    gray.convert("LA").save(folder / "alpha.png")
    Image.fromarray(DIGITS[0].astype(np.uint16) * 257).save(folder / "deep.png")
    (folder / "deeper.png").write_bytes(_deep_png())
    moves = [Image.fromarray(d) for d in DIGITS[:3]]
    moves[0].save(folder / "moves.png", save_all=True, append_images=moves[1:])


def _deep_png() -> bytes:
    import imagecodecs

    return bytes(imagecodecs.png_encode(COLOR.astype(np.uint16) * 257))


def make_jpeg(folder: Path) -> None:
    color = Image.fromarray(COLOR)
    color.save(folder / "exif.jpg", exif=_exif(), icc_profile=bytes(70_000))
    color.save(folder / "progressive.jpg", progressive=True, subsampling=2, comment=b"x" * 50)
    color.convert("CMYK").save(folder / "cmyk.jpg")
    color.convert("L").save(folder / "gray.jpg", restart_marker_rows=1)
    color.save(folder / "two.jpg", "MPO", save_all=True, append_images=[color.convert("RGB")])


def make_pictures(folder: Path) -> None:
    """Encode in all other formats, under endings that are read."""
    color, gray = Image.fromarray(COLOR), Image.fromarray(DIGITS[0])
    moves = [Image.fromarray(d).convert("RGB") for d in DIGITS[:3]]
    color.save(folder / "lossy.webp", exif=_exif())
    color.save(folder / "exact.webp", lossless=True)
    moves[0].save(folder / "moves.webp", save_all=True, append_images=moves[1:])
    color.save(folder / "color.bmp")
    color.quantize(16).save(folder / "palette.bmp")
    color.save(folder / "color.avif")
    import pillow_heif

    pillow_heif.register_heif_opener()
    color.save(folder / "color.heic", "HEIF")
    for kind in ("PPM", "TGA", "ICO", "PCX", "SGI", "DDS", "JPEG2000", "GIF", "IM", "EPS"):
        (gray if kind == "PPM" else color).save(folder / f"{kind.lower()}.png", kind)


def make_gif(folder: Path) -> None:
    moves = [Image.fromarray(d) for d in DIGITS[:4]]
    moves[0].save(folder / "moves.gif", save_all=True, append_images=moves[1:], transparency=0)
    moves[0].save(folder / "still.gif", comment=b"x" * 40)


def make_tiff(folder: Path) -> None:
    import tifffile

    write: Any = tifffile.imwrite
    deep = DIGITS.astype(np.uint16) * 257
    large = np.tile(DIGITS[0], (6, 6))
    write(folder / "plain.tif", DIGITS[0])
    write(folder / "pages.tif", DIGITS[:3], photometric="minisblack", metadata=None)
    write(folder / "strips.tif", large, rowsperstrip=8, compression="zlib", predictor=True)
    write(folder / "tiles.tif", large, tile=(16, 16), compression="lzw")
    write(folder / "zstd.tif", COLOR.astype(np.uint16), photometric="rgb", compression="zstd")
    write(folder / "jpeg.tif", COLOR, photometric="rgb", compression="jpeg")
    write(folder / "apart.tif", COLOR, photometric="rgb", planarconfig="separate")
    write(folder / "deep.tif", COLOR.astype(np.uint16), photometric="rgb", byteorder=">")
    write(folder / "float.tif", DIGITS[0] / np.float32(255), compression="deflate", bigtiff=True)
    write(folder / "ome.ome.tif", deep[:6].reshape(3, 2, 8, 8), metadata={"axes": "TCYX"})
    write(folder / "imagej.tif", deep[:5], imagej=True, metadata={"axes": "ZYX"})
    with tifffile.TiffWriter(folder / "pyramid.tif") as file:
        file.write(large, subifds=1, tile=(16, 16))
        file.write(large[::2, ::2], subfiletype=1, tile=(16, 16))
    Image.fromarray(COLOR).save(folder / "fax.tif", "TIFF", compression="tiff_lzw", exif=_exif())
    Image.fromarray(DIGITS[0] > 99).save(folder / "bit.tif", "TIFF", compression="group4")


def make_npy(folder: Path) -> None:
    np.save(folder / "bytes.npy", DIGITS[:5])
    np.save(folder / "color.npy", np.stack([COLOR] * 3))
    np.save(folder / "float.npy", np.asfortranarray(DIGITS[:4] / 255))
    np.save(folder / "deep.npy", DIGITS[:4].astype(">u2"))


def make_npz(folder: Path) -> None:
    np.savez(folder / "plain.npz", images=DIGITS[:5])
    np.savez_compressed(folder / "packed.npz", DIGITS[:5])
    np.savez_compressed(folder / "fortran.npz", x=np.asfortranarray(DIGITS[:5]))


def make_idx(folder: Path) -> None:
    images = struct.pack(">4I", 0x803, 5, 8, 8) + DIGITS[:5].tobytes()
    labels = struct.pack(">2I", 0x801, 5) + bytes(range(5))
    for name, pack in (("plain", bytes), ("packed", gzip.compress)):
        inner = folder / name
        inner.mkdir()
        ending = "" if pack is bytes else ".gz"
        (inner / f"train-images-idx3-ubyte{ending}").write_bytes(pack(images))
        (inner / f"train-labels-idx1-ubyte{ending}").write_bytes(pack(labels))


def make_cifar(folder: Path) -> None:
    data = np.random.default_rng(0).integers(0, 256, (4, 3072)).astype(np.uint8)
    batch = {b"data": data, b"labels": [0, 1, 2, 3], b"batch_label": b"x"}
    meta = {b"label_names": [b"a", b"b", b"c", b"d"]}
    for protocol in (0, 2, 4):
        inner = folder / f"protocol{protocol}"
        inner.mkdir()
        (inner / "data_batch_1").write_bytes(pickle.dumps(batch, protocol))
        (inner / "batches.meta").write_bytes(pickle.dumps(meta, protocol))
    with tarfile.open(folder / "cifar.tar.gz", "w:gz") as file:
        file.add(folder / "protocol2", "cifar-10-batches-py")


def make_hdf5(folder: Path) -> None:
    import h5py

    with h5py.File(folder / "plain.h5", "w") as file:
        file["images"] = DIGITS[:5]
        file["labels"] = np.arange(5)
    with h5py.File(folder / "packed.h5", "w", libver="latest") as file:
        group = file.create_group("deep/er")
        group.create_dataset(
            "x", data=DIGITS, chunks=(8, 8, 8), compression="gzip", shuffle=True, fletcher32=True
        )
        group["label"] = [f"class {i}" for i in range(40)]
        file.attrs["about"] = "digits"


def make_zarr(folder: Path) -> None:
    import zarr

    labels = np.arange(10)
    for version in (2, 3):
        group = zarr.open_group(folder / f"v{version}.zarr", mode="w", zarr_format=version)
        group.create_array("images", data=DIGITS[:10], chunks=(4, 8, 8))
        group.create_array("labels", data=labels)
    zarr.create_array(folder / "one.zarr", data=DIGITS[:4], chunks=(2, 8, 8), compressors=None)
    with zarr.storage.ZipStore(folder / "packed.zarr.zip", mode="w") as store:
        zarr.create_array(store, data=DIGITS[:4], chunks=(2, 8, 8))


def make_parquet(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    cells = [encoded(pixels=d) for d in DIGITS[:6]]
    plain = pa.table({"image": pa.array(cells, pa.binary()), "label": [0, 1, 0, 1, 0, 1]})
    rows = [{"bytes": cell, "path": f"{i}.png"} for i, cell in enumerate(cells)]
    names = {"info": {"features": {"label": {"names": ["a", "b"]}}}}
    facts = {"huggingface": json.dumps(names)}
    nested = pa.table({"image": rows, "label": [0, 1, 0, 1, 0, 1]}).replace_schema_metadata(facts)
    pq.write_table(plain, folder / "plain.parquet", compression="none", row_group_size=3)
    pq.write_table(nested, folder / "train-0-of-1.parquet", compression="zstd")
    pq.write_table(plain, folder / "pages.parquet", data_page_size=64, data_page_version="2.0")


def make_tar(folder: Path) -> None:
    for name, mode in (("plain.tar", "w:"), ("packed.tar.gz", "w:gz"), ("pax.tar", "w:")):
        form = tarfile.PAX_FORMAT if name == "pax.tar" else tarfile.GNU_FORMAT
        with tarfile.open(folder / name, mode, format=form) as file:  # type: ignore[call-overload]
            for i in range(4):
                for ending, content in (
                    ("png", encoded(pixels=DIGITS[i])),
                    ("cls", b"1"),
                    ("json", b'{"label": "a"}'),
                    ("mask.png", encoded(pixels=DIGITS[9])),
                ):
                    info = tarfile.TarInfo(f"train/{i:04}.{ending}" + "x" * (150 if i == 3 else 0))
                    info.size = len(content)
                    if form == tarfile.PAX_FORMAT:
                        info.pax_headers = {"comment": "ü" * 10}
                    file.addfile(info, io.BytesIO(content))


def make_zip(folder: Path) -> None:
    methods = {"stored": 0, "deflated": 8, "bzipped": 12, "lzma": 14}
    for name, method in methods.items():
        with zipfile.ZipFile(folder / f"{name}.zip", "w", method) as file:
            for i in range(4):
                file.writestr(f"train/{i}.png", encoded(pixels=DIGITS[i]))
            file.writestr("readme.txt", "digits")
            file.comment = b"a comment"


def make_tfrecord(folder: Path) -> None:
    (folder / "digits-r03.tfrecords").write_bytes(b"".join(map(record, map(example, DIGITS[:4]))))
    np.save(folder / "digits-rxx.npy", np.eye(4, dtype=np.float32))
    (folder / "digits-rxx.npy").rename(folder / "digits-rxx.labels")


def example(pixels: Array, shape: tuple[int, ...] | None = None) -> bytes:
    """Return a tf.train.Example of a picture."""

    def field(number: int, content: bytes) -> bytes:
        return varint(number << 3 | 2) + varint(len(content)) + content

    def feature(name: bytes, kind: int, values: bytes) -> bytes:
        return field(1, field(1, name) + field(2, field(kind, values)))

    sizes = b"".join(map(varint, shape or (1, *pixels.shape)))
    data = feature(b"data", 1, field(1, pixels.tobytes()))
    return field(1, feature(b"shape", 3, field(1, sizes)) + data)


def varint(value: int) -> bytes:
    """Encode a number in 7 bits for each byte."""
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def record(content: bytes, length: int | None = None) -> bytes:
    """Return a record of a TFRecord file, perhaps with another length than its own; its checksums fit."""
    import google_crc32c

    def summed(data: bytes) -> bytes:
        crc = google_crc32c.value(data)
        return data + struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)

    return summed(struct.pack("<Q", len(content) if length is None else length)) + summed(content)


def make_video(folder: Path) -> None:
    import av

    for name, codec, pixels in (
        ("mpeg4.mp4", "mpeg4", "yuv420p"), ("mjpeg.avi", "mjpeg", "yuvj420p"), ("ffv1.mkv", "ffv1", "gray"),
        ("vp8.webm", "libvpx", "yuv420p"), ("h264.mov", "libx264", "yuv420p"), ("raw.avi", "rawvideo", "rgb24"),
    ):  # fmt: skip
        try:
            with av.open(folder / name, "w") as file:
                stream: Any = file.add_stream(codec, rate=Fraction(5))
                stream.width, stream.height, stream.pix_fmt = 32, 32, pixels
                for digit in DIGITS[:5]:
                    frame = av.VideoFrame.from_ndarray(np.tile(digit, (4, 4)), "gray")
                    file.mux(stream.encode(frame.reformat(format=pixels)))
                file.mux(stream.encode(None))
        except (av.FFmpegError, ValueError):  # a build without this codec
            (folder / name).unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    for split, kind in (("train", "good"), ("test", "good"), ("test", "bad")):
        inner = folder / "parts" / split / kind
        inner.mkdir(parents=True)
        for i in range(3):
            (inner / f"{i}.png").write_bytes(encoded(pixels=DIGITS[i]))
    flat = folder / "flat"
    flat.mkdir()
    for i in range(5):
        (flat / f"{i}.png").write_bytes(encoded(pixels=DIGITS[i]))


def make_labels(folder: Path) -> None:
    rows = [(f"digits.npy[{i}]", i % 2) for i in range(12)]
    for name, mark in (("comma.csv", ","), ("tabs.tsv", "\t"), ("semicolon.csv", ";")):
        with (folder / name).open("w", newline="") as file:
            csv.writer(file, delimiter=mark).writerows([("path", "label"), *rows])
    (folder / "wide.csv").write_text((folder / "comma.csv").read_text(), "utf-16")
    np.save(folder / "labels.npy", np.arange(12) % 2)
    np.savez(folder / "labels.npz", labels=np.arange(12) % 2)


def make_scores(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [(f"{i}.png", i / 7, i % 2) for i in range(12)]
    with (folder / "scores.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "score", "odd"), *rows])
    columns = dict(zip(("path", "score", "odd"), map(list, zip(*rows, strict=True)), strict=True))
    pq.write_table(pa.table(columns), folder / "scores.parquet")
    (folder / "semicolons.csv").write_text(
        (folder / "scores.csv").read_text().replace(",", ";").replace(".", ",")
    )


MAKERS = {
    "png": make_png, "jpeg": make_jpeg, "gif": make_gif, "tiff": make_tiff, "picture": make_pictures,
    "npy": make_npy, "npz": make_npz, "idx": make_idx, "cifar": make_cifar, "hdf5": make_hdf5,
    "zarr": make_zarr, "parquet": make_parquet, "tar": make_tar, "zip": make_zip, "tfrecord": make_tfrecord,
    "video": make_video, "folder": make_folder, "labels": make_labels, "scores": make_scores,
}  # fmt: skip


def make_samples(folder: Path) -> None:
    """Write all samples, those of each kind into a folder of its own."""
    for kind, make in MAKERS.items():
        (folder / kind).mkdir(parents=True)
        make(folder / kind)
