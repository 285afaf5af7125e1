"""DOVER's network against the official outputs (golden/dover_tiny.safetensors, see dover_weights), and a reference."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from safetensors.torch import load_file
from support import dover_weights
from torch import Tensor, nn

from flashbench.errors import InvalidError
from flashbench.metrics.dover import network as dover
from flashbench.metrics.dover import views as dover_views

KEYS = dover_weights.KEYS
TRUTH = load_file(dover_weights.GOLDEN / "dover_tiny.safetensors")
TECHNICAL, AESTHETIC = (float(TRUTH[f"tiny_f32.{branch}.score"]) for branch in ("technical", "aesthetic"))


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return dover_weights.state()


@pytest.fixture(scope="module")
def model(state: dict[str, Tensor]) -> dover.Dover:
    return dover.load(state)


@pytest.fixture(scope="module")
def tiny() -> Tensor:
    return dover_views.normalise(TRUTH["tiny.input_u8"].permute(3, 0, 1, 2)[None])


def test_the_generated_weights_are_the_golden_ones() -> None:
    first = dover_weights.uniform(dover_weights.TAG + "technical_backbone.layers.0.blocks.0.attn.qkv.weight", 2)
    assert first.tolist() == [-0.7191221117973328, 0.3946900963783264]


def test_keys_shapes_and_size_are_those_of_the_release() -> None:
    with torch.device("meta"):
        network = dover.Dover()
    ours = {
        key: (tuple(value.shape), str(value.dtype).removeprefix("torch."))
        for key, value in network.state_dict().items()
    }
    assert ours == KEYS
    assert len(KEYS) == 381
    assert sum(weight.numel() for weight in network.parameters()) == 56_218_302
    assert [str(buffer.dtype) for buffer in network.buffers()] == ["torch.int64"] * 12


def test_a_smaller_networks_size_is_read_off_its_weights() -> None:
    """Width and blocks; the release's width has the release's blocks, so that a file that lacks some is refused."""
    depths = (1, 2, 1, 1), (2, 1, 3, 1)
    small = dover.Dover(32, depths)
    for name, buffer in small.named_buffers():
        if name.endswith("relative_position_index"):
            buffer.copy_(dover.relative_position_index())
    loaded = dover.load(small.state_dict())
    assert tuple(len(stage.blocks) for stage in loaded.technical_backbone.layers) == depths[0]  # type: ignore[arg-type, union-attr]
    assert tuple(map(len, loaded.aesthetic_backbone.stages)) == depths[1]  # type: ignore[arg-type]
    assert loaded.state_dict().keys() == small.state_dict().keys()
    whole = dover.Dover().state_dict()
    lacking = {key: x for key, x in whole.items() if not key.startswith("technical_backbone.layers.2.blocks.5.")}
    with pytest.raises(InvalidError, match=r"layers\.2\.blocks\.5"):
        dover.load(lacking)


def test_loading_is_quiet_final_and_shares_memory(state: dict[str, Tensor]) -> None:
    before = torch.get_rng_state()
    network = dover.load(state)
    assert torch.equal(torch.get_rng_state(), before)
    assert not network.training and not any(weight.requires_grad for weight in network.parameters())
    key = "aesthetic_backbone.stages.0.0.gamma"
    assert network.get_parameter(key).data_ptr() == state[key].data_ptr()


def test_half_precision_weights_become_float32(state: dict[str, Tensor]) -> None:
    network = dover.load({key: value.half() if value.is_floating_point() else value for key, value in state.items()})
    assert {weight.dtype for weight in network.parameters()} == {torch.float32}


def test_the_index_is_that_of_the_full_window() -> None:
    assert torch.equal(dover.relative_position_index(), dover_weights.index())


def test_scores_are_the_official_ones(model: dover.Dover, tiny: Tensor) -> None:
    assert model.technical(tiny).item() == pytest.approx(TECHNICAL, abs=1e-6)
    assert model.aesthetic(tiny).item() == pytest.approx(AESTHETIC, abs=1e-6)


def test_every_block_gives_the_official_features(model: dover.Dover, tiny: Tensor) -> None:
    found: dict[str, Tensor] = {}

    def keep(name: str) -> torch.utils.hooks.RemovableHandle:
        return model.get_submodule(name).register_forward_hook(lambda _m, _i, out: found.__setitem__(name, out))

    probes = {key.removeprefix("tiny_f32.").removesuffix(".probe"): value for key, value in TRUTH.items()}
    probes = {name: value for name, value in probes.items() if name.startswith(("tech.", "aes."))}
    names = {probe: official_name(probe) for probe in probes}
    handles = [keep(name) for name in [*names.values(), "technical_head", "aesthetic_head"]]
    model.technical(tiny)
    model.aesthetic(tiny)
    for handle in handles:
        handle.remove()
    assert len(probes) == 27
    for probe, name in names.items():
        features = found[name]
        # Patches and whole stages of the official Swin hand over channels first, as we do at its end only.
        if probe == "tech.patch_embed" or (probe.startswith("tech.layers") and "blocks" not in probe):
            features = features.permute(3, 0, 1, 2)
        flat = features.flatten()
        at = torch.linspace(0, flat.numel() - 1, 32, dtype=torch.float64).floor().long()
        assert (flat[at] - probes[probe]).abs().max() <= 1e-5, probe
    for branch in ("technical", "aesthetic"):
        assert (found[f"{branch}_head"] - TRUTH[f"tiny_f32.{branch}.score_map"][0]).abs().max() <= 1e-5


def official_name(probe: str) -> str:
    """`tech.layers.0.blocks.1` → technical_backbone.layers.0.blocks.1, and so on."""
    branch, name = probe.split(".", 1)
    backbone = {"tech": "technical_backbone", "aes": "aesthetic_backbone"}[branch]
    return backbone if name == "backbone_out" else f"{backbone}.{name}".replace("downsample.", "downsample_layers.")


def test_a_binary_gate_gives_another_score(model: dover.Dover, tiny: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    distance = dover.cell_distance
    seen = set()

    def spied(cells: Tensor) -> Tensor:
        gate = distance(cells)
        seen.update(gate.unique().tolist())
        return gate

    monkeypatch.setattr(dover, "cell_distance", spied)
    assert model.technical(tiny).item() == pytest.approx(TECHNICAL, abs=1e-6)
    assert seen == set(range(13))  # where a window was rolled, the first cell meets the last
    monkeypatch.setattr(dover, "cell_distance", lambda cells: distance(cells).clamp(max=1))
    assert abs(model.technical(tiny).item() - TECHNICAL) > 1e-3


def test_the_gate_counts_cells_from_0_to_12() -> None:
    """A 7×7 window of a 7×7 grid sees every cell; one of a grid of 56×56, at most two by two."""
    whole = dover.cell_distance(dover.Windows.of((1, 7, 7), shifted=False).cells(torch.device("cpu")))
    assert whole.unique().tolist() == list(range(13))
    fine = dover.cell_distance(dover.Windows.of((1, 56, 56), shifted=False).cells(torch.device("cpu")))
    assert fine.unique().tolist() == [0, 1, 2]


def test_a_gate_in_the_last_stage_gives_another_score(state: dict[str, Tensor], tiny: Tensor) -> None:
    network = dover.load(state)
    for block in network.technical_backbone.layers[3].blocks:
        assert block.attn.fragment_position_bias_table is None
        table = block.attn.relative_position_bias_table
        block.attn.fragment_position_bias_table = nn.Parameter(torch.zeros_like(table), requires_grad=False)
    assert abs(network.technical(tiny).item() - TECHNICAL) > 1e-4


@pytest.mark.parametrize("shifted", [False, True])
def test_windowed_attention_is_dense_attention_that_sees_only_its_window(shifted: bool) -> None:
    """All pairs of tokens at once, from their coordinates alone: no rolling, no partition. T is shifted here too."""
    grid, padded, heads = (9, 8, 15), (16, 14, 21), 3
    draw = torch.Generator().manual_seed(5)
    attention = dover._WindowAttention(96, gated=True)
    for parameter in attention.parameters():
        parameter.requires_grad_(False).copy_(torch.randn(parameter.shape, generator=draw) / 4)
    attention.relative_position_index = dover_weights.index()
    tokens = torch.randn(*grid, 96, generator=draw)
    windows = dover.Windows.of(grid, shifted=shifted)
    ours = windows.merge(attention(windows.split(tokens), windows))

    place = torch.stack(torch.meshgrid(*map(torch.arange, padded), indexing="ij")).flatten(1)
    shift = torch.tensor((4, 3, 3) if shifted else (0, 0, 0))[:, None]
    window = torch.tensor((8, 7, 7))[:, None]
    number = (place - shift + window) // window  # what a roll would bring around stays a window of its own
    cell = (place * window // torch.tensor(padded)[:, None])[1:]
    filled = torch.zeros(*padded, 96)
    filled[:9, :8, :15] = tokens
    out = torch.zeros(place.shape[1], 96)
    for members in groups(number):
        at = place[:, members]
        d, h, w = at[:, :, None] - at[:, None]
        rows = ((d + 7) * 13 + h + 6) * 13 + w + 6
        gate = (cell[:, members, None] - cell[:, None, members]).abs().sum(0)[..., None]
        bias = attention.relative_position_bias_table[rows] * gate
        bias = bias + attention.fragment_position_bias_table[rows] * (1 - gate)
        triple = attention.qkv(filled.flatten(0, 2)[members]).view(-1, 3, heads, 32)
        logits = torch.einsum("ihc,jhc->hij", triple[:, 0], triple[:, 1]) / 32**0.5 + bias.permute(2, 0, 1)
        mixed = torch.einsum("hij,jhc->ihc", logits.softmax(-1), triple[:, 2])
        out[members] = attention.proj(mixed.flatten(1))
    assert (ours - out.view(*padded, 96)[:9, :8, :15]).abs().max() <= 1e-4


def groups(number: Tensor) -> Iterator[Tensor]:
    """Indices of the tokens that share a window's number (3, tokens)."""
    _, inverse = number.unique(dim=1, return_inverse=True)
    for label in range(int(inverse.max()) + 1):
        yield (inverse == label).nonzero()[:, 0]


