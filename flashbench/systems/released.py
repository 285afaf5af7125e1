"""The released FlashVideo as systems of the paper tier: Stage I from a prompt, Stage II on Stage I's clip of it.

Their weights are those of `weights`: released ones, or one's own. Where a case's noise is not shared but `official`, it
is the released script's: seed `line + 1000 * sample`, one stream through both stages.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from flashbench.cascade.cost import rates
from flashbench.cascade.flops import STAGE1, STAGE2, Stage
from flashbench.cascade.tiles import TILES
from flashbench.errors import InvalidError, UsageError, did_you_mean
from flashbench.laptop.settings import RELEASED
from flashbench.systems import checkpoints, inputs
from flashbench.systems.base import Request, System
from flashbench.systems.flashvideo import check_geometry
from flashbench.systems.registry import register
from flashbench.types import Case, Clip, Geometry, Settings

if TYPE_CHECKING:
    import torch
    from torch import Tensor

DTYPES, DEVICES, NOISES = ("bfloat16", "float32"), ("cuda", "cpu"), ("shared", "official")


# --- the two stages -----------------------------------------------------------------------------------------------


def sample_stage1(network: Any, context: Tensor, start: Tensor, step_noise: Any, settings: Settings) -> Tensor:
    """Stage I's scaled latent from noise `start` of its shape. Runs on the meta device too, as what follows."""
    from flashbench.cascade import sampling

    sampler: dict[str, Any] = {"steps": settings["steps"], "guidance": float(str(settings["guidance"]))}
    return sampling.generate(network, start, context, step_noise=step_noise, **sampler).latent


def sample_stage2(
    network: Any, context: Tensor, latent: Tensor, degrading: Tensor | None, settings: Settings
) -> Tensor:
    """Stage II's scaled latent from that of the enlarged clip; `degrading` None: it is not degraded."""
    from flashbench.cascade import sampling

    noise = None if degrading is None else degrading.to(latent)
    return sampling.refine(network, latent, context, noise=noise, **_sampler(settings)).latent


def encode(vae: Any, pixels: Tensor, noise: Tensor | None, scale: float) -> Tensor:
    """The scaled latent of pixels (1, 3, T, H, W) in [-1, 1]; `noise` None: the posterior's mean."""
    from flashbench.cascade import vae as autoencoder

    return autoencoder.encode(vae, pixels.to(vae.dtype), noise=noise) * scale


def decode(vae: Any, latent: Tensor, scale: float, tiles: Any = "none") -> Tensor:
    """Pixels (1, 3, T, H, W), nominally in [-1, 1], of a scaled latent."""
    from flashbench.cascade import vae as autoencoder

    return autoencoder.decode(vae, (latent / scale).to(vae.dtype), tiles=tiles).float()


def latent_shape(frames: int, height: int, width: int) -> tuple[int, int, int, int, int]:
    """Shape (1, T', 16, H/8, W/8) of the released autoencoder's latents."""
    from flashbench.cascade import codec

    return codec.latent_shape(16, (4, 8), frames, height, width)


def _sampler(settings: Settings) -> dict[str, Any]:
    """What `sampling.refine` is told of the settings."""
    latent = _text(settings, "degradation", ("pixel+latent", "pixel", "none")) == "pixel+latent"
    return {
        "nfe": settings["nfe"],
        "guidance": float(str(settings["guidance"])),
        "degradation_step": settings["degradation_step"] if latent else None,
        "shift": float(str(settings["shift"])),
        "rounding": settings["rounding"],
    }


def _text(settings: Settings, name: str, allowed: tuple[str, ...]) -> Any:
    """The value of a setting that is one of a few words."""
    if settings[name] not in allowed:
        raise did_you_mean(name, str(settings[name]), allowed)
    return settings[name]


def official_seed(case: Case) -> int:
    """The released script's seed: the prompt's line in its file, and 1000 times the number of the sample."""
    if case.prompt is None or case.prompt.line is None:
        fix = "use noise=shared, or a suite whose prompts have lines"
        raise UsageError(
            f"case {case.id} has no line in a file of prompts, which the official seed is made of", fix=fix
        )
    return case.prompt.line + 1000 * case.seed


