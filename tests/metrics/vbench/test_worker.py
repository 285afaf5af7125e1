"""The worker protocol against a worker that misbehaves on command, and VBench's worker against a VBench of straw."""

from __future__ import annotations

import math
import os
import sys
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flashbench.metrics.vbench import vbench_worker, worker
from flashbench.metrics.vbench.worker import Request, Worker
from flashbench.vbench import slow_fast

# Does what the request's dimension says; a colon separates words that only one start (of several) obeys.
STAND_IN = r"""
import json, os, subprocess, sys, time
start = int(open(sys.argv[1]).read() or 0) + 1 if os.path.exists(sys.argv[1]) else 1
open(sys.argv[1], "w").write(str(start))
mode = sys.argv[2] if len(sys.argv) > 2 else ""
def say(text):
    sys.stdout.write(text); sys.stdout.flush()
if mode == "never ready":
    time.sleep(60)
if mode == "no module":
    print("Traceback\nModuleNotFoundError: No module named 'vbench'", file=sys.stderr); sys.exit(1)
say("Downloading weights: 100%\n{\"ready\": false}\nnull\n")
say(json.dumps({"ready": True, "start": start}) + "\n")
for line in sys.stdin:
    r = json.loads(line)
    what = r["dimension"]
    good = json.dumps({"id": r["id"], "value": 0.5}) + "\n"
    if what == "good": say(good)
    elif what == "echo": say(json.dumps({"id": r["id"], "missing": r["prompt"] + "|" + r["video"] + "|" + json.dumps(r["labels"])}) + "\n")
    elif what == "crash": print("noise\nSegmentation fault, probably", file=sys.stderr); os._exit(9)
    elif what == "killed": os.kill(os.getpid(), 9)
    elif what == "crash in line": say("{\"id\": 1, \"va"); os._exit(0)
    elif what == "cut short": say(good[:-6] + "\n")
    elif what == "hang": time.sleep(60)
    elif what == "child":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        open(r["video"], "w").write(str(child.pid)); time.sleep(60)
    elif what == "garbage":
        sys.stdout.buffer.write(b"\xff\xfe\x00 {'id': 7}\n[1, 2]\n{\"id\": true, \"value\": 1}\n\n{\"value\": 3}\n"); say(good)
    elif what == "stale": say(json.dumps({"id": r["id"] - 1, "value": 0.1}) + "\n" + good)
    elif what == "flood":
        for _ in range(40): say("x" * 65536)
        time.sleep(60)
    elif what == "chatter":
        while True: say("still loading\n" * 200)
    elif what == "missing": say(json.dumps({"id": r["id"], "missing": "detectron2 is not installed"}) + "\n")
    elif what == "close": os.close(1); time.sleep(60)
    elif what == "slowly":
        for character in good: say(character); time.sleep(0.002)
    elif what == "leaves": say(good); sys.exit(0)
    elif what.startswith("value "): say(good.replace("0.5", what[6:]))
    elif what == "env": say(json.dumps({"id": r["id"], "missing": ",".join(sorted(os.environ)) or "none"}) + "\n")
    elif what == "litters": open(os.environ["TMPDIR"] + "/left", "w").write("x"); open(r["video"], "w").write(os.environ["TMPDIR"]); os._exit(1)
    elif what == "stderr": print("x" * 100_000, file=sys.stderr, flush=True); say(good)
"""  # noqa: E501

