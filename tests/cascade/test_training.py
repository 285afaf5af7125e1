"""The training loop: what a kill may not change, what accelerate does, and what is written."""

from __future__ import annotations

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from support import training_toys as toys

from flashbench.cascade import training
from flashbench.cascade.training import Training, generator, learning_rate
from flashbench.errors import InvalidError, UsageError


@pytest.fixture(autouse=True)
def _own_accelerator() -> Iterator[None]:
    """accelerate keeps its state per process; other tests must not meet the one of these."""
    toys.forget_accelerators()
    yield
    toys.forget_accelerators()


def rows(state: Path) -> list[dict[str, str]]:
    with (state / "losses.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, list[float], Path]]:
    """Undisturbed trainings of every kind: (network, losses, state)."""
    toys.forget_accelerators()
    found = {}
    for kind, settings in toys.KINDS.items():
        state = tmp_path_factory.mktemp(kind)
        found[kind] = (*toys.run(state, settings), state)
    return found


@pytest.mark.parametrize("stop", [2, 4, 7], ids=["first phase", "at the boundary", "second phase"])
@pytest.mark.parametrize("kind", list(toys.KINDS))
def test_resumed_training_is_the_undisturbed_one(
    whole: dict[str, Any], kind: str, stop: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training.loop, "CHECKPOINT_SECONDS", 0.0)
    made: list[int] = []

    def killed(done: int, total: int, text: str) -> None:
        made.append(done)
        if done == stop and made.count(stop) == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        toys.run(tmp_path, toys.KINDS[kind], killed)
    net, losses = toys.run(tmp_path, toys.KINDS[kind], killed)
    expected, undisturbed, state = whole[kind]
    assert made == [*range(1, stop + 1), *range(stop, 10)], "it says from where it goes on"
    assert losses == undisturbed
    assert toys.same(net, expected)
    for name in ("losses.csv", "state.safetensors"):
        assert (tmp_path / name).read_bytes() == (state / name).read_bytes(), name


def start(state: Path, kind: str, **environment: str) -> subprocess.Popen[bytes]:
    """The program of training_toys."""
    own = {"FLASHBENCH_CHECKPOINT_SECONDS": "0.01", "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen([sys.executable, toys.__file__, str(state), kind], env=os.environ | own | environment)


def kill_in_the_middle(state: Path, processes: list[subprocess.Popen[bytes]]) -> int:
    """kill -9 after some steps; how many the checkpoint holds."""
    deadline = time.monotonic() + 120
    while not ((state / "losses.csv").exists() and len(rows(state)) >= 5):
        assert all(process.poll() is None for process in processes) and time.monotonic() < deadline
        time.sleep(0.02)
    for process in processes:
        process.send_signal(signal.SIGKILL)
    for process in processes:
        process.wait()
    done = int(json.loads((state / "progress.json").read_text())["step"])
    assert 5 <= done < toys.LONG
    return done


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["flow", "lora"])
def test_kill_9_in_the_middle_changes_no_bit(kind: str, tmp_path: Path) -> None:
    settings = toys.long(toys.KINDS[kind])
    state = tmp_path / "killed"
    done = kill_in_the_middle(state, [start(state, kind)])
    steps: list[int] = []
    net, losses = toys.run(state, settings, lambda step, *_: steps.append(step))
    assert done <= steps[0] < toys.LONG and steps[1] == steps[0] + 1, "it went on from its checkpoint"
    expected, undisturbed = toys.run(tmp_path / "undisturbed", settings)
    assert losses == undisturbed and toys.same(net, expected)
    assert rows(state) == rows(tmp_path / "undisturbed")


def test_log_has_one_row_per_step(whole: dict[str, Any]) -> None:
    _, losses, state = whole["flow"]
    table = rows(state)
    assert [int(row["step"]) for row in table] == list(range(9))
    assert [row["phase"] for row in table] == ["wide"] * 4 + ['narrow, "last"'] * 5
    assert [float(row["loss"]) for row in table] == losses
    assert [float(row["learning_rate"]) for row in table] == [learning_rate(toys.FULL, step) for step in range(9)]
    progress = json.loads((state / "progress.json").read_text())
    assert progress == {"step": 9, "steps": 9, "phase": 'narrow, "last"', "loss": losses[-1]}


def test_a_finished_training_is_read_and_not_repeated(whole: dict[str, Any], tmp_path: Path) -> None:
    expected, losses, state = whole["lora"]
    (tmp_path / "state.safetensors").write_bytes((state / "state.safetensors").read_bytes())
    said: list[Any] = []
    net, again = toys.run(tmp_path, toys.LORA, report=lambda *line: said.append(line))
    assert said == [(9, 9, "going on from step 9 of 9, its end: to train anew, give another folder")]
    assert again == losses and toys.same(net, expected)
    assert rows(tmp_path) == rows(state), "the log is made anew"


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("settings", "of another training (other settings)"),
        ("seed", "of another training (other seed)"),
        ("identity", "of another training (other identity)"),
        ("weights", "of another training (other initial weights)"),
        ("layers", "of another training (other initial weights)"),
        ("positions", "of another training (other initial weights)"),
        ("damaged", "damaged"),
    ],
)
def test_checkpoint_of_another_training_is_set_aside(
    whole: dict[str, Any], how: str, message: str, tmp_path: Path
) -> None:
    old = (whole["flow"][2] / "state.safetensors").read_bytes()
    old = old[: len(old) // 2] if how == "damaged" else old
    (tmp_path / "state.safetensors").write_bytes(old)
    (tmp_path / "other.safetensors").write_bytes(b"older")
    settings = replace(toys.FULL, clip=0.5) if how == "settings" else toys.FULL
    different = {"layers": {"num_layers": 1}, "positions": {"use_rotary_positional_embeddings": False}}
    net = toys.network(settings, int(how == "weights"), **different.get(how, {}))
    said: list[str] = []
    options = {"seed": 4 if how == "seed" else 3, "identity": "new" if how == "identity" else ""}
    _, losses = toys.run(tmp_path, settings, lambda done, total, text: said.append(f"{done} {text}"), net, **options)
    assert len(losses) == 9
    assert said[0] == f"0 the checkpoint is {message}, and kept as other2.safetensors: training begins"
    assert (tmp_path / "other2.safetensors").read_bytes() == old
    assert (tmp_path / "other.safetensors").read_bytes() == b"older"


def test_frozen_weights_are_part_of_what_a_training_begins_with(tmp_path: Path) -> None:
    first, _ = toys.run(tmp_path, toys.LORA)
    net = toys.network(toys.LORA)
    with torch.no_grad():
        net.proj_out.bias.add_(1)
    said: list[str] = []
    second, _ = toys.run(tmp_path, toys.LORA, lambda done, total, text: said.append(text), net)
    assert "other initial weights" in said[0] and not toys.same(first, second)


def test_moving_average_is_the_formula(tmp_path: Path) -> None:
    net = toys.network(toys.FULL)
    seen = [toys.weights(net)]
    _, losses = toys.run(tmp_path, toys.FULL, lambda *_: seen.append(toys.weights(net)), net)
    average = {name: value.double() for name, value in seen[0].items()}
    for step, now in enumerate(seen[1:]):
        keep = min(0.9, (1 + step) / (10 + step))
        average = {name: keep * average[name] + (1 - keep) * now[name].double() for name in now}
    for name, value in net.named_parameters():
        torch.testing.assert_close(value.detach().double(), average[name], atol=1e-6, rtol=0)
    assert not same_tensors(seen[-1], average), "the average is not the last weights"
    assert len(losses) == 9 and not net.training


def test_moving_average_of_a_straight_way_is_known_in_closed_form(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under a constant gradient Adam walks one learning rate a step: after N steps the average has gone N - e(1 - e^N)
    / (1 - e) of them, for a decay e that is not cut at the start."""
    decay, rate, steps = 0.1, 1e-3, 9
    monkeypatch.setattr("flashbench.cascade.training.objectives.loss", lambda net, *rest: net.proj_out.bias.sum())
    settings = replace(toys.FULL, ema=decay, learning_rate=rate, weight_decay=0.0, warmup=0, floor=1.0)
    net = toys.network(settings)
    first = net.proj_out.bias.detach().clone()
    toys.run(tmp_path, settings, net=net)
    gone = steps - decay * (1 - decay**steps) / (1 - decay)
    torch.testing.assert_close(
        first - net.proj_out.bias.detach(), torch.full_like(first, rate * gone), atol=1e-6, rtol=0
    )


def same_tensors(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return all(torch.allclose(left[name].double(), right[name].double(), atol=1e-6, rtol=0) for name in left)


def test_without_moving_average_the_last_weights_stay(tmp_path: Path) -> None:
    net = toys.network(toys.FULL)
    last: list[Any] = []
    toys.run(tmp_path, replace(toys.FULL, ema=0.0), lambda *_: last.append(toys.weights(net)), net)
    assert all(torch.equal(last[-1][name], value) for name, value in toys.weights(net).items())


def test_loss_falls(tmp_path: Path) -> None:
    _, losses = toys.run(tmp_path, replace(toys.long(toys.FULL), learning_rate=3e-3))
    assert sum(losses[-15:]) < 0.9 * sum(losses[:15])


@pytest.mark.parametrize("kind", ["flow", "lora"])
def test_gradient_checkpointing_computes_twice_and_changes_nothing(
    whole: dict[str, Any], kind: str, tmp_path: Path
) -> None:
    net = toys.network(toys.KINDS[kind])
    calls: list[int] = []
    net.transformer_blocks[0].register_forward_pre_hook(lambda *_: calls.append(1))
    _, losses = toys.run(tmp_path, replace(toys.KINDS[kind], gradient_checkpointing=True), net=net)
    assert len(calls) == 2 * len(losses)
    assert losses == whole[kind][1] and toys.same(net, whole[kind][0])
    assert not net.is_gradient_checkpointing


def test_positions_are_the_networks_own(whole: dict[str, Any], tmp_path: Path) -> None:
    net = toys.network(toys.FULL, use_rotary_positional_embeddings=False)
    _, losses = toys.run(tmp_path, toys.FULL, net=net)
    assert losses != whole["flow"][1]
    torch.testing.assert_close(torch.tensor(losses), torch.tensor(whole["flow"][1]), rtol=0.2, atol=0)


def test_slow_checkpoints_are_written_less_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes 100 s here, 200 times `QUICK`: after the first, the next is due 200 times later."""
    now, saves = [0.0], []
    save = training.loop._Run.save

    def slow(run: Any, folder: Path) -> None:
        save(run, folder)
        saves.append(len(run.losses))
        now[0] += 100

    monkeypatch.setattr(training.loop._Run, "save", slow)
    monkeypatch.setattr(training.loop, "CHECKPOINT_SECONDS", 2.0)
    monkeypatch.setattr(training.loop, "time", SimpleNamespace(monotonic=lambda: now[0]))
    toys.run(tmp_path, toys.FULL, lambda *_: now.__setitem__(0, now[0] + (1 if now[0] < 100 else 100)))
    assert saves == [3, 7, 9]


def test_accelerate_touches_no_generator_and_no_thread() -> None:
    before = torch.random.get_rng_state(), torch.get_num_threads()
    net = torch.nn.utils.skip_init(torch.nn.Linear, 3, 3)
    Accelerator(cpu=True, mixed_precision="no").prepare(net, torch.optim.AdamW(net.parameters(), fused=True))
    assert torch.equal(before[0], torch.random.get_rng_state()) and before[1] == torch.get_num_threads()


@pytest.mark.parametrize("kind", ["flow", "lora"])
def test_bf16_by_the_accelerator(whole: dict[str, Any], kind: str, tmp_path: Path) -> None:
    accelerator = Accelerator(cpu=True, mixed_precision="bf16")
    net, losses = toys.run(tmp_path, toys.KINDS[kind], accelerator=accelerator)
    expected = whole[kind][1]
    assert losses != expected
    torch.testing.assert_close(torch.tensor(losses), torch.tensor(expected), rtol=0.03, atol=0)
    assert {value.dtype for value in net.parameters()} == {torch.float32}
    assert "forward" not in net.__dict__, "the network is as it was, without accelerate's wrapping"


@pytest.mark.slow
def test_two_processes_train_one_network(tmp_path: Path) -> None:
    def both(state: Path) -> list[subprocess.Popen[bytes]]:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = str(free.getsockname()[1])
        shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "ACCELERATE_USE_CPU": "true"}
        return [start(state, "flow", **shared, RANK=str(rank), LOCAL_RANK=str(rank)) for rank in range(2)]

    calm, rough = tmp_path / "calm", tmp_path / "rough"
    assert [process.wait(timeout=120) for process in both(calm)] == [0, 0]
    kill_in_the_middle(rough, both(rough))
    assert [process.wait(timeout=120) for process in both(rough)] == [0, 0]
    results = [(folder / f"trained{rank}.safetensors").read_bytes() for folder in (calm, rough) for rank in range(2)]
    assert len(set(results)) == 1, "the processes agree, and a kill changes nothing"
    assert rows(rough) == rows(calm) and len(rows(calm)) == toys.LONG
    settings, losses = toys.long(toys.FULL), []
    phase = replace(settings.phases[0], batch=1)
    net = toys.network(settings)
    for purpose in ("train", "train rank 1"):
        draw = generator(3, purpose, 0)
        losses.append(training.objectives.loss(net, toys.source(phase, draw), settings, phase, draw).item())
    assert float(rows(calm)[0]["loss"]) == pytest.approx(sum(losses) / 2, rel=1e-6), "half of the batch for each"


# --- refusals and the plot --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "options", "message"),
    [
        (toys.FULL, {"mixed_precision": "no", "gradient_accumulation_steps": 2}, "gradient_accumulation_steps is 2"),
        (toys.FULL, {"net": "half"}, "of type torch.bfloat16, not torch.float32"),
        (toys.FULL, {"net": "frozen"}, "of type none"),
    ],
)
def test_what_cannot_be_trained_is_refused(
    settings: Training, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    net, kind = toys.network(settings), options.pop("net", "")
    net = net.to(torch.bfloat16) if kind == "half" else net.requires_grad_(kind != "frozen")
    with pytest.raises(UsageError, match=message):
        toys.run(tmp_path, settings, net=net, accelerator=Accelerator(cpu=True, **options))


@pytest.mark.parametrize(("trained", "objective"), [("v", "flow"), ("v", "l1"), ("flow", "v"), ("flow", "lora")])
def test_an_objective_of_the_other_stage_is_refused(trained: str, objective: str, tmp_path: Path) -> None:
    net = toys.network(toys.KINDS[trained])
    with pytest.raises(UsageError, match="for a Stage[12]Transformer"):
        toys.run(tmp_path, toys.KINDS[objective], net=net)
    assert not training.attached(net) and not list(tmp_path.iterdir())


def test_the_state_is_a_folder_by_path_or_name(whole: dict[str, Any], tmp_path: Path) -> None:
    net, accelerator = toys.network(toys.FULL), Accelerator(cpu=True, mixed_precision="no")
    state = str(tmp_path / "new" / "state")
    losses = training.train(net, toys.source, toys.FULL, seed=3, state=state, accelerator=accelerator, plot=False)
    assert losses == whole["flow"][1] and (tmp_path / "new" / "state" / "state.safetensors").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is a file"):
        toys.run(tmp_path / "file", toys.FULL)
    with pytest.raises(InvalidError, match="cannot be made"):
        toys.run(tmp_path / "file" / "below", toys.FULL)


GOOD = toys.source(replace(toys.PHASES[0], size=(48, 48), frames=5), generator(3, "good", 0))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (tuple(GOOD), "the source gave a tuple"),
        (GOOD._replace(high=GOOD.high[:1]), r"latents of shape \(1, 2, 4, 6, 6\) for a batch of 2 in phase 'wide'"),
        (GOOD._replace(high=GOOD.high[:, :, :3]), "for a batch of 2"),
        (GOOD._replace(high=GOOD.high[..., :5]), "latents of 6x5 in phase 'wide' do not divide into patches of 2"),
        (GOOD._replace(high=GOOD.high[..., :4]), "latents of 6x4 in phase 'wide', not 6x6"),
        (GOOD._replace(high=GOOD.high[:, :1]), "latents of 1 frames in phase 'wide', not 2"),
        (GOOD._replace(high=GOOD.high.int()), "high-quality latents in phase 'wide' of type torch.int32"),
        (GOOD._replace(low=GOOD.high / 0), "low-quality latents in phase 'wide' with values that are not finite"),
        (GOOD._replace(context=GOOD.context[:, :, :7]), r"contexts of shape \(2, 3, 7\)"),  # type: ignore[index]
        (GOOD._replace(context=torch.zeros(2, 4, 8)), r"contexts of shape \(2, 4, 8\)"),
    ],
)
def test_wrong_batches_are_refused(wrong: Any, message: str, tmp_path: Path) -> None:
    settings = replace(toys.FULL, phases=replace(toys.PHASES[0], size=(48, 48), frames=5))
    accelerator = Accelerator(cpu=True, mixed_precision="no")
    with pytest.raises(UsageError, match=message) as caught:
        training.train(
            toys.network(settings), lambda *_: wrong, settings, seed=3, state=tmp_path, accelerator=accelerator
        )
    assert caught.value.fix


