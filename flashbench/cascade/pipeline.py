"""FlashVideo as a diffusers pipeline: text to a low-resolution preview, and its refinement to high resolution."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLCogVideoX, DiffusionPipeline
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from diffusers.video_processor import VideoProcessor
from torch import Tensor
from transformers import PreTrainedTokenizerBase, T5EncoderModel

from flashbench.cascade import checkpoint, degrade, sampling
from flashbench.cascade import vae as autoencoder
from flashbench.cascade.pipeline_inputs import (
    FRAMES,
    PREVIEW_SIZE,
    REFINE_SIZES,
    Generators,
    Video,
    check_output,
    check_request,
    generators,
    pixels,
)
from flashbench.cascade.sampling import Rounding, Sample
from flashbench.cascade.solvers import OnStep
from flashbench.cascade.transformer import Stage1Transformer, Stage2Transformer, aligned
from flashbench.cascade.vae import Tiles
from flashbench.errors import UsageError, did_you_mean

logger = logging.getLogger(__name__)

MOTION = "medium motion,"
"""What the release writes before the prompt of Stage II, without a space."""

PRESETS: Mapping[str, dict[str, Any]] = {
    name: {
        "num_inference_steps": sampling.STAGE1_PRESETS[name]["steps"],
        "guidance_scale": sampling.STAGE1_PRESETS[name]["guidance"],
        "refine_inference_steps": stage2["nfe"],
        "refine_guidance_scale": stage2["guidance"],
        "degradation_step": stage2["degradation_step"],
        "shift": stage2["shift"],
        "rounding": stage2["rounding"],
        "tiles": "release" if name == "release" else "none",
    }
    for name, stage2 in sampling.STAGE2_PRESETS.items()
}
"""Arguments of a call as the paper's tables or the released script have them: `pipe(prompt, **PRESETS["release"])`."""


@dataclass
class FlashVideoPipelineOutput(BaseOutput):  # type: ignore[misc]
    """What a call made, and what it cost per clip."""

    frames: Any
    """Per clip a list of PIL images; or an array (B, T, H, W, 3) or tensor (B, T, 3, H, W) in [0, 1]; or latents."""
    evaluations: tuple[int, int]
    """Network evaluations of Stage I and Stage II."""
    network_forwards: tuple[int, int]
    """Conditional and unconditional forwards of both stages together."""


