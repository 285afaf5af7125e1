"""The released cascade as systems, on a small seeded one in the official layout."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from support import official
from support.registry_entry import FIELDS, entry
from support.scratch_protocols import write

from flashbench import systems
from flashbench.assets import registry
from flashbench.cascade import FlashVideoPipeline, checkpoint, sampling, vae
from flashbench.cascade.codec import to_frames
from flashbench.cascade.pipeline import MOTION
from flashbench.cascade.presets import PREVIEW_PRESETS, REFINE_PRESETS
from flashbench.errors import InvalidError, MissingAsset, UsageError
from flashbench.run.options import Options
from flashbench.run.phases import run_protocols
from flashbench.systems import checkpoints, inputs
from flashbench.systems.base import Request, counted_evaluations
from flashbench.types import Case, Clip, Geometry, Prompt

PROMPT = Prompt(id="p", text="a cat", original="cat", line=7)
CASE = Case(id="p", cluster="p", seed=2, prompt=PROMPT)
SMALL = Geometry(frames=5, height=16, width=32, fps=Fraction(8))
LARGE = Geometry(frames=5, height=32, width=64, fps=Fraction(8))
CPU = {"dtype": "float32", "device": "cpu"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return official.release(tmp_path_factory.mktemp("official"))


@pytest.fixture(scope="module")
def pipe(folder: Path) -> FlashVideoPipeline:
    pipeline: FlashVideoPipeline = FlashVideoPipeline.from_official(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def make(name: str, folder: Path, preview: Clip | None = None, case: Case = CASE, **settings: Any) -> Clip:
    """A clip by a system whose weights lie in an official folder; declared evaluations are the counted ones."""
    system = systems.get(name)
    chosen = systems.resolve(system, CPU | settings)
    geometry = SMALL if preview is None else LARGE
    system.check(chosen, geometry)
    models = dict.fromkeys(system.models(chosen), folder)
    request = Request(case=case, settings=chosen, geometry=geometry, reference=None, preview=preview, models=models)
    with counted_evaluations() as counted:
        clip = system.make(request)
    assert counted[0] == system.evaluations(chosen)
    assert clip.frames.shape == (geometry.frames, geometry.height, geometry.width, 3) and clip.fps == 8
    return clip


@pytest.fixture(scope="module")
def preview(folder: Path) -> Clip:
    return make("stage1_release", folder, steps=3)


def same(clip: Clip, pixels: torch.Tensor) -> bool:
    """Whether a clip is these pixels (1, 3, T, H, W) in [-1, 1], up to a level of rounding in few places."""
    off = np.abs(clip.frames.astype(int) - to_frames(pixels).astype(int))
    return bool(off.max() <= 1 and (off > 0).mean() < 1e-3)


def test_stage1_from_the_noise_that_variants_share(pipe: FlashVideoPipeline, preview: Clip) -> None:
    noise = inputs.noise(CASE, "stage1", (1, 2, 16, 2, 4))
    context = pipe.encode_prompt("a cat")
    made = sampling.generate(
        pipe.stage1, noise, context, steps=3, guidance=8, step_noise=inputs.noises(CASE, "stage1_step", noise.shape, 2)
    )
    assert same(preview, vae.decode(pipe.vae, made.latent / 0.7).clamp(-1, 1))


@pytest.mark.parametrize("settings", [{}, {"nfe": 2, "degradation_step": 700, "guidance": 1.0, "posterior": "mean"}])
def test_stage2_from_the_noise_that_variants_share(
    pipe: FlashVideoPipeline, folder: Path, preview: Clip, settings: dict[str, Any]
) -> None:
    clip = make("flashvideo_release", folder, preview, **settings)
    shape = (1, 2, 16, 4, 8)
    posterior = None if settings else inputs.noise(CASE, "posterior", shape)
    frames = torch.from_numpy(preview.frames.copy()).permute(0, 3, 1, 2).float() / 127.5 - 1
    big = torch.nn.functional.interpolate(frames, (32, 64), mode="bilinear", antialias=True).transpose(0, 1)[None]
    low = vae.encode(pipe.vae, big, noise=posterior) * 1.15258426
    context = pipe.encode_prompt(MOTION + "a cat")
    sampler = {"nfe": 4, "guidance": 13.0, "degradation_step": 675} | {
        name: value for name, value in settings.items() if name != "posterior"
    }
    made = sampling.refine(pipe.stage2, low, context, noise=inputs.noise(CASE, "degrade", shape), **sampler)
    assert same(clip, vae.decode(pipe.vae, made.latent / 1.15258426))


def test_the_official_noise_is_one_stream_through_both_stages(pipe: FlashVideoPipeline, folder: Path) -> None:
    """The pipeline with a generator of the script's seed: line 7, sample 2."""
    draw = torch.Generator().manual_seed(2007)
    size: dict[str, Any] = {"num_frames": 5, "height": 16, "width": 32, "num_inference_steps": 4}
    first = pipe.preview("a cat", **size, generator=draw, output_type="pt", return_dict=False)[0][0]
    clip = make("stage1_release", folder, steps=4, noise="official")
    assert same(clip, first.transpose(0, 1)[None] * 2 - 1)
    given = clip.frames
    large: dict[str, Any] = {"height": 32, "width": 64, "output_type": "pt", "return_dict": False}
    second = pipe.refine(given, "a cat", **large, generator=draw)[0][0]
    refined = make("flashvideo_release", folder, clip, noise="official", preview_steps=4)
    assert same(refined, second.transpose(0, 1)[None] * 2 - 1)
    other = make("flashvideo_release", folder, clip, noise="official", preview_steps=5)
    assert not np.array_equal(other.frames, refined.frames)


