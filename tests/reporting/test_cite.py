"""Citations: every metric has one, entries are whole, and a run's paragraph says what the run's files say."""

from __future__ import annotations

import json
import math
import re
import sys
from pathlib import Path
from types import BuiltinFunctionType
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from safetensors import safe_open
from support.fake_scores import frame, line

from flashbench import keys, methods, metrics, systems
from flashbench.data import scenes
from flashbench.errors import InvalidError
from flashbench.metrics import calibration, niqe
from flashbench.protocol.compose import load_protocol
from flashbench.reporting.bibliography import CITATIONS, bibtex, source
from flashbench.reporting.cite import cite
from flashbench.scores.table import to_parquet
from flashbench.types import Clip

ROOT = Path(__file__).parents[2]
DATA = yaml.safe_load(CITATIONS.read_text("utf-8"))
ENTRIES = DATA["entries"]


@pytest.mark.parametrize("name", metrics.names())
def test_every_metric_has_a_citation_or_says_that_it_has_none(name: str) -> None:
    found = source(name)
    assert found is not None, (
        f"add {name} to reporting/citations.yaml, as its neighbours stand there; `none` says that it is our own"
    )
    assert found.cite or found.none
    assert all(key in ENTRIES for key in found.cite)


def test_the_longest_beginning_counts() -> None:
    for name, key in {
        "ms_ssim_y": "wang2003msssim", "ssim_y": "wang2004ssim", "sharpness_drift": "zhang2025framepack",
        "dover_aesthetic_raw": "wu2023dover", "pyiqa:topiq_nr": "chen2022pyiqa", "vbench_scene": "huang2024vbench",
    }.items():  # fmt: skip
        found = source(name)
        assert found is not None
        assert found.cite[0] == key
    assert source("ssimulacra") is None
    sharpness = source("sharpness")
    assert sharpness is not None
    assert sharpness.cite == ()


def test_every_learned_metric_cites_its_network_and_pyiqa_where_it_runs_through_it() -> None:
    for name in metrics.names():
        metric, found = metrics.get(name), source(name)
        assert found is not None
        if metric.assets:
            assert found.cite, f"{name} has weights and no citation"
        if "pyiqa" in metric.preprocessing:
            assert "chen2022pyiqa" in found.cite


@pytest.mark.parametrize("key", ENTRIES)
def test_entries_are_whole(key: str) -> None:
    entry = ENTRIES[key]
    needed = {"article": {"journal", "year"}, "inproceedings": {"booktitle", "year"}, "misc": set()}[entry["type"]]
    assert {"type", "author", "title", *needed} <= set(entry)
    written = bibtex([key], version="1.2.3")
    assert written.count("{") == written.count("}")
    assert "VERSION" not in written
    if "year" in entry:
        assert str(entry["year"]) in key
    people = entry["author"].split(" and ")
    assert len(set(people)) == len(people)
    assert key == "flashbench" or all(person.count(",") == 1 for person in people)


def test_every_entry_is_used_and_every_key_is_known() -> None:
    used = {key for entry in DATA["metrics"].values() for key in entry.get("cite", ())}
    used |= {*DATA["always"], *(key for keys in DATA["systems"].values() for key in keys)}
    used |= {key for method in methods.METHODS for key in method.cite}
    assert used == set(ENTRIES)
    assert set(DATA["systems"]) <= set(systems.names())


def test_our_own_entry_is_that_of_citation_cff() -> None:
    cff = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    own = ENTRIES["flashbench"]
    assert own["title"].replace("{", "").replace("}", "") == cff["title"]
    assert own["author"].strip("{}") == cff["authors"][0]["name"]
    paper, flashvideo = cff["references"][0], ENTRIES["zhang2025flashvideo"]
    assert flashvideo["title"].replace("{", "").replace("}", "") == paper["title"]
    assert flashvideo["year"] == paper["year"]
    assert paper["identifiers"][0]["value"] in flashvideo["journal"]


def video(case: str, **more: Any) -> dict[str, Any]:
    file = {"codec": "h264", "pixel_format": "yuv420p", "container": "mov,mp4", "matrix": "bt709"}
    filled = {"case": case, "file": case, "sha256": "s", "source": file, "clip": "c", "frames": 49, "height": 1080}
    return {**filled, "width": 1920, "fps": "24000/1001", "prompt": None, "seed": 0, "reason": "", **more}


