"""`Scorer`: the metrics of `flashbench score` on frames that are in memory already, as in a training loop."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from flashbench.errors import UsageError
from flashbench.metrics.base import Metric, measure
from flashbench.metrics.device import on
from flashbench.scores.measure import NO_REFERENCE, Answers, Digests, Question
from flashbench.scores.table import lines, table
from flashbench.types import Clip
from flashbench.videos.settings import rate, wanted

if TYPE_CHECKING:
    import pandas as pd

Images: TypeAlias = Any
"""NumPy array, torch tensor (on any device), or sequence of such or of PIL images; see `clip`."""
_CASE = "clip"


class Scorer:
    """Metrics, ready to score clips in memory. Networks are loaded once, on first use.

    Args:
        metrics: names (`a,b`, or a list) or `Metric`s; all of `adhoc/frame-quality` if not given.
        device: where trained networks run: `cpu`, `cuda` or `cuda:N`, wherever the frames are.

    Raises:
        UsageError: no such metric or device.
    """

    def __init__(self, metrics: Iterable[str | Metric] | str | None = None, *, device: str = "cpu") -> None:
        self._wanted = wanted(metrics, device=device)
        self.metrics = self._wanted.metrics
        """In the order in which they were named."""

    def __call__(
        self,
        frames: Images | Mapping[str, Images],
        *,
        fps: int | float | str | Fraction = 8,
        prompt: str | Sequence[str | None] | Mapping[str, str | None] | None = None,
        reference: Images | Mapping[str, Images] | None = None,
        case: str | Sequence[str] = _CASE,
        seed: int | Sequence[int] | Mapping[str, int] = 0,
    ) -> pd.DataFrame:
        """Score clips: one row per clip and metric, in their order, with the columns of `flashbench.score`.

        Args:
            frames: a clip as `clip` takes it; a batch, [B, T, H, W, 3] or [B, T, 3, H, W], or a list of clips, which
                may differ in size; or a mapping of name to clip.
            fps: frames per second, of all.
            prompt: what a clip was generated from: for metrics that read it, and the unit of statistics. One for all,
                or one for each clip: a sequence beside a batch, a mapping beside a mapping.
            reference: the clip that metrics of a pair compare with; one for each clip, in the form of `frames`.
            case: the clip's name in the rows; of a batch a sequence of names, or what is numbered (`clip-000` …). A
                mapping has its own.
            seed: the sampling seed in the rows, of all or of each clip as `prompt`.

        A metric that cannot run, or has no value for a clip, is a row with NaN and its reason.

        Raises:
            UsageError: frames are no clips, or there are not as many prompts, references, names or seeds as clips.
        """
        if not isinstance(frames, Mapping) and _dimensions(frames) < 5:
            return table(self._rows(frames, fps, prompt, reference, case, seed))
        clips, form = _named(frames, case), "mapping" if isinstance(frames, Mapping) else "sequence"
        prompts = _each(prompt, clips, "prompts", form, one=isinstance(prompt, str | None))
        references = _each(reference, clips, "references", form, one=reference is None)
        seeds = _each(seed, clips, "seeds", form, one=not hasattr(seed, "__len__"))
        return table(
            row for name, made in clips.items()
            for row in self._rows(made, fps, prompts[name], references[name], name, seeds[name])
        )  # fmt: skip

    def _rows(
        self, frames: Images, fps: int | float | str | Fraction, prompt: Any, reference: Images | None, case: Any,
        seed: Any,
    ) -> list[dict[str, Any]]:  # fmt: skip
        """One clip's rows."""
        made, spoilt = clip(frames, fps)
        other, spoilt_reference = clip(reference, fps) if reference is not None else (None, "")
        if spoilt_reference:
            other = None
        digests = Digests("" if spoilt else made.digest, other.digest if other else None)
        question = Question(
            metrics=self.metrics,
            digests=digests,
            prompt=prompt,
            unpaired="" if other else f"reference: {spoilt_reference}" if spoilt_reference else NO_REFERENCE,
            unavailable={m.name: spoilt for m in self.metrics} if spoilt else self._wanted.unavailable,
        )
        with on(self._wanted.device):
            answers = Answers(question, None)
            if not answers.complete:
                failures: dict[str, str] = {}
                answers.add(measure(answers.absent, made, other, prompt, failures=failures), digests, failures)
        about: dict[str, Any] = {
            "protocol": self._wanted.protocol,
            "row": "memory",
            "case": case,
            "cluster": prompt or case,
            "prompt": prompt,
        }
        about |= {"seed": seed, "replica": 0, "frames": len(made.frames), "clip": digests.clip}
        return lines(about, answers.all())