Make = Callable[..., Worker]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Workers over the stand-in; `tmp_path/starts` counts how often it was started."""
    script, made = tmp_path / "stand_in.py", []
    script.write_text(STAND_IN)

    def made_with(*mode: str, **settings: object) -> Worker:
        arguments = {"timeout": 10.0, "start_timeout": 10.0} | settings
        command = [sys.executable, "-I", str(script), str(tmp_path / "starts"), *mode]
        made.append(Worker(command, **arguments))  # type: ignore[arg-type]
        return made[-1]

    yield made_with
    for one in made:
        one.close()


def ask(one: Worker, *dimensions: str, **fields: object) -> list[tuple[float, str]]:
    answers = [one.ask(Request(video="x.mp4", dimension=name, **fields)) for name in dimensions]  # type: ignore[arg-type]
    return [(answer.value, answer.reason) for answer in answers]


def starts(folder: Path) -> int:
    return int((folder / "starts").read_text())


def failed(answer: tuple[float, str], why: str) -> bool:
    return math.isnan(answer[0]) and why in answer[1]


def test_answers(make: Make, tmp_path: Path) -> None:
    one = make()
    assert ask(one, "good", "slowly", "stderr", "value 1", "value 2e-3") == [
        (0.5, ""), (0.5, ""), (0.5, ""), (1.0, ""), (0.002, "")
    ]  # fmt: skip
    assert one.about == {"ready": True, "start": 1} and starts(tmp_path) == 1


def test_what_a_request_says(make: Make) -> None:
    ((_, said),) = ask(make(), "echo", prompt="a façade\n🚀", labels={"scene": {"scene": "alley"}})
    assert said == 'a façade\n🚀|x.mp4|{"scene": {"scene": "alley"}}'


def test_noise_on_stdout_and_late_answers_are_ignored(make: Make, tmp_path: Path) -> None:
    assert ask(make(), "garbage", "stale", "good") == [(0.5, "")] * 3
    assert starts(tmp_path) == 1


def test_a_missing_dimension_is_an_answer(make: Make, tmp_path: Path) -> None:
    missing, good = ask(make(), "missing", "good")
    assert failed(missing, "detectron2 is not installed") and good == (0.5, "")
    assert starts(tmp_path) == 1, "nothing was restarted"


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("crash", "ended with exit code 9: Segmentation fault, probably"),
        ("killed", "killed by signal 9"),
        ("crash in line", "ended with exit code 0 in the middle of a line"),
        ("cut short", "answer was cut short"),
        ("hang", "did not answer within 1 s"),
        ("chatter", "did not answer within 1 s"),
        ("flood", "without an end of line"),
        ("close", "closed its output"),
    ],
)
def test_a_failure_costs_one_request(make: Make, tmp_path: Path, what: str, why: str) -> None:
    before, bad, after = ask(make(timeout=1.0 if "1 s" in why else 10.0), "good", what, "good")
    assert failed(bad, why), bad
    assert before == after == (0.5, "")
    assert starts(tmp_path) == 2


@pytest.mark.parametrize("value", ["NaN", "Infinity", "null", '"0.5"', "true", "[0.5]"])
def test_answers_that_are_no_numbers(make: Make, value: str) -> None:
    bad, good = ask(make(), f"value {value}", "good")
    assert failed(bad, "not a number") and good == (0.5, "")


def test_a_worker_that_left_after_its_answer_is_started_again(make: Make, tmp_path: Path) -> None:
    one = make()
    assert ask(one, "leaves") == [(0.5, "")]
    time.sleep(0.3)
    assert ask(one, "good") == [(0.5, "")]
    assert starts(tmp_path) == 2


def test_restarts_are_bounded_and_an_answer_renews_them(make: Make, tmp_path: Path) -> None:
    one = make(restarts=1)
    answers = ask(one, "crash", "good", "crash", "crash", "good", "good")
    assert answers[1] == (0.5, "")
    assert all(failed(answers[i], "exit code 9") for i in (0, 2, 3))
    assert all(failed(answers[i], "given up after 2 starts: the worker ended with exit code 9") for i in (4, 5))
    assert starts(tmp_path) == 3


@pytest.mark.parametrize(
    ("mode", "why"),
    [
        ("no module", "exit code 1: ModuleNotFoundError: No module named 'vbench'"),
        ("never ready", "ready within 0.4 s"),
    ],
)
def test_a_worker_that_never_gets_ready(make: Make, tmp_path: Path, mode: str, why: str) -> None:
    first, second = ask(make(mode, start_timeout=0.4 if "0.4" in why else 10.0, restarts=0), "good", "good")
    assert failed(first, why) and failed(second, "given up after 1 starts")
    assert starts(tmp_path) == 1


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    with Worker([str(tmp_path / "absent")], timeout=1) as one:
        assert failed(ask(one, "good")[0], "cannot be started")


def test_what_a_hanging_worker_started_ends_with_it(make: Make, tmp_path: Path) -> None:
    one = make(timeout=3.0)
    answer = one.ask(Request(video=str(tmp_path / "pid"), dimension="child"))
    assert "did not answer" in answer.reason
    child = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 5
    while running(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not running(child)


def test_a_crash_leaves_no_temporary_files(make: Make, tmp_path: Path) -> None:
    make().ask(Request(video=str(tmp_path / "where"), dimension="litters"))
    folder = Path((tmp_path / "where").read_text())
    assert folder.name.startswith("flashbench-worker-") and not folder.exists()


def running(process: int) -> bool:
    """Whether a process is there and is no zombie that waits for its reaper."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_request_that_fits_no_pipe(make: Make) -> None:
    large, good = *ask(make(), "good", prompt="x" * 40_000), (0.5, "")
    assert failed(large, "bytes") and good == (0.5, "")


