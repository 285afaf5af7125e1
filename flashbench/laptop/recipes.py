"""Recipes: everything the laptop and smoke tiers train, each a pure function of its settings, inputs and replica."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import torch
from accelerate import Accelerator
from safetensors.torch import save_file
from torch import Tensor

from flashbench.cascade import degrade, sampling
from flashbench.cascade.codec import Codec, latent_shape, to_frames, to_tensor
from flashbench.cascade.training import Phase, Training, context_for, from_pairs, generator, train
from flashbench.cascade.transformer import Stage2Transformer
from flashbench.data.scene_clips import scene_clip, training_scene
from flashbench.data.synthetic import synthetic_clip
from flashbench.errors import InvalidError, UsageError, did_you_mean
from flashbench.laptop import stage1, text, tuned
from flashbench.laptop.convolution import ConvolutionalTransformer, ConvolutionalVanilla
from flashbench.laptop.corrections import Corrections
from flashbench.laptop.klt import KLTCodec
from flashbench.laptop.labels import Labels, captions, write_labels
from flashbench.laptop.pool import MODES, Pool, write_pool
from flashbench.laptop.settings import Value, padded, resolve
from flashbench.laptop.vanilla import VanillaTransformer, closed_form, from_noise, vanilla_sample
from flashbench.types import Frames

POSITIONS = ("rope", "absolute")
"""FlashVideo's rotary positions, or CogVideoX-2B's sin-cos table (Figure 8 of the paper)."""
LOSS_UNITS = ("latent", "pixel")
"""The error of each latent channel as the network's preconditioner scales it, or as the codec's decoder does."""
UNCORRECTED = Corrections()
Record: TypeAlias = dict[str, float | int | str]
Report: TypeAlias = Callable[[int, int, str], None]


def build(
    settings: Mapping[str, Value],
    *,
    inputs: Mapping[str, Path],
    out: Path,
    state: Path,
    replica: int,
    report: Report,
    load: tuned.Load | None = None,
) -> Record:
    """Make the artifact of a recipe in the empty folder `out` and return what is worth recording about it.

    `settings["kind"]` is one of `KINDS`, the rest are its `DEFAULTS` with changes. `inputs` holds the finished
    artifacts it reads: a pool needs `codec`; labels keep captions if `text` is there; flow, regression and vanilla need
    `codec` and `pool`; a flow with `text` or `best` needs `labels`, and goes on from `init` if it is there. `state`
    survives a kill: training goes on from its checkpoint. `replica` is the training seed's other half; codec, pool and
    labels are the same for every replica. A tuned recipe needs `init`, `codec` and `text`, of which `load` reads the
    pipeline's parts. Runs on one thread. Raises UsageError for a wrong setting.
    """
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    kind, resolved = resolve(settings)
    if kind == "codec":
        return _codec(resolved, out, report)
    if kind == "pool":
        return _pool(resolved, load_codec(inputs["codec"]), out, report)
    if kind == "labels":
        return _labels(resolved, inputs, out, report)
    if kind == "text":
        return {**text.write(out)}
    if kind == "scenes":
        return {**stage1.write_scenes(resolved, load_codec(inputs["codec"]), out, report)}
    if kind == "tuned":
        if load is None:
            raise UsageError("a tuned recipe reads released weights", fix="give `load`, which reads them")
        return {**tuned.build(resolved, inputs, out, state, replica, report, load)}
    if kind == "stage1":
        losses = stage1.build(resolved, inputs, out, state, replica, report, _identity(inputs))
        return {"steps": len(losses)}
    return _network(kind, resolved, inputs, out, state, replica, report)


def load_codec(folder: Path) -> KLTCodec:
    """The codec of a finished `codec` recipe."""
    return KLTCodec.load(folder)


def load_network(folder: Path) -> Stage2Transformer:
    """The network of a finished `flow` or `regression` recipe, in eval mode."""
    network: Stage2Transformer = _read(folder, Stage2Transformer, ConvolutionalTransformer)
    return network


def load_vanilla(folder: Path) -> VanillaTransformer:
    """The network of a finished `vanilla` recipe, in eval mode."""
    network: VanillaTransformer = _read(folder, VanillaTransformer, ConvolutionalVanilla)
    return network


def load_corrections(folder: Path) -> Corrections:
    """The corrections that clips of a finished flow, regression or vanilla recipe get."""
    return Corrections.read(folder)


def _read(folder: Path, *kinds: Any) -> Any:
    """The network of one of `kinds` that `folder` holds, in eval mode."""
    name = json.loads((folder / "config.json").read_text("utf-8")).get("_class_name")
    named = {kind.__name__: kind for kind in kinds}
    if name not in named:
        raise InvalidError(f"{folder} holds a {name}, not a {' or '.join(named)}", fix="name another recipe")
    return named[name].from_pretrained(folder, use_safetensors=True).eval()


@torch.no_grad()
def enhance(
    network: Stage2Transformer,
    codec: Codec,
    low: Frames,
    height: int,
    width: int,
    *,
    nfe: int,
    degradation_step: int | None,
    noise: Tensor | None,
    shift: float = 2.5,
    guidance: float = 1.0,
    context: Tensor | None = None,
    corrections: Corrections = UNCORRECTED,
    shifts: int = 1,
) -> tuple[Frames, int]:
    """Enhance a low-quality clip uint8 [T, h, w, 3] of any size to (uint8 [T, height, width, 3], evaluations made).

    Enlarge, encode, degrade with `noise` (of the latent's shape) at `degradation_step` (None: not at all, for
    networks trained without), follow the flow for `nfe` evaluations, decode, correct. With more than one of `shifts`
    all of it happens at as many places of the codec's grid (`corrections.over_shifts`), each with its own latent of
    `noise`, whose shape is `noise_shape`. `context` (1, L, D) is the prompt's; None is the unconditional one, on which
    `guidance` has no hold: it must then be 1. Raises UsageError for sides not divisible by 16 and a context that the
    network does not take.
    """
    _check_context(network, context, guidance)
    evaluations = 0

    def enhanced(frames: Tensor, number: int) -> Tensor:
        nonlocal evaluations
        sample = sampling.refine(
            network,
            codec.encode(frames),
            context_for(network, 1) if context is None else context,
            nfe=nfe,
            shift=shift,
            guidance=guidance,
            degradation_step=degradation_step,
            noise=None if noise is None else noise[number : number + 1],
        )
        evaluations += sample.evaluations
        return codec.decode(sample.latent)

    frames = corrections(enhanced, codec, _enlarge(low, height, width), to_tensor(low), shifts)
    return to_frames(frames), evaluations


def noise_shape(
    channels: int, codec: Codec, frames: int, height: int, width: int, shifts: int = 1
) -> tuple[int, int, int, int, int]:
    """Shape of the noise that enhancing to a clip of that size starts from: a latent of `channels` for each shift."""
    sides = (padded(side, shifts, codec.stride[1]) for side in (height, width))
    one = latent_shape(channels, codec.stride, frames, *sides)
    return (shifts, *one[1:])


@torch.no_grad()
def enhance_vanilla(
    network: VanillaTransformer,
    codec: Codec,
    low: Frames,
    height: int,
    width: int,
    *,
    nfe: int,
    noise: Tensor,
    shift: float = 2.5,
    corrections: Corrections = UNCORRECTED,
    shifts: int = 1,
) -> tuple[Frames, int]:
    """The vanilla cascade, from `noise` of `noise_shape`: arguments and result as in `enhance`."""
    evaluations = 0

    def enhanced(frames: Tensor, number: int) -> Tensor:
        nonlocal evaluations
        latent = codec.encode(frames)
        sample = vanilla_sample(network, latent, nfe=nfe, noise=noise[number : number + 1], shift=shift)
        evaluations += sample.evaluations
        return codec.decode(sample.latent)

    frames = corrections(enhanced, codec, _enlarge(low, height, width), to_tensor(low), shifts)
    return to_frames(frames), evaluations


@torch.no_grad()
def regress(
    network: Stage2Transformer,
    codec: Codec,
    low: Frames,
    height: int,
    width: int,
    *,
    corrections: Corrections = UNCORRECTED,
    shifts: int = 1,
) -> tuple[Frames, int]:
    """The L1 control: an evaluation of a network trained by regression; arguments and result as in `enhance`."""
    options: dict[str, Any] = {"nfe": 1, "degradation_step": None, "noise": None}
    return enhance(network, codec, low, height, width, **options, corrections=corrections, shifts=shifts)


def reconstruct(codec: Codec, frames: Frames) -> Frames:
    """The codec's own round trip of a clip uint8 [T, H, W, 3]: what a perfect Stage II could reach."""
    return to_frames(codec.decode(codec.encode(to_tensor(frames))))


