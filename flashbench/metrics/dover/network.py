"""DOVER's network: the technical and the aesthetic quality of a video, as raw scores. Higher is better.

H. Wu et al., "Exploring Video Quality Assessment on User Generated Contents from Aesthetic and Technical
Perspectives", ICCV 2023. Our own implementation, written from a description of the release; its weights
(DOVER.pth, non-commercial) load by their own names.

* technical: Video Swin-T (Liu et al., CVPR 2022) on fragments, with FAST-VQA's gated position bias (Wu et al.,
  ECCV 2022). The gate is the distance of two tokens in cells of a 7×7 grid, 0 to 12, and not 0 or 1; the last stage
  has none.
* aesthetic: ConvNeXt-T (Liu et al., CVPR 2022) inflated to three dimensions, on the downsized clip.

Each has a head of two 1×1×1 convolutions; the raw score is the mean of its map. `dover_views` makes the views,
`dover_scores` the percentages that papers print.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flashbench.errors import InvalidError

Size: TypeAlias = tuple[int, int, int]
Depths: TypeAlias = tuple[tuple[int, ...], tuple[int, ...]]

WINDOW: Size = (8, 7, 7)
SHIFT: Size = (4, 3, 3)
SMALLEST: Size = (2, 32, 32)
"""Frames, height and width of the smallest view that the aesthetic branch can halve often enough."""
_DEPTHS: Depths = (2, 2, 6, 2), (3, 3, 9, 3)
"""Blocks of the four stages of the technical and of the aesthetic backbone."""
_WIDTH = 96
"""Channels of both backbones' first stage; each further one has twice as many."""
_BLOCK = re.compile(r"(technical_backbone\.layers|aesthetic_backbone\.stages)\.([0-3])(?:\.blocks)?\.(\d+)\.")
"""Backbone, stage and block of a key."""
_PATCH: Size = (2, 4, 4)
_HEAD = 32
_OUTSIDE = -100.0
_BIAS_ELEMENTS = 2**22
"""Elements of attention bias made at a time: 16 MB in float32."""
_LISTED = 20


class Dover(nn.Module):
    """DOVER's network: the technical and the aesthetic branch with their heads; made by `load`."""

    def __init__(self, width: int = _WIDTH, depths: Depths = _DEPTHS) -> None:
        super().__init__()
        self.technical_backbone = _VideoSwin(width, depths[0])
        self.technical_head = _Head(width)
        self.aesthetic_backbone = _VideoConvNeXt(width, depths[1])
        self.aesthetic_head = _Head(width)

    def technical(self, views: Tensor) -> Tensor:
        """Raw technical scores (B,) of normalised views (B, 3, T, H, W) of any size: the mean of each view's map.

        Raises:
            ValueError: views of another shape.
        """
        return _scores(views, self.technical_backbone, self.technical_head)

    def aesthetic(self, views: Tensor) -> Tensor:
        """Raw aesthetic scores (B,) of normalised views (B, 3, T, H, W): the mean of each view's map.

        Raises:
            ValueError: views of another shape, or below `SMALLEST`.
        """
        if any(size < least for size, least in zip(views.shape[2:], SMALLEST, strict=False)):
            raise ValueError(f"views are at least {SMALLEST} (T, H, W), not {tuple(views.shape[2:])}")
        return _scores(views, self.aesthetic_backbone, self.aesthetic_head)


def load(state_dict: Mapping[str, Tensor]) -> Dover:
    """DOVER's network with the weights of `state_dict` (the plain content of DOVER.pth), float32, in eval mode.

    The tensors are shared, not copied, where they are float32 already. The width is read off them: 96 of the released
    weights, any other multiple of 32 of a network that was made smaller, whose numbers of blocks are read off its keys.

    Raises:
        InvalidError: keys are missing or unexpected, tensors have another shape, or an index buffer other values.
    """
    with torch.device("meta"):  # no memory, and no draw from the global generator for weights that are replaced
        width = _width(state_dict)
        model = Dover(width, _DEPTHS if width == _WIDTH else _depths(state_dict))
    expected = model.state_dict()
    _check(state_dict, expected)
    weights = {key: state_dict[key].detach().to(expected[key].dtype) for key in expected}
    model.load_state_dict(weights, assign=True)
    return model.requires_grad_(False).eval()


