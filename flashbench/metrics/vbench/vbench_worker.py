"""Runs inside VBench's own environment: one dimension of one clip per line, by VBench's public Python API.

Standalone: imports nothing of this project, and VBench and torch only when it runs. VBench stays unmodified. Each clip
gets a folder of its own, in which it has VBench's name in a suite of that one prompt, so nothing is evaluated besides
it, and results are there after every clip instead of at the end. See `worker.py` for the protocol.

    python -I vbench_worker.py --device cpu|cuda
"""

from __future__ import annotations

import argparse
import ctypes
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

READS_NO_PROMPT = frozenset(
    {
        "subject_consistency", "background_consistency", "temporal_flickering", "motion_smoothness", "dynamic_degree",
        "aesthetic_quality", "imaging_quality",
    }
)  # fmt: skip
PLACEHOLDER = "clip"
"""Prompt of the dimensions that read none."""
NAME_MAX = 255

Evaluate = Callable[[Path, Path, Path, str], None]
"""From the suite, the folder of videos, the folder of results and a dimension to a result file."""


def main(arguments: list[str]) -> int:
    """Answer requests from stdin until it ends."""
    parser = argparse.ArgumentParser(description="VBench's worker of FlashBench")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    device = parser.parse_args(arguments).device
    _die_with_parent()
    # What VBench prints, and the programs that it starts, must not write between our lines.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    home = Path.cwd()
    with tempfile.TemporaryDirectory(prefix="vbench-") as scratch:
        os.chdir(scratch)
        evaluate, about = load(device)
        _say(answers, {"ready": True, **about})
        for line in sys.stdin:
            request = json.loads(line)
            _say(answers, {"id": request["id"], **answer(request, evaluate, home)})
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


def answer(request: dict[str, Any], evaluate: Evaluate, home: Path) -> dict[str, Any]:
    """`value` of the clip, or why it is `missing`. A failure of VBench is an answer; only the process's end is none."""
    dimension, video = request["dimension"], home / request["video"]
    prompt = PLACEHOLDER if dimension in READS_NO_PROMPT else request["prompt"]
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
    try:
        with tempfile.TemporaryDirectory(dir=".") as folder:
            return _evaluated(Path(folder).resolve(), request, prompt, video, name, evaluate)
    except ModuleNotFoundError as error:
        return {"missing": f"{error.name} is not installed in VBench's environment"}
    except subprocess.CalledProcessError as error:  # VBench fetches its weights with wget
        words = [error.cmd] if isinstance(error.cmd, str) else [str(word) for word in error.cmd]
        source = next((word for word in words if word.startswith("http")), words[0])
        return {"missing": f"VBench's weights could not be fetched: {source}"}
    except Exception as error:
        print(f"{dimension} of {video}: {error!r}", file=sys.stderr)
        return {"missing": f"VBench failed: {type(error).__name__}: {error}"[:1000]}


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
    value = float(overall)
    return {"value": value} if math.isfinite(value) else {"missing": f"VBench's value is {value}"}


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
