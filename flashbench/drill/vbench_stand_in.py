"""Stands in for VBench's worker in the drill: the same lines in and out, and numbers that say nothing of quality.

Standalone, as the worker itself. A value depends on the clip's bytes, the dimension and the prompt alone, so that the
drill's tables are the same whoever makes them.

    python -I vbench_stand_in.py --device cpu|cuda
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

BINARY = ("dynamic_degree", "human_action")
"""Dimensions that VBench answers with yes or no."""


def main() -> int:
    """Answer requests from stdin until it ends."""
    print(json.dumps({"ready": True, "vbench": "stand-in", "torch": "none", "device": "cpu"}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps({"id": request["id"], **answer(request)}), flush=True)
    return 0


def answer(request: dict[str, object]) -> dict[str, object]:
    """A number in 0 to 1 for the clip, 0 or 1 for dimensions that VBench answers so."""
    video = Path(str(request["video"]))
    if not video.is_file():
        return {"missing": f"no file {video.name}"}
    told = f"{request['dimension']}|{request['prompt']}|".encode()
    number = int.from_bytes(hashlib.sha256(told + video.read_bytes()).digest()[:4], "big") / 2**32
    return {"value": float(round(number)) if request["dimension"] in BINARY else number}


if __name__ == "__main__":
    sys.exit(main())
