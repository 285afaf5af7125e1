"""FlashVideoPipeline by diffusers' conventions, on a small seeded cascade."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support import official

from flashbench.cascade import PRESETS, FlashVideoPipeline, sampling, vae
from flashbench.cascade.pipeline import MOTION
from flashbench.errors import UsageError

SMALL: dict[str, Any] = {
    "height": 32,
    "width": 48,
    "preview_height": 16,
    "preview_width": 32,
    "num_frames": 5,
    "num_inference_steps": 3,
    "refine_inference_steps": 2,
}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def pipe(tmp_path_factory: pytest.TempPathFactory) -> FlashVideoPipeline:
    pipeline = FlashVideoPipeline.from_official(official.release(tmp_path_factory.mktemp("official")))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def test_a_call_is_preview_then_refine(pipe: FlashVideoPipeline) -> None:
    """By hand from the free functions: frames go on unrounded, and one generator serves all draws in turn."""
    out = pipe("a cat", **SMALL, generator=seeded(), output_type="pt")
    draw = seeded()
    noise = torch.randn(1, 2, 16, 2, 4, generator=draw)
    first = sampling.generate(pipe.stage1, noise, pipe.encode_prompt("a cat"), steps=3, guidance=8, step_noise=draw)
    frames = vae.decode(pipe.vae, first.latent / 0.7).clamp(-1, 1)
    big = torch.nn.functional.interpolate(frames[0].transpose(0, 1), (32, 48), mode="bilinear", antialias=True)
    big = big.transpose(0, 1)[None]
    posterior = vae.posterior_noise(pipe.vae, big, draw)
    low = vae.encode(pipe.vae, big, noise=posterior) * 1.15258426
    degrading = torch.randn(low.shape, generator=draw)
    context = pipe.encode_prompt("medium motion,a cat")
    second = sampling.refine(pipe.stage2, low, context, nfe=2, noise=degrading)
    want = (vae.decode(pipe.vae, second.latent / 1.15258426) / 2 + 0.5).clamp(0, 1).transpose(1, 2)
    assert out.frames.shape == (1, 5, 3, 32, 48)
    assert torch.allclose(out.frames, want, atol=1e-5)
    assert out.evaluations == (3, 2) and out.network_forwards == (5, 5)


def test_preview_and_refine_apart(pipe: FlashVideoPipeline) -> None:
    first = pipe.preview(
        "a dog", height=16, width=32, num_frames=5, num_inference_steps=2, guidance_scale=0, generator=seeded()
    )
    assert len(first.frames) == 1 and len(first.frames[0]) == 5 and first.frames[0][0].size == (32, 16)
    assert first.evaluations == (2, 0) and first.network_forwards == (2, 0)
    options: dict[str, Any] = {"height": 32, "width": 32, "num_inference_steps": 1, "guidance_scale": 1}
    again = pipe.refine(first.frames[0], "a dog", **options, generator=seeded(), output_type="np")
    assert again.frames.shape == (1, 5, 32, 32, 3)
    assert again.evaluations == (0, 1) and again.network_forwards == (1, 0)


def test_one_video_in_every_form(pipe: FlashVideoPipeline) -> None:
    uint8 = np.random.default_rng(0).integers(0, 256, (5, 12, 20, 3), dtype=np.uint8)
    floats = uint8.astype(np.float32) / 255
    forms: list[Any] = [
        uint8,
        uint8[None],
        floats,
        [Image.fromarray(frame) for frame in uint8],
        [[Image.fromarray(frame) for frame in uint8]],
        [Image.fromarray(frame).convert("RGBA") for frame in uint8],
        list(uint8),
        tuple(torch.from_numpy(frame).permute(2, 0, 1) for frame in floats),
        torch.from_numpy(floats).permute(0, 3, 1, 2),
        torch.from_numpy(uint8).permute(0, 3, 1, 2)[None],
    ]
    options: dict[str, Any] = {"height": 16, "width": 32, "num_inference_steps": 1, "output_type": "latent"}
    made = [pipe.refine(form, "x", **options, generator=seeded()).frames for form in forms]
    assert made[0].shape == (1, 2, 16, 2, 4)
    assert all(torch.allclose(each, made[0], atol=1e-5) for each in made)


def test_a_clip_does_not_depend_on_its_batch(pipe: FlashVideoPipeline) -> None:
    pair = pipe(["a cat", "a dog"], **SMALL, generator=[seeded(1), seeded(2)], output_type="pt").frames
    alone = pipe("a dog", **SMALL, generator=[seeded(2)], output_type="pt").frames
    assert torch.equal(pair[1:], alone)
    copies = pipe("a dog", **SMALL, generator=[seeded(2), seeded(2)], num_videos_per_prompt=2, output_type="pt").frames
    assert torch.equal(copies, torch.cat([alone, alone]))


def test_given_states_replace_the_prompt(pipe: FlashVideoPipeline) -> None:
    embeds, refined = pipe.encode_prompt("a cat"), pipe.encode_prompt(MOTION + "a cat")
    both = pipe(prompt_embeds=embeds, refine_prompt_embeds=refined, **SMALL, generator=seeded(), output_type="pt")
    assert torch.equal(both.frames, pipe("a cat", **SMALL, generator=seeded(), output_type="pt").frames)
    reused = pipe(prompt_embeds=embeds, **SMALL, generator=seeded(), output_type="pt")
    assert not torch.equal(reused.frames, both.frames)


def test_text_is_padded_and_cut_to_226(pipe: FlashVideoPipeline) -> None:
    short, long = pipe.encode_prompt(["a", "b " * 300])
    assert short.shape == long.shape == (226, official.TEXT)
    tokens = pipe.tokenizer("a", padding="max_length", max_length=226, return_tensors="pt").input_ids
    with torch.no_grad():
        unmasked = pipe.text_encoder(tokens).last_hidden_state[0]  # padding is attended to
    assert torch.allclose(short, unmasked, atol=1e-6)


def test_callbacks_see_and_change_latents(pipe: FlashVideoPipeline) -> None:
    seen: list[tuple[str, int, int, float]] = []

    def callback(pipeline: Any, step: int, time: float, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        seen.append((pipeline.current_stage, pipeline.num_timesteps, step, time))
        return {"latents": torch.zeros_like(tensors["latents"])}

    options: dict[str, Any] = SMALL | {"shift": 1.0, "callback_on_step_end_tensor_inputs": ["latents"]}
    out = pipe("x", **options, generator=seeded(), output_type="latent", callback_on_step_end=callback)
    first = [("Stage I", 3, step, time) for step, time in enumerate((999.0, 666.0, 333.0))]
    assert seen == [*first, ("Stage II", 2, 0, 1000.0), ("Stage II", 2, 1, 500.0)] and not out.frames.any()
    for wrong in (torch.zeros(1), {"latents": torch.zeros(1)}):
        with pytest.raises(UsageError, match="returned something else than latents"):
            pipe.preview("x", height=16, width=16, num_frames=1, callback_on_step_end=lambda *_, wrong=wrong: wrong)


def test_one_generator_serves_clips_in_turn(pipe: FlashVideoPipeline) -> None:
    """Clip after clip through both stages, as the release draws."""
    together = seeded(4)
    pair = pipe(["a cat", "a dog"], **SMALL, generator=together, output_type="pt").frames
    one = seeded(4)
    apart = [pipe(text, **SMALL, generator=one, output_type="pt").frames for text in ("a cat", "a dog")]
    assert torch.equal(pair, torch.cat(apart))


def test_half_precision_keeps_stage_ones_state_exact(pipe: FlashVideoPipeline, tmp_path: Path) -> None:
    half = FlashVideoPipeline.from_official(official.release(tmp_path), torch_dtype=torch.bfloat16)
    half.set_progress_bar_config(disable=True)
    half.vae.to(torch.float16)
    kinds = []

    def callback(pipeline: Any, step: int, time: float, tensors: dict[str, torch.Tensor]) -> None:
        kinds.append((pipeline.current_stage, tensors["latents"].dtype))

    out = half("x", **SMALL, generator=seeded(), output_type="pt", callback_on_step_end=callback)
    assert out.frames.dtype == torch.float32 and out.frames.isfinite().all()
    assert set(kinds) == {("Stage I", torch.float32), ("Stage II", torch.bfloat16)}
    start = torch.randn(1, 2, 16, 2, 4, generator=seeded()).bfloat16()
    size: dict[str, Any] = {"height": 16, "width": 32, "num_frames": 5, "num_inference_steps": 2}
    given = half.preview("x", **size, latents=start, generator=seeded(), output_type="latent").frames
    assert given.dtype == torch.float32


def test_offloading_moves_each_component_when_it_is_needed(pipe: FlashVideoPipeline) -> None:
    """On the CPU nothing moves, so what is looked at is which hook is asked when."""
    pipe.enable_model_cpu_offload(device="cpu")
    events: list[str] = []
    names = {id(getattr(pipe, name)): name for name in ("text_encoder", "stage1", "vae", "stage2")}

    def noted(event: str, function: Any) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            events.append(event)
            return function(*arguments, **named)

        return call

    for hook in pipe._all_hooks:
        name, inner = names[id(hook.model)], hook.model._hf_hook
        inner.pre_forward, hook.offload = noted(name, inner.pre_forward), noted(f"-{name}", hook.offload)
    try:
        pipe("x", **SMALL, generator=seeded())
    finally:
        pipe.remove_all_hooks()
    steps = [event for number, event in enumerate(events) if not number or events[number - 1] != event]
    text = ["text_encoder", "-text_encoder"]
    assert steps == [*text, *text, "stage1", "vae", "stage2", "-stage2", "vae"]


def test_presets_run(pipe: FlashVideoPipeline) -> None:
    small = {key: value for key, value in SMALL.items() if "steps" not in key}
    embeds = torch.zeros(1, 3, official.TEXT)
    for name, evaluations in (("paper", (50, 4)), ("release", (51, 5))):
        calls: list[str] = []
        hooks = [
            model.register_forward_hook(lambda module, *_, calls=calls: calls.append(type(module).__name__))
            for model in (pipe.stage1, pipe.stage2)
        ]
        out = pipe(prompt_embeds=embeds, **small, **PRESETS[name], generator=seeded(), output_type="latent")
        for hook in hooks:
            hook.remove()
        counted = calls.count("Stage1Transformer"), calls.count("Stage2Transformer")
        assert out.evaluations == evaluations == counted
        assert out.network_forwards == (sum(evaluations), sum(evaluations))


def test_saved_and_loaded(pipe: FlashVideoPipeline, tmp_path: Path) -> None:
    pipe.save_pretrained(tmp_path)
    again = FlashVideoPipeline.from_pretrained(tmp_path)
    again.set_progress_bar_config(disable=True)
    options = {**SMALL, "output_type": "pt"}
    assert torch.equal(
        again("x", **options, generator=seeded()).frames, pipe("x", **options, generator=seeded()).frames
    )


def test_offloading_and_slicing_change_nothing(pipe: FlashVideoPipeline) -> None:
    want = pipe("x", **SMALL, generator=seeded(), output_type="pt").frames
    pipe.vae.enable_slicing()
    pipe.enable_model_cpu_offload(device="cpu")
    try:
        assert torch.equal(pipe("x", **SMALL, generator=seeded(), output_type="pt").frames, want)
    finally:
        pipe.vae.disable_slicing()
        pipe.remove_all_hooks()


def test_no_generator_leaves_the_global_one_alone(pipe: FlashVideoPipeline) -> None:
    before = torch.get_rng_state()
    options: dict[str, Any] = {"height": 16, "width": 16, "num_frames": 1, "num_inference_steps": 2}
    one, two = (pipe.preview("x", **options, output_type="latent").frames for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before) and not torch.equal(one, two)


def test_sizes_outside_the_release_are_warned_of(pipe: FlashVideoPipeline, caplog: pytest.LogCaptureFixture) -> None:
    embeds = torch.zeros(2, 1, official.TEXT)
    pipe.preview(prompt_embeds=embeds, height=16, width=16, num_frames=1, num_inference_steps=2)
    assert [record.getMessage() for record in caplog.records] == [
        "outside what the released weights were made for: 16x16 instead of 256x480, 1 frames instead of 49"
    ]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"height": 40}, "multiples of 16"),
        ({"preview_width": 30}, "multiples of 16"),
        ({"num_frames": 6}, "6 frames cannot be made"),
        ({"output_type": "mp4"}, "unknown output_type"),
        ({"posterior": "mode"}, "unknown posterior"),
        ({"method": "heun"}, "unknown method"),
        ({"refine_inference_steps": 3, "method": "midpoint"}, "not divisible"),
        ({"generator": [torch.Generator(), torch.Generator()]}, "2 generators for 1 clips"),
        ({"prompt_embeds": torch.zeros(1, 1, 24)}, "a call needs a prompt or its prompt_embeds"),
        ({"latents": torch.zeros(1, 1, 16, 2, 4)}, "latents of shape"),
        ({"num_inference_steps": 1}, "takes 2 to 999 steps"),
        ({"tiles": "x"}, "unknown tiling"),
        ({"tiles": "x", "output_type": "latent"}, "unknown tiling"),
        ({"rounding": "x"}, "unknown rounding"),
        ({"shift": 0.0}, "shift is 0.0"),
        ({"refine_guidance_scale": float("nan")}, "guidance is nan"),
        ({"guidance_scale": float("inf")}, "guidance is inf"),
        ({"refine_inference_steps": 0}, "nfe must be at least 1"),
        ({"degradation_step": 1000}, "outside 0 to 999"),
        ({"degradation_step": 675.5}, "not a whole number"),
        ({"num_videos_per_prompt": 0}, "num_videos_per_prompt is 0"),
        ({"generator": 0}, "a generator cannot be 0"),
        ({"callback_on_step_end_tensor_inputs": ["x"]}, "unknown tensor of a callback"),
    ],
)
def test_wrong_calls(pipe: FlashVideoPipeline, change: dict[str, Any], told: str) -> None:
    """Refused before either network runs."""
    ran: list[Any] = []
    hooks = [model.register_forward_hook(lambda *_: ran.append(1)) for model in (pipe.stage1, pipe.stage2)]
    try:
        with pytest.raises(UsageError, match=told):
            pipe("a cat", **(SMALL | {"generator": seeded()} | change))
    finally:
        for hook in hooks:
            hook.remove()
    assert not ran


@pytest.mark.parametrize("prompt", [[], 3, ["a", 3]])
def test_wrong_prompts(pipe: FlashVideoPipeline, prompt: Any) -> None:
    with pytest.raises(UsageError, match="a prompt cannot be"):
        pipe.preview(prompt)
    with pytest.raises(UsageError, match=r"prompt_embeds of \[1, 24\]"):
        pipe.preview(prompt_embeds=torch.zeros(1, 24))


@pytest.mark.parametrize(
    ("video", "told"),
    [
        (np.zeros((5, 8, 8, 4), np.uint8), "shape"),
        (np.full((5, 8, 8, 3), 2.0), "outside"),
        (np.full((5, 8, 8, 3), np.nan), "not finite"),
        (torch.zeros(4, 3, 8, 8), "4 frames"),
        (torch.zeros(2, 5, 3, 8, 8), "2 clips and 1 prompts"),
        ([], "no frames"),
        ("clip.mp4", "a video cannot be a str"),
        (np.zeros((0, 8, 8, 3), np.uint8), "shape"),
        ([Image.new("RGB", (8, 8)), Image.new("RGB", (8, 9))], "not all of one size"),
        ([np.zeros((8, 8, 3)), "x"], "not all of one size"),
        ([np.full((8, 8, 3), 2.0)], "outside"),
    ],
)
def test_wrong_videos(pipe: FlashVideoPipeline, video: Any, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        pipe.refine(video, "x", height=16, width=16)


def test_parts_that_are_absent_are_named(pipe: FlashVideoPipeline) -> None:
    alone = FlashVideoPipeline(vae=pipe.vae, stage2=pipe.stage2)
    with pytest.raises(UsageError, match="no stage1"):
        alone.preview("x")
    with pytest.raises(UsageError, match="no tokenizer, text_encoder"):
        alone.refine(torch.zeros(1, 3, 16, 16), "x")
    alone.set_progress_bar_config(disable=True)
    options: dict[str, Any] = {"height": 16, "width": 16, "num_inference_steps": 1, "output_type": "latent"}
    made = alone.refine(torch.zeros(1, 3, 16, 16), prompt_embeds=torch.zeros(1, 2, 24), **options)
    assert made.frames.shape == (1, 1, 16, 2, 2)
