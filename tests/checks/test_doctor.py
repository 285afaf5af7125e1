"""`flashbench doctor`: what it says of a machine, and when it fails."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from support.registry_entry import entry, wheel_source

from flashbench import metrics
from flashbench.assets import registry as assets
from flashbench.checks import doctor, readiness
from flashbench.errors import CheckFailed, IntegrityError
from flashbench.metrics import base, calibration, requirements
from flashbench.metrics.calibration import Check
from flashbench.metrics.requirements import conflict
from flashbench.metrics.vbench import environment
from flashbench.vbench.dimensions import DIMENSIONS

Say = Callable[..., str]


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASHBENCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    """What doctor prints."""

    def said(**options: Any) -> str:
        doctor.doctor(**options)
        return capsys.readouterr().out

    return said


def packages(monkeypatch: pytest.MonkeyPatch, versions: Mapping[str, str]) -> None:
    """Pretend that distributions are installed in other versions."""
    from flashbench.keys import package_version

    def pretended(name: str) -> str:
        return versions.get(name) or package_version(name)

    for module in (requirements, readiness, doctor.keys):
        monkeypatch.setattr(module, "package_version", pretended)


def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listed: Mapping[str, Any]) -> None:
    (file := tmp_path / "registry.yaml").write_text(yaml.safe_dump({"version": 1, "assets": dict(listed)}), "utf-8")
    monkeypatch.setenv("FLASHBENCH_ASSETS", str(file))
    assets._read.cache_clear()


def abilities(*names: str) -> list[tuple[str, str]]:
    return list(readiness.abilities([metrics.get(name) for name in names]))


def test_every_metric_and_dimension_is_in_one_state(say: Say) -> None:
    sections = {section.title: section for section in doctor.examine()}
    text = {title: "\n".join(" ".join(line) for line in section.lines) for title, section in sections.items()}
    stated = [(state, words.partition(":")[0] if state == "not ready" else words)
              for state, words in sections["metrics"].lines if "ready" in state]  # fmt: skip
    named = [name for _, words in stated for name in words.split(", ")]
    assert sorted(named) == list(metrics.names())
    dimensions = [words.rpartition(": ")[2].split(", ") for state, words in sections["VBench's dimensions"].lines[:3]]
    assert sorted(sum(dimensions, [])) == sorted(DIMENSIONS)
    assert "flashbench assets pull vbench (needs 12 GB of disk)" in text["VBench's dimensions"]
    assert "pyiqa, the weights that come through it and DOVER's are for non-commercial use only" in text["licences"]
    assert "S-Lab License 1.0: dover_aesthetic" in text["licences"]
    assert "uncalibrated dists, lpips, musiq, musiq_spaq" in text["metrics with weights"]
    assert not any(section.failures for section in sections.values())
    # Nothing was made: neither store nor cache.
    assert not Path(os.environ["FLASHBENCH_STORE"]).exists() and not assets.cache_root().exists()
    printed = say()
    assert all(title in printed for title in sections)


def test_a_terminal_of_80_columns_is_not_overrun(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(sys, "stdout", terminal := Terminal())
    for section in doctor.examine():
        doctor.show(section)
    lines = terminal.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    words = " ".join(terminal.getvalue().split())
    assert "flashbench assets pull dists vgg16" in words
    assert "ready with reference" in words


def test_what_is_absent_is_named_with_size_licence_and_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state, words = abilities("dists")[0]
    assert state == "not ready" and words.startswith("dists: needs dists (12,288 bytes, CC-BY-NC-SA-4.0")
    assert ", non-commercial); vgg16 (553.4 MB" in words
    assert words.endswith("\nflashbench assets pull dists vgg16")
    _, words = abilities("maniqa")[0]
    assert "vit-base-patch8 (size unknown, " in words, "nobody has told"
    assert words.endswith("\nflashbench assets pull maniqa-koniq vit-base-patch8 --trust-first-use")
    # A registry that knows one hash and size, and lacks the other file.
    registry(tmp_path, monkeypatch, {"dists": entry(b"x" * 2_000_000, wheel_source("dists.pth"))})
    words = abilities("dists")[0][1]
    assert "dists (2.0 MB, CC0-1.0); vgg16 (not in this registry)" in words and "--trust" not in words
    assert abilities("dists")[1] == (
        "all of them", "2.0 MB and 1 files of unknown size\nflashbench assets pull dists vgg16"
    )  # fmt: skip


def test_absent_packages_are_named_with_their_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    packages(monkeypatch, dict.fromkeys(("torch", "torchvision", "pyiqa", "timm", "diffusers", "dvc"), "absent"))
    words = abilities("musiq")[0][1]
    assert "\nand pyiqa, timm, torch, torchvision: pip install 'flashbench[iqa]'\n" in words
    lines = dict(line[::-1] for line in doctor._versions())
    assert lines["torchvision, pyiqa, timm\npip install 'flashbench[iqa]'"] == "absent"
    assert lines["torch, diffusers\npip install 'flashbench[cascade]'"] == "absent"
    assert lines["dvc\npip install 'flashbench[repro]'"] == "absent"
    assert dict(doctor._devices())["GPU"] == "not known without torch: pip install 'flashbench[cascade]'"


def test_torch_is_not_imported_where_it_is_absent() -> None:
    program = (
        "import sys; from flashbench import keys; from flashbench.checks import doctor; real = keys.package_version\n"
        "keys.package_version = lambda name: 'absent' if name == 'torch' else real(name)\n"
        "list(doctor._devices()); list(doctor._versions()); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("False\n", 0), done.stderr


@pytest.mark.parametrize(
    ("versions", "metric", "said"),
    [
        ({"setuptools": "82.0.1", "openai-clip": "1.0.1"}, "clipiqa", "pip install 'setuptools<82'"),
        ({"setuptools": "absent", "openai-clip": "1.0.1"}, "clipiqa", "setuptools absent"),
        ({"setuptools": "82.0.1", "openai-clip": "1.0.1"}, "musiq", ""),
        ({"setuptools": "82.0.1", "openai-clip": "absent"}, "clipiqa", ""),
        ({"setuptools": "81.0.0", "openai-clip": "1.0.1"}, "clipiqa", ""),
        ({"pyiqa": "0.1.17"}, "musiq", "declared for 0.1.16, not 0.1.17: pip install pyiqa==0.1.16"),
        ({"pyiqa": "absent"}, "musiq", ""),
        ({"pyiqa": "0.1.17"}, "dover_overall", ""),
    ],
)
def test_packages_that_do_not_go_together_are_told(
    versions: Mapping[str, str], metric: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages(monkeypatch, versions)
    needs = metrics.get(metric)
    found = conflict(needs.assets, needs.preprocessing.get("pyiqa"))
    assert said in found and bool(said) == bool(found)
    lines = list(doctor._conflicts([metrics.get(metric)]))
    assert lines == ([("conflict", f"{found}\ncannot run: {metric}")] if said else [])


def test_a_metric_with_its_weights_and_a_conflict_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assets, "present", lambda name: True)
    assert abilities("musiq", "psnr") == [("ready", "musiq"), ("ready with reference", "psnr")]
    packages(monkeypatch, {"pyiqa": "0.1.17"})
    (_, psnr), (state, words) = abilities("musiq", "psnr")
    assert (psnr, state) == ("psnr", "not ready") and words.startswith("musiq: metrics through pyiqa are declared for")


def test_vbench_is_ready_once_its_environment_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "python", lambda: Path("python"))
    lines = list(readiness.dimensions())
    assert [state for state, _ in lines] == ["ready"] * 3 and lines[1][1].startswith("with prompt: human_action")


def test_gpus_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    about = SimpleNamespace(name="A card", total_memory=80 * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: about)
    assert list(doctor._devices())[1:] == [("GPU 0", "A card, 80.0 GiB of memory")]


def test_folders_are_measured(tmp_path: Path) -> None:
    (deep := tmp_path / "cache" / "assets").mkdir(parents=True)
    (deep / "file").write_bytes(b"x" * 20_000_000)
    lines = dict(doctor._folders())
    assert lines["cache"].startswith(f"{tmp_path / 'cache'}\n0.02 GB held, ") and lines["cache"].endswith(" writable")
    assert "0.00 GB held" in lines["store"]


# --- failures ---------------------------------------------------------------------------------------------------


def test_a_damaged_metric_fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from flashbench.metrics import fidelity

    genuine = fidelity.ssim
    monkeypatch.setattr(fidelity, "ssim", lambda a, b: genuine(a, b) * 1.00001)
    with pytest.raises(CheckFailed, match="not what they should be: 1") as caught:
        doctor.doctor()
    assert caught.value.code == 1
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "differs" in line]
    assert "ssim on the synthetic clip: 0.9705591" in line and "expected 0.9705494" in line


def test_damaged_parameters_fail_and_the_rest_is_scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry(tmp_path, monkeypatch, {"niqe-pristine": entry(b"what it was", wheel_source("niqe.npz"))})
    file = assets.get("niqe-pristine").file
    file.parent.mkdir(parents=True)
    file.write_bytes(b"what it is.")
    section = doctor._synthetic([metrics.get(name) for name in ("niqe", "psnr", "niqe_pooled")])
    assert section.failures == 1 and section.lines[0][1].startswith("psnr (")
    assert section.lines[1] == ("differs", "niqe-pristine is damaged: flashbench assets pull niqe-pristine")


def test_calibration_without_images_or_weights_is_no_error(say: Say) -> None:
    printed = say(calibrate=True)
    lines = [line.strip() for line in printed.partition("calibration images")[2].splitlines()]
    assert "not scored            musiq: musiq-koniq not present: flashbench assets pull musiq-koniq" in lines
    assert "not scored            psnr: 10 calibration images are not here" in lines
    assert any(line.startswith("to fetch") and "calibration/I03-reference" in line for line in lines)
    assert any(line.startswith("uncalibrated") and line.endswith("(no published calibration)") for line in lines)
    assert not assets.cache_root().exists()


@pytest.mark.parametrize("outcome", ["right", "wrong", "damaged"])
def test_calibration_ends_in_its_exit_code(
    outcome: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With networks: test_calibration.py."""

    def scored(metric: base.Metric) -> Sequence[Check]:
        if outcome == "damaged":
            raise IntegrityError("asset musiq-koniq is damaged")
        right = Check(metric.name, "I03", 1.0, 1.0, 0.1)
        return [right, replace(right, on="I04", found=1.2 if outcome == "wrong" else 1.05)]

    monkeypatch.setattr(calibration, "calibrate", scored)
    monkeypatch.setattr(base.Metric, "unavailable", property(lambda self: "" if self.name == "musiq" else "not now"))
    monkeypatch.setattr(requirements, "absent", lambda names: ())
    monkeypatch.setattr(readiness, "absent", lambda names: ())
    if outcome == "right":
        doctor.doctor(calibrate=True)
        said = "ok                    musiq: scores as published"
    else:
        with pytest.raises(CheckFailed, match="not what they should be: 1"):
            doctor.doctor(calibrate=True)
        damaged = "musiq: asset musiq-koniq is damaged"
        said = "differs               " + (damaged if outcome == "damaged" else "musiq on I04: 1.2, expected 1 ± 0.1")
    assert said in capsys.readouterr().out
