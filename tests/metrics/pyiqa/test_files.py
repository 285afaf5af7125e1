"""What networks of pyiqa are built from: verified files and nothing else, and what their building leaves as it was."""

from __future__ import annotations

import random
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.learned_weights import METRICS, Shelf, clip_archive, empty_shelf, frames, musiq

from flashbench.errors import IntegrityError, InvalidError, MissingAsset
from flashbench.metrics.pyiqa import metric as learned
from flashbench.metrics.pyiqa import networks
from flashbench.metrics.pyiqa.metric import LEARNED
from flashbench.types import Clip


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shelf]:
    yield empty_shelf(tmp_path, monkeypatch)
    learned._network.cache_clear()


# --- what is never opened ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["musiq-koniq", "clip-rn50"])
def test_a_tampered_file_is_refused_by_name_before_it_is_opened(
    name: str, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = shelf.add(name, lambda path: path.write_bytes(bytes(1000)))
    content = bytearray(file.read_bytes())
    content[500] ^= 1
    file.write_bytes(content)
    for home, function in ((torch.serialization, "load"), (torch.jit, "load"), (torch, "load")):
        monkeypatch.setattr(home, function, lambda *_, **__: pytest.fail("opened"))
    metric = next(metric for metric in LEARNED if name in metric.assets)
    with pytest.raises(IntegrityError, match=f"asset {name} is damaged"):
        metric.measure(Clip(frames(1, 32, 32), 8))


class Bomb:
    """What a malicious pickle does when it is loaded."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("exploded"),))


@pytest.mark.parametrize("name", ["musiq-koniq", "clip-rn50"])
def test_a_malicious_pickle_is_refused_by_name(
    name: str, shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even one that the registry vouches for: a first use that was trusted wrongly."""
    monkeypatch.chdir(tmp_path)
    shelf.add(name, lambda path: torch.save({"weight": Bomb()}, path))
    metric = next(metric for metric in LEARNED if name in metric.assets)
    with pytest.raises(InvalidError, match=f"asset {name} is refused"):
        metric.measure(Clip(frames(1, 32, 32), 8))
    assert not (tmp_path / "exploded").exists()


def test_weights_of_another_network_are_refused(shelf: Shelf) -> None:
    shelf.add("musiq-koniq", lambda path: torch.save({"weight": torch.zeros(3)}, path))
    with pytest.raises(InvalidError, match="cannot be built from its weights"):
        METRICS["musiq"].measure(Clip(frames(1, 32, 32), 8))


# --- what is left as it was -------------------------------------------------------------------------------------


def states() -> tuple[Any, ...]:
    return random.getstate(), np.random.get_state(legacy=True)[1].tolist(), torch.get_rng_state().tolist()


def test_no_global_generator_moves(shelf: Shelf) -> None:
    musiq(shelf)
    shelf.add("clip-rn50", clip_archive, ".pt")
    before = states()
    for name in ("musiq", "clipiqa"):
        assert np.isfinite(METRICS[name].measure(Clip(frames(1, 32, 40), 8)).value)
    assert states() == before


def loaders() -> list[Any]:
    import huggingface_hub
    import pyiqa.archs.arch_util
    import pyiqa.archs.clip_model
    import timm

    homes = [(torch, "load"), (torch.jit, "load"), (torch.hub, "load_state_dict_from_url"), (timm, "create_model")]
    homes += [(pyiqa.archs.arch_util, "load_file_from_url"), (pyiqa.archs.clip_model, "_download")]
    homes += [(socket, "getaddrinfo"), (socket, "create_connection"), (huggingface_hub, "hf_hub_download")]
    return [getattr(home, name) for home, name in homes]


def test_the_loaders_are_put_back_also_after_an_error(shelf: Shelf) -> None:
    before = loaders()
    with pytest.raises(MissingAsset):
        networks.build("musiq", learned.verified)
    with pytest.raises(ZeroDivisionError), networks.handed_over(learned.verified):
        assert loaders() != before
        raise ZeroDivisionError
    assert loaders() == before


@pytest.mark.parametrize(
    "want",
    [
        lambda: socket.create_connection(("example.org", 443)),
        lambda: socket.getaddrinfo("example.org", 443),
        lambda: torch.load("weights_of_anyone.pth", weights_only=True),
        lambda: torch.jit.load("weights_of_anyone.pt"),
        lambda: __import__("huggingface_hub").hf_hub_download("someone/model", "model.safetensors"),
    ],
)
def test_nothing_else_is_opened_or_fetched(want: Callable[[], Any]) -> None:
    with pytest.raises(InvalidError, match="refused"), networks.handed_over(learned.verified):
        try:
            want()
        except InvalidError as error:
            assert "refused" in str(error)  # swallowed, as a library may; the context still ends in it


def test_the_first_import_of_openai_clip_warns_nobody() -> None:
    """In a process of its own: whether this one has imported it depends on the order of the tests."""
    program = "from flashbench.metrics.pyiqa import networks\nwith networks.handed_over(str): print('quiet')"
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=200)
    assert (done.stdout, done.stderr) == ("quiet\n", "")


def test_other_threads_are_left_alone() -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool, networks.handed_over(learned.verified):
        assert pool.submit(socket.getaddrinfo, "127.0.0.1", 80).result(10)