def _width(state_dict: Mapping[str, Tensor]) -> int:
    """Channels of the first stage; those of the release where the tensors do not say."""
    patches = state_dict.get("technical_backbone.patch_embed.proj.weight")
    width = _WIDTH if patches is None else patches.shape[0]
    return width if width and width % _HEAD == 0 else _WIDTH


def _depths(state_dict: Mapping[str, Tensor]) -> Depths:
    """Blocks of the four stages of both backbones; the release's where the keys name none."""
    places: tuple[list[set[int]], list[set[int]]] = [set() for _ in range(4)], [set() for _ in range(4)]
    for key in state_dict:
        if found := _BLOCK.match(key):
            backbone, stage, block = found.groups()
            places[backbone.startswith("aesthetic")][int(stage)].add(int(block))
    technical, aesthetic = (
        tuple(max(have) + 1 if have else release for have, release in zip(found, known, strict=True))
        for found, known in zip(places, _DEPTHS, strict=True)
    )
    return technical, aesthetic


def _widths(width: int) -> tuple[int, ...]:
    """Channels of the four stages."""
    return tuple(width * 2**stage for stage in range(4))


class _Head(nn.Module):
    """Features (768, T, H, W) to a map of scores (1, T, H, W)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc_hid = nn.Conv3d(_widths(width)[-1], 64, 1)
        self.fc_last = nn.Conv3d(64, 1, 1)

    def forward(self, features: Tensor) -> Tensor:
        return self.fc_last(F.gelu(self.fc_hid(features)))


class _VideoSwin(nn.Module):
    """Technical backbone: one view (3, T, H, W) to features (768, T/2, H/32, W/32), sizes rounded up."""

    def __init__(self, width: int, depths: Sequence[int]) -> None:
        super().__init__()
        widths = _widths(width)
        self.patch_embed = _PatchEmbedding(width)
        self.layers = nn.ModuleList(
            _SwinStage(wide, depth, last=wide == widths[-1]) for wide, depth in zip(widths, depths, strict=True)
        )
        self.norm = nn.LayerNorm(widths[-1])

    def forward(self, view: Tensor) -> Tensor:
        tokens = self.patch_embed(view)
        for stage in self.layers:
            tokens = stage(tokens)
        return self.norm(tokens).permute(3, 0, 1, 2)


class _PatchEmbedding(nn.Module):
    """Patches of 2×4×4 pixels as tokens: (3, T, H, W) to (T/2, H/4, W/4, 96), zero-padded at the end as in Swin."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv3d(3, width, _PATCH, _PATCH)
        self.norm = nn.LayerNorm(width)

    def forward(self, view: Tensor) -> Tensor:
        t, h, w = (-size % patch for size, patch in zip(view.shape[1:], _PATCH, strict=True))
        return self.norm(self.proj(F.pad(view, (0, w, 0, h, 0, t))).permute(1, 2, 3, 0))


