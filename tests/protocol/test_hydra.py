"""Beside Hydra: protocols compose as Hydra would, and a host's own Hydra is neither asked nor changed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from omegaconf import OmegaConf
from support import scratch_protocols, smoke
from support.made_results import made_scores, write_results

import flashbench
from flashbench.errors import UsageError
from flashbench.paths import protocol_root
from flashbench.protocol import compose


def by_hydra(root: Path, name: str, tier: str) -> dict[str, Any]:
    """The same by Hydra itself: an independent reference."""
    with initialize_config_dir(config_dir=str(root.absolute()), version_base="1.3"):
        config = hydra_compose(name, overrides=[f"tier={tier}"])
    OmegaConf.set_struct(config, False)
    block = (config.pop("tiers", None) or {}).get(tier)
    plain = OmegaConf.to_container(OmegaConf.merge(config, block or {}), resolve=True)
    assert isinstance(plain, dict)
    return {str(name): value for name, value in plain.items()}


@pytest.mark.parametrize("name", compose.names())
def test_it_is_what_hydra_composes(name: str) -> None:
    for tier in compose.tiers():
        ours = compose._compose(name, tier, ())
        assert ours == by_hydra(protocol_root(), name, tier)


@pytest.mark.filterwarnings("ignore:In 'mine'. Defaults list is missing `_self_`")
def test_files_beside_folders_and_packages_as_hydra_reads_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASHBENCH_PROTOCOLS", str(tmp_path))

    def write(name: str, text: str) -> None:
        (path := tmp_path / f"{name}.yaml").parent.mkdir(exist_ok=True)
        path.write_text(text)

    write(
        "base",
        "defaults: [low: soft]\nlow: {blur_sigma: [9, 9], noise_sigma: [1, 1]}\ngeometry: {frames: 5, height: 9}\n",
    )
    write("low/soft", "# @package low\n# Soft edges.\nblur_sigma: [0.1, 0.2]\n")
    write("cases/few", "set: synthetic\ncount: 2\n")
    write("settings/plain", "\n# @package settings.inner\n# A word.\nshift: 1e-3\n")
    write("tier/small", "# @package _global_\ntier: small\ngeometry: {frames: 1, width: 7}\n")
    write("tier/large", "# @package _global_\ntier: large\n")
    lists = (
        "[tier: small, base, cases: few, settings: plain, _self_]",
        "[_self_, tier: small, base]",
        "[base, tier: small]",  # the file itself comes last
        "[base, _self_, tier: small, cases: few]",
    )
    for defaults in lists:
        write("mine", f"defaults: {defaults}\ngeometry: {{frames: 3}}\ntitle: mine\ntiers: {{large: {{title: L}}}}\n")
        for tier in ("small", "large"):
            assert compose._compose("mine", tier, ()) == by_hydra(tmp_path, "mine", tier), (defaults, tier)


@pytest.mark.parametrize(
    ("defaults", "said"),
    [
        ("x", "`defaults` of protocols/probe.yaml is no list"),
        (["_self_"], "has no `tier` among its `defaults`"),
        ([{"tier": "laptop"}, "probe"], "protocols/probe.yaml is among its own `defaults`"),
        ([{"tier": "laptop"}, "absent"], "absent.yaml cannot be read"),
        ([{"tier": "laptop"}, "../../etc/passwd"], "which is not read here"),
        ([{"tier": "laptop"}, {"override hydra/job_logging": "none"}], "which is not read here"),
        ([{"tier": "laptop", "cases": "few"}], "which is not read here"),
        ([3], "which is not read here"),
    ],
)
def test_a_list_of_another_kind_is_a_users_mistake(
    defaults: Any, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch_protocols.write(tmp_path, monkeypatch, defaults=defaults)
    with pytest.raises(UsageError) as caught:
        compose.load_protocol("probe", tier="laptop")
    assert said in str(caught.value) and caught.value.fix


def test_a_field_twice_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch_protocols.write(tmp_path, monkeypatch)
    path = tmp_path / "protocols" / "probe.yaml"
    path.write_text(path.read_text() + "baseline: nfe=1\n")
    with pytest.raises(UsageError, match="cannot be composed|is not valid YAML"):
        compose.load_protocol("probe")


HOST = """
import copy, os, sys, threading
from dataclasses import dataclass