class Released(System):
    """What both stages share: precision, device, noise, and the components that they read."""

    version = 1
    kinds = RELEASED

    def models(self, settings: Settings) -> tuple[str, ...]:
        """The recipe named by `training`, the autoencoder and the text encoder."""
        return (str(settings["training"]), "codec", "text")

    def check(self, settings: Settings, geometry: Geometry) -> None:
        """Sides are multiples of 16 pixels, frames are 4n + 1, words and numbers lie in their ranges."""
        check_geometry(geometry)
        for name, allowed in (("dtype", DTYPES), ("device", DEVICES), ("noise", NOISES)):
            _text(settings, name, allowed)

    def unavailable(self, settings: Settings, recipes: Mapping[str, Mapping[str, Any]]) -> str:
        """Weights that were not released, or are not on this machine, or no GPU to run them on."""
        if why := super().unavailable(settings, recipes):
            return why
        used = [recipes[name] for name in self.models(settings) if name in recipes]
        if lacking := [why for recipe in used if (why := checkpoints.unavailable(recipe))]:
            return lacking[0]
        import torch

        return "no CUDA device" if settings["device"] == "cuda" and not torch.cuda.is_available() else ""

    def cost(
        self, settings: Settings, geometry: Geometry, recipes: Mapping[str, Mapping[str, Any]]
    ) -> Mapping[str, float]:
        """TFLOP and predicted seconds of the network, by rates fitted to the paper's five times."""
        stage = self.stage(settings, geometry)
        seconds = rates(None, None, None).seconds(stage)
        return {"tflop": (stage.linear + stage.attention) / 1e12, "predicted_seconds": seconds}

    @abstractmethod
    def stage(self, settings: Settings, geometry: Geometry) -> Stage:
        """The evaluations of the system's network on one clip, as the cost model counts them."""

    def _pipeline(self, request: Request) -> Any:
        from flashbench.cascade.pipeline import FlashVideoPipeline

        read = {self.component: str(request.settings["training"]), "vae": "codec", "text": "text"}
        how = str(request.settings["dtype"]), str(request.settings["device"])
        parts = [checkpoints.load(part, request.models[recipe], *how) for part, recipe in read.items()]
        return FlashVideoPipeline(**{name: value for part in parts for name, value in part.items()})

    def _context(self, request: Request, pipe: Any, prefix: str = "") -> Tensor:
        import torch

        if request.case.prompt is None:
            fix = "use cases of set `prompts`, or captions of the material"
            raise InvalidError(f"case {request.case.id} has no prompt, which {self.name} reads", fix=fix)
        with torch.no_grad():
            states: Tensor = pipe.encode_prompt(prefix + request.case.prompt.text)
        return states.to(str(request.settings["device"]), getattr(torch, str(request.settings["dtype"])))


class Stage1Release(Released):
    """The released Stage I: text to a low-resolution clip by SDE-DPM-Solver++(2M) with dynamic guidance.

    Settings: `training` (the recipe), `steps` (evaluations, 2–999; the paper prints 50, the script runs 51), `guidance`
    (amplitude of the dynamic guidance; 0 is none), `dtype`, `device`, `noise` (`shared` or `official`).
    """

    name = "stage1_release"
    component = "stage1"
    enhances = False
    defaults: ClassVar[Settings] = {
        "training": "stage1",
        "steps": 50,
        "guidance": 8.0,
        "dtype": "bfloat16",
        "device": "cuda",
        "noise": "shared",
    }

    def evaluations(self, settings: Settings) -> int:
        """One guided network evaluation per step."""
        return int(str(settings["steps"]))

    def check(self, settings: Settings, geometry: Geometry) -> None:
        """Refuse what `Released.check` refuses, and a number of steps that has no schedule."""
        from flashbench.cascade import sampling

        super().check(settings, geometry)
        sampling.stage1_schedule(self.evaluations(settings), float(str(settings["guidance"])))

    def stage(self, settings: Settings, geometry: Geometry) -> Stage:
        """Stage I with its evaluations as the cost model counts them; guidance doubles its forwards."""
        size, guided = (geometry.height, geometry.width), settings["guidance"] != 0
        return Stage(STAGE1, size, geometry.frames, self.evaluations(settings), guided)

    def make(self, request: Request) -> Clip:
        """Generate one clip of the case's prompt."""
        chosen, geometry = request.settings, request.geometry
        pipe = self._pipeline(request)
        shape = latent_shape(geometry.frames, geometry.height, geometry.width)
        step_noise: torch.Generator | list[torch.Tensor]
        if chosen["noise"] == "official":
            start, step_noise = _official_start(request.case, str(chosen["device"]), shape)
        else:
            start, step_noise = (
                inputs.noise(request.case, "stage1", shape),
                inputs.noises(request.case, "stage1_step", shape, self.evaluations(chosen) - 1),
            )
        start, context = start.to(str(chosen["device"])), self._context(request, pipe)
        latent = sample_stage1(pipe.stage1, context, start, step_noise, chosen)
        return _clip(decode(pipe.vae, latent, pipe.config.stage1_scale), geometry)