@pytest.mark.parametrize(
    ("grid", "window", "shift", "padded"),
    [
        ((16, 56, 56), (8, 7, 7), (4, 3, 3), (16, 56, 56)),
        ((16, 7, 7), (8, 7, 7), (4, 0, 0), (16, 7, 7)),
        ((8, 16, 8), (8, 7, 7), (0, 3, 3), (8, 21, 14)),
        ((3, 4, 9), (3, 4, 7), (0, 0, 3), (3, 4, 14)),
    ],
)
def test_windows_are_cut_to_the_grid(
    grid: dover.Size, window: dover.Size, shift: dover.Size, padded: dover.Size
) -> None:
    windows = dover.Windows.of(grid, shifted=True)
    assert (windows.window, windows.shift, windows.padded) == (window, shift, padded)
    tokens = torch.arange(grid[0] * grid[1] * grid[2] * 2.0).view(*grid, 2)
    assert torch.equal(windows.merge(windows.split(tokens)), tokens)
    assert dover.Windows.of(grid, shifted=False).shift == (0, 0, 0)


def test_merging_takes_rows_before_columns_and_pads_odd_sides() -> None:
    merging = dover._PatchMerging(1)
    merging.norm = nn.Identity()
    merging.reduction = nn.Identity()
    tokens = torch.arange(1, 7.0).view(1, 3, 2, 1)
    assert merging(tokens)[0, :, 0].tolist() == [[1, 3, 2, 4], [5, 0, 6, 0]]