def test_the_environment_of_this_python_stays_outside(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "somewhere")
    monkeypatch.setenv("VIRTUAL_ENV", "somewhere")
    ((_, inherited),) = ask(make(), "env")
    assert "PYTHONPATH" not in inherited and "VIRTUAL_ENV" not in inherited and "PATH" in inherited
    ((_, given),) = ask(make(environment={"VBENCH_CACHE_DIR": "x"}), "env")
    assert "VBENCH_CACHE_DIR" in given and "PATH" not in given.split(",")


def test_a_run_resumes_and_keeps_its_order(make: Make) -> None:
    names = ["good", "crash", "missing", "garbage"]
    requests = [Request(video=f"{v}.mp4", dimension=name) for v in "ab" for name in names]
    kept: dict[Request, float] = {}
    for request, found in worker.run(make(), requests[:5]):
        kept[request] = found.value
    assert list(kept) == requests[:5]
    rest = list(worker.run(make(), requests, done=kept.__contains__))
    assert [request for request, _ in rest] == requests[5:]
    assert [math.isnan(found.value) for _, found in rest] == [True, True, False]


# --- vbench_worker.py --------------------------------------------------------------------------------------------

STRAW = {
    "torch.py": """
__version__ = "0"
def device(name): return "device " + name
class cuda:
    @staticmethod
    def get_device_name(): return "straw"
""",
    "vbench/__init__.py": """
import json, os, pathlib
class VBench:
    def __init__(self, device, full_info_dir, output_path):
        assert device == "device cpu"
        (self.entry,) = json.load(open(full_info_dir)); self.out = pathlib.Path(output_path)
    def evaluate(self, videos_path, name, dimension_list):
        print("VBench prints to stdout", flush=True); os.system("echo and so do its children")
        (dimension,) = dimension_list
        (video,) = os.listdir(videos_path)
        assert video == self.entry["prompt_en"] + "-0.mp4" and self.entry["dimension"] == [dimension]
        size = len(open(os.path.join(videos_path, video), "rb").read())
        labels = self.entry.get("auxiliary_info")
        value = [size / 100, [{"video_path": video, "video_results": size}]]
        if dimension == "scene": assert labels == {"scene": {"scene": "alley"}}
        if dimension == "color": raise AssertionError("asked in vain")
        if dimension == "subject_consistency": import absent
        if dimension == "background_consistency":
            from urllib.error import URLError; raise URLError("Name or service not known")
        if dimension == "temporal_style": open(os.environ["VBENCH_CACHE_DIR"] + "/net/weights.pth")
        if dimension == "dynamic_degree": raise RuntimeError("CUDA out of memory")
        if dimension == "aesthetic_quality":
            import subprocess; raise subprocess.CalledProcessError(4, ["wget", "-P", "where", "https://x.org/y.pth"])
        if dimension == "human_action" and "wget" in self.entry["prompt_en"]: raise FileNotFoundError(2, "none", "wget")
        if dimension == "motion_smoothness": value = [float("nan"), []]
        if dimension == "imaging_quality": value = [float("nan"), value[1]]
        if dimension == "human_action": value = [True, value[1]]
        json.dump({dimension: value}, open(self.out / (name + "_eval_results.json"), "w"))
""",
    "vbench-0.1.5.dist-info/METADATA": "Metadata-Version: 2.1\nName: vbench\nVersion: 0.1.5\n",
}


@pytest.fixture
def straw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    """VBench's worker, with packages of straw in place of VBench and torch."""
    for name, content in STRAW.items():
        (tmp_path / "site" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "site" / name).write_text(content)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in here.mkv").write_bytes(b"x" * 25)
    program = worker.command(Path(sys.executable))
    script = program.index("-I") + 1
    boot = "import sys, runpy; sys.path.insert(0, sys.argv[1]); sys.argv = sys.argv[2:]; runpy.run_path(sys.argv[0], run_name='__main__')"  # noqa: E501
    program[script:script] = ["-c", boot, str(tmp_path / "site")]
    monkeypatch.setenv("VBENCH_CACHE_DIR", str(tmp_path / "weights"))
    with Worker(program, timeout=20, start_timeout=20) as one:
        yield one


