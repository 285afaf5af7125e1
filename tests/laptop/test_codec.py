"""The KLT codec, the procedural clips and the pool of training pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from flashbench.cascade import precondition
from flashbench.cascade.codec import Codec, to_frames, to_tensor
from flashbench.cascade.vae import VAECodec
from flashbench.data.synthetic import synthetic_clip
from flashbench.errors import InvalidError
from flashbench.laptop.klt import BLOCK, KLTCodec
from flashbench.laptop.pool import Pool, write_pool

CLIPS = [synthetic_clip(9, 64, 80, variant) for variant in range(6)]


@pytest.fixture(scope="module")
def codec() -> KLTCodec:
    return KLTCodec.fit(CLIPS, channels=64, scale=8.0, blocks=300, seed=0)


def test_synthetic_clip_is_the_golden_one() -> None:
    """sha256 prefix of the golden NIQE frame, made by the formula of the golden values' own README."""
    frame = synthetic_clip(1, 270, 480, 0)[0].astype(int)
    y, x, c = 100, 333, 2

    def triangle(value: int, period: int) -> int:
        return abs(value % (2 * period) - period) * 255 // period

    a, b = triangle(3 * x + 2 * y + 40 * c, 97), triangle(x * x // 64 + y * y // 48 + 17 * c, 61)
    k = ((x // 16 + y // 12 + c) % 2) * 64
    h = (x * 73856093) ^ (y * 19349663) ^ (c * 2654435761)
    h = (((h * 1103515245 + 12345) % 2**64) >> 16) & 31
    assert frame[y, x, c] == min(255, max(0, (4 * a + 3 * b + 2 * k) // 9 + h))


def test_a_codec_that_keeps_everything_is_lossless() -> None:
    whole = KLTCodec(torch.zeros(BLOCK), torch.eye(BLOCK), torch.full((BLOCK,), 3.0))
    assert np.array_equal(to_frames(whole.decode(whole.encode(to_tensor(CLIPS[0])))), CLIPS[0])


def test_round_trip_is_a_projection(codec: KLTCodec) -> None:
    """What was decoded once is kept: encoding is the least-squares inverse. (Later frames: the first is averaged.)"""
    latent = codec.encode(to_tensor(CLIPS[0]))
    assert latent.shape == (1, 3, 64, 8, 10)
    again = codec.encode(codec.decode(latent))
    assert torch.allclose(again[:, 1:], latent[:, 1:], atol=1e-3)
    assert codec.decode(latent).shape == (1, 3, 9, 64, 80)


def test_more_channels_lose_less() -> None:
    def error(channels: int) -> float:
        codec = KLTCodec.fit(CLIPS, channels=channels, scale=8.0, blocks=300, seed=0)
        return float((codec.decode(codec.encode(to_tensor(CLIPS[1]))) - to_tensor(CLIPS[1])).square().mean())

    errors = [error(channels) for channels in (8, 32, 96)]
    assert errors[0] > errors[1] > errors[2]


def test_latents_have_the_power_that_is_asked_for(codec: KLTCodec) -> None:
    power = torch.stack([codec.encode(to_tensor(clip)) for clip in CLIPS]).square().mean()
    assert 0.9 < float(power.sqrt()) / 8.0 < 1.1


def test_codec_is_saved_and_fitted_repeatably(codec: KLTCodec, tmp_path: Path) -> None:
    assert isinstance(codec, Codec)
    codec.save(tmp_path)
    again = KLTCodec.load(tmp_path)
    refitted = KLTCodec.fit(CLIPS, channels=64, scale=8.0, blocks=300, seed=0)
    for name in ("mean", "basis", "gain"):
        assert torch.equal(getattr(codec, name), getattr(again, name))
        assert torch.equal(getattr(codec, name), getattr(refitted, name))


def test_wrong_clips_are_refused(codec: KLTCodec) -> None:
    with pytest.raises(InvalidError, match="8 of 64 x 64"):
        codec.encode(torch.zeros(1, 3, 8, 64, 64))
    with pytest.raises(InvalidError, match="9 of 60 x 64"):
        codec.encode(torch.zeros(1, 3, 9, 60, 64))
    with pytest.raises(InvalidError, match="cannot fix 96 channels"):
        KLTCodec.fit([synthetic_clip(1, 16, 16, 0)], channels=96, scale=8.0, blocks=100, seed=0)


def test_pixels_round_half_to_even_and_clip() -> None:
    assert to_frames(torch.tensor([-2.0, -1.0, 0.0, 1.0, 3.0]).expand(1, 3, 1, 1, 5))[0, 0, :, 0].tolist() == [
        0,
        0,
        128,
        255,
        255,
    ]
    assert np.array_equal(to_frames(to_tensor(CLIPS[0])), CLIPS[0])


def test_vae_codec_scales_and_orders_axes() -> None:
    from diffusers import AutoencoderKLCogVideoX

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vae = AutoencoderKLCogVideoX(
            block_out_channels=(8, 8, 8, 8), latent_channels=4, layers_per_block=1, norm_num_groups=2
        ).eval()
    codec = VAECodec(vae)
    assert isinstance(codec, Codec)
    assert (codec.channels, codec.stride) == (4, (4, 8))
    frames = to_tensor(synthetic_clip(9, 16, 24, 0))
    latent = codec.encode(frames)
    assert latent.shape == (1, 3, 4, 2, 3)
    with torch.no_grad():
        mean = vae.encode(frames).latent_dist.mean
        assert torch.equal(latent, mean.transpose(1, 2) * 1.15258426)
    assert codec.decode(latent).shape == frames.shape


def test_pool_gives_aligned_pairs(codec: KLTCodec, tmp_path: Path) -> None:
    clips = [clip[:, :64, :64] for clip in CLIPS]
    counts = write_pool(iter(clips), codec, scale=4, seed=0, folder=tmp_path, report=lambda done: None)
    assert counts == {"clips": 6, "latent_frames": 3, "channels": 64}
    whole = Pool(tmp_path, codec, mode="none", crop=64)
    high, low = whole(6, torch.Generator().manual_seed(0))
    assert high.shape == low.shape == (6, 3, 64, 8, 8)
    # The mean of a block is the strongest component: what is left after shrinking must be almost the same there.
    correlation = torch.corrcoef(torch.stack([high[:, :, 0].flatten(), low[:, :, 0].flatten()]))[0, 1]
    assert correlation > 0.9
    crops = Pool(tmp_path, codec, mode="pixel", crop=32)
    first, second = crops(4, torch.Generator().manual_seed(5)), crops(4, torch.Generator().manual_seed(5))
    assert first[0].shape == (4, 3, 64, 4, 4)
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])


def test_pool_moments_are_those_of_its_pairs(codec: KLTCodec, tmp_path: Path) -> None:
    clips = [clip[:, :64, :64] for clip in CLIPS[:3]]
    write_pool(iter(clips), codec, scale=4, seed=0, folder=tmp_path, report=lambda done: None)
    pool = Pool(tmp_path, codec, mode="none", crop=64)
    pairs = pool(3, torch.Generator().manual_seed(0))
    assert torch.allclose(pool.moments(), precondition.moments(*pairs), rtol=1e-4, atol=1e-4)
    assert (pool.moments()[:2] > 0).all()