def written(folder: Path, **more: Any) -> Path:
    used = {
        "niqe": {"identity": {"version": 3}, "assets": {"niqe-pristine": "0123456789abcdef" * 4}, "obstacle": ""},
        "niqe_pooled": {"identity": {"version": 1}, "assets": {}, "obstacle": ""},
        "musiq": {"identity": {"version": 1}, "assets": {}, "obstacle": "musiq-koniq not present"},
    }
    record = {
        "schema": 1, "protocol": "adhoc/custom", "protocol_hash": "feedc0ffee" * 6, "numerics": {},
        "settings": {"frames": "all", "size": "native"}, "metrics": used,
        "versions": {"flashbench": "9.8.7", "numpy": "1.2"}, "videos": [video("a.mp4"), video("b.mp4"), video("c.mp4")],
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps({**record, **more}))
    return folder


def test_the_paragraph_says_what_the_run_says(tmp_path: Path) -> None:
    found = cite(written(tmp_path))
    assert found.paragraph == (
        "Scores were computed with FlashBench 9.8.7 under the protocol adhoc/custom (hash feedc0ffeefe). 3 videos were "
        "scored: 49 frames each, 1080×1920 pixels (height×width), 23.976 frames per second; codec and pixel format "
        "h264/yuv420p, container mov,mp4, colour matrix bt709 (untagged video is read as BT.601). All frames were "
        "used, at their native size. Metrics: NIQE (`niqe`; version 3; sha256 of weights or parameters: niqe-pristine "
        "0123456789ab); NIQE of one Gaussian over all clips (`niqe_pooled`; version 1). Libraries: NumPy 1.2. "
        "Intervals are 95 % over 3 clusters (unit: video): Student's t on the means of clusters (niqe); the "
        "delete-one-cluster jackknife with Student's t, with and without Hall's correction for skewness (niqe_pooled)."
    )
    assert found.entries == ("flashbench", "mittal2013niqe", "efron1981jackknife", "hall1992")
    assert found.remarks == ("Not measured: musiq (musiq-koniq not present).",)
    assert "version 9.8.7" in found.bibtex
    assert f"Protocol: adhoc/custom, hash {'feedc0ffee' * 6}" in found.text
    assert re.findall(r"@\w+\{(\w+),", found.text) == list(found.entries)


def test_variety_is_counted_and_unreadable_files_are_told(tmp_path: Path) -> None:
    lost = {"case": "d.mp4", "file": "d.mp4", "prompt": None, "seed": 0, "reason": "cannot be read"}
    videos = [video("a.mp4", prompt="cat"), video("b.mp4", prompt="cat", seed=1), video("c.mp4", prompt="dog"), lost]
    videos[0]["source"] = {**videos[0]["source"], "fps": "24000/1001"}
    videos[0]["fps"] = "8/1"  # of the frames that were chosen
    videos[2] |= {"height": 720, "width": 1280, "fps": "8/1"}
    found = cite(written(tmp_path, videos=videos, settings={"frames": 16, "size": "256x480"}))
    assert "1080×1920 (2), 720×1280 (1) pixels" in found.paragraph
    assert "23.976 (2), 8 (1) frames per second" in found.paragraph
    assert "1 further file could not be read and is left out." in found.paragraph
    assert "The middles of 16 equal parts were used as frames, resized to 256×480 pixels." in found.paragraph
    assert "They answer 2 prompts, with up to 2 samples each." in found.paragraph
    assert "With fewer than 3 clusters (unit: prompt), no interval is given." in found.paragraph
    assert "Intervals are" not in found.paragraph and "efron1981jackknife" not in found.entries
    assert any("Which suite" in remark for remark in found.remarks)


def test_metrics_without_a_value_are_not_said_to_be_measured(tmp_path: Path) -> None:
    lines = [line("r", case, "niqe", math.nan, reason="too small") for case in ("a.mp4", "b.mp4")]
    lines += [line("r", case, "niqe_pooled", 4.0) for case in ("a.mp4", "b.mp4")]
    (tmp_path / "scores.parquet").write_bytes(to_parquet(frame(lines), "feedc0ffee" * 6))
    found = cite(written(tmp_path) / "run.json")
    assert "`niqe`" not in found.paragraph
    assert "Not measured: niqe (too small)." in found.remarks


