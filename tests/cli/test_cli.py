"""The command line as a user meets it: help with examples, one clear line per mistake, exit codes with a meaning."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import typer

from flashbench.cli import program

COMMANDS = [
    ("run",), ("plan",), ("claims",), ("list",), ("audit",), ("cost",), ("score",), ("compare",),
    ("cite",), ("doctor",), ("gate",), ("show",), ("costs",), ("drift",),
    ("assets", "list"), ("assets", "pull"), ("assets", "verify"), ("assets", "path"),
    ("assets", "convert"), ("assets", "import"), ("assets", "drill"),
    ("vbench", "import"), ("vbench", "export"), ("vbench", "name"), ("protocol", "new"),
]  # fmt: skip


@pytest.fixture(autouse=True)
def _apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASHBENCH_STORE", str(tmp_path / "store"))
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setattr(program.signal, "signal", lambda *_: None)


def _call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["flashbench", *arguments])
    with pytest.raises(SystemExit) as caught:
        program.main()
    output = capsys.readouterr()
    return int(caught.value.code or 0), output.out + output.err


def test_every_command_is_known_here() -> None:
    click_app = typer.main.get_command(program.app)
    groups = ("assets", "vbench", "protocol")
    names = {(name,) for name in click_app.commands if name not in groups}
    names |= {(group, name) for group in groups for name in click_app.commands[group].commands}
    assert names == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_has_examples(
    command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = _call(monkeypatch, capsys, *command, "--help")
    assert code == 0 and "Examples" in text and f"flashbench {' '.join(command)}" in text


@pytest.mark.parametrize(
    ("arguments", "said", "suggestion"),
    [
        (("run", "nfee"), "unknown protocol 'nfee'", "did you mean 'nfe'"),
        (("run", "nfe", "--tier", "labtop"), "unknown tier 'labtop'", "did you mean 'laptop'"),
        (("run", "nfe", "--phase", "trian"), "unknown phase 'trian'", "did you mean 'train'"),
        (("run", "nfe", "-S", "metrics=[niqq]"), "unknown metric 'niqq'", "did you mean 'niqe'"),
        (("run", "nfe", "-S", "baseline=nfe=44"), "unknown row 'nfe=44'", "did you mean 'nfe=4'"),
        (("run", "nfe", "-S", "systen=flashvideo"), "unknown field in override 'systen'", "did you mean 'system'"),
        (("run", "nfe", "-S", "system=flashvideoo"), "unknown system 'flashvideoo'", "did you mean 'flashvideo'"),
        (
            ("run", "nfe", "-S", "settings.nfee=3"),
            "unknown setting of system 'flashvideo' 'nfee'",
            "did you mean 'nfe'",
        ),
        (("run", "nfe", "-S", "settings.training=wid"), "unknown recipe 'wid'", "did you mean 'wide'"),
        (("run", "nfe", "--replicas", "a"), "--replicas 'a'", "write 0 or 0,1,2"),
        (("run", "nfe", "--tier", "smoke", "--shard", "9/8"), "invalid --shard '9/8'", "write NUMBER/OF"),
        (
            ("run", "nfe", "--tier", "smoke", "--shard", "1/9"),
            "has 3 cases, fewer than 9 shards",
            "at most --shard 3/3",
        ),
        (("run", "nfe", "--tier", "smoke", "--shard", "1/2", "-p", "tables"), "not of a shard", "leave --shard out"),
        (
            ("run", "nfe", "--tier", "smoke", "--shard", "1/2", "--results", "out"),
            "a shard writes into the store alone",
            "leave --results out",
        ),
        (("list", "metric"), "unknown kind 'metric'", "did you mean 'metrics'"),
        (("cost", "flashvideoo"), "unknown system 'flashvideoo'", "did you mean 'flashvideo'"),
        (("audit", "result", "nfe"), "unknown audit 'result'", "did you mean 'results'"),
        (("assets", "path", "niqe-pristin"), "unknown asset 'niqe-pristin'", "did you mean 'niqe-pristine'"),
    ],
)
def test_a_wrong_name_gets_one_line_and_a_suggestion(
    arguments: tuple[str, ...],
    said: str,
    suggestion: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, text = _call(monkeypatch, capsys, *arguments)
    assert code == 2
    assert said in text and suggestion in text and "Traceback" not in text
    assert len(text.strip().splitlines()) <= 2


@pytest.mark.parametrize(
    "arguments", [("bogus",), ("run", "nfe", "--tierr", "x"), ("run",), ("run", "nfe", "--limit", "0")]
)
def test_a_wrong_call_is_exit_2(
    arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = _call(monkeypatch, capsys, *arguments)
    assert code == 2 and "Traceback" not in text


def _own_protocols(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    import shutil

    from flashbench.paths import protocol_root

    shutil.copytree(protocol_root(), tmp_path / "protocols")
    (tmp_path / "protocols" / name).write_text(text, encoding="utf-8")
    monkeypatch.setenv("FLASHBENCH_PROTOCOLS", str(tmp_path / "protocols"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("defaults:\n  - tier: laptop\n  - _self_\nname: [broken\n", "line 5"),
        ("just words\n", "not a mapping"),
        ("defaults: [{tier: laptop}, _self_]\nname: mine\n", "has no `title`"),
        ("defaults: [{tier: laptop}, _self_]\nnaem: mine\n", "did you mean 'name'"),
    ],
)
def test_a_broken_protocol_is_named_with_its_line(
    text: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _own_protocols(tmp_path, monkeypatch, "mine.yaml", text)
    code, output = _call(monkeypatch, capsys, "run", "mine")
    assert code == 2 and said in output and "mine.yaml" in output and "Traceback" not in output


def test_results_without_scores_are_exit_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = _call(monkeypatch, capsys, "run", "nfe", "--phase", "tables", "--results", str(tmp_path))
    assert code == 3 and "run `flashbench run PROTOCOL --phase score` first" in text


@pytest.mark.parametrize(
    "arguments", [("run", "nfe", "--phase", "tables"), ("claims",), ("audit", "results", "nfe")], ids=" ".join
)
def test_a_wrong_folder_is_exit_2_with_a_suggestion(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "results").mkdir()
    code, text = _call(monkeypatch, capsys, *arguments, "--results", str(tmp_path / "resutls"))
    assert code == 2 and "there is no folder" in text and f"did you mean {tmp_path / 'results'}" in text


def test_a_wrong_folder_of_protocols_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FLASHBENCH_PROTOCOLS", str(tmp_path))
    code, text = _call(monkeypatch, capsys, "run", "nfe")
    assert code == 2 and f"{tmp_path} is not a folder of protocols" in text


def test_an_unwritable_results_folder_is_exit_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    code, text = _call(
        monkeypatch, capsys, "run", "nfe", "--tier", "smoke", "--results", str(tmp_path / "file" / "out")
    )
    assert code == 3 and "cannot be written" in text


def test_list_names_everything(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = _call(monkeypatch, capsys, "list")
    assert code == 0
    for name in ("nfe", "strength", "degradation", "laptop", "smoke", "flashvideo", "bicubic", "niqe_pooled"):
        assert name in text


def test_help_imports_nothing_heavy() -> None:
    heavy = "('torch', 'pandas', 'hydra', 'scipy', 'cv2')"
    script = f"import sys; import flashbench.cli; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
