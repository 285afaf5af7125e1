"""What VBench 0.1.5 fetches by itself for each dimension, so that a plan can say it before the first clip is scored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

_GRIT = "GRiT-B dense captions and objects, 417 MB, MIT, with detectron2"
_CLIP = "CLIP ViT-B/32, 338 MB, MIT"
_VICLIP = "ViCLIP InternVid-10M, 1.7 GB, MIT"
WEIGHTS: Mapping[str, str] = MappingProxyType(
    {
        "subject_consistency": "DINO ViT-B/16, 343 MB, Apache-2.0",
        "background_consistency": _CLIP,
        "motion_smoothness": "AMT-S, 12 MB, CC BY-NC 4.0 (non-commercial)",
        "dynamic_degree": "RAFT-things, 81 MB, BSD-3-Clause",
        "aesthetic_quality": "CLIP ViT-L/14 with LAION's predictor, 890 MB, MIT",
        "imaging_quality": "MUSIQ-SPAQ, 104 MB, by non-commercial code (pyiqa)",
        "object_class": _GRIT,
        "multiple_objects": _GRIT,
        "spatial_relationship": _GRIT,
        "color": _GRIT,
        "human_action": "UMT-L/16, 607 MB, Apache-2.0",
        "scene": "Tag2Text Swin-14M with bert-base-uncased, 4.5 GB, Apache-2.0",
        "appearance_style": _CLIP,
        "temporal_style": _VICLIP,
        "overall_consistency": _VICLIP,
    }
)
"""Dimension → weights, about how large, licence. temporal_flickering has none."""


def needs(dimensions: Iterable[str], *, environment: bool) -> list[str]:
    """A line for VBench's environment, unless it is here, and one for each of the weights of `dimensions`."""
    served: dict[str, list[str]] = {}
    for name in dimensions:
        if name in WEIGHTS:
            served.setdefault(WEIGHTS[name], []).append(name)
    lines = [f"VBench, for {', '.join(names)}: {weights}; it fetches them itself" for weights, names in served.items()]
    if lines and not environment:
        lines.insert(0, "VBench 0.1.5, its own environment: 7 GB, Apache-2.0, by flashbench assets pull vbench")
    return lines
