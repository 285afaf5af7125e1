"""FlashVideo as a diffusers pipeline: text to a low-resolution preview, and its refinement to high resolution."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import numpy as np
import torch
from diffusers import AutoencoderKLCogVideoX, DiffusionPipeline
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from diffusers.video_processor import VideoProcessor
from PIL import Image
from torch import Tensor
from transformers import PreTrainedTokenizerBase, T5EncoderModel

from flashbench.cascade import checkpoint, degrade, sampling
from flashbench.cascade import vae as autoencoder
from flashbench.cascade.codec import latent_shape
from flashbench.cascade.sampling import Rounding, Sample
from flashbench.cascade.solvers import OnStep
from flashbench.cascade.tiles import TILES, Tiles
from flashbench.cascade.transformer import Stage1Transformer, Stage2Transformer, aligned
from flashbench.errors import UsageError, did_you_mean

logger = logging.getLogger(__name__)
Callback: TypeAlias = Callable[..., Any] | None
Generators: TypeAlias = torch.Generator | Sequence[torch.Generator] | None
Video: TypeAlias = list[Image.Image] | list[list[Image.Image]] | np.ndarray[Any, Any] | Tensor

PREVIEW_SIZE, REFINE_SIZES = (256, 480), ((1072, 1920), (1440, 2560))
FRAMES, STEP_RANGE = 49, (600, 900)
"""Sizes in pixels, frames and degradation steps that the released weights were trained for."""
OUTPUTS = ("pil", "np", "pt", "latent")
MOTION = "medium motion,"
"""What the release writes before the prompt of Stage II, without a space."""


@dataclass
class FlashVideoPipelineOutput(BaseOutput):  # type: ignore[misc]
    """The clips that a call of the pipeline made, and what they cost per clip."""

    frames: Any
    """Per clip a list of PIL images; or an array (B, T, H, W, 3) or tensor (B, T, 3, H, W) in [0, 1]; or latents."""
    evaluations: tuple[int, int]
    """Network evaluations of Stage I and Stage II."""
    network_forwards: tuple[int, int]
    """Conditional and unconditional forwards of both stages together."""


@dataclass(frozen=True)
class _Refinement:
    """The settings of a Stage II; wrong ones are refused here, before anything is computed."""

    size: tuple[int, int]
    posterior: str
    tiles: Tiles
    nfe: int
    guidance: float
    degradation_step: int
    shift: float
    method: str
    rounding: Rounding

    def __post_init__(self) -> None:
        sampling.check_size(*self.size)
        if self.posterior not in ("sample", "mean"):
            raise did_you_mean("posterior", self.posterior, ("sample", "mean"))
        if self.tiles not in TILES:
            raise did_you_mean("tiling", self.tiles, TILES)
        sampling.check_refine(**self.sampler)

    @property
    def sampler(self) -> dict[str, Any]:
        """The settings that `sampling.refine` takes, by name."""
        names = ("nfe", "guidance", "degradation_step", "shift", "method", "rounding")
        return {name: getattr(self, name) for name in names}

    def check(self, frames: int, height: int, width: int) -> None:
        """Refuse or warn of a clip of that size; see `_check_request`."""
        _check_request(frames, *self.size, REFINE_SIZES, step=self.degradation_step)
        stretch = (self.size[0] / height) / (self.size[1] / width)
        if not 0.9 < stretch < 1.1:
            logger.warning(f"a clip of {height}x{width} is stretched to {self.size[0]}x{self.size[1]}")


class FlashVideoPipeline(DiffusionPipeline):  # type: ignore[misc]
    """FlashVideo (arXiv 2502.05179): `preview` is Stage I, `refine` is Stage II, a call is both.

    Clips are made one after the other, as by the release: with a generator each, a clip does not depend on what else
    is in its batch. Without a generator seeds are random; torch's global one is neither read nor moved. Any height and
    width divisible by 16 and any 4n + 1 frames work; outside the sizes of the release a warning says so. Negative
    prompts do not exist: the unconditional context is zeros. Components that are None limit what can be called.

    `callback_on_step_end(pipe, step, timestep, {"latents": x})` is called after each step of each clip with the
    timestep that the network was told, and may return a dict with other latents; `pipe.current_stage` says which
    stage is running. `pipe.vae.enable_tiling()` and `enable_slicing()` save memory, `enable_model_cpu_offload()` too.
    """

    model_cpu_offload_seq = "text_encoder->stage1->vae->stage2"
    _optional_components: ClassVar[list[str]] = ["tokenizer", "text_encoder", "vae", "stage1", "stage2"]
    _callback_tensor_inputs: ClassVar[list[str]] = ["latents"]

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase | None = None,
        text_encoder: T5EncoderModel | None = None,
        vae: AutoencoderKLCogVideoX | None = None,
        stage1: Stage1Transformer | None = None,
        stage2: Stage2Transformer | None = None,
        stage1_scale: float = autoencoder.STAGE1_SCALE,
        stage2_scale: float = autoencoder.STAGE2_SCALE,
    ) -> None:
        super().__init__()
        self.register_modules(tokenizer=tokenizer, text_encoder=text_encoder, vae=vae, stage1=stage1, stage2=stage2)
        self.register_to_config(stage1_scale=stage1_scale, stage2_scale=stage2_scale)
        self.video_processor = VideoProcessor(do_resize=False)
        self._now = ("", 0)

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        """As in diffusers, with weights that give the same bits as those that were saved."""
        return cls._aligned(super().from_pretrained(*args, **kwargs))

    @classmethod
    def from_official(cls, folder: str | Path, torch_dtype: torch.dtype | None = None, **components: Any) -> Any:
        """The pipeline of the official folder: stage1.pt, stage2.pt, 3d-vae.pt and T5 (`checkpoint.TEXT_FOLDERS`).

        Parts that are not there are None; `components` replaces any. `torch_dtype` None gives float32. Raises
        UsageError when nothing is there, InvalidError when a file does not fit.
        """
        parts = checkpoint.load_official(folder, torch_dtype, without=components)
        return cls._aligned(cls(**(parts | components)))

    @staticmethod
    def _aligned(pipeline: Any) -> Any:
        for component in pipeline.components.values():
            if isinstance(component, torch.nn.Module):
                aligned(component)
        return pipeline

    @torch.no_grad()
    def encode_prompt(self, prompt: str | Sequence[str], max_sequence_length: int = 226) -> Tensor:
        """T5 states of prompts, (B, max_sequence_length, D): truncated, padded, padding states kept, no mask."""
        self._need("tokenizer", "text_encoder")
        options = {"max_length": max_sequence_length, "truncation": True, "padding": "max_length"}
        states = []
        for text in [prompt] if isinstance(prompt, str) else prompt:
            tokens = self.tokenizer(text, return_tensors="pt", **options).input_ids
            if (length := len(self.tokenizer(text).input_ids)) > max_sequence_length:
                logger.warning(f"a prompt of {length} tokens is cut to {max_sequence_length}")
            states.append(self.text_encoder(tokens.to(self._execution_device)).last_hidden_state)
        return torch.cat(states)

    @torch.no_grad()
    def preview(
        self,
        prompt: str | Sequence[str] | None = None,
        *,
        height: int = PREVIEW_SIZE[0],
        width: int = PREVIEW_SIZE[1],
        num_frames: int = FRAMES,
        num_inference_steps: int = 50,
        guidance_scale: float = 8.0,
        num_videos_per_prompt: int = 1,
        generator: Generators = None,
        latents: Tensor | None = None,
        prompt_embeds: Tensor | None = None,
        output_type: str = "pil",
        callback_on_step_end: Callback = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        return_dict: bool = True,
    ) -> FlashVideoPipelineOutput | tuple[Any, ...]:
        """Stage I: text to a low-resolution video.

        `guidance_scale` is the amplitude of the dynamic guidance (0 means none). `generator` is one for all clips, in
        turn, or a list of one per clip. `latents` (B, T, C, H/8, W/8) replaces the initial noise, `prompt_embeds`
        (B, L, D) the prompt. `output_type`: pil, np, pt, latent. Raises UsageError for a wrong call.
        """
        _check_output(output_type)
        _check_callback(callback_on_step_end_tensor_inputs, self._callback_tensor_inputs)
        context = self._context("stage1", prompt, prompt_embeds, num_videos_per_prompt, "")
        starts = self._starts(context, (num_frames, height, width), latents)
        sampler = {"steps": num_inference_steps, "guidance": guidance_scale}
        samples = [
            self._stage1(context[number, None], start, draw, callback_on_step_end, **sampler)
            for number, (start, draw) in enumerate(zip(starts, _generators(generator, len(context)), strict=True))
        ]
        outputs = [s.latent if output_type == "latent" else self._preview_pixels(s) for s in samples]
        return self._output(outputs, samples[:1], [], output_type, return_dict)

    @torch.no_grad()
    def refine(
        self,
        video: Video,
        prompt: str | Sequence[str] | None = None,
        *,
        height: int = REFINE_SIZES[0][0],
        width: int = REFINE_SIZES[0][1],
        num_inference_steps: int = 4,
        guidance_scale: float = 13.0,
        degradation_step: int = 675,
        shift: float = 2.5,
        method: str = "euler",
        rounding: Rounding = "none",
        posterior: str = "sample",
        tiles: Tiles = "none",
        generator: Generators = None,
        prompt_embeds: Tensor | None = None,
        output_type: str = "pil",
        callback_on_step_end: Callback = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        return_dict: bool = True,
    ) -> FlashVideoPipelineOutput | tuple[Any, ...]:
        """Stage II: a video of any size to `height` x `width`.

        `video`: PIL images of one clip or of several; arrays (T, H, W, 3) or (B, T, H, W, 3); tensors (T, 3, H, W) or
        (B, T, 3, H, W); floats in [0, 1] or uint8. `num_inference_steps` counts network evaluations, `guidance_scale`
        1 means none, `degradation_step` and the rest are those of `sampling.refine`; `posterior` is `sample` or
        `mean`; `tiles` see `vae.decode`. Raises UsageError for a wrong call.
        """
        _check_output(output_type)
        _check_callback(callback_on_step_end_tensor_inputs, self._callback_tensor_inputs)
        plan = _Refinement(
            (height, width),
            posterior,
            tiles,
            num_inference_steps,
            guidance_scale,
            degradation_step,
            shift,
            method,
            rounding,
        )
        clips = _pixels(video)
        context = self._context("stage2", prompt, prompt_embeds, 1, MOTION)
        if len(clips) != len(context):
            raise UsageError(f"{len(clips)} clips and {len(context)} prompts", fix="give one prompt per clip")
        plan.check(*clips[0].shape[2:])
        decode = output_type != "latent"
        done = [
            self._stage2(clip, context[number, None], draw, plan, decode, callback_on_step_end)
            for number, (clip, draw) in enumerate(zip(clips, _generators(generator, len(clips)), strict=True))
        ]
        return self._output([output for output, _ in done], [], [done[0][1]], output_type, return_dict)

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        *,
        height: int = REFINE_SIZES[0][0],
        width: int = REFINE_SIZES[0][1],
        preview_height: int = PREVIEW_SIZE[0],
        preview_width: int = PREVIEW_SIZE[1],
        num_frames: int = FRAMES,
        num_inference_steps: int = 50,
        guidance_scale: float = 8.0,
        refine_inference_steps: int = 4,
        refine_guidance_scale: float = 13.0,
        degradation_step: int = 675,
        shift: float = 2.5,
        method: str = "euler",
        rounding: Rounding = "none",
        posterior: str = "sample",
        tiles: Tiles = "none",
        num_videos_per_prompt: int = 1,
        generator: Generators = None,
        latents: Tensor | None = None,
        prompt_embeds: Tensor | None = None,
        refine_prompt_embeds: Tensor | None = None,
        output_type: str = "pil",
        callback_on_step_end: Callback = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        return_dict: bool = True,
    ) -> FlashVideoPipelineOutput | tuple[Any, ...]:
        """Text to a high-resolution video: `preview`, whose frames go on unrounded, then `refine`; arguments as there.

        Stage II encodes the prompt again behind `MOTION`, as the release does; with `prompt_embeds` alone it uses the
        same states, as the paper says. `presets.PRESETS` holds the paper's and the release's settings.
        """
        _check_output(output_type)
        _check_callback(callback_on_step_end_tensor_inputs, self._callback_tensor_inputs)
        plan = _Refinement(
            (height, width),
            posterior,
            tiles,
            refine_inference_steps,
            refine_guidance_scale,
            degradation_step,
            shift,
            method,
            rounding,
        )
        if refine_prompt_embeds is None and prompt is None:
            refine_prompt_embeds = prompt_embeds
        refine_prompt = prompt if refine_prompt_embeds is None else None
        context = self._context("stage1", prompt, prompt_embeds, num_videos_per_prompt, "")
        second = self._context("stage2", refine_prompt, refine_prompt_embeds, num_videos_per_prompt, MOTION)
        starts = self._starts(context, (num_frames, preview_height, preview_width), latents)
        plan.check(num_frames, preview_height, preview_width)
        outputs: list[Tensor] = []
        first: list[Sample] = []
        last: list[Sample] = []
        for number, (start, draw) in enumerate(zip(starts, _generators(generator, len(context)), strict=True)):
            sample = self._stage1(
                context[number, None],
                start,
                draw,
                callback_on_step_end,
                steps=num_inference_steps,
                guidance=guidance_scale,
            )
            small = self._preview_pixels(sample)
            done = self._stage2(small, second[number, None], draw, plan, output_type != "latent", callback_on_step_end)
            first, outputs, last = [sample], [*outputs, done[0]], [done[1]]
        return self._output(outputs, first, last, output_type, return_dict)

    @property
    def current_stage(self) -> str:
        """`Stage I` or `Stage II`: what a callback is called from."""
        return self._now[0]

    @property
    def num_timesteps(self) -> int:
        """Steps of the stage that is running."""
        return self._now[1]

    def _starts(self, context: Tensor, size: tuple[int, int, int], latents: Tensor | None) -> list[Any]:
        """Per row of `context` the shape of Stage I's initial noise, or the noise itself if it was given."""
        self._need("stage1", "vae")
        frames, height, width = size
        _check_request(frames, height, width, (PREVIEW_SIZE,))
        stride = autoencoder.VAECodec(self.vae).stride
        shape = latent_shape(self.stage1.config.in_channels, stride, frames, height, width)
        if latents is None:
            return [shape] * len(context)
        if latents.shape != (len(context), *shape[1:]):
            want = [len(context), *shape[1:]]
            raise UsageError(f"latents of shape {list(latents.shape)}, not {want}", fix="draw them in that shape")
        return list(latents.split(1))

    def _stage1(self, context: Tensor, start: Any, draw: torch.Generator, callback: Callback, **sampler: Any) -> Sample:
        device = self._execution_device
        noise = start if isinstance(start, Tensor) else randn_tensor(start, draw, device, torch.float32)
        with self._steps("Stage I", callback, sampler["steps"]) as on_step:
            return sampling.generate(
                self.stage1, noise.to(device), context, step_noise=draw, on_step=on_step, **sampler
            )

    def _preview_pixels(self, sample: Sample) -> Tensor:
        """Frames (1, 3, T, H, W) in [-1, 1], float32 and unrounded."""
        latent = (sample.latent / self.config.stage1_scale).to(self.vae.dtype)
        return autoencoder.decode(self.vae, latent).float().clamp(-1, 1)

    def _stage2(
        self, clip: Tensor, context: Tensor, draw: torch.Generator, plan: _Refinement, decode: bool, callback: Callback
    ) -> tuple[Tensor, Sample]:
        """Stage II of one clip (1, 3, T, h, w): pixels in [-1, 1], or the scaled latent unless `decode`."""
        self._need("stage2", "vae")
        low = degrade.resize(clip.to(self._execution_device), *plan.size).to(self.vae.dtype)
        noise = autoencoder.posterior_noise(self.vae, low, draw) if plan.posterior == "sample" else None
        latent = autoencoder.encode(self.vae, low, noise=noise) * self.config.stage2_scale
        latent = latent.to(self.stage2.dtype)
        noise = randn_tensor(latent.shape, draw, latent.device, latent.dtype)
        with self._steps("Stage II", callback, plan.nfe // sampling.stages(plan.method)) as on_step:
            sample = sampling.refine(self.stage2, latent, context, noise=noise, on_step=on_step, **plan.sampler)
        self._offload("stage2")
        scaled = (sample.latent / self.config.stage2_scale).to(self.vae.dtype)
        return (autoencoder.decode(self.vae, scaled, tiles=plan.tiles).float() if decode else sample.latent), sample

    @contextmanager
    def _steps(self, stage: str, callback: Callback, total: int) -> Iterator[OnStep]:
        """A sampler's `on_step`: it moves the progress bar and calls a diffusers callback, which may change latents."""
        self._now = (stage, total)
        with self.progress_bar(total=total) as bar:
            bar.set_description(stage)

            def on_step(number: int, time: float, latents: Tensor) -> Tensor:
                bar.update()
                return _changed(callback(self, number, time, {"latents": latents}), latents) if callback else latents

            yield on_step

    def _context(
        self, stage: str, prompt: str | Sequence[str] | None, embeds: Tensor | None, copies: int, prefix: str
    ) -> Tensor:
        """Context (B * copies, L, D) of the network `stage`, in its dtype, on the device of execution."""
        self._need(stage)
        config = getattr(self, stage).config
        texts = _prompts(prompt, embeds, copies, config.text_embed_dim)
        if embeds is None:
            embeds = self.encode_prompt([prefix + text for text in texts], config.max_text_seq_length)
            self._offload("text_encoder")
        return embeds.repeat_interleave(copies, dim=0).to(self._execution_device, getattr(self, stage).dtype)

    def _offload(self, name: str) -> None:
        """With model CPU offload, send a component back now: its hook would wait for the next in line."""
        for hook in getattr(self, "_all_hooks", ()):
            if hook.model is getattr(self, name):
                hook.offload()

    def _need(self, *names: str) -> None:
        if absent := [name for name in names if getattr(self, name) is None]:
            text = absent[0] in ("tokenizer", "text_encoder")
            fix = "pass prompt_embeds instead of a prompt" if text else "load a folder that holds it"
            raise UsageError(f"this pipeline has no {', '.join(absent)}", fix=fix)

    def _output(
        self, clips: list[Tensor], first: list[Sample], last: list[Sample], output_type: str, return_dict: bool
    ) -> FlashVideoPipelineOutput | tuple[Any, ...]:
        """`first` and `last` hold a sample of each stage that ran: every clip cost the same."""
        self.maybe_free_model_hooks()
        stacked = torch.cat(clips)
        frames = stacked if output_type == "latent" else self.video_processor.postprocess_video(stacked, output_type)
        evaluations = sum(s.evaluations for s in first), sum(s.evaluations for s in last)
        forwards = tuple(sum(s.network_forwards[half] for s in (*first, *last)) for half in (0, 1))
        output = FlashVideoPipelineOutput(frames, evaluations, (forwards[0], forwards[1]))
        return output if return_dict else (frames,)


# --- what users hand over, checked and brought into the pipeline's layout ---------------------------------------------


def _check_request(
    frames: int, height: int, width: int, sizes: Sequence[tuple[int, int]], step: int | None = None
) -> None:
    """Refuse what cannot be made, and warn of what the release does not do."""
    sampling.check_size(height, width)
    if frames < 1 or (frames - 1) % 4:
        raise UsageError(f"{frames} frames cannot be made", fix=f"give 4n + 1, e.g. {max(1, frames // 4 * 4 + 1)}")
    odd = []
    if (height, width) not in sizes:
        odd.append(f"{height}x{width} instead of " + " or ".join(f"{h}x{w}" for h, w in sizes))
    if frames != FRAMES:
        odd.append(f"{frames} frames instead of {FRAMES}")
    if step is not None and not STEP_RANGE[0] <= step <= STEP_RANGE[1]:
        odd.append(f"degradation_step {step}, trained from {STEP_RANGE[0]} to {STEP_RANGE[1]}")
    if odd:
        logger.warning(f"outside what the released weights were made for: {', '.join(odd)}")


def _pixels(video: Video) -> list[Tensor]:
    """Clips (1, 3, T, H, W) in [-1, 1], float32; UsageError for what is no video."""
    if isinstance(video, (list, tuple)):
        video = _stacked(video)
    if isinstance(video, np.ndarray):
        shape, channels = list(video.shape), -1
    elif isinstance(video, Tensor):
        shape, channels = list(video.shape), -3
    else:
        raise UsageError(f"a video cannot be a {type(video).__name__}", fix="give PIL images, an array or a tensor")
    if len(shape) not in (4, 5) or 0 in shape or shape[channels] != 3:
        fix = "arrays are (T, H, W, 3) or (B, T, H, W, 3), tensors (T, 3, H, W) or (B, T, 3, H, W)"
        raise UsageError(f"a video of shape {shape}", fix=fix)
    is_integer = video.dtype in (np.uint8, torch.uint8)
    frames = torch.as_tensor(video).float() / (255 if is_integer else 1)
    if not (float(frames.min()) >= 0 and float(frames.max()) <= 1):
        raise UsageError("a video outside [0, 1], or not finite", fix="scale floats to [0, 1], or give uint8")
    if len(shape) == 4:
        frames = frames[None]
    order = (0, 4, 1, 2, 3) if channels == -1 else (0, 2, 1, 3, 4)
    return list((2 * frames - 1).permute(order).split(1))


def _stacked(video: Sequence[Any]) -> np.ndarray[Any, Any] | Tensor:
    """A list of frames, or of lists of frames, as one array or tensor."""
    flat: list[Any] = [_stacked(item) if isinstance(item, (list, tuple)) else item for item in video]
    flat = [np.asarray(item.convert("RGB")) if isinstance(item, Image.Image) else item for item in flat]
    kinds = {type(item) for item in flat}
    shapes = {(tuple(item.shape), str(item.dtype)) for item in flat if isinstance(item, (np.ndarray, Tensor))}
    if len(kinds) != 1 or len(shapes) != 1:
        what = "no frames" if not flat else "frames that are not images, or not all of one size and kind"
        raise UsageError(what, fix="give PIL images, arrays or tensors of one size")
    return torch.stack(flat) if isinstance(flat[0], Tensor) else np.stack(flat)


def _prompts(prompt: str | Sequence[str] | None, embeds: Tensor | None, copies: int, width: int) -> list[str]:
    """The prompts as a list (empty if their states are given); UsageError for anything else."""
    if (prompt is None) == (embeds is None):
        fix = "give one of the two" if prompt is None else "give only one of the two"
        raise UsageError("a call needs a prompt or its prompt_embeds", fix=fix)
    if copies < 1:
        raise UsageError(f"num_videos_per_prompt is {copies}", fix="give 1 or more")
    if embeds is not None:
        if not isinstance(embeds, Tensor) or embeds.ndim != 3 or embeds.shape[2] != width:
            shape = list(embeds.shape) if isinstance(embeds, Tensor) else type(embeds).__name__
            raise UsageError(
                f"prompt_embeds of {shape}", fix=f"give a tensor (B, L, {width}), as encode_prompt returns"
            )
        return []
    texts = [prompt] if isinstance(prompt, str) else list(prompt) if isinstance(prompt, (list, tuple)) else []
    if not texts or not all(isinstance(text, str) for text in texts):
        raise UsageError(f"a prompt cannot be {prompt!r}", fix="give a text or a list of texts")
    return texts


def _check_callback(names: Sequence[str], allowed: Sequence[str]) -> None:
    """Refuse tensors that a callback cannot have: UsageError with the nearest name."""
    for name in names:
        if name not in allowed:
            raise did_you_mean("tensor of a callback", name, allowed)


def _changed(returned: Any, latents: Tensor) -> Tensor:
    """The latents after a callback that returned `returned`: a dict that may hold others of the same shape, or None."""
    new = returned.get("latents", latents) if isinstance(returned, dict) else latents
    if (
        not (returned is None or isinstance(returned, dict))
        or not isinstance(new, Tensor)
        or new.shape != latents.shape
    ):
        fix = f"return None, or a dict with latents of shape {list(latents.shape)}"
        raise UsageError("callback_on_step_end returned something else than latents", fix=fix)
    return new


def _check_output(output_type: str) -> None:
    """Refuse an output type that does not exist: UsageError with the nearest name."""
    if output_type not in OUTPUTS:
        raise did_you_mean("output_type", output_type, OUTPUTS)


def _generators(generator: Generators, clips: int) -> list[torch.Generator]:
    """One generator per clip; without any a fresh one with a random seed, which leaves torch's global one alone."""
    if generator is None:
        generator = torch.Generator()
        generator.seed()
    if isinstance(generator, torch.Generator):
        return [generator] * clips
    if not isinstance(generator, (list, tuple)) or not all(isinstance(item, torch.Generator) for item in generator):
        raise UsageError(f"a generator cannot be {generator!r}", fix="give torch.Generator().manual_seed(0)")
    if len(generator) != clips:
        raise UsageError(f"{len(generator)} generators for {clips} clips", fix="give one, or one per clip")
    return list(generator)