@pytest.mark.parametrize(("images", "frames", "right"), [(0.5, 1, True), (0.5, 2, True), (1.0, 2, False)])
def test_images_have_one_frame(images: float, frames: int, right: bool) -> None:
    phase = replace(toys.PHASES[0], frames=5, images=images)
    batch = GOOD._replace(high=GOOD.high[:, :frames])
    with nullcontext() if right else pytest.raises(UsageError, match="latents of 2 frames in phase 'wide', not 1"):
        training.data.check_batch(batch, phase, toys.network(toys.FULL).config)


def test_a_loss_that_is_not_finite_leaves_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training.loop, "CHECKPOINT_SECONDS", 0.0)
    with pytest.raises(InvalidError, match="the loss of step"):
        toys.run(tmp_path, replace(toys.long(toys.FULL), learning_rate=1e30))
    assert all(float(row["loss"]) < float("inf") for row in rows(tmp_path))


def test_plot_of_the_losses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    toys.run(tmp_path, toys.FULL, lambda done, total, text: said.append(text), plot=True)
    assert said[-1] == "losses in losses.svg"
    drawn = (tmp_path / "losses.svg").read_text()
    assert drawn.startswith("<?xml") and "narrow, " in drawn and "flow loss" in drawn
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    (tmp_path / "losses.svg").unlink()
    toys.run(tmp_path, toys.FULL, lambda done, total, text: said.append(text), plot=True)
    assert said[-1] == "no losses.svg: pip install 'flashbench[repro]' for matplotlib"
    assert not (tmp_path / "losses.svg").exists()


def test_running_mean() -> None:
    assert training.log.running_mean([4.0, 2.0, 0.0, 1.0], 2) == [4.0, 3.0, 1.0, 0.5]


def test_phases_follow_each_other() -> None:
    names = [toys.FULL.phase(step).name for step in range(toys.FULL.steps)]
    assert names == ["wide"] * 4 + ['narrow, "last"'] * 5
    assert sum(a != b for a, b in pairwise(names)) == 1
    with pytest.raises(UsageError, match="beyond the 9 steps"):
        toys.FULL.phase(9)