class FlashVideoPipeline(DiffusionPipeline):  # type: ignore[misc]
    """FlashVideo (arXiv 2502.05179): `preview` is Stage I, `refine` is Stage II, a call is both.

    Clips are made one at a time, as by the release: a clip does not depend on what else is in its batch. Any height
    and width divisible by 16 and any 4n + 1 frames work; outside the sizes of the release a warning says so. Negative
    prompts do not exist: the unconditional context is zeros. Components that are None limit what can be called.
    """

    model_cpu_offload_seq = "text_encoder->stage1->vae->stage2"
    _optional_components = ("tokenizer", "text_encoder", "vae", "stage1", "stage2")
    _callback_tensor_inputs = ("latents",)

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
        for each in [prompt] if isinstance(prompt, str) else prompt:
            tokens = self.tokenizer(each, return_tensors="pt", **options).input_ids
            if (length := len(self.tokenizer(each).input_ids)) > max_sequence_length:
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
        callback_on_step_end: Callable[..., Any] | None = None,
        return_dict: bool = True,
    ) -> FlashVideoPipelineOutput | tuple[Any, ...]:
        """Stage I: text to a low-resolution video.

        `guidance_scale` is the amplitude of the dynamic guidance (0: none). `generator` is one for all clips, in
        turn, or a list of one per clip. `latents` (B, T, C, H/8, W/8) replaces the initial noise, `prompt_embeds`
        (B, L, D) the prompt. `output_type`: pil, np, pt, latent. Raises UsageError for a wrong call.
        """
        check_output(output_type)
        context = self._context("stage1", prompt, prompt_embeds, num_videos_per_prompt, "")
        samples = self._previews(
            context,
            (num_frames, height, width),
            generator,
            latents,
            callback_on_step_end,
            steps=num_inference_steps,
            guidance=guidance_scale,
        )
        made = [s.latent if output_type == "latent" else self._preview_pixels(s) for s in samples]
        return self._output(made, (samples, []), output_type, return_dict)

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
        callback_on_step_end: Callable[..., Any] | None = None,
        return_dict: bool = True,
    ) -> FlashVideoPipelineOutput | tuple[Any, ...]:
        """Stage II: a video of any size to `height` x `width`.

        `video`: PIL images of one clip or of several; arrays (T, H, W, 3) or (B, T, H, W, 3); tensors (T, 3, H, W) or
        (B, T, 3, H, W); floats in [0, 1] or uint8. `num_inference_steps` counts network evaluations, `guidance_scale`
        1 means none, `degradation_step` and the rest are those of `sampling.refine`; `posterior` is `sample` or
        `mean`; `tiles` see `vae.decode`. Raises UsageError for a wrong call.
        """
        check_output(output_type)
        clips = pixels(video)
        context = self._context("stage2", prompt, prompt_embeds, 1, MOTION)
        made, samples = self._refined(
            clips,
            context,
            (height, width),
            generator,
            callback_on_step_end,
            tiles=None if output_type == "latent" else tiles,
            posterior=posterior,
            nfe=num_inference_steps,
            guidance=guidance_scale,
            degradation_step=degradation_step,
            shift=shift,
            method=method,
            rounding=rounding,
        )
        return self._output(made, ([], samples), output_type, return_dict)

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
        callback_on_step_end: Callable[..., Any] | None = None,
        return_dict: bool = True,
    ) -> FlashVideoPipelineOutput | tuple[Any, ...]:
        """Text to a high-resolution video: `preview`, whose frames go on unrounded, then `refine`; arguments as there.

        Stage II encodes the prompt again behind `MOTION`, as the release does; with `prompt_embeds` alone it uses the
        same states, as the paper says. `PRESETS` holds the paper's and the release's settings.
        """
        check_output(output_type)
        if refine_prompt_embeds is None and prompt is None:
            refine_prompt_embeds = prompt_embeds
        refine_prompt = prompt if refine_prompt_embeds is None else None
        context = self._context("stage1", prompt, prompt_embeds, num_videos_per_prompt, "")
        second = self._context("stage2", refine_prompt, refine_prompt_embeds, num_videos_per_prompt, MOTION)
        sampling.check_size(height, width)  # before Stage I is run in vain
        first = self._previews(
            context,
            (num_frames, preview_height, preview_width),
            generator,
            latents,
            callback_on_step_end,
            steps=num_inference_steps,
            guidance=guidance_scale,
        )
        made, samples = self._refined(
            [self._preview_pixels(sample) for sample in first],
            second,
            (height, width),
            generator,
            callback_on_step_end,
            tiles=None if output_type == "latent" else tiles,
            posterior=posterior,
            nfe=refine_inference_steps,
            guidance=refine_guidance_scale,
            degradation_step=degradation_step,
            shift=shift,
            method=method,
            rounding=rounding,
        )
        return self._output(made, (first, samples), output_type, return_dict)

    def _previews(
        self,
        context: Tensor,
        size: tuple[int, int, int],
        generator: Generators,
        latents: Tensor | None,
        callback: Callable[..., Any] | None,
        **sampler: Any,
    ) -> list[Sample]:
        """One Stage I sample per row of `context`, for `size` = (frames, height, width)."""
        self._need("stage1", "vae")
        frames, height, width = size
        check_request(frames, height, width, (PREVIEW_SIZE,))
        channels, (time, space) = self.stage1.config.in_channels, autoencoder.VAECodec(self.vae).stride
        shape = (1, 1 + (frames - 1) // time, channels, height // space, width // space)
        if latents is not None and latents.shape != (len(context), *shape[1:]):
            want = [len(context), *shape[1:]]
            raise UsageError(f"latents of shape {list(latents.shape)}, not {want}", fix="draw them in that shape")
        samples = []
        for number, draw in enumerate(generators(generator, len(context))):
            start = randn_tensor(shape, draw, dtype=torch.float32) if latents is None else latents[number, None]
            one = (start.to(self._execution_device), context[number, None])
            with self._steps(callback, sampler["steps"]) as on_step:
                samples.append(sampling.generate(self.stage1, *one, step_noise=draw, on_step=on_step, **sampler))
        return samples

    def _preview_pixels(self, sample: Sample) -> Tensor:
        """Frames (1, 3, T, H, W) in [-1, 1], float32 and unrounded."""
        latent = (sample.latent / self.config.stage1_scale).to(self.vae.dtype)
        return autoencoder.decode(self.vae, latent).float().clamp(-1, 1)

    def _refined(
        self,
        clips: Sequence[Tensor],
        context: Tensor,
        size: tuple[int, int],
        generator: Generators,
        callback: Callable[..., Any] | None,
        *,
        tiles: Tiles | None,
        posterior: str,
        **sampler: Any,
    ) -> tuple[list[Tensor], list[Sample]]:
        """Stage II of every clip (1, 3, T, h, w): pixels in [-1, 1], or scaled latents for `tiles` None."""
        self._need("stage2", "vae")
        if posterior not in ("sample", "mean"):
            raise did_you_mean("posterior", posterior, ("sample", "mean"))
        if len(clips) != len(context):
            raise UsageError(f"{len(clips)} clips and {len(context)} prompts", fix="give one prompt per clip")
        check_request(clips[0].shape[2], *size, REFINE_SIZES, step=sampler["degradation_step"])
        made, samples = [], []
        for number, draw in enumerate(generators(generator, len(clips))):
            low = degrade.resize(clips[number].to(self._execution_device), *size).to(self.vae.dtype)
            noise = autoencoder.posterior_noise(self.vae, low, draw) if posterior == "sample" else None
            latent = autoencoder.encode(self.vae, low, noise=noise) * self.config.stage2_scale
            latent = latent.to(self.stage2.dtype)
            with self._steps(callback, sampler["nfe"] // sampling.stages(sampler["method"])) as on_step:
                sample = sampling.refine(
                    self.stage2,
                    latent,
                    context[number, None],
                    noise=randn_tensor(latent.shape, draw, latent.device, latent.dtype),
                    on_step=on_step,
                    **sampler,
                )
            samples.append(sample)
            scaled = (sample.latent / self.config.stage2_scale).to(self.vae.dtype)
            made.append(sample.latent if tiles is None else autoencoder.decode(self.vae, scaled, tiles=tiles).float())
        return made, samples

    @contextmanager
    def _steps(self, callback: Callable[..., Any] | None, total: int) -> Iterator[OnStep]:
        """A sampler's `on_step`: it moves the progress bar and calls a diffusers callback, which may change latents."""
        with self.progress_bar(total=total) as bar:

            def on_step(number: int, time: float, latents: Tensor) -> Tensor:
                changed = callback(self, number, time, {"latents": latents}) if callback is not None else None
                bar.update()
                return (changed or {}).get("latents", latents)

            yield on_step

    def _context(
        self, stage: str, prompt: str | Sequence[str] | None, embeds: Tensor | None, copies: int, prefix: str
    ) -> Tensor:
        """Context (B * copies, L, D) of the network `stage`, in its dtype, on the device of execution."""
        self._need(stage)
        if (prompt is None) == (embeds is None):
            raise UsageError("give either a prompt or its prompt_embeds", fix="one of the two, not both")
        network = getattr(self, stage)
        if embeds is None:
            prompts = [prompt] if isinstance(prompt, str) else list(prompt or ())
            embeds = self.encode_prompt([prefix + each for each in prompts], network.config.max_text_seq_length)
        return embeds.repeat_interleave(copies, dim=0).to(self._execution_device, network.dtype)

    def _need(self, *names: str) -> None:
        if absent := [name for name in names if getattr(self, name) is None]:
            fix = "load a folder that holds it, or pass prompt_embeds instead of a prompt"
            raise UsageError(f"this pipeline has no {', '.join(absent)}", fix=fix)

    def _output(
        self, made: list[Tensor], samples: tuple[list[Sample], list[Sample]], output_type: str, return_dict: bool
    ) -> FlashVideoPipelineOutput | tuple[Any, ...]:
        self.maybe_free_model_hooks()
        stacked = torch.cat(made)
        frames = stacked if output_type == "latent" else self.video_processor.postprocess_video(stacked, output_type)
        first = [group[0] for group in samples if group]
        forwards = sum(s.network_forwards[0] for s in first), sum(s.network_forwards[1] for s in first)
        evaluations = tuple(group[0].evaluations if group else 0 for group in samples)
        output = FlashVideoPipelineOutput(frames, (evaluations[0], evaluations[1]), forwards)
        return output if return_dict else (frames,)