def _dimensions(images: Any) -> int:
    """Dimensions of an array, or of a sequence of arrays, pictures (three) or sequences."""
    if hasattr(images, "ndim"):
        return int(images.ndim)
    if hasattr(images, "convert"):
        return 3
    return 1 + _dimensions(images[0]) if isinstance(images, Sequence) and len(images) else 0


def _named(frames: Any, case: str | Sequence[str]) -> dict[str, Images]:
    """Name → clip of a batch or a mapping.

    Raises:
        UsageError: there are none, or names that are not theirs.
    """
    if isinstance(frames, Mapping):
        if case != _CASE:
            raise UsageError("clips of a mapping have its names", fix="leave `case` out")
        names = [str(name) for name in frames]
        clips = list(frames.values())
    else:
        clips = list(frames)
        names = [f"{case}-{number:03d}" for number in range(len(clips))] if isinstance(case, str) else list(case)
    if not clips or len(names) != len(clips) or len(set(names)) < len(names):
        what = f"{len(clips)} clips with {len(names)} names, {len(set(names))} of them different"
        raise UsageError(what, fix="give at least one clip, and each a name of its own (`case`)")
    return dict(zip(names, clips, strict=True))


def _each(values: Any, clips: Mapping[str, Any], what: str, form: str, *, one: bool) -> dict[str, Any]:
    """Name → value of each clip; where it is `one`, of all.

    Raises:
        UsageError: there are other names, or not as many.
    """
    if one:
        return dict.fromkeys(clips, values)
    if isinstance(values, Mapping) != (form == "mapping") or not hasattr(values, "__len__"):
        raise UsageError(f"{what} of {len(clips)} clips in another form than the clips", fix=f"give a {form} of {what}")
    if isinstance(values, Mapping):
        named = {str(name): value for name, value in values.items()}
        if named.keys() != clips.keys():
            apart = sorted(named.keys() ^ clips.keys())
            raise UsageError(
                f"{what} have other names than the clips: {apart[0]} is in one alone", fix="name them alike"
            )
        return named
    if len(values) != len(clips):
        raise UsageError(f"{len(values)} {what} for {len(clips)} clips", fix=f"give as many {what} as clips")
    return dict(zip(clips, values, strict=True))


def clip(frames: Images, fps: int | float | str | Fraction) -> tuple[Clip, str]:
    """(clip, why its numbers are none) from uint8 [T, H, W, 3] or [T, 3, H, W], or floats 0 … 1 of either shape.

    Floats become round(255 x). Where they are not finite, the clip is black and the reason says in which frames.

    Raises:
        UsageError: another shape, kind of numbers or range.
    """
    array = _array(frames)
    if array.ndim != 4 or 0 in array.shape or 3 not in (array.shape[1], array.shape[3]):
        what = f"frames are {list(array.shape)}, not [T, H, W, 3] or [T, 3, H, W]"
        raise UsageError(what, fix="give a clip of RGB frames, a batch of such clips, or a mapping of name to clip")
    if array.shape[3] != 3:
        array = np.moveaxis(array, 1, 3)
    reason = ""
    if array.dtype.kind == "f":
        bad = np.flatnonzero(~np.isfinite(array).all(axis=(1, 2, 3)))
        reason = (
            f"{bad.size} of {len(array)} frames hold numbers that are not finite, frame {bad[0]} first"
            if bad.size
            else ""
        )
        array = np.zeros_like(array) if bad.size else array
        low, high = float(array.min()), float(array.max())
        if low < -1e-6 or high > 1 + 1e-6:
            fix = "scale them: (x + 1) / 2 for −1 … 1, x / 255 for 0 … 255"
            raise UsageError(f"float frames lie in {low:g} … {high:g}, not in 0 … 1", fix=fix)
        array = np.rint(np.clip(array, 0, 1) * 255).astype(np.uint8)
    if array.dtype != np.uint8:
        raise UsageError(f"frames are {array.dtype}, not uint8 or floats", fix="give uint8 0 … 255 or floats 0 … 1")
    return Clip(np.ascontiguousarray(array), rate(fps)), reason


def _array(frames: Images) -> Any:
    if not isinstance(frames, Sequence):
        return _array_of(frames)
    arrays = [_array_of(frame) for frame in frames]
    if len({array.shape for array in arrays}) != 1:
        what = f"frames are of several shapes: {sorted({array.shape for array in arrays})}" if arrays else "no frames"
        raise UsageError(what, fix="give a clip of at least one frame, all of one size")
    return np.stack(arrays)


def _array_of(image: Any) -> Any:
    if hasattr(image, "detach"):  # a torch tensor, of which NumPy knows no bfloat16
        tensor = image.detach().cpu()
        return tensor.float().numpy() if tensor.is_floating_point() else tensor.numpy()
    if hasattr(image, "convert"):  # a PIL image
        image = image.convert("RGB")
    return np.asarray(image)
