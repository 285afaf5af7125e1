"""What Stage II's recipes got later: absolute positions, texts, the best of a pool; and that old keys stay."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from flashbench import keys
from flashbench.cascade.codec import latent_shape
from flashbench.data import material
from flashbench.data.synthetic import synthetic_clip
from flashbench.errors import InvalidError, UsageError
from flashbench.laptop import labels, recipes, settings
from flashbench.laptop.labels import Labels, captions, write_labels
from flashbench.laptop.pool import Pool
from flashbench.types import Frames

MATERIAL: dict[str, Any] = {"material": "synthetic", "clips": 6, "frames": 5, "size": 64}
NETWORK: dict[str, Any] = {"kind": "flow", "heads": 1, "layers": 1, "time_embed_dim": 16, "crop": 32, "batch": 2}
LENGTH, WIDTH = 3, 5
Make = Callable[..., Path]


def silent(*said: object) -> None:
    pass


def encode(texts: Sequence[str]) -> Tensor:
    """A stand-in for a text encoder: (n, 3, 5), another one for every text."""
    seeds = [int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") for text in texts]
    return torch.stack([torch.randn(LENGTH, WIDTH, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Build a recipe and return its folder; a folder that exists is returned as it is."""
    root = tmp_path_factory.mktemp("recipes")

    def build(name: str, chosen: dict[str, Any], replica: int = 0, **inputs: Path) -> Path:
        out = root / name
        if not out.exists():
            out.mkdir()
            state = root / f"{name}.state"
            recipes.build(chosen, inputs=inputs, out=out, state=state, replica=replica, report=silent)
        return out

    return build


@pytest.fixture(scope="module")
def inputs(make: Make, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    codec = make("codec", {"kind": "codec", "channels": 16, **MATERIAL})
    folder = tmp_path_factory.mktemp("labels")
    write_labels(captions("synthetic", 6, 0), [], score="none", encode=encode, folder=folder, report=silent)
    return {"codec": codec, "pool": make("pool", {"kind": "pool", **MATERIAL}, codec=codec), "labels": folder}


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "diffusion_pytorch_model.safetensors")


def same(first: Path, second: Path) -> bool:
    ours, theirs = weights(first), weights(second)
    return ours.keys() == theirs.keys() and all(torch.equal(value, theirs[name]) for name, value in ours.items())


# --- keys -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chosen", "known"),
    [
        ({"kind": "flow"}, "d3d0250494fcee629a7d002bddb6e1be16dff7bbe7e83425c52ccce93dee4a7a"),
        ({"kind": "flow", "seed": 1}, "c309a374637038147be7af7f9644ed3ceb893f61904c355480f1e362780bebc9"),
        ({"kind": "regression"}, "b469af3a69ef6426dc0a4ac53bd59c611f7e9bb02e9d124792b7583469c01f16"),
        ({"kind": "codec"}, "670f6eeeee5e1096a47c5587eac7bd1e0a3a70adc0ea2e35be54b3c41e90ff35"),
        ({"kind": "pool"}, "2735850767aec6f850ae9f56069e6fd2a69dcf7c4f1020a9aa51ac7ac27b69fd"),
    ],
)  # fmt: skip
def test_recipes_of_before_keep_their_keys(chosen: dict[str, Any], known: str) -> None:
    """Golden values of the version without the added settings: what the store holds stays valid."""
    assert keys.key("recipe", settings=settings.identity(chosen)) == known
    spelt = chosen | settings.ADDED.get(chosen["kind"], {})
    assert keys.key("recipe", settings=settings.identity(spelt)) == known


def test_added_settings_are_settings_with_their_defaults() -> None:
    for kind, added in settings.ADDED.items():
        assert added.items() <= settings.DEFAULTS[kind].items()


@pytest.mark.parametrize("chosen", [{"positions": "absolute"}, {"text": True}, {"best": 0.1}])
def test_another_value_is_another_key(chosen: dict[str, Any]) -> None:
    plain, other = (settings.identity({"kind": "flow"} | more) for more in ({}, chosen))
    assert keys.key("recipe", settings=plain) != keys.key("recipe", settings=other)
    assert other[1].items() - plain[1].items() == chosen.items()


# --- positions --------------------------------------------------------------------------------------------------------


