"""FlashVideo written a second time: plain functions on state dicts with official key names.

They follow the description of the release operation by operation, in its order and in float32, and share nothing
with flashbench, so that both can only agree by being right. Latents (B,T,C,H,W), contexts (B,L,D), frames (B,C,T,H,W).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

State = dict[str, Tensor]
Predict = Callable[[Tensor, Tensor, Tensor], Tensor]  # latent, context, time (B,) -> prediction
HEAD = 64


def diffusion_keys(state: State) -> State:
    """The transformer's part of a checkpoint, without the prefix."""
    prefix = "model.diffusion_model."
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


# --- transformer --------------------------------------------------------------------------------------------------


def linear(state: State, name: str, x: Tensor) -> Tensor:
    """X W^T + b; with adapters, + (x A_k^T) B_k^T / rank, side by side for q, k, v (alpha is 1)."""
    if f"{name}.original.weight" not in state:
        return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])
    parts = []
    while f"{name}.matrix_A.{len(parts)}" in state:
        down, up = (state[f"{name}.matrix_{letter}.{len(parts)}"] for letter in "AB")
        parts.append((x @ down.T) @ up.T * (1 / down.shape[0]))
    return F.linear(x, state[f"{name}.original.weight"], state[f"{name}.original.bias"]) + torch.cat(parts, -1)


def layer_norm(state: State, name: str, x: Tensor, eps: float) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    scale = (centred.square().mean(-1, keepdim=True) + eps).rsqrt()
    return centred * scale * state[f"{name}.weight"] + state[f"{name}.bias"]


def sinusoid(t: Tensor, width: int) -> Tensor:
    half = width // 2
    angles = t.float()[:, None] * torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32) / half)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def embedded(state: State, name: str, number: Tensor, width: int) -> Tensor:
    return linear(state, f"{name}.2", F.silu(linear(state, f"{name}.0", sinusoid(number, width))))


def rotary_angles(frames: int, height: int, width: int) -> Tensor:
    """(T*H*W, 64): 16 channels for the frame, 24 for the row, 24 for the column, each frequency twice in a row."""
    rows = []
    cells = torch.cartesian_prod(*(torch.arange(n, dtype=torch.float32) for n in (frames, height, width)))
    for axis, channels in enumerate((16, 24, 24)):
        frequency = 1.0 / 10000 ** (torch.arange(0, channels, 2, dtype=torch.float32) / channels)
        rows.append((cells[:, axis, None] * frequency).repeat_interleave(2, dim=-1))
    return torch.cat(rows, dim=-1)


def rotated(x: Tensor, angles: Tensor) -> Tensor:
    """Each adjacent pair of channels turned by its angle, as a complex number."""
    turn = torch.polar(torch.ones_like(angles[:, ::2]), angles[:, ::2])
    pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * turn).flatten(-2)


def attention(state: State, i: int, x: Tensor, words: int, angles: Tensor) -> Tensor:
    heads = x.shape[-1] // HEAD
    name, mixin = f"transformer.layers.{i}.attention", "mixins.adaln_layer"
    qkv = linear(state, f"{name}.query_key_value", x).unflatten(-1, (3, heads, HEAD)).permute(2, 0, 3, 1, 4)
    q = layer_norm(state, f"{mixin}.query_layernorm_list.{i}", qkv[0], 1e-6)
    k = layer_norm(state, f"{mixin}.key_layernorm_list.{i}", qkv[1], 1e-6)
    q, k = (torch.cat([y[:, :, :words], rotated(y[:, :, words:], angles)], dim=2) for y in (q, k))
    weights = (q @ k.transpose(-1, -2) / 8).softmax(-1)
    return linear(state, f"{name}.dense", (weights @ qkv[2]).transpose(1, 2).flatten(2))


def block(state: State, i: int, text: Tensor, image: Tensor, emb: Tensor, angles: Tensor) -> tuple[Tensor, Tensor]:
    layer, words = f"transformer.layers.{i}", text.shape[1]
    modulation = linear(state, f"mixins.adaln_layer.adaLN_modulations.{i}.1", F.silu(emb))
    of_image, of_text = modulation[:, None].unflatten(-1, (2, 6, -1)).unbind(2)
    for half, norm in enumerate(("input_layernorm", "post_attention_layernorm")):
        joined = []
        for stream, values in ((text, of_text), (image, of_image)):
            shift, scale = values[:, :, 3 * half], values[:, :, 3 * half + 1]
            joined.append(layer_norm(state, f"{layer}.{norm}", stream, 1e-5) * (1 + scale) + shift)
        x = torch.cat(joined, dim=1)
        if half == 0:
            x = attention(state, i, x, words, angles)
        else:
            wide = F.gelu(linear(state, f"{layer}.mlp.dense_h_to_4h", x), approximate="tanh")
            x = linear(state, f"{layer}.mlp.dense_4h_to_h", wide)
        text = text + of_text[:, :, 3 * half + 2] * x[:, :words]
        image = image + of_image[:, :, 3 * half + 2] * x[:, words:]
    return text, image


