"""Exported files, each in its runtime, against the detector."""

import csv
import json
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

import anowild as anowild_package
from anowild.arrays import Array
from anowild.errors import UserError
from anowild.exporting import formats
from anowild.exporting.formats import export, facts_of
from anowild.exporting.graph import Outputs
from anowild.portable.facts import METADATA, Facts
from anowild.portable.model import PortableModel
from anowild.scoring import Detector
from anowild.scoring.scores import USUAL_LIMIT
from anowild.views.pretrained import PretrainedView
from tests.conftest import Run

SHAPES = [(16, 16, 1), (16, 16, 3), (40, 23, 3), (9, 50, 1), (33, 33, 3)]


@pytest.fixture(scope="module")
def pictures(digits: Array) -> list[Array]:
    """Digits and noise of several sizes, gray and in color."""
    rng = np.random.default_rng(0)
    made: list[Array] = [digit[:, :, None] for digit in digits[110:130]]
    return made + [rng.integers(0, 256, shape).astype(np.uint8) for shape in SHAPES]


def expected(detector: Detector, pictures: list[Array]) -> dict[str, Array]:
    """What a graph has to say of each image."""
    squares = np.stack([detector.preprocess(pixels) for pixels in pictures])
    scores = detector.score(squares)
    heat = [detector.explain(square[None]).heat_map() for square in squares]
    assert all(x is not None for x in heat)
    return {
        "score": scores.score,
        "p_value": 10**-scores.score,
        "views": np.stack([scores.views[name] for name in detector.view_names], axis=1),
        "cues": np.stack([scores.cues[name] for name in detector.cue_names], axis=1),
        "heat": np.concatenate([x for x in heat if x is not None]),
    }


def check(
    detector: Detector, pictures: list[Array], found: dict[str, Array], tolerance: float = 1e-6
) -> None:
    """Compare what a file says with the detector, each step by itself.

    A view's score may be steep in its cues: the last digits that a runtime's sums leave open become ten
    times as many. So the cues are held to the detector's, and the verdict to what the detector's calibration
    says of the cues found.
    """
    wanted = expected(detector, pictures)
    assert np.allclose(found["cues"], wanted["cues"], rtol=2e-5, atol=3e-6)
    cues = {name: found["cues"][:, k] for k, name in enumerate(detector.cue_names)}
    scores = detector.calibration.scores(cues)
    views = np.stack([scores.views[name] for name in detector.view_names], axis=1)
    said = {"score": scores.score, "p_value": 10**-scores.score, "views": views}
    for name, values in said.items():
        assert np.allclose(found[name], values, rtol=tolerance, atol=0.3 * tolerance), name
    assert np.allclose(found["score"], wanted["score"], rtol=1e-4, atol=3e-5)
    assert np.array_equal(np.argsort(found["score"]), np.argsort(wanted["score"]))
    assert np.allclose(found["heat"], wanted["heat"], atol=1e-3)


def test_onnx_runtime_scores_alike(whole: Detector, onnx_file: Path, pictures: list[Array]) -> None:
    model = PortableModel(onnx_file, threads=1)
    found = [model.score(model.usable(pixels), heat=True) for pixels in pictures]
    joined = {name: np.stack([one[name] for one in found]) for name in Outputs._fields}
    check(whole, pictures, joined)
    # Any number of images at a time, of one size.
    batch = np.stack(pictures[:5])
    together = model.score_all(batch)["score"]
    assert np.allclose(together, joined["score"][:5], rtol=1e-6)


def test_openvino_scores_alike(
    whole: Detector, onnx_file: Path, pictures: list[Array], tmp_path: Path
) -> None:
    openvino = pytest.importorskip("openvino")
    graph = openvino.convert_model(onnx_file)
    compiled = openvino.Core().compile_model(
        graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    )
    found = [compiled(pixels[None]) for pixels in pictures]
    joined = {name: np.concatenate([one[name] for one in found]) for name in Outputs._fields}
    # OpenVINO computes in float32 throughout.
    check(whole, pictures, joined, tolerance=1e-4)


def test_the_file_says_what_it_is(whole: Detector, onnx_file: Path) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load(onnx_file)
    onnx.checker.check_model(model)
    assert max(one.version for one in model.opset_import) >= 18
    assert [one.name for one in model.graph.output] == list(Outputs._fields)
    facts = Facts.from_text({p.key: p.value for p in model.metadata_props}[METADATA])
    assert facts.checksum == whole.checksum
    assert facts.rule == whole.preprocess
    assert facts.threshold == USUAL_LIMIT
    assert facts.cues == whole.cue_names
    assert (facts.layout, facts.pixels, facts.training_images) == ("NHWC", "uint8", 120)


def nothing_else(site: Path) -> Path:
    """Make a folder of libraries that has AnoWild, NumPy, Pillow and ONNX Runtime alone."""
    site.mkdir()
    for module in (np, Image, onnxruntime, anowild_package):
        assert module.__file__ is not None
        package = Path(module.__file__).parent
        for path in {
            package,
            *package.parent.glob(f"{package.name.lower().replace('pil', 'pillow')}.libs"),
        }:
            (site / path.name).symlink_to(path)
    return site