def test_absolute_positions_train_and_extrapolate(make: Make, inputs: dict[str, Path]) -> None:
    absolute = make("absolute", NETWORK | {"steps": 2, "positions": "absolute"}, **inputs)
    rope = make("rope", NETWORK | {"steps": 2}, **inputs)
    network, codec = recipes.load_network(absolute), recipes.load_codec(inputs["codec"])
    assert network.config.use_rotary_positional_embeddings is False
    assert not same(absolute, rope)
    for side in (32, 64, 576):  # the training crop, and up to three times the tier's size
        shape = latent_shape(network.config.in_channels, codec.stride, 5, side, side)
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        low = synthetic_clip(5, side // 4, side // 4, 0)
        made, _ = recipes.enhance(network, codec, low, side, side, nfe=1, degradation_step=675, noise=noise)
        assert made.shape == (5, side, side, 3) and made.std() > 1


def test_the_absolute_table_of_a_larger_size_begins_with_the_smaller_one(make: Make, inputs: dict[str, Path]) -> None:
    """Positions are counted from the corner in patches, at any size and number of frames: nothing is stretched."""
    network = recipes.load_network(make("absolute", NETWORK | {"steps": 2, "positions": "absolute"}, **inputs))
    embed, text = network.patch_embed, network.config.max_text_seq_length

    def table(frames: int, side: int) -> Tensor:
        latent = torch.zeros(1, frames, 16, side, side)
        zero = embed(torch.zeros(1, text, 8), latent) - torch.cat(
            [embed.text_proj.bias.expand(1, text, -1), embed.proj.bias.expand(1, frames * (side // 2) ** 2, -1)], 1
        )
        return zero[0, text:].reshape(frames, side // 2, side // 2, -1)

    small, large = table(2, 4), table(3, 72)
    torch.testing.assert_close(large[:2, :2, :2], small, rtol=0, atol=1e-6)
    flat = large.flatten(0, 2)
    near = flat[:: max(1, len(flat) // 300)]
    assert (torch.cdist(near, near) + torch.eye(len(near)) * 9 > 1e-2).all(), "no two places look alike"


def test_unknown_positions_are_refused(inputs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown positions of a flow recipe 'absolut'"):
        recipes.build(
            NETWORK | {"positions": "absolut"}, inputs=inputs, out=tmp_path, state=tmp_path, replica=0, report=silent
        )


# --- texts ------------------------------------------------------------------------------------------------------------


def test_captions_are_those_of_the_clips_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    train = [source for source in material.read_sources() if source.split == "train"]
    texts = captions("sources", 2 * len(train), 7)
    assert sorted(texts[: len(train)]) == sorted(source.caption for source in train), "each source once a turn"
    shown: list[material.Source] = []

    class Stop(Exception):
        pass

    def picture(found: material.Source) -> None:
        shown.append(found)
        raise Stop

    monkeypatch.setattr(material, "picture", picture)
    for number in range(len(texts)):
        with pytest.raises(Stop):
            material.training_clip(number, 5, 64, 64, 7)
    assert [source.caption for source in shown] == texts
    assert captions("sources", 5, 8) != texts[:5]


def test_labels_keep_each_caption_once_and_give_it_to_its_clips(tmp_path: Path) -> None:
    texts = ["a cat", "a dog", "a cat"]
    counts = write_labels(texts, [], score="none", encode=encode, folder=tmp_path, report=silent)
    assert counts == {"clips": 3, "captions": 2}
    found = Labels.read(tmp_path)
    assert found.contexts is not None and found.scores is None
    assert torch.equal(found.contexts, encode(texts))


def test_a_labels_recipe_asks_the_text_encoder_that_it_needs(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []
    monkeypatch.setattr("flashbench.laptop.text.check", asked.append)
    monkeypatch.setattr("flashbench.laptop.text.encode", encode)
    folder = make("labels with texts", {"kind": "labels", "score": "none", **MATERIAL}, text=tmp_path)
    assert asked == [tmp_path]
    contexts = Labels.read(folder).contexts
    assert contexts is not None and torch.equal(contexts, encode(captions("synthetic", 6, 0)))


def test_a_pool_gives_every_clip_its_own_context(inputs: dict[str, Path]) -> None:
    codec, contexts = recipes.load_codec(inputs["codec"]), torch.arange(6.0).reshape(6, 1, 1)
    options: dict[str, Any] = {"mode": "none", "crop": 64}
    pool = Pool(inputs["pool"], codec, **options, contexts=contexts)
    high, low, context = pool(6, torch.Generator().manual_seed(0))
    order = context.flatten().long().tolist()
    assert sorted(order) == list(range(6)) and order != sorted(order)
    assert torch.equal(high, pool.high[order].float())
    plain = Pool(inputs["pool"], codec, **options)(6, torch.Generator().manual_seed(0))
    assert len(plain) == 2 and torch.equal(plain[0], high) and torch.equal(plain[1], low)


def test_a_prompted_network_reads_its_prompt(make: Make, inputs: dict[str, Path]) -> None:
    chosen = NETWORK | {"steps": 4, "text": True}
    folder = make("prompted", chosen, **inputs)
    assert same(folder, make("prompted again", chosen, **inputs))
    network, codec = recipes.load_network(folder), recipes.load_codec(inputs["codec"])
    assert (network.config.max_text_seq_length, network.config.text_embed_dim) == (LENGTH, WIDTH)
    noise = torch.randn(
        latent_shape(network.config.in_channels, codec.stride, 5, 32, 32), generator=torch.Generator().manual_seed(0)
    )

    def made(**more: Any) -> Frames:
        low = synthetic_clip(5, 8, 8, 0)
        frames, count = recipes.enhance(network, codec, low, 32, 32, nfe=2, degradation_step=675, noise=noise, **more)
        assert count == 2, "guidance is one batch of two"
        return frames

    one, two = 30 * encode(["one"]), 30 * encode(["two"])
    np.testing.assert_array_equal(made(), made(context=torch.zeros(1, LENGTH, WIDTH)), "none is zeros")
    np.testing.assert_array_equal(made(context=torch.zeros(1, LENGTH, WIDTH), guidance=9.0), made(), "nothing to guide")
    pictures = [made(), made(context=one), made(context=two), made(context=one, guidance=8.0)]
    assert len({picture.tobytes() for picture in pictures}) == 4


def test_texts_that_cannot_be_are_refused(make: Make, inputs: dict[str, Path], tmp_path: Path) -> None:
    network = recipes.load_network(make("prompted", NETWORK | {"steps": 4, "text": True}, **inputs))
    codec, low = recipes.load_codec(inputs["codec"]), synthetic_clip(5, 8, 8, 0)
    options: dict[str, Any] = {"nfe": 1, "degradation_step": None, "noise": None}
    with pytest.raises(UsageError, match="guidance 8.0 without a prompt"):
        recipes.enhance(network, codec, low, 32, 32, guidance=8.0, **options)
    for shape in ((2, LENGTH, WIDTH), (1, LENGTH + 1, WIDTH), (1, LENGTH, WIDTH + 1), (LENGTH, WIDTH)):
        with pytest.raises(UsageError, match="a context of shape"):
            recipes.enhance(network, codec, low, 32, 32, context=torch.zeros(shape), **options)
    with pytest.raises(UsageError, match="text: true without captions"):
        without = {role: path for role, path in inputs.items() if role != "labels"}
        recipes.build(NETWORK | {"text": True}, inputs=without, out=tmp_path, state=tmp_path, replica=0, report=silent)


# --- the best of the pool ---------------------------------------------------------------------------------------------


def scored(folder: Path, values: Sequence[float], monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(labels, "_scores", lambda clips, report: list(values))
    write_labels(["text"] * len(values), [], score="niqe", encode=None, folder=folder, report=silent)
    return folder


def test_the_best_share_has_the_lowest_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Labels.read(scored(tmp_path, [5.0, float("nan"), 2.0, 3.0, 9.0, 2.0], monkeypatch))
    assert found.best(0.5) == [2, 5, 3]
    assert found.best(0.01) == [2], "at least one"
    with pytest.raises(InvalidError, match="6 clips are wanted, and 5 of 6 have a score"):
        found.best(1.0)
    for share in (0.0, -1.0, 1.5, float("nan")):
        with pytest.raises(UsageError, match="best is"):
            found.best(share)
    with pytest.raises(UsageError, match="no scores to choose the best by"):
        Labels(None, None).best(0.1)


def test_a_preferred_training_sees_the_best_alone(
    make: Make, inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranked = scored(tmp_path, [6.0, 1.0, 5.0, 2.0, 4.0, 3.0], monkeypatch)
    seen: set[int] = set()
    pair = Pool._pair

    def watched(pool: Pool, index: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
        seen.add(index)
        return pair(pool, index, draw)

    monkeypatch.setattr(Pool, "_pair", watched)
    wide = make("wide", NETWORK | {"steps": 2}, **inputs)
    seen.clear()
    last = NETWORK | {"steps": 6, "seed": 2}
    start = inputs | {"labels": ranked, "init": wide}
    preferred = make("preferred", last | {"best": 0.5}, **start)
    assert seen == {1, 3, 5}
    continued = make("continued", last | {"best": 1.0}, **start)
    assert len(seen) == 6
    plain = make("plain", last, **{role: path for role, path in start.items() if role != "labels"})
    assert same(continued, plain) and not same(continued, preferred)


def test_fewer_than_a_batch_are_refused(
    inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder := tmp_path / "ranked").mkdir()
    start = inputs | {"labels": scored(folder, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], monkeypatch)}
    with pytest.raises(UsageError, match="best 0.2 leaves 1 clips for a batch of 2"):
        recipes.build(NETWORK | {"best": 0.2}, inputs=start, out=tmp_path, state=tmp_path, replica=0, report=silent)


def test_scores_are_niqe_of_the_middle_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parameters = (np.zeros(36), np.eye(36))
    monkeypatch.setattr("flashbench.metrics.niqe.pristine", lambda: parameters)
    from flashbench.metrics.niqe import niqe

    clips = [synthetic_clip(5, 96, 192, variant) for variant in (0, 1)]
    said: list[int] = []
    counts = write_labels(["a", "b"], clips, score="niqe", encode=None, folder=tmp_path, report=said.append)
    found = Labels.read(tmp_path)
    assert found.scores == tuple(float(niqe(clip[2:3], parameters)[0]) for clip in clips) and said == [1, 2]
    assert found.contexts is None and counts == {"clips": 2, "captions": 0}
    with pytest.raises(UsageError, match="unknown score of a labels recipe 'nique'"):
        write_labels(["a"], clips, score="nique", encode=None, folder=tmp_path, report=silent)


def test_the_labels_recipe_writes_what_the_pool_needs(make: Make) -> None:
    folder = make("labels", {"kind": "labels", "score": "none", **MATERIAL})
    assert (folder / "config.json").read_text() == '{\n  "captions": 0,\n  "class": "Labels",\n  "clips": 6\n}\n'
    assert Labels.read(folder) == Labels(None, None)