def test_vbenchs_worker(straw: Worker, tmp_path: Path) -> None:
    def score(dimension: str, prompt: str = "", **labels: object) -> tuple[float, str]:
        found = straw.ask(Request(video="in here.mkv", dimension=dimension, prompt=prompt, labels=labels))
        return found.value, found.reason

    assert score("temporal_flickering") == (0.25, "")
    assert straw.about == {"ready": True, "vbench": "0.1.5", "torch": "0", "device": "cpu"}
    assert score("overall_consistency", "A cat. In v1.5 style - wide") == (0.25, "")
    assert score("temporal_flickering", "a/b" * 200) == (0.25, ""), "it reads no prompt"
    assert score("scene", "alley", scene={"scene": "alley"}) == (0.25, "")
    assert score("human_action", "A person is clapping") == (1.0, "")
    assert failed(score("human_action", "A well-known person is clapping"), "at the first '-'")
    assert failed(score("overall_consistency"), "needs the video's prompt")
    assert failed(score("overall_consistency", "../up"), "fits no file name")
    assert failed(score("overall_consistency", "x" * 250), "fits no file name")
    assert failed(score("color", "a red car", color={}), "detectron2 is not installed in VBench's environment")
    assert failed(score("subject_consistency"), "absent is not installed in VBench's environment")
    assert failed(score("background_consistency"), "weights could not be fetched: Name or service not known")
    assert failed(score("temporal_style", "a cat"), "weights could not be fetched: weights.pth")
    assert failed(score("human_action", "wget"), "weights could not be fetched: it needs the program wget")
    assert failed(score("dynamic_degree"), "VBench failed: RuntimeError: CUDA out of memory")
    assert failed(score("aesthetic_quality"), "weights could not be fetched: https://x.org/y.pth")
    assert failed(score("motion_smoothness"), "could not read the clip")
    assert failed(score("imaging_quality"), "VBench's value is nan")
    absent = straw.ask(Request(video="absent.mp4", dimension="temporal_flickering"))
    assert absent.reason == "no file absent.mp4"
    assert {path.name for path in tmp_path.iterdir()} == {"site", "in here.mkv"}, "nothing is left behind"


def test_the_fast_score(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """DINOv2 gets what it wants; a network that sees colours gives the cosines of their means."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("torchvision")
    frames = np.random.default_rng(0).integers(0, 256, (5, 40, 60, 3), dtype=np.uint8)
    decord = types.ModuleType("decord")
    decord.VideoReader = lambda path: [types.SimpleNamespace(asnumpy=lambda frame=frame: frame) for frame in frames]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "decord", decord)
    asked = []

    class Network(torch.nn.Module):  # type: ignore[misc, name-defined]
        def forward(self, pictures: Any) -> Any:
            asked.append(tuple(pictures.shape))
            return pictures.mean(dim=(2, 3))

    monkeypatch.setattr(torch.hub, "load", lambda repo, name, trust_repo: asked.append((repo, name)) or Network())
    alike = vbench_worker.Consistency("cpu")
    assert 0 <= alike(tmp_path, "subject_consistency") <= 1
    assert asked == [("facebookresearch/dinov2", "dinov2_vitb14"), *[(1, 3, 224, 224)] * 5]
    alike._networks["background_consistency"] = lambda picture: torch.from_numpy(np.asarray(picture)[0, 0] - 90.0)
    units = [frame[0, 0] - 90.0 for frame in frames]
    units = [unit / np.linalg.norm(unit) for unit in units]
    expected = slow_fast.consistency(
        [float(a @ b) for a, b in zip(units, units[1:], strict=False)], [float(units[0] @ b) for b in units[1:]]
    )
    assert alike(tmp_path, "background_consistency") == pytest.approx(expected, abs=1e-6)


def test_the_worker_answers_with_the_fast_score(tmp_path: Path) -> None:
    (tmp_path / "x.mp4").touch()
    request = {"dimension": "fast:subject_consistency", "video": "x.mp4", "prompt": "", "labels": {}}
    answers = [
        vbench_worker.answer(request, lambda *a: None, lambda video, name, v=v: v, tmp_path) for v in (0.5, math.nan)
    ]
    assert answers == [{"value": 0.5}, {"missing": "VBench's value is nan"}]


def test_the_command_keeps_this_package_out(tmp_path: Path) -> None:
    python, isolated, script, *rest = worker.command(tmp_path / "python", device="cuda")
    assert (python, isolated, rest) == (str(tmp_path / "python"), "-I", ["--device", "cuda"])
    assert os.path.isfile(script) and "flashbench" not in Path(script).read_text().replace("FlashBench", "")


def test_requests_are_hashable_for_resuming() -> None:
    assert Request(video="a", dimension="b", labels={"c": 1}) in {Request(video="a", dimension="b", labels={"c": 1})}