class _SwinStage(nn.Module):
    """Blocks with plain and shifted windows in turn, then patch merging except after the last stage."""

    def __init__(self, width: int, depth: int, *, last: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(_SwinBlock(width, shifted=j % 2 == 1, gated=not last) for j in range(depth))
        self.downsample = None if last else _PatchMerging(width)

    def forward(self, tokens: Tensor) -> Tensor:
        for block in self.blocks:
            tokens = block(tokens)
        return tokens if self.downsample is None else self.downsample(tokens)


class _PatchMerging(nn.Module):
    """Four neighbours in space as one token of twice the width; an odd height or width is zero-padded."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * width)
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = F.pad(tokens, (0, 0, 0, tokens.shape[2] % 2, 0, tokens.shape[1] % 2))
        corners = [tokens[:, h::2, w::2] for h, w in ((0, 0), (1, 0), (0, 1), (1, 1))]
        return self.reduction(self.norm(torch.cat(corners, dim=-1)))


class _SwinBlock(nn.Module):
    """Windowed attention and an MLP, each on normalised tokens (D, H, W, C) and added to them."""

    def __init__(self, width: int, *, shifted: bool, gated: bool) -> None:
        super().__init__()
        self.shifted = shifted
        self.norm1 = nn.LayerNorm(width)
        self.attn = _WindowAttention(width, gated=gated)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})

    def forward(self, tokens: Tensor) -> Tensor:
        depth, height, width, _ = tokens.shape
        windows = Windows.of((depth, height, width), shifted=self.shifted)
        tokens = tokens + windows.merge(self.attn(windows.split(self.norm1(tokens)), windows))
        return tokens + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(tokens))))


@dataclass(frozen=True)
class Windows:
    """How a grid of tokens is padded, rolled and cut into windows of N tokens, and what the attention must know."""

    grid: Size
    padded: Size
    window: Size
    shift: Size

    @classmethod
    def of(cls, grid: Size, *, shifted: bool) -> Windows:
        """Windows no larger than the grid; an axis that one window covers is never shifted."""
        window = tuple(min(size, full) for size, full in zip(grid, WINDOW, strict=True))
        shift = tuple(s if shifted and size > full else 0 for size, full, s in zip(grid, WINDOW, SHIFT, strict=True))
        padded = tuple(-(-size // w) * w for size, w in zip(grid, window, strict=True))
        return cls(grid, padded, window, shift)  # type: ignore[arg-type]  # tuples of three

    def split(self, tokens: Tensor) -> Tensor:
        """Tokens of the grid (D, H, W, C) cut into windows (n, N, C).

        What is padded takes part in the attention, unmasked.
        """
        d, h, w = (there - here for there, here in zip(self.padded, self.grid, strict=True))
        tokens = F.pad(tokens, (0, 0, 0, w, 0, h, 0, d)).roll(tuple(-s for s in self.shift), (0, 1, 2))
        return self._cut(tokens)

    def merge(self, windows: Tensor) -> Tensor:
        """Windows (n, N, C) put together to the grid (D, H, W, C): the inverse of `split`."""
        counts = [size // w for size, w in zip(self.padded, self.window, strict=True)]
        tokens = windows.view(*counts, *self.window, -1).permute(0, 3, 1, 4, 2, 5, 6).reshape(*self.padded, -1)
        depth, height, width = self.grid
        return tokens.roll(self.shift, (0, 1, 2))[:depth, :height, :width]

    def cells(self, device: torch.device) -> Tensor:
        """Row and column (n, N, 2) of the fragment that each token comes from: as many cells as a window is wide."""
        axes = [torch.arange(size, device=device) * w // size for size, w in zip(self.padded, self.window, strict=True)]
        rows, columns = (grid.roll(tuple(-s for s in self.shift), (0, 1, 2)) for grid in _mesh(axes)[1:])
        return self._cut(torch.stack([rows, columns], dim=-1).int())

    def regions(self, device: torch.device) -> Tensor | None:
        """A number (n, N) per token; tokens that rolling made neighbours differ in it. None without a shift."""
        if not any(self.shift):
            return None
        axes = []
        for size, w, s in zip(self.padded, self.window, self.shift, strict=True):
            place = torch.arange(size, device=device)
            axes.append((place >= size - w).long() + (place >= size - s) if s else torch.zeros_like(place))
        depth, height, width = _mesh(axes)
        return self._cut((9 * depth + 3 * height + width).int()[..., None])[..., 0]

    def _cut(self, tokens: Tensor) -> Tensor:
        d, h, w = self.window
        depth, height, width = self.padded
        cut = tokens.reshape(depth // d, d, height // h, h, width // w, w, -1).permute(0, 2, 4, 1, 3, 5, 6)
        return cut.reshape(-1, d * h * w, tokens.shape[-1])


class _WindowAttention(nn.Module):
    """Multi-head attention inside windows (n, N, C), with a position bias that depends on the fragments."""

    relative_position_index: Tensor
    fragment_position_bias_table: nn.Parameter | None

    def __init__(self, width: int, *, gated: bool) -> None:
        super().__init__()
        self.heads = width // _HEAD
        entries = (2 * WINDOW[0] - 1) * (2 * WINDOW[1] - 1) * (2 * WINDOW[2] - 1)
        tokens = WINDOW[0] * WINDOW[1] * WINDOW[2]
        self.relative_position_bias_table = nn.Parameter(torch.empty(entries, self.heads))
        fragments = nn.Parameter(torch.empty(entries, self.heads)) if gated else None
        self.register_parameter("fragment_position_bias_table", fragments)
        self.register_buffer("relative_position_index", torch.empty(tokens, tokens, dtype=torch.int64))
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor, windows: Windows) -> Tensor:
        count, length, _ = tokens.shape
        cells, regions = windows.cells(tokens.device), windows.regions(tokens.device)
        together = max(1, _BIAS_ELEMENTS // (self.heads * length**2))
        out = []
        for start in range(0, count, together):
            part = slice(start, start + together)
            query, key, value = self.qkv(tokens[part]).view(-1, length, 3, self.heads, _HEAD).permute(2, 0, 3, 1, 4)
            bias = self._bias(cells[part], None if regions is None else regions[part])
            mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
            out.append(self.proj(mixed.transpose(1, 2).flatten(2)))
        return torch.cat(out)

    def _bias(self, cells: Tensor, regions: Tensor | None) -> Tensor:
        """What is added to the attention's logits, (n, heads, N, N), from cells (n, N, 2) and regions (n, N)."""
        # A smaller window takes the first N rows and columns of the full window's index, as the weights were trained.
        index = self.relative_position_index[: cells.shape[1], : cells.shape[1]]
        bias = self.relative_position_bias_table[index].permute(2, 0, 1)[None]
        if self.fragment_position_bias_table is not None:
            same = self.fragment_position_bias_table[index].permute(2, 0, 1)[None]
            gate = cell_distance(cells)[:, None].to(bias.dtype)
            bias = bias * gate + same * (1 - gate)
        else:
            bias = bias.expand(len(cells), -1, -1, -1)
        if regions is None:
            return bias
        apart = regions[:, :, None] != regions[:, None]
        return bias + _OUTSIDE * apart[:, None].to(bias.dtype)


def cell_distance(cells: Tensor) -> Tensor:
    """Rows plus columns between the fragments of two tokens, (n, N, 2) to (n, N, N), integers 0 to 12: the gate."""
    rows, columns = cells.unbind(-1)
    return (rows[:, :, None] - rows[:, None]).abs() + (columns[:, :, None] - columns[:, None]).abs()


def relative_position_index() -> Tensor:
    """The row of the bias tables for each query and key of a full window, (392, 392) int64."""
    place = torch.stack(_mesh([torch.arange(size) for size in WINDOW])).flatten(1)
    d, h, w = place[:, :, None] - place[:, None] + torch.tensor(WINDOW)[:, None, None] - 1
    return (d * (2 * WINDOW[1] - 1) + h) * (2 * WINDOW[2] - 1) + w


class _VideoConvNeXt(nn.Module):
    """Aesthetic backbone: one view (3, T, H, W) to features (768, T/2, H/32, W/32), sizes rounded down."""

    def __init__(self, width: int, depths: Sequence[int]) -> None:
        super().__init__()
        widths = _widths(width)
        stem = nn.Sequential(nn.Conv3d(3, width, _PATCH, _PATCH), _ChannelNorm(width))
        steps = [
            nn.Sequential(_ChannelNorm(narrow), nn.Conv3d(narrow, wide, (1, 2, 2), (1, 2, 2)))
            for narrow, wide in zip(widths[:-1], widths[1:], strict=True)
        ]
        self.downsample_layers = nn.ModuleList([stem, *steps])
        # Every third block, the middle one of three, also mixes three frames.
        self.stages = nn.ModuleList(
            nn.Sequential(*(_ConvNeXtBlock(wide, frames=3 if j % 3 == 1 else 1) for j in range(depth)))
            for wide, depth in zip(widths, depths, strict=True)
        )
        self.norm = _ChannelNorm(widths[-1])

    def forward(self, view: Tensor) -> Tensor:
        for downsample, stage in zip(self.downsample_layers, self.stages, strict=True):
            view = stage(downsample(view))
        return self.norm(view)


class _ConvNeXtBlock(nn.Module):
    """A depthwise convolution over `frames`×7×7, then an MLP per position, scaled and added to (C, T, H, W)."""

    def __init__(self, width: int, *, frames: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.empty(width))
        self.dwconv = nn.Conv3d(width, width, (frames, 7, 7), padding=(frames // 2, 3, 3), groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.pwconv1 = nn.Linear(width, 4 * width)
        self.pwconv2 = nn.Linear(4 * width, width)

    def forward(self, view: Tensor) -> Tensor:
        mixed = self.norm(self.dwconv(view).permute(1, 2, 3, 0))
        return view + (self.gamma * self.pwconv2(F.gelu(self.pwconv1(mixed)))).permute(3, 0, 1, 2)


class _ChannelNorm(nn.LayerNorm):
    """Normalisation over the channels of (C, T, H, W), each position for itself."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=1e-6)

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.permute(1, 2, 3, 0)).permute(3, 0, 1, 2)


def _scores(views: Tensor, backbone: nn.Module, head: nn.Module) -> Tensor:
    if views.ndim != 5 or views.shape[1] != 3 or not views.is_floating_point():
        raise ValueError(f"views are float (B, 3, T, H, W), not {views.dtype} {tuple(views.shape)}")
    with torch.no_grad():
        # One view at a time: memory stays that of one, and the size of a batch cannot move a score.
        return torch.stack([head(backbone(view)).mean() for view in views]) if len(views) else views.new_empty(0)


def _mesh(axes: list[Tensor]) -> tuple[Tensor, ...]:
    return torch.meshgrid(axes, indexing="ij")


def _check(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Compare keys, shapes and index buffers; one error names all that is wrong."""
    index = relative_position_index()
    shared = [key for key in expected if key in tensors]
    faults = {
        "missing": [key for key in expected if key not in tensors],
        "unexpected": [key for key in tensors if key not in expected],
        "of another shape": [
            f"{key} {tuple(tensors[key].shape)}, not {tuple(expected[key].shape)}"
            for key in shared
            if tensors[key].shape != expected[key].shape
        ],
        "of other values": [
            key
            for key in shared
            if tensors[key].shape == index.shape and not torch.equal(tensors[key].to("cpu", torch.int64), index)
        ],
    }
    if any(faults.values()):
        raise InvalidError(
            "these are not DOVER's weights: "
            + "; ".join(_listing(fault, keys) for fault, keys in faults.items() if keys),
            fix="give the state dict that DOVER.pth holds (DOVER_plus_plus.pth has it under 'state_dict')",
        )


def _listing(fault: str, keys: list[str]) -> str:
    more = f" and {len(keys) - _LISTED} more" if len(keys) > _LISTED else ""
    return f"{len(keys)} {fault} ({', '.join(keys[:_LISTED])}{more})"