import hydra
import matplotlib
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.version import getbase

import flashbench

RESULTS = sys.argv.pop()


@dataclass
class Schema:
    lr: float = 0.1


# A host's own names may be a protocol's, a tier's or a folder's.
for name, group in (("config", None), ("nfe", None), ("smoke", "tier")):
    ConfigStore.instance().store(name=name, group=group, node=Schema)


def held():
    singletons = {cls.__name__: id(thing) for cls, thing in Singleton._instances.items()}
    job = HydraConfig.get().job.name if HydraConfig.initialized() else None
    store = copy.deepcopy(ConfigStore.instance().repo)
    return singletons, id(GlobalHydra.instance().hydra), job, getbase(), str(store), os.getcwd()


held()  # asking makes what it asks for


def use():
    before = held()
    loaded = flashbench.load_protocol("nfe", tier="smoke", overrides=["seeds=2"])
    assert loaded.name == "nfe" and loaded.geometry.frames == 5
    assert len(flashbench.results("nfe", tier="smoke", root=RESULTS))
    assert flashbench.figure("nfe", tier="smoke", root=RESULTS).svg.startswith(b"<?xml")
    try:
        flashbench.load_protocol("nfe", tier="smoke", overrides=["geometry.frames=6"])
    except flashbench.errors.UsageError:
        pass
    else:
        raise AssertionError("a wrong length")
    assert held() == before
    return loaded.hash


@hydra.main(version_base=None, config_name="config")
def main(config):
    assert os.getcwd() == HydraConfig.get().runtime.output_dir, "hydra.job.chdir"
    hashes = [use(), use()]
    style = dict(matplotlib.rcParams)
    threads = [threading.Thread(target=lambda: hashes.append(use())) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert hydra.compose("config", overrides=["lr=0.2"]).lr == 0.2, "the host's own Hydra, meanwhile"
    for thread in threads:
        thread.join()
    assert dict(matplotlib.rcParams) == style
    assert len(hashes) == 6 and len(set(hashes)) == 1
    assert HydraConfig.get().job.config_name == "config" and config.lr == 0.5
    assert hydra.compose("config").lr == 0.1
    print("main", hashes[0])


import flashbench.errors
outside = use()
with hydra.initialize(version_base="1.1", config_path=None):
    assert use() == outside
    assert hydra.compose("config", overrides=["lr=0.3"]).lr == 0.3
assert not GlobalHydra.instance().is_initialized()
main()
print("after", use())
"""


def test_inside_a_program_of_hydras(tmp_path: Path) -> None:
    protocol = flashbench.load_protocol("nfe", tier="smoke")
    write_results(tmp_path / "results", protocol, made_scores(protocol, lambda row, name: 1.0 + len(row)))
    (tmp_path / "host.py").write_text(HOST)
    command = [sys.executable, "host.py", "lr=0.5", "hydra.job.chdir=True", str(tmp_path / "results")]
    done = subprocess.run(
        command, cwd=tmp_path, env=smoke.environment(tmp_path), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    hashes = dict(line.split() for line in done.stdout.splitlines())
    expected = flashbench.load_protocol("nfe", tier="smoke", overrides=["seeds=2"]).hash
    assert hashes == {"main": expected, "after": expected}


def test_nothing_of_ours_imports_hydra() -> None:
    script = "import sys, flashbench; flashbench.load_protocol('nfe', tier='smoke'); print('hydra' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_scratch_protocols_are_what_is_composed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch_protocols.write(tmp_path, monkeypatch)
    root = tmp_path / "protocols"
    assert yaml.safe_load((root / "probe.yaml").read_text())["defaults"][0] == {"tier": "laptop"}
    for tier in ("smoke", "laptop", "paper"):
        assert compose._compose("probe", tier, ()) == by_hydra(root, "probe", tier)
