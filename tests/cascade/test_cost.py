"""The cost model against torch's own counter, the paper's published times, and as a user calls it."""

from __future__ import annotations

import math
import sys
from functools import cache
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLCogVideoX
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import least_squares
from torch.utils.flop_counter import FlopCounterMode

from flashbench.cascade import cost
from flashbench.cascade.cost import PUBLISHED, Rates
from flashbench.cascade.flops import STAGE1, STAGE2, Stage
from flashbench.cascade.transformer import Stage1Transformer, Stage2Transformer
from flashbench.cli import program
from flashbench.errors import UsageError

FULL_HD, TWO_K = (1072, 1920), (1440, 2560)


@cache
def transformer(kind: type[Stage1Transformer] | type[Stage2Transformer]) -> torch.nn.Module:
    with torch.device("meta"):
        return kind().eval()


@pytest.mark.parametrize(
    ("kind", "network", "size"),
    [
        (Stage1Transformer, STAGE1, (256, 480)),
        (Stage2Transformer, STAGE2, FULL_HD),
        (Stage2Transformer, STAGE2, TWO_K),
    ],
    ids=["stage1", "stage2-1080p", "stage2-2k"],
)
def test_flop_are_those_that_torch_counts(
    kind: type[Stage1Transformer] | type[Stage2Transformer], network: cost.Architecture, size: tuple[int, int]
) -> None:
    """On the meta device attention runs as two batched products, so the counter tells it from the linear layers."""
    model = transformer(kind)
    assert sum(parameter.numel() for parameter in model.parameters()) == network.parameters
    latent = torch.empty(1, 13, 16, size[0] // 8, size[1] // 8, device="meta")
    context = torch.empty(1, network.text_tokens, 4096, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(hidden_states=latent, encoder_hidden_states=context, timestep=torch.empty(1, device="meta"))
    counted = {str(operator): flop for operator, flop in counter.get_flop_counts()["Global"].items()}
    stage = Stage(network, size, 49, 1, guided=False)
    assert set(counted) == {"aten.addmm", "aten.convolution", "aten.bmm"}
    assert counted["aten.bmm"] == stage.attention
    assert counted["aten.addmm"] + counted["aten.convolution"] == pytest.approx(stage.linear, rel=1e-3)
    assert counter.get_total_flops() == pytest.approx(stage.linear + stage.attention, rel=1e-3)


@cache
def vae() -> AutoencoderKLCogVideoX:
    """The release's VAE, without weights, in half precision as there."""
    with torch.device("meta"):
        model = AutoencoderKLCogVideoX(
            block_out_channels=(128, 256, 256, 512),
            layers_per_block=3,
            latent_channels=16,
            down_block_types=("CogVideoXDownBlock3D",) * 4,
            up_block_types=("CogVideoXUpBlock3D",) * 4,
        )
    assert sum(parameter.numel() for parameter in model.parameters()) == 215_583_907
    return model.half().eval()


def counted(module: torch.nn.Module, channels: int, chunks: tuple[int, ...], height: int, width: int) -> int:
    """FLOP of a VAE half over chunks of frames, each seeing the end of the one before it."""
    kept = None
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        for frames in chunks:
            part = torch.empty(1, channels, frames, height, width, device="meta", dtype=torch.float16)
            _, kept = module(part, conv_cache=kept)
    return int(counter.get_total_flops())


def priced(name: str, size: tuple[int, int], frames: int) -> int:
    stages = cost.compose("flashvideo", size, frames, preview_size=(16, 16))
    return {(part, where): flop for part, where, flop in cost.beside(stages)}[name, "x".join(map(str, size))]


@pytest.mark.parametrize(
    ("size", "encode", "decode"),
    [
        ((64, 64), (17, 16, 16), (3, 2, 2, 2, 2, 2)),
        ((32, 96), (9, 8), (3, 2)),
        ((48, 16), (1,), (1,)),
    ],
    ids=["release", "other-chunks", "one-frame"],
)
def test_vae_flop_are_exact(size: tuple[int, int], encode: tuple[int, ...], decode: tuple[int, ...]) -> None:
    frames = sum(encode)
    assert frames == 1 + 4 * (sum(decode) - 1)
    assert counted(vae().encoder, 3, encode, *size) == priced("VAE encode", size, frames)
    assert counted(vae().decoder, 16, decode, size[0] // 8, size[1] // 8) == priced("VAE decode", size, frames)


def test_vae_flop_at_the_papers_size() -> None:
    assert counted(vae().encoder, 3, (17, 16, 16), *FULL_HD) == priced("VAE encode", FULL_HD, 49)
    pixels = math.prod(FULL_HD) * 49
    assert priced("VAE encode", FULL_HD, 49) / pixels == pytest.approx(8.80e6, rel=1e-3)
    assert priced("VAE decode", FULL_HD, 49) / pixels == pytest.approx(18.60e6, rel=1e-3)


@pytest.mark.parametrize(
    ("stage", "video", "linear", "attention", "total"),
    [
        (Stage(STAGE1, (256, 480), 49, 50), 6_240, 0.0615, 0.0216, 8.31),
        (Stage(STAGE2, FULL_HD, 49, 4), 104_520, 0.2780, 2.528, 22.45),
        (Stage(STAGE2, TWO_K, 49, 4), 187_200, 0.4975, 8.094, 68.73),
        (Stage(STAGE1, FULL_HD, 49, 50), 104_520, 0.9964, 5.662, 665.9),
        (Stage(STAGE2, FULL_HD, 49, 30), 104_520, 0.2780, 2.528, 168.4),
    ],
    ids=["stage1", "stage2", "2k", "single", "vanilla"],
)
def test_the_papers_settings(stage: Stage, video: int, linear: float, attention: float, total: float) -> None:
    assert stage.tokens == video + 226
    assert stage.linear / stage.forwards / 1e15 == pytest.approx(linear, abs=0.5e-4)
    assert stage.attention / stage.forwards / 1e15 == pytest.approx(attention, abs=0.5e-3)
    assert (stage.linear + stage.attention) / 1e15 == pytest.approx(total, rel=3e-4)
    seconds = cost.rates(None, None, None).seconds(stage)
    assert seconds == pytest.approx(PUBLISHED[stage], rel=0.03)


def loss(rates: Rates) -> float:
    return sum((rates.seconds(stage) / seconds - 1) ** 2 for stage, seconds in PUBLISHED.items())


def test_the_fit_is_the_minimum() -> None:
    best = cost.fit(list(PUBLISHED.items()))
    for factor in (0.9, 0.99, 0.999, 1.001, 1.01, 1.1):
        assert loss(Rates(best.linear * factor, best.attention)) > loss(best)
        assert loss(Rates(best.linear, best.attention * factor)) > loss(best)
    solved = least_squares(
        lambda x: [Rates(*(x * 1e12)).seconds(stage) / seconds - 1 for stage, seconds in PUBLISHED.items()],
        x0=[300.0, 300.0],
        xtol=1e-12,
        ftol=1e-12,
    )
    assert [best.linear / 1e12, best.attention / 1e12] == pytest.approx(list(solved.x), rel=1e-5)
    assert [round(best.linear / 1e12), round(best.attention / 1e12)] == [262, 322]


sides = st.integers(1, 160).map(lambda n: 16 * n)
stages = st.builds(
    Stage,
    st.sampled_from([STAGE1, STAGE2]),
    st.tuples(sides, sides),
    st.integers(0, 30).map(lambda n: 4 * n + 1),
    st.integers(1, 60),
)


@settings(deadline=None)
@given(stages)
def test_guidance_doubles_and_evaluations_multiply(stage: Stage) -> None:
    alone = Stage(stage.network, stage.size, stage.frames, 1, guided=False)
    assert stage.forwards == 2 * stage.evaluations and alone.forwards == 1
    assert stage.linear == stage.forwards * alone.linear
    assert stage.attention == stage.forwards * alone.attention


@settings(deadline=None)
@given(stages)
def test_linear_grows_with_the_tokens_and_attention_with_their_square(stage: Stage) -> None:
    height, width = stage.size
    wider = Stage(stage.network, (height, 2 * width), stage.frames, stage.evaluations)
    turned = Stage(stage.network, (width, height), stage.frames, stage.evaluations)
    text = stage.network.text_tokens
    assert wider.tokens - text == 2 * (stage.tokens - text)
    assert (turned.linear, turned.attention) == (stage.linear, stage.attention)
    assert wider.linear * stage.tokens == stage.linear * wider.tokens
    assert wider.attention * stage.tokens**2 == stage.attention * wider.tokens**2


@settings(deadline=None)
@given(st.floats(1, 5000), st.floats(1, 5000))
def test_the_fit_finds_the_rates_that_made_the_times(linear: float, attention: float) -> None:
    device = Rates(linear * 1e12, attention * 1e12)
    found = cost.fit([(stage, device.seconds(stage)) for stage in PUBLISHED])
    assert [found.linear, found.attention] == pytest.approx([device.linear, device.attention], rel=1e-6)


def test_times_that_leave_a_rate_open_are_refused() -> None:
    one, more = Stage(STAGE2, FULL_HD, 49, 1), Stage(STAGE2, FULL_HD, 49, 4)
    small = Stage(STAGE2, (256, 480), 49, 4)
    for times in ([], [(one, 3.0)], [(one, 3.0), (more, 12.0)], [(more, 1.0), (small, 20.0)]):
        with pytest.raises(UsageError, match="do not tell linear layers from attention"):
            cost.fit(times)


def test_systems_are_made_of_the_published_stages() -> None:
    stages = [stage for system in cost.SYSTEMS for stage in cost.compose(system, FULL_HD, 49)]
    assert [PUBLISHED[stage] for stage in stages] == pytest.approx([30.1, 72.2, 30.1, 541.4, 2150.0])
    total = {s: sum(p.linear + p.attention for p in cost.compose(s, FULL_HD, 49)) for s in cost.SYSTEMS}
    assert total["single-stage"] / total["flashvideo"] == pytest.approx(21.65, abs=0.005)
    assert total["vanilla"] / total["flashvideo"] == pytest.approx(5.74, abs=0.005)


@pytest.mark.parametrize(
    ("size", "frames", "evaluations", "fix"),
    [
        ((1080, 1920), 49, 4, "write 1072x1920"),
        ((8, 1920), 49, 4, "write 16x1920"),
        (FULL_HD, 48, 4, "take 49"),
        (FULL_HD, 47, 4, "take 45"),
        (FULL_HD, -3, 4, "take 1"),
        (FULL_HD, 49, 0, "take 1 or more"),
    ],
)
def test_a_stage_that_cannot_be(size: tuple[int, int], frames: int, evaluations: int, fix: str) -> None:
    with pytest.raises(UsageError, match=fix):
        Stage(STAGE2, size, frames, evaluations)


class Call:
    """`flashbench cost` in this process: exit code and everything printed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.monkeypatch, self.capsys = monkeypatch, capsys

    def __call__(self, *arguments: object) -> tuple[int, str]:
        self.monkeypatch.setattr(sys, "argv", ["flashbench", "cost", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            program.main()
        output = self.capsys.readouterr()
        return int(caught.value.code or 0), output.out + output.err


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setattr(program.signal, "signal", lambda *_: None)
    return Call(monkeypatch, capsys)


def row(text: str, name: str) -> str:
    """The cells of the line that begins with `name`, one blank between them."""
    (line,) = [line for line in text.splitlines() if line.startswith(name)]
    return " ".join(line.removeprefix(name).split())


def test_the_breakdown(call: Call) -> None:
    code, text = call("flashvideo", "--size", "1072x1920", "--frames", 49, "--nfe", 4)
    assert code == 0
    assert row(text, "Stage I ") == "5.6 B 256x480 6,466 50 100 6.151 2.158 26% 30.2 30.1"
    assert row(text, "Stage II ") == "1.7 B 1072x1920 104,746 4 8 2.224 20.223 90% 71.2 72.2"
    assert row(text, "total") == "54 108 8.375 22.381 73% 101.4 102.3"
    assert row(text, "T5") == "0.002 0.0"
    assert row(text, "VAE encode") == "1072x1920 0.887 3.4"
    for said in ("GPU that the paper does not name", "predicted s: 262 TFLOP/s", "off by at most 2.9%", "T5 "):
        assert said in text
    assert max(map(len, text.splitlines())) <= 120


def test_what_was_not_published_has_no_papers_time(call: Call) -> None:
    code, text = call("flashvideo", "--size", "528x960")
    assert code == 0 and row(text, "Stage II").endswith(" -") and row(text, "total").endswith(" -")


def test_guidance_1_halves_the_last_stage(call: Call) -> None:
    code, text = call("flashvideo", "--guidance", 1, "--preview-size", "272x480", "--preview-steps", 51)
    assert code == 0
    assert row(text, "Stage I ").startswith("5.6 B 272x480 6,856 51 102 ")
    assert row(text, "Stage II ").startswith("1.7 B 1072x1920 104,746 4 4 ")


def test_another_devices_rates(call: Call) -> None:
    code, text = call("single-stage", "--linear-tflops", 99.642, "--attention-tflops", 566.246)
    assert code == 0 and row(text, "Stage I ").endswith(" 2,000.0 2,150.0")
    assert "100 TFLOP/s in linear layers, 566 in attention, as given" in text


def test_another_devices_times(call: Call, tmp_path: Path) -> None:
    device = Rates(100e12, 50e12)
    lines = ["stage,size,frames,forwards,seconds"]
    for number, network, size in (("1", STAGE1, "256x480"), ("2", STAGE2, "528x960"), ("2", STAGE2, "1072x1920")):
        stage = Stage(network, cost.parse_size(size), 49, 8, guided=False)
        lines.append(f"{number}, {size}, 49, 8, {device.seconds(stage)}")
    (tmp_path / "mine.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    code, text = call("vanilla", "--times", tmp_path / "mine.csv")
    assert code == 0 and "100 TFLOP/s in linear layers, 50 in attention" in text
    assert "mine.csv's 3 times, off by at most 0.0%" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("flashvid",), "did you mean 'flashvideo'"),
        (("flashvideo", "--size", "1080x1920"), "write 1072x1920"),
        (("flashvideo", "--size", "1080p"), "'1080p' is not HEIGHTxWIDTH"),
        (("flashvideo", "--preview-size", "270x480"), "write 256x480"),
        (("flashvideo", "--frames", "50"), "take 49"),
        (("flashvideo", "--nfe", "0"), "--nfe"),
        (("flashvideo", "--linear-tflops", "300"), "give --linear-tflops and --attention-tflops"),
        (("flashvideo", "--attention-tflops", "300", "--times", "x.csv"), "give --linear-tflops"),
        (("flashvideo", "--linear-tflops", "0", "--attention-tflops", "300"), "invalid rate or time 0.0"),
        (("flashvideo", "--linear-tflops", "nan", "--attention-tflops", "300"), "invalid rate or time nan"),
        (("flashvideo", "--times", "absent.csv"), "No such file"),
        ((), "system"),
    ],
)
def test_a_wrong_call(arguments: tuple[str, ...], said: str, call: Call) -> None:
    code, text = call(*arguments)
    assert code == 2 and said in text and "Traceback" not in text


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "0 times do not tell"),
        ("stage,size\n2,1072x1920\n", "time 1: 'frames'"),
        ("stage,size,frames,forwards,seconds\n2,1072x1920,49,8\n", "time 1"),
        ("stage,size,frames,forwards,seconds\n3,1072x1920,49,8,72\n", "time 1: '3'"),
        ("stage,size,frames,forwards,seconds\n2,1072x1920,49,8,72\n2,1080x1920,49,8,72\n", "time 2: the sides of"),
        ("stage,size,frames,forwards,seconds\n2,1072x1920,49,8,inf\n", "invalid rate or time inf"),
        ("stage,size,frames,forwards,seconds\n2,1072x1920,49,8,72\n", "1 times do not tell"),
    ],
)
def test_a_wrong_file_of_times(content: str, said: str, call: Call, tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text(content, encoding="utf-8")
    code, text = call("flashvideo", "--times", tmp_path / "mine.csv")
    assert code == 2 and said in text and "mine.csv" in text and "Traceback" not in text