def test_references_are_named(tmp_path: Path) -> None:
    metrics = {"psnr": {"identity": {"version": 1}, "assets": {}}}
    beside = {"file": "r/a.mp4", "clip": "d"}
    found = cite(written(tmp_path, metrics=metrics, videos=[video("a.mp4", reference=beside), video("b.mp4")]))
    assert "For psnr they were compared with references of the same names (1 of 2 have one)." in found.paragraph


def test_the_files_of_two_runs_are_refused(tmp_path: Path) -> None:
    (tmp_path / "scores.parquet").write_bytes(to_parquet(frame([line("r", "a", "niqe", 4.0)]), "other"))
    with pytest.raises(InvalidError, match=r"run.json and scores.parquet are of two runs"):
        cite(written(tmp_path))


@pytest.mark.parametrize(
    "wrong",
    [
        {"metrics": {"x": 3}},
        {"metrics": {"x": {"identity": 3}}},
        {"metrics": {"x": {"identity": {"preprocessing": 3}}}},
        {"videos": [3]},
        {"videos": [{"clip": "c"}]},
        {"videos": [{"case": "a", "clip": "c", "frames": 1, "width": 2, "fps": "8/1"}]},
        {"videos": [{"case": "a", "reference": "r"}]},
    ],
)
def test_records_of_another_form_are_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidError, match="is of another form"):
        cite(written(tmp_path, **wrong))


def test_a_metric_of_somebody_else_is_said_to_have_no_citation(tmp_path: Path) -> None:
    found = cite(written(tmp_path, metrics={"theirs": {"identity": {"version": 1}, "assets": {}}}))
    assert "No citation is known for theirs: cite it as its package says." in found.remarks
    assert "theirs (`theirs`; version 1)" in found.paragraph


def results(folder: Path, digest: str) -> Path:
    (folder := folder / "smoke" / "nfe").mkdir(parents=True)
    cases = [f"synthetic-{i}/0" for i in range(3)]
    lines = [line("nfe=4", case, name, 30.0) for case in cases for name in ("psnr", "niqe_pooled")]
    (folder / "scores.parquet").write_bytes(to_parquet(frame(lines), digest))
    return folder


def test_a_protocols_results_are_cited_with_their_systems(tmp_path: Path) -> None:
    protocol = load_protocol("nfe", tier="smoke")
    found = cite(results(tmp_path, protocol.hash))
    assert (found.protocol, found.protocol_hash) == ("nfe", protocol.hash)
    assert f"at the smoke tier (hash {protocol.hash[:12]})." in found.paragraph
    assert f"Clips have {protocol.geometry.frames} frames of " in found.paragraph
    assert "Systems: flashvideo" in found.paragraph
    assert found.entries == ("flashbench", "zhang2025flashvideo", "mittal2013niqe", "efron1981jackknife", "hall1992")


def test_results_of_another_form_of_the_protocol_say_so(tmp_path: Path) -> None:
    found = cite(results(tmp_path, "0" * 64))
    assert "Systems:" not in found.paragraph
    assert any("is not the one of these results: its hash here is " in remark for remark in found.remarks)
    assert "psnr: the textbook's 10 log10(255² / mean squared error)." in found.remarks


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidError, match=r"has neither run.json nor scores.parquet nor compare.json"):
        cite(tmp_path)


VERSIONS = {
    "flashbench": "9.8.7", "python": "3.11", "opencv": "5.1", "numpy": "1.2", "scipy": "1.3", "av": "14",
    "torch": "2.9", "torchvision": "0.2", "timm": "1.0", "pyiqa": "0.1.16", "vbench": "absent", "pandas": "3.0",
}  # fmt: skip
"""Of a machine that has everything."""


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["warping_error"], "PyAV 14, NumPy 1.2, OpenCV 5.1"),
        (["psnr", "temporal_error"], "PyAV 14, NumPy 1.2"),
        (["niqe"], "PyAV 14, NumPy 1.2, SciPy 1.3, OpenCV 5.1"),
        (["spectral_slope", "psnr"], "PyAV 14, NumPy 1.2, SciPy 1.3"),
        (["dover_overall"], "PyAV 14, NumPy 1.2, PyTorch 2.9"),
        (["lpips", "ssim"], "PyAV 14, NumPy 1.2, OpenCV 5.1, PyTorch 2.9, pyiqa 0.1.16, timm 1.0, torchvision 0.2"),
        (["theirs"], "PyAV 14, NumPy 1.2"),
    ],
)
def test_the_libraries_are_those_that_took_part(names: list[str], said: str, tmp_path: Path) -> None:
    used = {name: {"identity": {"version": 1}, "assets": {}, "obstacle": ""} for name in names}
    used["musiq"] = {"identity": {"version": 1}, "assets": {}, "obstacle": "musiq-koniq not present"}
    found = cite(written(tmp_path, metrics=used, versions=VERSIONS))
    assert f" Libraries: {said}." in found.paragraph