def _check_context(network: Stage2Transformer, context: Tensor | None, guidance: float) -> None:
    if context is None:
        if guidance != 1:
            raise UsageError(f"guidance {guidance} without a prompt", fix="give a context, or guidance 1")
        return
    length, width = network.config.max_text_seq_length, network.config.text_embed_dim
    if context.ndim != 3 or context.shape[0] != 1 or context.shape[1] > length or context.shape[2] != width:
        what = f"a context of shape {tuple(context.shape)} for a network that takes (1, at most {length}, {width})"
        raise UsageError(what, fix="use a training with `text: true` and the text encoder of its labels")


def _enlarge(low: Frames, height: int, width: int) -> Tensor:
    """The low-quality clip as Stage II reads it, (1, 3, T, height, width) in [-1, 1]."""
    sampling.check_size(height, width)
    return degrade.resize(to_tensor(low), height, width)


def _clips(settings: Mapping[str, Any]) -> Iterator[Frames]:
    """The training clips that a codec or pool recipe asks for; `sources+scenes` are of both, in turn."""
    count, shape = settings["clips"], (settings["frames"], settings["size"], settings["size"])
    if settings["material"] == "synthetic":
        return (synthetic_clip(*shape, settings["seed"] + number) for number in range(count))
    if settings["material"] == "scenes":
        return (scene_clip(training_scene(number)[0], number, *shape, settings["contrast"]) for number in range(count))
    if settings["material"] == "sources":
        from flashbench.data.material import training_clips

        return training_clips(count, *shape, settings["seed"])
    if settings["material"] == "sources+scenes":
        if count % 2:
            raise UsageError(f"{count} clips are not as many of sources as of scenes", fix=f"take {count + 1}")
        halves = ({**settings, "material": material, "clips": count // 2} for material in ("sources", "scenes"))
        return chain.from_iterable(zip(*map(_clips, halves), strict=True))
    raise did_you_mean("material", str(settings["material"]), ("scenes", "sources", "sources+scenes", "synthetic"))


def _codec(settings: Mapping[str, Any], out: Path, report: Report) -> Record:
    def counted() -> Iterator[Frames]:
        for number, clip in enumerate(_clips(settings)):
            yield clip
            report(number + 1, settings["clips"], "fitting the codec")

    codec = KLTCodec.fit(
        counted(),
        channels=settings["channels"],
        scale=settings["latent_scale"],
        blocks=settings["blocks"],
        seed=settings["seed"],
    )
    codec.save(out)
    return {"channels": codec.channels}


def _pool(settings: Mapping[str, Any], codec: KLTCodec, out: Path, report: Report) -> Record:
    counts = write_pool(
        _clips(settings),
        codec,
        scale=settings["scale"],
        seed=settings["seed"],
        folder=out,
        report=lambda done: report(done, settings["clips"], "encoding clips"),
        pixel=degrade.PixelDegradation.of(settings["low"]),
    )
    (out / "config.json").write_text(json.dumps({"class": "Pool", **counts}, indent=2, sort_keys=True) + "\n")
    return {**counts}


def _labels(settings: Mapping[str, Any], inputs: Mapping[str, Path], out: Path, report: Report) -> Record:
    encode = None
    if "text" in inputs:
        text.check(inputs["text"])
        encode = text.encode
    counts = write_labels(
        captions(settings["material"], settings["clips"], settings["seed"]),
        _clips(settings),
        score=settings["score"],
        encode=encode,
        folder=out,
        report=lambda done: report(done, settings["clips"], "scoring clips"),
    )
    (out / "config.json").write_text(json.dumps({"class": "Labels", **counts}, indent=2, sort_keys=True) + "\n")
    return {**counts}


def _network(
    kind: str,
    settings: Mapping[str, Any],
    inputs: Mapping[str, Path],
    out: Path,
    state: Path,
    replica: int,
    report: Report,
) -> Record:
    latent = settings["degradation"] == "pixel+latent"
    if settings["degradation"] not in (*MODES, "pixel+latent") or (latent and kind != "flow"):
        modes = (*MODES, "pixel+latent") if kind == "flow" else MODES
        raise did_you_mean(f"degradation of a {kind} recipe", str(settings["degradation"]), modes)
    if (positions := settings.get("positions", "rope")) not in POSITIONS:
        raise did_you_mean(f"positions of a {kind} recipe", positions, POSITIONS)
    if settings["loss_units"] not in LOSS_UNITS:
        raise did_you_mean(f"loss_units of a {kind} recipe", settings["loss_units"], LOSS_UNITS)
    if (width := settings["convolution"]) < 0:
        raise UsageError(f"convolution of a {kind} recipe is {width}", fix="give the path's width, or 0 for none")
    if settings["crop"] % sampling.MULTIPLE:
        raise UsageError(f"crop {settings['crop']} is not a multiple of 16", fix="use 128 or 192")
    codec = load_codec(inputs["codec"])
    pool = _pairs(settings, codec, inputs)
    seed = 1000 * settings["seed"] + replica
    network = _begin(kind, settings, inputs, codec, pool, seed)
    phase = Phase(name=kind, steps=settings["steps"], batch=settings["batch"], degradation=settings["degradation"])
    if latent:
        phase = replace(phase, degradation_steps=(settings["degradation_low"], settings["degradation_high"]))
    training = Training(
        objective="l1" if kind == "regression" else "flow",
        phases=(phase,),
        time_shift=settings.get("time_shift", 1.0),
        channel_power=_channel_power(kind, settings, codec),
        learning_rate=settings["learning_rate"],
        warmup=settings["warmup"],
        cosine_from=settings["cosine_from"],
        ema=settings["ema"],
    )
    losses = train(
        network,
        from_noise(pool, settings["noise_scale"]) if kind == "vanilla" else from_pairs(pool),
        training,
        seed=seed,
        state=state,
        report=report,
        identity=_identity(inputs),
        accelerator=Accelerator(cpu=True, mixed_precision="no"),
        plot=False,
    )
    save_file(
        {name: value.contiguous() for name, value in network.state_dict().items()},
        out / "diffusion_pytorch_model.safetensors",
        metadata={"format": "pt"},
    )
    network.register_to_config(_name_or_path="")  # diffusers notes the folder of `init`, a path of this machine
    network.save_config(out)
    Corrections.of(settings).write(out)
    save_file({"losses": torch.tensor(losses, dtype=torch.float64)}, out / "losses.safetensors")
    tail = losses[-max(1, len(losses) // 10) :]
    record: Record = {"steps": len(losses), "parameters": sum(value.numel() for value in network.parameters())}
    return record | ({"loss": sum(tail) / len(tail)} if tail else {})


def _pairs(settings: Mapping[str, Any], codec: KLTCodec, inputs: Mapping[str, Path]) -> Pool:
    """The pool as a training sees it: its degradation, its crop, the best of its clips, and their captions."""
    text, best = settings.get("text", False), settings.get("best", 1.0)
    labels = Labels.read(inputs["labels"]) if "labels" in inputs else Labels(None, None)
    if text and labels.contexts is None:
        raise UsageError("text: true without captions", fix="give the recipe labels that were made with a text encoder")
    chosen = None if best == 1 else labels.best(best)
    if chosen is not None and len(chosen) < settings["batch"]:
        what = f"best {best} leaves {len(chosen)} clips for a batch of {settings['batch']}"
        raise UsageError(what, fix="take more of the pool, or a smaller batch")
    mode = "none" if settings["degradation"] == "none" else "pixel"
    contexts = labels.contexts if text else None
    return Pool(inputs["pool"], codec, mode=mode, crop=settings["crop"], chosen=chosen, contexts=contexts)


def _begin(
    kind: str, settings: Mapping[str, Any], inputs: Mapping[str, Path], codec: KLTCodec, pool: Pool, seed: int
) -> Stage2Transformer | VanillaTransformer:
    """The network that a training begins with: that of `init`, or an untrained one."""
    if "init" not in inputs:
        return _fresh(kind, settings, codec, pool, seed)
    network = load_vanilla(inputs["init"]) if kind == "vanilla" else load_network(inputs["init"])
    width = network.config.get("convolution", 0)
    if width != settings["convolution"]:
        what = f"convolution {settings['convolution']} of a recipe that goes on from a network with {width}"
        raise UsageError(what, fix=f"write convolution: {width}")
    return network


def _channel_power(kind: str, settings: Mapping[str, Any], codec: KLTCodec) -> tuple[float, ...]:
    """Weights of the latent channels in the loss: the power in pixels of a unit of each, or none."""
    if settings["loss_units"] == "latent":
        return ()
    power = codec.gain.double().pow(-2).tolist()
    return tuple(power * 2 if kind == "vanilla" else power)  # whose latents have the condition as their second half


def _fresh(
    kind: str, settings: Mapping[str, Any], codec: KLTCodec, pool: Pool, seed: int
) -> Stage2Transformer | VanillaTransformer:
    """An untrained network whose every weight is a function of `seed`; the global generator is left as it was."""
    channels, moments = codec.channels, pool.moments()
    options: dict[str, Any] = {
        "num_attention_heads": settings["heads"],
        "num_layers": settings["layers"],
        "time_embed_dim": settings["time_embed_dim"],
        "text_embed_dim": 8,
        "max_text_seq_length": 1,
    }
    if pool.contexts is not None:
        options |= {"max_text_seq_length": pool.contexts.shape[1], "text_embed_dim": pool.contexts.shape[2]}
    if settings.get("positions", "rope") != "rope":
        options["use_rotary_positional_embeddings"] = False
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator(seed, "initial weights", 0).initial_seed())
        network: Stage2Transformer | VanillaTransformer
        path = {"convolution": settings["convolution"]} if settings["convolution"] else {}
        if kind == "vanilla":
            scale = settings["noise_scale"]
            network = (ConvolutionalVanilla if path else VanillaTransformer)(
                in_channels=2 * channels,
                out_channels=channels * (3 if settings["local_gain"] else 1),
                noise_scale=scale,
                **closed_form(moments, scale),
                **path,
                **options,
            )
        else:
            network = (ConvolutionalTransformer if path else Stage2Transformer)(
                in_channels=channels,
                out_channels=channels * (2 if settings["local_gain"] else 1),
                moments=moments.tolist(),
                **path,
                **options,
            )
    with torch.no_grad():
        network.proj_out.weight.mul_(0.1)
        network.proj_out.bias.zero_()
    return network


def _identity(inputs: Mapping[str, Path]) -> str:
    """sha256 over the bytes of the input artifacts, so that a checkpoint is not continued on other data."""
    state = hashlib.sha256()
    for name in sorted(inputs):
        for path in sorted(inputs[name].glob("*.safetensors")):
            state.update(f"{name}/{path.name}".encode())
            with path.open("rb") as file:
                state.update(hashlib.file_digest(file, "sha256").digest())
    return state.hexdigest()