def test_command_scores_where_nothing_else_is_installed(
    whole: Detector, onnx_file: Path, tmp_path: Path, digits: Array, anowild: Run
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for i, digit in enumerate(digits[:12]):
        Image.fromarray(digit).save(folder / f"{i}.png")
    (folder / "broken.png").write_bytes(b"no image")
    script = textwrap.dedent(f"""
        import sys
        sys.path.insert(0, {str(nothing_else(tmp_path / "site"))!r})
        sys.argv = ["anowild", "score", {str(onnx_file)!r}, {str(folder)!r}, "-o", {str(tmp_path / "a.csv")!r}]
        from anowild.__main__ import main
        main()
    """)
    command = [sys.executable, "-I", "-S", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"left out {folder / 'broken.png'}: " in done.stderr
    assert "12 images, 1 left out" in done.stdout
    command[-1] = script.replace('"score"', '"train"')
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert refused.stderr.endswith(
        "only `anowild score MODEL.onnx IMAGES` works: pip install anowild\n"
    )
    assert whole.folder is not None
    assert anowild("score", whole.folder, folder, "-o", tmp_path / "b.csv")[0] == 0
    found, wanted = (
        {row["path"]: row for row in csv.DictReader((tmp_path / name).open(newline=""))}
        for name in ("a.csv", "b.csv")
    )
    assert found.keys() == wanted.keys()
    for path, row in found.items():
        for column in row.keys() - {"path", "odd"}:
            # A view's score near 0 changes by several times the float32 rounding of its cues.
            atol = 1e-5 if column.startswith("view_") else 1e-6
            assert np.isclose(float(row[column]), float(wanted[path][column]), rtol=1e-4, atol=atol)
    # In this process as well, and as JSON.
    code, out, _ = anowild("score", onnx_file, folder, "--json", "--threshold", "0.5")
    assert code == 0
    lines = [json.loads(line) for line in out.splitlines()]
    assert [one["path"] for one in lines] == sorted(found, key=lambda p: int(found[p]["rank"]))
    assert all(one["odd"] == (one["score"] >= 0.5) for one in lines)


def test_unusable_images_are_named(onnx_file: Path) -> None:
    model = PortableModel(onnx_file, threads=1)
    unusable: list[tuple[Array, str]] = [
        (np.zeros((3, 9, 1), np.uint8), "too few"),
        (np.zeros((9, 9, 2), np.uint8), "2 channels"),
        (np.zeros((9, 9, 1), np.uint16), "--pixels uint16"),
        (np.full((9, 9, 1), np.nan, np.float32), "NaN"),
    ]
    for pixels, reason in unusable:
        with pytest.raises(ValueError, match=reason):
            model.usable(pixels)


@pytest.mark.parametrize("wanted", ["uint8", "uint16", "float32"])
def test_black_and_white_are_values_of_any_type(onnx_file: Path, wanted: str) -> None:
    """What the graph gets has the values that `Preprocess` gets."""
    model = PortableModel(onnx_file, threads=1)
    model._rule = replace(model._rule, black=0.0, white=4095.0)
    model.facts = replace(model.facts, pixels=wanted)
    for kind in (np.bool_, np.uint8, np.uint16, np.float32):
        pixels = (np.arange(81) % 2).reshape(9, 9, 1).astype(kind)
        if np.can_cast(kind, wanted) or wanted == "float32":
            found = model.usable(pixels)
            assert found.dtype == wanted
            assert np.array_equal(found, pixels)
        else:
            with pytest.raises(ValueError, match="its values are of type"):
                model.usable(pixels)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"pixels": "qint8"}, "metadata.pixels is 'qint8'"),
        ({"views": ["pixels"]}, "it names 1 views, and has 5"),
        ({"format": 99}, "later version"),
    ],
)
def test_damaged_facts_are_told(
    onnx_file: Path, tmp_path: Path, change: dict[str, object], sentence: str, anowild: Run
) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load(onnx_file)
    (entry,) = (one for one in model.metadata_props if one.key == METADATA)
    entry.value = json.dumps(json.loads(entry.value) | change)
    damaged = tmp_path / "damaged.onnx"
    onnx.save(model, damaged)
    code, _, err = anowild("score", damaged, tmp_path)
    assert (code, sentence in " ".join(err.split())) == (1, True), err