def test_without_the_latent_degradation_or_the_prompt(folder: Path, preview: Clip) -> None:
    usual = make("flashvideo_release", folder, preview, nfe=1, guidance=1.0)
    clean = make("flashvideo_release", folder, preview, nfe=1, guidance=1.0, degradation="none")
    again = make("flashvideo_release", folder, preview, nfe=1, guidance=1.0, degradation="none", degradation_step=1)
    blind = make("flashvideo_release", folder, preview, nfe=1, guidance=1.0, prompted=False)
    assert np.array_equal(clean.frames, again.frames)
    assert not np.array_equal(clean.frames, usual.frames) and not np.array_equal(blind.frames, usual.frames)


def test_defaults_are_those_of_the_paper() -> None:
    first, second = (systems.get(name).defaults for name in ("stage1_release", "flashvideo_release"))
    names = {"steps": "num_inference_steps", "guidance": "guidance_scale"}
    assert {names[name]: first[name] for name in names} == PREVIEW_PRESETS["paper"]
    names = {"nfe": "num_inference_steps", "guidance": "guidance_scale"}
    shared = ("degradation_step", "shift", "rounding", "tiles")
    found = {names.get(name, name): second[name] for name in (*names, *shared)}
    assert found == REFINE_PRESETS["paper"] and second["preview_steps"] == first["steps"]


@pytest.mark.parametrize(
    ("name", "settings", "match"),
    [
        ("flashvideo_release", {"guidance": 4.0, "prompted": False}, "guidance without a prompt"),
        ("flashvideo_release", {"degradation_step": 1000}, "degradation_step 1000"),
        ("flashvideo_release", {"degradation": "latent"}, "unknown degradation 'latent'"),
        ("flashvideo_release", {"nfe": 0}, "nfe must be at least 1"),
        ("flashvideo_release", {"tiles": "quarters"}, "unknown tiles"),
        ("flashvideo_release", {"posterior": "mode"}, "unknown posterior"),
        ("flashvideo_release", {"rounding": "fp16"}, "unknown rounding"),
        ("flashvideo_release", {"dtype": "float16"}, "unknown dtype"),
        ("stage1_release", {"steps": 1}, "Stage I takes 2 to 999 steps"),
        ("stage1_release", {"device": "tpu"}, "unknown device"),
        ("stage1_release", {"noise": "own"}, "unknown noise"),
    ],
)
def test_wrong_settings_are_refused_before_any_work(name: str, settings: dict[str, Any], match: str) -> None:
    system = systems.get(name)
    with pytest.raises(UsageError, match=match):
        system.check(systems.resolve(system, settings), LARGE)


def test_cases_without_prompt_or_line(folder: Path, preview: Clip) -> None:
    with pytest.raises(InvalidError, match="has no prompt"):
        make("flashvideo_release", folder, preview, case=Case(id="x", cluster="x", seed=0))
    lineless = Case(id="x", cluster="x", seed=0, prompt=Prompt(id="x", text="a", original="a"))
    with pytest.raises(UsageError, match="has no line"):
        make("stage1_release", folder, case=lineless, steps=2, noise="official")


# --- official weights as assets ---------------------------------------------------------------------------------


