"""Stage I at a tiny size: its texts, its scenes, its training and adaptation, and a clip from noise."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support.made_textures import picture
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from flashbench.cascade.codec import latent_shape
from flashbench.cascade.training import TARGETS
from flashbench.data import material, scene_clips, scenes
from flashbench.data.scene_clips import training_scene
from flashbench.errors import IntegrityError, UsageError
from flashbench.laptop import recipes, stage1, text

CLIPS: dict[str, Any] = {"clips": 6, "frames": 5, "size": 32}
NETWORK: dict[str, Any] = {"kind": "stage1", "heads": 1, "layers": 2, "time_embed_dim": 16, "batch": 2, "steps": 3}
WEIGHTS = "diffusion_pytorch_model.safetensors"
Make = Callable[..., Path]


def encode(texts: Sequence[str]) -> Tensor:
    """A stand-in for the text encoder: other states for every text."""
    seeds = [int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") for text in texts]
    return torch.stack([torch.randn(text.LENGTH, 8, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Make]:
    """Build a recipe over stand-ins for texts and textures; a folder that exists is returned as it is."""
    root = tmp_path_factory.mktemp("recipes")

    def build(name: str, settings: dict[str, Any], replica: int = 0, **inputs: Path) -> Path:
        out = root / name
        if not out.exists():
            out.mkdir()
            chosen: dict[str, Any] = {"inputs": inputs, "out": out, "state": root / f"{name}.state", "replica": replica}
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(text, "encode", encode)
                recipes.build(settings, report=lambda *said: None, **chosen)
        return out

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(material, "picture", picture)
        scene_clips._texture.cache_clear()
        yield build
        scene_clips._texture.cache_clear()


@pytest.fixture(scope="module")
def inputs(make: Make) -> dict[str, Path]:
    fit = {"channels": 4, "latent_scale": 1.0, "blocks": 16}
    codec = make("codec", {"kind": "codec", "material": "scenes", **CLIPS, **fit})
    return {"codec": codec, "scenes": make("scenes", {"kind": "scenes", **CLIPS}, codec=codec)}


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / WEIGHTS)


def changed(first: Path, second: Path) -> set[str]:
    """Names of the weights in which two networks of one kind differ."""
    ours, theirs = weights(first), weights(second)
    assert ours.keys() == theirs.keys()
    return {name for name, value in ours.items() if not torch.equal(value, theirs[name])}


# --- scenes -----------------------------------------------------------------------------------------------------------


def test_scenes_are_latents_with_their_captions(inputs: dict[str, Path]) -> None:
    pool = load_file(inputs["scenes"] / "scenes.safetensors")
    assert pool["latents"].shape == (6, 2, 4, 4, 4)
    assert pool["latents"].square().mean() == pytest.approx(1.0, rel=0.3), "the codec was fitted on such clips"
    for number in range(6):
        said = scenes.caption(*training_scene(number))
        assert torch.equal(pool["contexts"][pool["caption"][number]], encode([said])[0])
    config = json.loads((inputs["scenes"] / "config.json").read_text())
    assert config == {"class": "Scenes", "clips": 6, "captions": 6}


# --- training and adaptation ------------------------------------------------------------------------------------------


def test_training_repeats_bit_for_bit_and_replicas_differ(make: Make, inputs: dict[str, Path]) -> None:
    first, second = make("first", NETWORK, **inputs), make("second", NETWORK, **inputs)
    assert {path.name: path.read_bytes() for path in first.iterdir()} == {
        path.name: path.read_bytes() for path in second.iterdir()
    }
    assert str(first.parent) not in (first / "config.json").read_text(), "no path of this machine in an artifact"
    assert changed(first, make("replica", NETWORK, replica=1, **inputs))


def test_training_reads_the_texts(make: Make, inputs: dict[str, Path]) -> None:
    network = stage1.load_network(make("first", NETWORK, **inputs))
    x, said = torch.randn(1, 2, 4, 4, 4, generator=torch.Generator().manual_seed(0)), encode(["one", "two"])
    out = [network(x, states[None], 500.0).sample for states in said]
    assert not torch.equal(*out)
    assert (network.config.text_embed_dim, network.config.max_text_seq_length) == (8, text.LENGTH)


@pytest.mark.parametrize("adaptation", ["full", "lora"])
def test_adapting_goes_on_from_init(make: Make, inputs: dict[str, Path], adaptation: str) -> None:
    first = make("first", NETWORK, **inputs)
    settings = NETWORK | {"adaptation": adaptation, "rank": 2, "alpha": 2.0, "ema": 0.0}
    moved = changed(first, make(adaptation, settings, init=first, **inputs))
    adapted = {name for name in weights(first) if name.removesuffix(".weight").endswith(TARGETS)}
    assert moved == adapted if adaptation == "lora" else moved > adapted
    nothing = make(f"{adaptation} of no steps", settings | {"steps": 0}, init=first, **inputs)
    assert not changed(first, nothing), "adapters that were not trained change nothing"


def test_an_unknown_adaptation_is_named(make: Make, inputs: dict[str, Path]) -> None:
    with pytest.raises(UsageError, match=r"adaptation of a stage1 recipe 'lara'"):
        make("wrong", NETWORK | {"adaptation": "lara"}, **inputs)


# --- a clip -----------------------------------------------------------------------------------------------------------


def test_a_clip_is_a_function_of_noise_and_prompt(make: Make, inputs: dict[str, Path]) -> None:
    network, codec = stage1.load_network(make("first", NETWORK, **inputs)), recipes.load_codec(inputs["codec"])
    shape = latent_shape(network.config.in_channels, codec.stride, 5, 32, 48)
    assert shape == (1, 2, 4, 4, 6)

    def clip(prompt: str = "one", seed: int = 0, guidance: float = 8.0) -> Any:
        draw = torch.Generator().manual_seed(seed)
        noise = torch.randn(shape, generator=draw)
        options: dict[str, Any] = {"steps": 3, "guidance": guidance, "noise": noise, "step_noise": draw}
        frames, evaluations = stage1.generate_clip(network, codec, encode([prompt]), **options)
        assert frames.shape == (5, 32, 48, 3) and frames.dtype == np.uint8 and evaluations == 3
        return frames

    first = clip()
    assert np.array_equal(first, clip())
    for other in (clip(prompt="two"), clip(seed=1), clip(guidance=0.0)):
        assert not np.array_equal(first, other)


# --- texts ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """An encoder of the right width with few words and one layer."""
    words = {"[PAD]": 0, "[UNK]": 1, "red": 2, "circle": 3}
    made = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer: Any = PreTrainedTokenizerFast(tokenizer_object=made, pad_token="[PAD]")  # type: ignore[no-untyped-call]
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    config = BertConfig(vocab_size=4, hidden_size=text.WIDTH, num_hidden_layers=1, num_attention_heads=2,
                        intermediate_size=8, max_position_embeddings=32)  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: Any = BertModel(config, add_pooling_layer=False)
    monkeypatch.setattr(text, "_encoder", lambda: (tokenizer, model.eval()))


@pytest.mark.usefixtures("tiny")
def test_texts_end_in_zeros_and_do_not_touch_each_other() -> None:
    two, long = text.encode(["red circle", "red " * 40])
    assert two.shape == long.shape == (text.LENGTH, text.WIDTH) and two.dtype == torch.float32
    assert two[:2].abs().sum(1).min() > 0 and not two[2:].any()
    assert long.abs().sum(1).min() > 0, "a longer text is cut"
    assert torch.equal(text.encode(["red circle"])[0], two)


def test_a_folder_of_another_encoder_is_refused(tmp_path: Path) -> None:
    assert text.write(tmp_path) == {"length": text.LENGTH, "width": text.WIDTH}
    text.check(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["sha256"]["minilm/model"] = "0" * 64
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(IntegrityError, match="names another text encoder"):
        text.check(tmp_path)


@pytest.mark.slow
def test_captions_fit_into_the_context() -> None:
    """With the real tokenizer: nothing of a scene is cut off."""
    tokenizer, _ = text._encoder()
    longest = max(len(tokenizer(scenes.caption(scene, n))["input_ids"]) for scene in scenes.SCENES for n in range(3))
    assert longest <= text.LENGTH