def test_openvino_files_belong_together_whenever_it_is_killed(
    whole: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Openvino itself is stood in for: it writes two files."""
    out = tmp_path / "model.xml"
    out.write_text("of another model")
    out.with_suffix(".bin").write_bytes(b"of another model")

    class OpenVino:
        @staticmethod
        def convert_model(path: Path) -> Any:
            return SimpleNamespace(set_rt_info=lambda *_: None)

        @staticmethod
        def save_model(model: Any, path: Path, compress_to_fp16: bool) -> None:
            path.write_text("new")
            path.with_suffix(".bin").write_bytes(b"new")

    monkeypatch.setattr("anowild.exporting.formats.require", lambda *_: OpenVino)
    monkeypatch.setattr("anowild.exporting.formats._write_onnx", lambda *_: None)
    replace_file = Path.replace

    def killed(source: Path, target: Path) -> Path:
        if target == out:
            raise KeyboardInterrupt
        return replace_file(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            formats._write_openvino(None, facts_of(whole), out)  # type: ignore[arg-type]
    assert not out.exists()
    formats._write_openvino(None, facts_of(whole), out)  # type: ignore[arg-type]
    assert {path.name for path in tmp_path.iterdir()} == {"model.xml", "model.bin"}
    assert (out.read_text(), out.with_suffix(".bin").read_bytes()) == ("new", b"new")


def test_a_detector_whose_folder_is_gone_is_exported(
    whole: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whole, "folder", tmp_path / "gone")
    assert facts_of(whole).threshold == USUAL_LIMIT


def test_mistakes_are_sentences(
    whole: Detector,
    onnx_file: Path,
    tmp_path: Path,
    anowild: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(UserError, match="no format 'tflite'"):
        export(whole, tmp_path / "m.onnx", "tflite")
    with pytest.raises(UserError, match=r"is written as \.xml"):
        export(whole, tmp_path / "m.onnx", "openvino")
    with pytest.raises(UserError, match="no pixels of type 'int8'"):
        export(whole, tmp_path / "m.onnx", pixels="int8")
    with pytest.raises(UserError, match="npm install onnxruntime-web"):
        export(whole, tmp_path / "m.html", "page", runtime=tmp_path)
    for name in ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"):
        (tmp_path / name).touch()
    with pytest.raises(UserError, match="takes uint16"):
        export(whole, tmp_path / "m.html", "page", "uint16", runtime=tmp_path)
    assert whole.folder is not None
    low = Detector.load(whole.folder, "cpu", precision="bfloat16")
    with pytest.raises(UserError, match="load it in float32 to export it"):
        export(low, tmp_path / "m.onnx")
    code, _, err = anowild("score", "-o", tmp_path / "x.csv", onnx_file, tmp_path)
    assert (code, "is an exported model, which `anowild score" in " ".join(err.split())) == (
        1,
        True,
    )
    code, _, err = anowild("score", onnx_file, tmp_path, "--threshold", "saved")
    assert (code, "'saved' is no finite number" in err) == (2, True)
    for view in whole.views:
        if isinstance(view, PretrainedView):
            monkeypatch.setattr(view.extractor, "in_pytorch", False)
    with pytest.raises(UserError, match="train with --features efficientnet-lite0"):
        export(whole, tmp_path / "m.onnx")
    tiles = replace(whole.preprocess, tiles=8)
    monkeypatch.setattr(whole, "preprocess", tiles)
    with pytest.raises(UserError, match="looks at tiles"):
        export(whole, tmp_path / "m.onnx")
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(onnx_file.read_bytes()[:5000])
    other = tmp_path / "other.onnx"
    onnx = pytest.importorskip("onnx")
    x, y = (onnx.helper.make_tensor_value_info(name, 1, [1]) for name in "xy")
    graph = onnx.helper.make_graph([onnx.helper.make_node("Neg", ["x"], ["y"])], "g", [x], [y])
    opset = [onnx.helper.make_opsetid("", 18)]
    onnx.save(onnx.helper.make_model(graph, ir_version=9, opset_imports=opset), other)
    for path, said in [
        (damaged, "export it again"),
        (other, "not of AnoWild"),
        (tmp_path / "x.onnx", "no such"),
    ]:
        code, _, err = anowild("score", path, tmp_path)
        assert code == 1
        assert said in err
        assert len(err.splitlines()) == 1
    for wrong in (["--show", "-1"], ["--threshold", "nan"], ["--threads", "x"]):
        code, _, err = anowild("score", onnx_file, tmp_path, *wrong)
        assert code == 2
        assert err.splitlines()[-1].startswith("anowild score: error: ")
    code, _, err = anowild("score", onnx_file, tmp_path, "-o", tmp_path / "scores.parquet")
    assert (code, "written as .csv" in err) == (1, True)
    assert list(tmp_path.glob("m.*")) == []


@pytest.mark.slow
def test_exported_program_of_pytorch_scores_alike(
    whole: Detector, pictures: list[Array], tmp_path: Path
) -> None:
    path = tmp_path / "model.pt2"
    facts = export(whole, path, "torch")
    extra = {METADATA: ""}
    program = torch.export.load(path, extra_files=extra).module()
    assert Facts.from_text(extra[METADATA]) == facts
    with torch.no_grad():
        found = [program(torch.from_numpy(pixels[None])) for pixels in pictures]
    joined = {
        name: np.concatenate([getattr(one, name).numpy() for one in found])
        for name in Outputs._fields
    }
    check(whole, pictures, joined)