def declare(folder: Path, room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry of the small release in a cache of its own, where it lies already."""
    text = folder / "google" / "t5-v1_1-xxl"
    whole = load_file(text / "model.safetensors")
    halves = [dict(list(whole.items())[::2]), dict(list(whole.items())[1::2])]
    places: dict[str, str] = {}
    for number, half in enumerate(halves, 1):
        places |= dict.fromkeys(half, name := f"model-0000{number}-of-00002.safetensors")
        save_file(half, room / name, metadata={"format": "pt"})
    (room / "index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    files = {
        "flashvideo-stage1": folder / "stage1.pt",
        "flashvideo-stage2": folder / "stage2.pt",
        "flashvideo-3d-vae": folder / "3d-vae.pt",
        "t5-xxl/config": text / "config.json",
        "t5-xxl/index": room / "index.json",
        "t5-xxl/shard-1": room / "model-00001-of-00002.safetensors",
        "t5-xxl/shard-2": room / "model-00002-of-00002.safetensors",
        "t5-xxl/tokenizer": text / "tokenizer.json",
        "t5-xxl/tokenizer-config": text / "tokenizer_config.json",
    }
    known = yaml.safe_load((Path(registry.__file__).parent / "assets.yaml").read_text("utf-8"))["assets"]
    listed = {name: entry(file.read_bytes(), *known[name]["sources"]) for name, file in files.items()}
    (room / "registry.yaml").write_text(yaml.safe_dump({"version": 1, "assets": listed}), "utf-8")
    monkeypatch.setenv("FLASHBENCH_ASSETS", str(room / "registry.yaml"))
    monkeypatch.setenv("FLASHBENCH_CACHE", str(room / "cache"))
    assert FIELDS.keys() < listed["flashvideo-stage1"].keys()
    registry.bring(list(files.values()), report=lambda line: None)


def test_official_recipes_read_assets(
    folder: Path, preview: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the store keeps is the assets' names and sha256; clips are those of the weights themselves."""
    (room := tmp_path / "room").mkdir()
    recipes = {
        name: {"kind": "official", "component": component}
        for name, component in {"narrow": "stage2", "codec": "vae", "text": "text"}.items()
    }
    system = systems.get("flashvideo_release")
    chosen = systems.resolve(system, CPU | {"nfe": 1, "guidance": 1.0})
    monkeypatch.setenv("FLASHBENCH_CACHE", str(room / "empty"))
    assert "flashbench assets pull flashvideo-stage2 --trust-first-use" in system.unavailable(chosen, recipes)
    with pytest.raises(MissingAsset, match="flashvideo-stage2 is not here"):
        checkpoints.build(recipes["narrow"], room)
    declare(folder, room, monkeypatch)
    assert system.unavailable(chosen, recipes) == ""
    assert system.unavailable(chosen, {**recipes, "narrow": {"kind": "unreleased", "why": "trained by nobody"}})
    models = {}
    for name, recipe in recipes.items():
        models[name] = tmp_path / name
        models[name].mkdir()
        checkpoints.build(recipe, models[name])
    request = Request(case=CASE, settings=chosen, geometry=LARGE, reference=None, preview=preview, models=models)
    want = make("flashvideo_release", folder, preview, nfe=1, guidance=1.0)
    assert np.array_equal(system.make(request).frames, want.frames)
    record = json.loads((models["codec"] / checkpoints.RECORD).read_text())
    record["assets"]["flashvideo-3d-vae"] = "0" * 64
    (models["codec"] / checkpoints.RECORD).write_text(json.dumps(record))
    checkpoints.load.cache_clear()
    with pytest.raises(MissingAsset, match="not the file that this model was recorded with"):
        system.make(request)


def test_no_gpu_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    system = systems.get("stage1_release")
    assert system.unavailable(systems.resolve(system, {}), {}) == "no CUDA device"
    assert system.unavailable(systems.resolve(system, CPU), {}) == ""


def test_components_that_do_not_exist(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown component of an official recipe 'stage3'"):
        checkpoints.build({"kind": "official", "component": "stage3"}, tmp_path)


@pytest.mark.parametrize("form", ["stage2.pt", "mine.safetensors", "saved"])
def test_a_checkpoint_of_ones_own(folder: Path, preview: Clip, tmp_path: Path, form: str) -> None:
    """In whatever form it comes: the official file, its tensors as safetensors, a diffusers folder."""
    path = folder / form
    if form == "mine.safetensors":
        path = tmp_path / form
        save_file({name: value.clone() for name, value in official.transformer(2).items()}, path)
    elif form == "saved":
        path = tmp_path / form
        checkpoint.load_stage2(folder).save_pretrained(path)
    (kept := tmp_path / "kept").mkdir()
    recipe = {"kind": "given", "component": "stage2", "path": str(path), "sha256": checkpoints.content_sha256(path)}
    assert checkpoints.build(recipe, kept)["parameters"] > 0
    system = systems.get("flashvideo_release")
    chosen = systems.resolve(system, CPU | {"nfe": 1, "guidance": 1.0})
    models = {"narrow": kept, "codec": folder, "text": folder}
    request = Request(case=CASE, settings=chosen, geometry=LARGE, reference=None, preview=preview, models=models)
    want = make("flashvideo_release", folder, preview, nfe=1, guidance=1.0)
    assert np.array_equal(system.make(request).frames, want.frames)
    assert str(tmp_path) not in (kept / "config.json").read_text()


def test_weights_that_are_not_what_they_should_be(folder: Path, tmp_path: Path) -> None:
    recipe = {"kind": "given", "component": "stage2", "path": str(folder / "stage1.pt"), "sha256": "0" * 64}
    with pytest.raises(InvalidError, match="changed since this run began"):
        checkpoints.build(recipe, tmp_path)
    recipe["sha256"] = checkpoints.content_sha256(folder / "stage1.pt")
    with pytest.raises(InvalidError, match="do not fit Stage II"):
        checkpoints.build(recipe, tmp_path)
    with pytest.raises(UsageError, match="there are no weights at"):
        checkpoints.content_sha256(tmp_path / "nothing")
    with pytest.raises(UsageError, match="component of one's own weights 'vae'"):
        checkpoints.build(recipe | {"component": "vae"}, tmp_path)


def test_the_cost_is_that_of_the_published_times() -> None:
    """Table 2's 30.1 s and 72.2 s within the fit's 3 %, and no guidance halves it."""
    paper = Geometry(frames=49, height=1072, width=1920, fps=Fraction(8))
    small = Geometry(frames=49, height=256, width=480, fps=Fraction(8))
    first, second = systems.get("stage1_release"), systems.get("flashvideo_release")
    one = first.cost(first.defaults, small, {})
    two = second.cost(second.defaults, paper, {})
    assert one["predicted_seconds"] == pytest.approx(30.1, rel=0.03)
    assert two["predicted_seconds"] == pytest.approx(72.2, rel=0.03) and two["tflop"] == pytest.approx(22450, rel=1e-3)
    alone = second.cost({**second.defaults, "guidance": 1.0}, paper, {})
    assert alone["tflop"] == pytest.approx(two["tflop"] / 2)


@pytest.mark.slow
def test_a_run_at_the_paper_tier(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it, with the small release as assets: one clip of Stage I a case, whatever the rows; then no weights."""
    (suite := tmp_path / "mine.txt").write_text("a cat\na dog\n")
    (room := tmp_path / "room").mkdir()
    write(
        tmp_path,
        monkeypatch,
        settings={"training": "narrow", **CPU},
        preview={"height": 32, "width": 48, "settings": {"steps": 3, **CPU}},
        rows=[{"nfe": [1, 2]}, {"training": ["wide"]}],
        cases={"suite": str(suite), "rewrite": None, "limit": None},
        metrics=["laplacian_variance"],
        primary=["laplacian_variance"],
    )
    options = Options(tier="paper", workers=0, results=tmp_path / "out")
    lines = {}
    for weights_there in (False, True):
        if weights_there:
            declare(folder, room, monkeypatch)
        run_protocols(["probe"], options=options)
        text = (tmp_path / "out" / "probe" / "clips.jsonl").read_text()
        lines[weights_there] = [json.loads(line) for line in text.splitlines()]
    assert {line["digest"] for line in lines[False]} == {""}
    assert "flashvideo-stage2 not present" in lines[False][0]["reason"]
    rows = {row: [line for line in lines[True] if line["row"] == row] for row in ("nfe=1", "nfe=2", "bicubic")}
    assert [line["evaluations"] for line in rows["nfe=2"]] == [2, 2] and all(line["digest"] for line in lines[True][:4])
    previews = [{line["original"] for line in rows[row]} for row in rows]
    assert len(previews[0]) == 2 and previews[0] == previews[1] == previews[2]
    assert {line["reason"] for line in lines[True] if line["row"] == "training=wide"} == {
        "Stage II trained on steps 600 to 900 alone was not released"
    }
    table = (tmp_path / "out" / "tables" / "probe.md").read_text()
    assert "was not released" in table and "`nfe=2`" in table