def transformer(state: State, x: Tensor, context: Tensor, emb: Tensor) -> Tensor:
    """The network after its conditioning vector `emb` (B,E)."""
    batch, frames, channels, height, width = x.shape
    grid = (frames, height // 2, width // 2)
    patches = x.reshape(batch, frames, channels, grid[1], 2, grid[2], 2).permute(0, 1, 3, 5, 2, 4, 6)
    kernel = state["mixins.patch_embed.proj.weight"].flatten(1)
    image = F.linear(patches.reshape(batch, -1, 4 * channels), kernel, state["mixins.patch_embed.proj.bias"])
    text, angles = linear(state, "mixins.patch_embed.text_proj", context), rotary_angles(*grid)
    for i in range(sum(key.endswith("input_layernorm.weight") for key in state)):
        text, image = block(state, i, text, image, emb, angles)
    image = layer_norm(state, "transformer.final_layernorm", image, 1e-5)
    last = linear(state, "mixins.final_layer.adaLN_modulation.1", F.silu(emb))[:, None]
    shift, scale = last.chunk(2, dim=-1)
    image = layer_norm(state, "mixins.final_layer.norm_final", image, 1e-6) * (1 + scale) + shift
    out = linear(state, "mixins.final_layer.linear", image).reshape(batch, *grid, -1, 2, 2)
    return out.permute(0, 1, 4, 2, 5, 3, 6).reshape(batch, frames, -1, height, width)


def stage1_forward(state: State, x: Tensor, context: Tensor, t: Tensor) -> Tensor:
    """Stage I's v at times t (B,); adapters are applied, not merged."""
    state = diffusion_keys(state)
    width = len(state["transformer.final_layernorm.bias"])
    return transformer(state, x, context, embedded(state, "time_embed", t, width))


def stage2_forward(state: State, x: Tensor, context: Tensor, t: Tensor, step: float | Tensor) -> Tensor:
    """Stage II's velocity at model times t (B,), for a latent degraded to `step`, a number or (B,)."""
    state = diffusion_keys(state)
    width = len(state["transformer.final_layernorm.bias"])
    numbers = {"time_embed": t, "time_size_embedding": x.shape[1], "ref_step_time_embedding": step}
    emb = [embedded(state, name, torch.as_tensor(value).expand(x.shape[0]), width) for name, value in numbers.items()]
    return transformer(state, x, context, emb[0] + emb[1] + emb[2])


# --- samplers -----------------------------------------------------------------------------------------------------


def zero_snr(timesteps: Sequence[int]) -> Tensor:
    """Sqrt(alpha bar) at ascending timesteps, moved so that the last is 0 and the first stays; float32 throughout."""
    betas = torch.linspace(0.00085**0.5, 0.0120**0.5, 1000, dtype=torch.float64) ** 2
    a = (1 - betas).cumprod(0)[list(timesteps)].float().sqrt()
    first, last = a[0].clone(), a[-1].clone()
    return (a - last) * (first / (first - last))


def stage1_timesteps(steps: int) -> list[int]:
    """Descending from 999, cut to integers."""
    return [int(t) for t in np.linspace(999, 0, steps, endpoint=False)]


def stage1_guidance(steps: int, scale: float) -> list[float]:
    return [1 + scale * (1 - math.cos(math.pi * ((steps - t) / steps) ** 5)) / 2 for t in stage1_timesteps(steps)]


def stage1_noises(shape: Sequence[int], steps: int, generator: torch.Generator) -> list[Tensor]:
    """The draws that count: one in the first step, the second of two in the later ones, none in the last."""
    draws = [torch.randn(*shape, generator=generator) for _ in range(1 + 2 * (steps - 2))]
    return draws[::2]


def stage1_sample(
    predict: Predict, noise: Tensor, context: Tensor, uncond: Tensor, *, steps: int, scale: float, noises: list[Tensor]
) -> Tensor:
    """DPM-Solver++(2M) SDE on the rescaled subset, the denoiser on the full table; batch (uncond, cond)."""
    timesteps, table = stage1_timesteps(steps), zero_snr(range(1000))
    alphas = [*zero_snr(timesteps[::-1]).flip(0), torch.ones(())]
    log_snr = [(a**2 / (1 - a**2)).sqrt().log() for a in alphas]
    x, before = noise, torch.zeros(0)
    for i, (t, weight) in enumerate(zip(timesteps, stage1_guidance(steps, scale), strict=True)):
        a, after = alphas[i], alphas[i + 1]
        seen = table[(table - a).abs().argmin()]
        doubled, time = torch.cat([x, x]), torch.full((2 * len(x),), float(t))
        v = predict(doubled, torch.cat([uncond, context]), time)
        without, with_text = (seen * doubled - (1 - seen**2).sqrt() * v).chunk(2)
        clean = without + weight * (with_text - without)
        if i == steps - 1:
            return clean
        h, estimate = log_snr[i + 1] - log_snr[i], clean
        if i > 0:
            twice_r = 2 * (log_snr[i] - log_snr[i - 1]) / h
            estimate = (1 + 1 / twice_r) * clean - 1 / twice_r * before
        x = ((1 - after**2) / (1 - a**2)).sqrt() * (-h).exp() * x - (-2 * h).expm1() * after * estimate
        x = x + (1 - after**2).sqrt() * (1 - (-2 * h).exp()).sqrt() * noises[i]
        before = clean
    raise AssertionError("at least one step")


def degraded(z: Tensor, step: int, noise: Tensor) -> Tensor:
    a = zero_snr(range(1000))[step]
    return a * z + (1 - a**2).sqrt() * noise


def stage2_grid(intervals: int, shift: float, dtype: torch.dtype) -> Tensor:
    u = torch.linspace(0, 1, intervals + 1, dtype=dtype)
    return 1 - shift * (1 - u) / (1 + (shift - 1) * (1 - u))


def stage2_sample(
    state: State,
    lq: Tensor,
    context: Tensor,
    uncond: Tensor,
    *,
    intervals: int,
    shift: float,
    guidance: float,
    step: int,
    noise: Tensor,
    method: str = "euler",
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Flow from the degraded latent; `dtype` is that of the times and of the step's embedding. Batch (cond, uncond)."""
    grid, seen = stage2_grid(intervals, shift, dtype), float(torch.tensor(step).to(dtype))

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        time = (1000 - t * 1000).float().expand(2 * len(x))
        both = stage2_forward(state, torch.cat([x, x]), torch.cat([context, uncond]), time, seen)
        with_text, without = both.chunk(2)
        return without + guidance * (with_text - without)

    x = degraded(lq, step, noise)
    for start, end in zip(grid[:-1], grid[1:], strict=True):
        dt = end - start
        slope = velocity(x, start)
        if method == "midpoint":
            slope = velocity(x + (0.5 * dt).float() * slope, start + 0.5 * dt)
        x = x + dt.float() * slope
    return x


# --- VAE ----------------------------------------------------------------------------------------------------------


class Autoencoder:
    """The 3D VAE on a state dict, with the last two input frames of every causal convolution kept between chunks."""

    def __init__(self, state: State, alone: bool = False) -> None:
        self.state, self.alone, self.kept = state, alone, {}  # type: tuple[State, bool, State]
        self.levels = 1 + max(int(key.split(".")[2]) for key in state if key.startswith("encoder.down."))

    def first_apart(self, x: Tensor) -> bool:
        """Whether the first frame is resampled apart from the rest."""
        return x.shape[2] > 1 and (x.shape[2] % 2 == 1 or self.alone)

    def conv(self, name: str, x: Tensor) -> Tensor:
        weight, bias = self.state[f"{name}.conv.weight"], self.state[f"{name}.conv.bias"]
        if weight.shape[-1] == 1:
            return F.conv3d(x, weight, bias)
        x = torch.cat([self.kept.get(name, torch.cat([x[:, :, :1]] * 2, dim=2)), x], dim=2)
        self.kept[name] = x[:, :, -2:]
        return F.conv3d(x, weight, bias, padding=(0, 1, 1))

    def flat_conv(self, name: str, x: Tensor, **how: int) -> Tensor:
        frames = [F.conv2d(f, self.state[f"{name}.weight"], self.state[f"{name}.bias"], **how) for f in x.unbind(2)]
        return torch.stack(frames, dim=2)

    def norm(self, name: str, x: Tensor, z: Tensor | None) -> Tensor:
        """GroupNorm over what is in this chunk; in the decoder scaled and shifted by the latent (SpatialNorm3D)."""
        where = name if z is None else f"{name}.norm_layer"
        normal = F.group_norm(x, 32, self.state[f"{where}.weight"], self.state[f"{where}.bias"], 1e-6)
        if z is None:
            return normal
        split = 1 if self.first_apart(x) else 0
        pieces = [(x[:, :, :split], z[:, :, :split]), (x[:, :, split:], z[:, :, split:])]
        z = torch.cat([F.interpolate(b, size=a.shape[2:]) for a, b in pieces if a.shape[2]], dim=2)
        return normal * self.conv(f"{name}.conv_y", z) + self.conv(f"{name}.conv_b", z)

    def block(self, name: str, x: Tensor, z: Tensor | None = None) -> Tensor:
        y = self.conv(f"{name}.conv1", F.silu(self.norm(f"{name}.norm1", x, z)))
        y = self.conv(f"{name}.conv2", F.silu(self.norm(f"{name}.norm2", y, z)))
        if f"{name}.nin_shortcut.weight" in self.state:
            x = F.conv3d(x, self.state[f"{name}.nin_shortcut.weight"], self.state[f"{name}.nin_shortcut.bias"])
        return x + y

    def blocks(self, name: str, x: Tensor, z: Tensor | None = None) -> Tensor:
        number = 0
        while f"{name}.{number}.conv1.conv.weight" in self.state:
            x = self.block(f"{name}.{number}", x, z)
            number += 1
        return x

    def down(self, name: str, x: Tensor, time: bool) -> Tensor:
        if time and x.shape[2] > 1:
            odd = x.shape[2] % 2
            x = torch.cat([x[:, :, :odd], (x[:, :, odd::2] + x[:, :, odd + 1 :: 2]) / 2], dim=2)
        return self.flat_conv(name, F.pad(x, (0, 1, 0, 1)), stride=2)

    def up(self, name: str, x: Tensor, time: bool) -> Tensor:
        x_all = x.repeat_interleave(2, dim=-1).repeat_interleave(2, dim=-2)
        if time and x.shape[2] > 1:
            split = 1 if self.first_apart(x) else 0
            x_all = torch.cat([x_all[:, :, :split], x_all[:, :, split:].repeat_interleave(2, dim=2)], dim=2)
        return self.flat_conv(name, x_all, padding=1)

    def moments(self, frames: Tensor) -> Tensor:
        x = self.conv("encoder.conv_in", frames)
        for level in range(self.levels):
            x = self.blocks(f"encoder.down.{level}.block", x)
            if level < self.levels - 1:
                x = self.down(f"encoder.down.{level}.downsample.conv", x, time=level < 2)
        for number in (1, 2):
            x = self.block(f"encoder.mid.block_{number}", x)
        return self.conv("encoder.conv_out", F.silu(self.norm("encoder.norm_out", x, None)))

    def frames(self, z: Tensor) -> Tensor:
        x = self.conv("decoder.conv_in", z)
        for number in (1, 2):
            x = self.block(f"decoder.mid.block_{number}", x, z)
        for level in reversed(range(self.levels)):
            x = self.blocks(f"decoder.up.{level}.block", x, z)
            if level > 0:
                x = self.up(f"decoder.up.{level}.upsample.conv", x, time=level >= self.levels - 2)
        return self.conv("decoder.conv_out", F.silu(self.norm("decoder.norm_out", x, z)))


def vae_encode(state: State, frames: Tensor, chunks: Sequence[int], noise: Tensor | None = None) -> Tensor:
    """Frames (B,3,T,H,W) -> latent (B,T,C,h,w), unscaled; the mean, or mean + std * noise (B,T,C,h,w)."""
    model = Autoencoder(state)
    moments = torch.cat([model.moments(part) for part in frames.split(list(chunks), dim=2)], dim=2).transpose(1, 2)
    mean, log_variance = moments.chunk(2, dim=2)
    return mean if noise is None else mean + (0.5 * log_variance.clamp(-30, 20)).exp() * noise


def vae_decode(state: State, latent: Tensor, chunks: Sequence[int]) -> Tensor:
    """Unscaled latent (B,T,C,h,w) -> frames (B,3,4T-3,8h,8w). Two latent frames alone are 1 + 4, as in the release."""
    model = Autoencoder(state, alone=latent.shape[1] == 2)
    return torch.cat([model.frames(part) for part in latent.transpose(1, 2).split(list(chunks), dim=2)], dim=2)