def test_libraries_that_read_the_frames_took_part(tmp_path: Path) -> None:
    used = {"psnr": {"identity": {"version": 1}, "assets": {}}}
    small = {"frames": "all", "size": "96x96"}
    assert (
        "PyAV 14, NumPy 1.2, OpenCV 5.1."
        in cite(written(tmp_path, metrics=used, versions=VERSIONS, settings=small)).paragraph
    )
    folder = video("a", source={"container": "folder", "codec": "png"})
    alone = cite(written(tmp_path, metrics=used, versions=VERSIONS, videos=[folder]))
    assert "Libraries: NumPy 1.2, OpenCV 5.1." in alone.paragraph
    both = cite(written(tmp_path, metrics=used, versions=VERSIONS, videos=[folder, video("b.mp4")]))
    assert "Libraries: PyAV 14, NumPy 1.2, OpenCV 5.1." in both.paragraph


def test_libraries_that_are_not_here_did_not_take_part(tmp_path: Path) -> None:
    used = {"lpips": {"identity": {"version": 1}, "assets": {}}}
    found = cite(written(tmp_path, metrics=used, versions={**VERSIONS, "timm": "absent"}))
    assert "absent" not in found.paragraph and "timm" not in found.paragraph


def test_vbenchs_own_environment_is_named(tmp_path: Path) -> None:
    identity = {"version": 1, "preprocessing": {"vbench": "0.1.5", "torch": "2.1.0"}}
    found = cite(written(tmp_path, metrics={"vbench:scene": {"identity": identity, "assets": {}}}, versions=VERSIONS))
    assert "vbench 0.1.5 with torch 2.1.0, in an environment of its own" in found.paragraph
    assert "PyTorch" not in found.paragraph


def test_a_protocols_libraries_are_this_installations(tmp_path: Path) -> None:
    found = cite(results(tmp_path, "x" * 64))
    for name, said in (("av", "PyAV"), ("numpy", "NumPy"), ("scipy", "SciPy")):
        assert f"{said} {keys.package_version(name)}" in found.paragraph
    assert f"OpenCV {cv2.__version__}" in found.paragraph and "PyTorch" not in found.paragraph


WITHOUT_NETWORK = [name for name in metrics.names() if not (metrics.get(name).libraries or metrics.get(name).computed)]


@pytest.mark.parametrize("name", WITHOUT_NETWORK)
def test_opencv_is_named_where_it_computes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every call of a function of cv2 while the metric scores a clip of one of the laptop's scenes."""
    with safe_open(ROOT / "tests" / "golden" / "niqe.safetensors", "np") as file:
        parameters = file.get_tensor("params.mu_prisparam"), file.get_tensor("params.cov_prisparam")
    monkeypatch.setattr(niqe, "pristine", lambda: parameters)
    ours = {id(thing) for thing in vars(cv2).values() if isinstance(thing, BuiltinFunctionType)}
    seen: list[str] = []

    def watch(frame: Any, event: str, called: Any) -> None:
        if event == "c_call" and id(called) in ours:
            seen.append(called.__name__)

    clip, reference = calibration.clips()
    small = [Clip(np.ascontiguousarray(x.frames[:2, :200, :200]), x.fps) for x in (clip, reference)]
    sys.setprofile(watch)
    try:
        measured = metrics.get(name).measure(*small, prompt=scenes.caption(scenes.SCENES[0], 0))
    finally:
        sys.setprofile(None)
    found = source(name)
    assert found is not None
    assert ("opencv" in found.by) == bool(seen), (seen, measured.reason)


def test_scipy_is_named_where_it_computes() -> None:
    """In modules that import it, by some of their metrics; in others by none."""
    by_module: dict[str, list[bool]] = {}
    for name in WITHOUT_NETWORK:
        found = source(name)
        assert found is not None
        by_module.setdefault(type(metrics.get(name)).__module__, []).append("scipy" in found.by)
    for module, named in by_module.items():
        imported = re.search(r"^(from|import) scipy", Path(str(sys.modules[module].__file__)).read_text("utf-8"), re.M)
        assert any(named) == bool(imported), module
