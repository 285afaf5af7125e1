"""Runs inside VBench's own environment: one dimension of one clip per line, by VBench's public Python API.

Standalone: imports nothing of this project, and VBench and torch only when it runs. VBench stays unmodified. Each clip
gets a folder of its own, in which it has VBench's name in a suite of that one prompt, so nothing is evaluated besides
it, and results are there after every clip instead of at the end. See `worker.py` for the protocol.

A dimension `fast:subject_consistency` or `fast:background_consistency` asks for VBench-Long's fast score instead: how
alike the frames of a video are, which are the first frames of its clips. VBench's package does not hold that part.

    python -I vbench_worker.py --device cpu|cuda
"""

from __future__ import annotations

import argparse
import ctypes
import json
import math
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.error import URLError

READS_NO_PROMPT = frozenset(
    {
        "subject_consistency", "background_consistency", "temporal_flickering", "motion_smoothness", "dynamic_degree",
        "aesthetic_quality", "imaging_quality",
    }
)  # fmt: skip
PLACEHOLDER = "clip"
"""Prompt of the dimensions that read none."""
BY_GRIT = frozenset({"object_class", "multiple_objects", "color", "spatial_relationship"})
"""Dimensions by a network that needs detectron2."""
NAME_MAX = 255
SILENCE = 120.0
"""Seconds that a server of weights may be silent."""

FAST = "fast:"

Evaluate = Callable[[Path, Path, Path, str], None]
"""From the suite, the folder of videos, the folder of results and a dimension to a result file."""
Alike = Callable[[Path, str], float]
"""From a video and a dimension to the fast score."""


def main(arguments: list[str]) -> int:
    """Answer requests from stdin until it ends."""
    parser = argparse.ArgumentParser(description="VBench's worker of FlashBench")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    device = parser.parse_args(arguments).device
    _die_with_parent()
    # What VBench prints, and the programs that it starts, must not write between our lines.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    socket.setdefaulttimeout(SILENCE)
    home = Path.cwd()
    with tempfile.TemporaryDirectory(prefix="vbench-") as scratch:
        os.chdir(scratch)
        evaluate, about = load(device)
        _say(answers, {"ready": True, **about})
        alike = Consistency(device)
        for line in sys.stdin:
            request = json.loads(line)
            _say(answers, {"id": request["id"], **answer(request, evaluate, alike, home)})
        os.chdir(home)
    return 0


def load(device: str) -> tuple[Evaluate, dict[str, Any]]:
    """VBench on a device, and what it is: its version, torch's, and the device's name."""
    import torch
    from vbench import VBench  # type: ignore[import-not-found]

    def evaluate(suite: Path, videos: Path, results: Path, dimension: str) -> None:
        bench = VBench(torch.device(device), str(suite), str(results))
        bench.evaluate(videos_path=str(videos), name="one", dimension_list=[dimension])

    name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    return evaluate, {"vbench": version("vbench"), "torch": torch.__version__, "device": name}


class Consistency:
    """VBench-Long's fast score: over later frames, the mean of their clamped cosines with the previous and the first.

    DINOv2 ViT-B/14 for subject_consistency, DreamSim for background_consistency, as with `--dev_flag`; kept once built.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self._networks: dict[str, Callable[[Any], Any]] = {}

    def __call__(self, video: Path, dimension: str) -> float:
        """The fast score of a video's frames, at least two of them: 0 … 1."""
        import torch
        from decord import VideoReader  # type: ignore[import-not-found]
        from PIL import Image

        if dimension not in self._networks:
            builds = {"subject_consistency": self._dinov2, "background_consistency": self._dreamsim}
            self._networks[dimension] = builds[dimension]()
        network = self._networks[dimension]
        with torch.no_grad():
            pictures = (Image.fromarray(frame.asnumpy()) for frame in VideoReader(str(video)))
            features = [network(picture).flatten().float() for picture in pictures]
            units = [feature / feature.norm() for feature in features]
            pairs = zip(units, units[1:], strict=False)
            sums = [max(0.0, float(a @ b)) + max(0.0, float(units[0] @ b)) for a, b in pairs]
        return sum(sums) / (2 * len(sums))

    def _dinov2(self) -> Callable[[Any], Any]:
        """From a picture to the class token [768]."""
        import torch
        from torchvision import transforms as t  # type: ignore[import-untyped]

        network = torch.hub.load("facebookresearch/dinov2", "dinov2_vitb14", trust_repo=True).eval().to(self._device)
        mean, deviation = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
        size = t.Resize(256, t.InterpolationMode.BICUBIC)
        prepare = t.Compose([size, t.CenterCrop(224), t.ToTensor(), t.Normalize(mean, deviation)])
        return lambda picture: network(prepare(picture)[None].to(self._device))

    def _dreamsim(self) -> Callable[[Any], Any]:
        """From a picture to DreamSim's embedding."""
        from dreamsim import dreamsim  # type: ignore[import-not-found]

        network, prepare = dreamsim(pretrained=True, device=self._device, cache_dir=f"{_cache()}/dreamsim")
        return lambda picture: network.embed(prepare(picture).to(self._device))


