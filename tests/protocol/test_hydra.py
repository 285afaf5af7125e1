"""Protocols are composed by Hydra without touching what a host has of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from support import smoke
from support.made_results import made_scores, write_results

import flashbench

HOST = """
import copy, os, sys, threading
from dataclasses import dataclass

import hydra
import matplotlib
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.singleton import Singleton
from hydra.core.utils import JobRuntime
from hydra.version import base_at_least, getbase

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


for kind in (Plugins, JobRuntime):  # what is installed, and the job, whose name is not known: made when first asked for
    kind.instance()
base_at_least("1.1")
held()


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
    assert held() == before, (held(), before)
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
