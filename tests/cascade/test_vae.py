"""Chunks, tiles, slices and the posterior of FlashVideo's autoencoder."""

from __future__ import annotations

import pytest
import torch
from diffusers import AutoencoderKLCogVideoX
from support import official

from flashbench.cascade import vae
from flashbench.cascade.checkpoint import load_vae
from flashbench.cascade.codec import Codec
from flashbench.errors import UsageError


@pytest.fixture(scope="module")
def model() -> AutoencoderKLCogVideoX:
    return load_vae(official.vae((32, 32, 32, 32)))


def clip(frames: int, height: int = 16, width: int = 24, batch: int = 1) -> torch.Tensor:
    draw = torch.Generator().manual_seed(frames)
    return torch.rand(batch, 3, frames, height, width, generator=draw) * 2 - 1


def test_chunks_are_the_releases() -> None:
    assert vae.encode_chunks(49) == (17, 16, 16)
    assert vae.decode_chunks(13) == (3, 2, 2, 2, 2, 2)
    for frames in range(1, 120, 4):
        latents = (frames + 3) // 4
        assert sum(vae.encode_chunks(frames)) == frames and sum(vae.decode_chunks(latents)) == latents


@pytest.mark.parametrize("frames", [1, 5, 9, 13, 21])
def test_any_4n_plus_1_frames_come_back(model: AutoencoderKLCogVideoX, frames: int) -> None:
    pixels = clip(frames)
    latent = vae.encode(model, pixels)
    assert latent.shape == (1, (frames + 3) // 4, 16, 2, 3)
    assert vae.decode(model, latent).shape == pixels.shape


def test_decoding_is_diffusers_own_where_that_works(model: AutoencoderKLCogVideoX) -> None:
    latent = vae.encode(model, clip(17))
    theirs = model.decode(latent.transpose(1, 2)).sample
    assert torch.equal(vae.decode(model, latent), theirs)


def test_a_chunk_depends_on_none_after_it(model: AutoencoderKLCogVideoX) -> None:
    """Cached convolutions are causal and GroupNorm is per chunk: first chunks alone give the same first latents."""
    pixels = clip(33)
    whole = vae.encode(model, pixels)
    assert torch.equal(vae.encode(model, pixels[:, :, :17]), whole[:, :5])
    decoded = vae.decode(model, whole)
    assert torch.equal(vae.decode(model, whole[:, :5]), decoded[:, :, :17])
    other = vae.encode(model, pixels, chunks=(9, 8, 16))
    assert (other - whole).abs().max() > 1e-3  # the chunks are part of the result


def test_the_posterior(model: AutoencoderKLCogVideoX) -> None:
    pixels = clip(5)
    mean = vae.encode(model, pixels)
    distribution = model.encode(pixels).latent_dist
    assert torch.equal(mean, distribution.mean.transpose(1, 2))
    noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(1))
    sampled = vae.encode(model, pixels, noise=noise)
    assert torch.allclose(sampled, mean + distribution.std.transpose(1, 2) * noise, atol=1e-6)
    with pytest.raises(UsageError, match="noise of shape"):
        vae.encode(model, pixels, noise=noise[:, :1])


def test_posterior_noise_is_drawn_chunk_by_chunk(model: AutoencoderKLCogVideoX) -> None:
    draw, again = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    noise = vae.posterior_noise(model, clip(33), draw)
    parts = [torch.randn(1, 16, length, 2, 3, generator=again) for length in (5, 4)]
    assert torch.equal(noise, torch.cat(parts, 2).transpose(1, 2))


def test_slices(model: AutoencoderKLCogVideoX) -> None:
    pixels = clip(5, batch=2)
    latent = vae.encode(model, pixels)
    model.enable_slicing()
    try:
        assert torch.equal(vae.encode(model, pixels), torch.cat([vae.encode(model, one) for one in pixels.split(1)]))
        assert torch.allclose(vae.encode(model, pixels), latent, atol=1e-5)
    finally:
        model.disable_slicing()


def test_offloading_hooks_are_asked_before_the_model_is_used(model: AutoencoderKLCogVideoX) -> None:
    class Hook:
        asked = 0

        def pre_forward(self, module: torch.nn.Module) -> None:
            assert module is model
            self.asked += 1

    model._hf_hook = hook = Hook()
    try:
        latent = vae.encode(model, clip(1))
        assert hook.asked == 1
        vae.decode(model, latent)
        assert hook.asked == 2
        model.enable_tiling()
        vae.encode(model, clip(1))
        assert hook.asked == 3
        with pytest.raises(UsageError, match="chunks and tiling together"):
            vae.encode(model, clip(1), chunks=(1,))
    finally:
        del model._hf_hook
        model.disable_tiling()