def answer(request: dict[str, Any], evaluate: Evaluate, alike: Alike, home: Path) -> dict[str, Any]:
    """`value` of the clip, or why it is `missing`. A failure of VBench is an answer; only the process's end is none."""
    dimension, video = request["dimension"], home / request["video"]
    fast = dimension.startswith(FAST)
    prompt = PLACEHOLDER if fast or dimension in READS_NO_PROMPT else request["prompt"]
    # FFmpeg looks at the content; VBench opens only what ends in a suffix that it knows.
    name = f"{prompt}-0{'.gif' if video.suffix.lower() == '.gif' else '.mp4'}"
    if not prompt:
        return {"missing": f"{dimension} needs the video's prompt"}
    if "/" in prompt or "\0" in prompt or len(name.encode("utf-8", "surrogatepass")) > NAME_MAX:
        return {"missing": "the prompt fits no file name, and VBench finds prompts by file names"}
    if dimension == "human_action" and "-" in prompt:
        return {"missing": "VBench reads the action from the file's name, and cuts it at the first '-'"}
    if not video.is_file():
        return {"missing": f"no file {video.name}"}
    if dimension in BY_GRIT and find_spec("detectron2") is None:  # before VBench fetches weights in vain
        return {"missing": "detectron2 is not installed in VBench's environment: it comes as source only"}
    try:
        if fast:
            return _found(alike(video, dimension.removeprefix(FAST)))
        with tempfile.TemporaryDirectory(dir=".") as folder:
            return _evaluated(Path(folder).resolve(), request, prompt, video, name, evaluate)
    except Exception as error:
        print(f"{dimension} of {video}: {error!r}", file=sys.stderr)
        return {"missing": _why(error)[:1000]}


def _why(error: Exception) -> str:
    """What a failure of VBench means; most often that weights are not there and cannot be fetched."""
    source = ""
    if isinstance(error, ModuleNotFoundError):
        return f"{error.name} is not installed in VBench's environment"
    if isinstance(error, URLError):
        source = str(error.reason)
    elif isinstance(error, subprocess.CalledProcessError):  # VBench fetches its weights with wget
        words = [error.cmd] if isinstance(error.cmd, str) else [str(word) for word in error.cmd]
        source = next((word for word in words if word.startswith("http")), words[0])
    elif isinstance(error, FileNotFoundError) and error.filename == "wget":
        source = "it needs the program wget"
    elif isinstance(error, FileNotFoundError) and str(error.filename).startswith(_cache()):
        source = Path(error.filename).name
    if source:
        return f"VBench's weights could not be fetched: {source}"
    return f"VBench failed: {type(error).__name__}: {error}"


def _evaluated(
    folder: Path, request: dict[str, Any], prompt: str, video: Path, name: str, evaluate: Evaluate
) -> dict[str, Any]:
    """The value that VBench writes for a suite of one prompt with one video."""
    dimension = request["dimension"]
    suite, videos, results = folder / "suite.json", folder / "videos", folder / "results"
    entry = {"prompt_en": prompt, "dimension": [dimension]}
    if request["labels"]:
        entry["auxiliary_info"] = request["labels"]
    suite.write_text(json.dumps([entry]), encoding="utf-8")
    videos.mkdir()
    results.mkdir()
    (videos / name).symlink_to(video)
    evaluate(suite, videos, results, dimension)
    written = list(results.glob("*eval_results.json"))
    if len(written) != 1:
        return {"missing": f"VBench wrote {len(written)} result files"}
    overall, *rest = json.loads(written[0].read_text(encoding="utf-8"))[dimension]
    if rest and not rest[0]:
        return {"missing": "VBench could not read the clip, and left it out"}
    return _found(float(overall))


def _found(value: float) -> dict[str, Any]:
    return {"value": value} if math.isfinite(value) else {"missing": f"VBench's value is {value}"}


def _cache() -> str:
    """Where VBench keeps its weights."""
    return os.environ.get("VBENCH_CACHE_DIR") or str(Path.home() / ".cache" / "vbench")


def _say(answers: Any, content: dict[str, Any]) -> None:
    answers.write(json.dumps(content) + "\n")
    answers.flush()


def _die_with_parent() -> None:
    """Ask Linux to end this process with its parent, so that a killed run leaves nothing on the GPU."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, int(signal.SIGKILL))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