def test_a_batch_scores_its_views_one_by_one(model: dover.Dover, tiny: Tensor) -> None:
    views = torch.cat([tiny, tiny.flip(2)])
    for branch in (model.technical, model.aesthetic):
        together = branch(views)
        assert together.shape == (2,)
        assert torch.equal(together, torch.cat([branch(view[None]) for view in views]))
        assert together[0] != together[1]
        assert branch(views[:0]).shape == (0,)


def test_views_of_any_size(model: dover.Dover) -> None:
    draw = torch.Generator().manual_seed(1)
    for size in ((5, 50, 70), (2, 32, 32), (18, 33, 47)):
        view = torch.randn(1, 3, *size, generator=draw)
        assert model.technical(view).isfinite().all() and model.aesthetic(view).isfinite().all()
    assert model.technical(torch.randn(1, 3, 1, 5, 3, generator=draw)).isfinite().all()


@pytest.mark.parametrize(
    "view", [torch.zeros(3, 4, 32, 32), torch.zeros(1, 4, 4, 32, 32), torch.zeros(1, 3, 4, 32, 32).byte()]
)
def test_views_of_another_shape_are_refused(model: dover.Dover, view: Tensor) -> None:
    for branch in (model.technical, model.aesthetic):
        with pytest.raises(ValueError, match="views are"):
            branch(view)


def test_a_view_too_small_for_the_aesthetic_branch_is_refused(model: dover.Dover) -> None:
    with pytest.raises(ValueError, match=r"at least \(2, 32, 32\)"):
        model.aesthetic(torch.zeros(1, 3, 8, 31, 64))


def test_other_weights_are_refused_with_every_key_named(state: dict[str, Tensor]) -> None:
    tampered = dict(state)
    absent, bent = "technical_head.fc_hid.bias", "aesthetic_backbone.stages.2.4.dwconv.weight"
    shuffled = "technical_backbone.layers.3.blocks.1.attn.relative_position_index"
    del tampered[absent]
    tampered[bent] = tampered[bent][:, :, :1]
    tampered[shuffled] = tampered[shuffled].flip(0)
    tampered["technical_backbone.layers.3.blocks.0.attn.fragment_position_bias_table"] = torch.zeros(2535, 24)
    with pytest.raises(InvalidError) as caught:
        dover.load(tampered)
    assert caught.value.what == (
        f"these are not DOVER's weights: 1 missing ({absent}); 1 unexpected (technical_backbone.layers.3.blocks.0.attn."
        f"fragment_position_bias_table); 1 of another shape ({bent} (384, 1, 1, 7, 7), not (384, 1, 3, 7, 7)); "
        f"1 of other values ({shuffled})"
    )


def test_a_wrapped_state_dict_is_told_how_to_unwrap(state: dict[str, Tensor]) -> None:
    with pytest.raises(InvalidError, match="381 missing .* and 361 more") as caught:
        dover.load({"state_dict": state, "validation_results": {}})  # type: ignore[dict-item]
    assert caught.value.what.endswith("; 2 unexpected (state_dict, validation_results)")
    assert "under 'state_dict'" in caught.value.fix