def test_tiles(model: AutoencoderKLCogVideoX) -> None:
    """Both tilings have the right shape; the blended one is closer to decoding at once and has no step at the seam."""
    latent = torch.randn(1, 1, 16, 2, 64, generator=torch.Generator().manual_seed(4))
    whole = vae.decode(model, latent)
    release, blended = (vae.decode(model, latent, tiles=tiles) for tiles in ("release", "blended"))
    assert release.shape == blended.shape == whole.shape
    left, right = (vae.decode(model, part) for part in (latent[..., :48], latent[..., 16:]))
    assert torch.equal(release, torch.cat([left[..., :256], right[..., 128:]], -1))
    assert torch.equal(blended[..., :128], left[..., :128]) and torch.equal(blended[..., -128:], right[..., -128:])
    seam = slice(255, 257)

    def step(video: torch.Tensor) -> float:
        return float((video[..., seam].diff(dim=-1) - whole[..., seam].diff(dim=-1)).abs().mean())

    assert step(blended) < step(release)
    model.enable_tiling()
    try:
        assert torch.equal(vae.decode(model, latent), blended)
    finally:
        model.disable_tiling()


def test_narrow_latents_have_no_overlap_to_give(model: AutoencoderKLCogVideoX) -> None:
    latent = torch.randn(1, 1, 16, 2, 4, generator=torch.Generator().manual_seed(5))
    halves = torch.cat([vae.decode(model, part) for part in latent.chunk(2, -1)], -1)
    assert torch.equal(vae.decode(model, latent, tiles="release"), halves)
    assert vae.decode(model, latent, tiles="blended").shape == halves.shape


@pytest.mark.parametrize(("frames", "chunks"), [(8, None), (9, (5, 3)), (9, (4, 5)), (9, (9, 4)), (9, (9, 0))])
def test_frames_and_chunks_that_do_not_fit(
    model: AutoencoderKLCogVideoX, frames: int, chunks: tuple[int, ...] | None
) -> None:
    with pytest.raises(UsageError, match=f"cannot encode {frames} frames"):
        vae.encode(model, clip(frames), chunks=chunks)


@pytest.mark.parametrize("chunks", [(3, 1), (2, 3), (3, 2, 2)])
def test_latent_chunks_that_do_not_fit(model: AutoencoderKLCogVideoX, chunks: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="cannot decode"):
        vae.decode(model, torch.zeros(1, 4 if sum(chunks) == 4 else 5, 16, 2, 2), chunks=chunks)
    with pytest.raises(UsageError, match="tiling"):
        vae.decode(model, torch.zeros(1, 1, 16, 2, 2), tiles="halves")  # type: ignore[arg-type]


@pytest.mark.parametrize(("height", "width"), [(1072, 1920), (1440, 2560)])
def test_the_sizes_of_the_release_decode_on_the_meta_device(height: int, width: int) -> None:
    """diffusers' own convolutions fail on these: few frames, each so large that they are split further."""
    with torch.device("meta"):
        released, latent = AutoencoderKLCogVideoX(), torch.zeros(1, 5, 16, height // 8, width // 8)
        for tiles in ("none", "release", "blended"):
            assert vae.decode(released, latent, tiles=tiles).shape == (1, 3, 17, height, width)
        assert vae.encode(released, torch.zeros(1, 3, 17, height, width)).shape == latent.shape


def test_pieces_of_time_change_nothing(model: AutoencoderKLCogVideoX, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same latents with every convolution split into single frames."""
    latent = vae.encode(model, clip(9))
    want = vae.decode(model, latent)
    numel = torch.Tensor.numel
    monkeypatch.setattr(torch.Tensor, "numel", lambda tensor: numel(tensor) * 10**9)
    assert torch.allclose(vae.decode(model, latent), want, atol=1e-5)


def test_as_a_codec(model: AutoencoderKLCogVideoX) -> None:
    codec = vae.VAECodec(model)
    assert isinstance(codec, Codec) and codec.stride == (4, 8) and codec.channels == 16
    latent = codec.encode(clip(5))
    assert torch.allclose(latent, vae.encode(model, clip(5)) * 1.15258426)
    assert torch.allclose(codec.decode(latent), vae.decode(model, latent / 1.15258426))