class FlashVideoRelease(Released):
    """The released Stage II: from the degraded latent of Stage I's clip to high resolution, conditioned on the prompt.

    Settings: `training` (the recipe), `nfe`, `guidance` (1 is none), `degradation` and `degradation_step`, `shift`,
    `rounding` (`bf16`: the script's time grid), `tiles` (of the last decoding; `release`: the script's two halves),
    `posterior` (`sample` as in the script, or `mean`), `prompted` (False: the unconditional context, without guidance),
    `preview_steps` (Stage I's evaluations, whose draws come before Stage II's where `noise` is `official`), `dtype`,
    `device`, `noise`. Defaults are the paper's.
    """

    name = "flashvideo_release"
    component = "stage2"
    defaults: ClassVar[Settings] = {
        "training": "narrow",
        "nfe": 4,
        "guidance": 13.0,
        "degradation": "pixel+latent",
        "degradation_step": 675,
        "shift": 2.5,
        "rounding": "none",
        "tiles": "none",
        "posterior": "sample",
        "prompted": True,
        "preview_steps": 50,
        "dtype": "bfloat16",
        "device": "cuda",
        "noise": "shared",
    }

    def evaluations(self, settings: Settings) -> int:
        """One network evaluation per step; guidance makes each a batch of two."""
        return int(str(settings["nfe"]))

    def check(self, settings: Settings, geometry: Geometry) -> None:
        """Refuse what `Released.check` refuses, and settings that the sampler does not take."""
        from flashbench.cascade import sampling

        super().check(settings, geometry)
        _text(settings, "tiles", TILES)
        _text(settings, "posterior", ("sample", "mean"))
        sampling.check_refine(**_sampler(settings), method="euler")
        if settings["guidance"] != 1 and not settings["prompted"]:
            raise UsageError("guidance without a prompt", fix="set prompted: true, or guidance: 1")

    def stage(self, settings: Settings, geometry: Geometry) -> Stage:
        """Stage II with its evaluations as the cost model counts them; guidance doubles its forwards."""
        size, guided = (geometry.height, geometry.width), settings["guidance"] != 1
        return Stage(STAGE2, size, geometry.frames, self.evaluations(settings), guided)

    def make(self, request: Request) -> Clip:
        """Enhance Stage I's clip, or the case's low-quality input, to the trial's geometry."""
        from flashbench.cascade import degrade
        from flashbench.cascade.codec import to_tensor
        from flashbench.cascade.pipeline import MOTION

        chosen, geometry = request.settings, request.geometry
        pipe = self._pipeline(request)
        clip = inputs.low(request)
        low = degrade.resize(to_tensor(clip).to(str(chosen["device"])), geometry.height, geometry.width)
        context = self._context(request, pipe, MOTION)
        if not chosen["prompted"]:
            context = context.zero_()
        posterior, degrading = self._noises(request, pipe, low, latent_shape(*clip.shape[:3]))
        scale = pipe.config.stage2_scale
        latent = encode(pipe.vae, low, posterior, scale).to(pipe.stage2.dtype)
        latent = sample_stage2(pipe.stage2, context, latent, degrading, chosen)
        return _clip(decode(pipe.vae, latent, scale, chosen["tiles"]), geometry)

    def _noises(
        self, request: Request, pipe: Any, low: Tensor, before: tuple[int, ...]
    ) -> tuple[Tensor | None, Tensor | None]:
        """Noise of the posterior and of the degradation; `before` is the shape of Stage I's latent."""
        import torch

        from flashbench.cascade import vae

        chosen, case = request.settings, request.case
        shape, device = latent_shape(*low.shape[2:]), low.device
        posterior, latent = chosen["posterior"] == "sample", chosen["degradation"] == "pixel+latent"
        if chosen["noise"] == "shared":
            return (
                inputs.noise(case, "posterior", shape).to(device) if posterior else None,
                inputs.noise(case, "degrade", shape).to(device) if latent else None,
            )
        _, draw = _official_start(case, device.type, before)
        for _ in range(
            2 * int(str(chosen["preview_steps"])) - 3
        ):  # Stage I: one draw, then two a step, none in the last
            torch.randn(before, generator=draw, device=device)
        return (
            vae.posterior_noise(pipe.vae, low, draw) if posterior else None,
            torch.randn(shape, generator=draw, device=device, dtype=pipe.stage2.dtype) if latent else None,
        )


def _official_start(case: Case, device: str, shape: tuple[int, ...]) -> tuple[Tensor, torch.Generator]:
    """The script's initial noise, which it draws on the CPU, and the stream that goes on from there on `device`."""
    import torch

    draw = torch.Generator("cpu").manual_seed(official_seed(case))
    start = torch.randn(shape, generator=draw)
    return start, draw if device == "cpu" else torch.Generator(device).manual_seed(official_seed(case))


def _clip(pixels: Tensor, geometry: Geometry) -> Clip:
    from flashbench.cascade.codec import to_frames

    return Clip(to_frames(pixels), geometry.fps)


register(Stage1Release(), FlashVideoRelease())
