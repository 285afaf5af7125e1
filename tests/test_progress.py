from __future__ import annotations

import io
import re

import pytest

from flashbench.progress import Progress, Task, duration, say


class Clock:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock() -> Clock:
    return Clock()


def walk(clock: Clock, task: Task, start: int, stop: int, seconds_each: float, text: str = "") -> None:
    for done in range(start + 1, stop + 1):
        clock.now += seconds_each
        task.update(done, text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59.4, "59s"), (59.6, "1m00s"), (123, "2m03s"), (3599.7, "1h00m"), (3720, "1h02m")],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_plain_lines_come_at_most_every_few_seconds_and_give_rate_and_time_left(clock: Clock) -> None:
    stream = io.StringIO()
    with Progress(stream, every=5, clock=clock) as progress:
        task = progress.add("train wide", total=500, unit="it", done=120)
        walk(clock, task, 120, 132, 1.0, "loss 0.2")
    lines = stream.getvalue().splitlines()
    assert lines[0] == "train wide  125/500  1.0 it/s  eta 6m15s  loss 0.2"
    assert lines[1] == "train wide  130/500  1.0 it/s  eta 6m10s  loss 0.2"
    assert lines[2:] == ["train wide  132/500  1.0 it/s  eta 6m08s  loss 0.2"]
    assert "\x1b" not in stream.getvalue()


def test_a_short_task_prints_one_line_when_it_is_done(clock: Clock) -> None:
    stream = io.StringIO()
    with Progress(stream, every=5, clock=clock) as progress:
        walk(clock, progress.add("score", total=4, unit="clip"), 0, 4, 0.5)
        progress.add("nothing to do", total=0)
    assert stream.getvalue().splitlines() == ["score  4/4  2.0 clip/s  took 2s", "nothing to do  0/0  took 0s"]


def test_the_rate_forgets_what_was_already_there(clock: Clock) -> None:
    with Progress(io.StringIO(), clock=clock) as progress:
        task = progress.add("clips", total=1000)
        walk(clock, task, 0, 500, 0.001)
        walk(clock, task, 500, 540, 2.0)
        assert task.rate == pytest.approx(0.5)
        assert task.numbers(clock.now) == "540/1000  2.0 s/it  eta 15m20s"


def test_several_tasks_are_told_apart_and_one_without_a_total_has_no_end(clock: Clock) -> None:
    stream = io.StringIO()
    with Progress(stream, every=5, clock=clock) as progress:
        first, second = progress.add("wide", total=10), progress.add("read", total=None, unit="file")
        clock.now += 5
        first.update(5)
        second.update(20)
        first.update(10)
        assert not second.finished
    assert stream.getvalue().splitlines() == [
        "wide  5/10  1.0 it/s  eta 5s",
        "read  20  4.0 file/s",
        "wide  10/10  2.0 it/s  took 5s",
    ]


def test_a_slow_task_gives_seconds_per_unit(clock: Clock) -> None:
    with Progress(io.StringIO(), clock=clock) as progress:
        task = progress.add("train", total=500, unit="steps", done=120)
        walk(clock, task, 120, 130, 2.0, "loss 0.2")
        assert task.numbers(clock.now) == "130/500  2.0 s/step  eta 12m20s  loss 0.2"


def test_an_interrupt_leaves_a_line_that_says_where_it_stood_and_goes_on(clock: Clock) -> None:
    stream = io.StringIO()
    with pytest.raises(KeyboardInterrupt), Progress(stream, clock=clock) as progress:
        progress.add("train", total=9).update(3)
        raise KeyboardInterrupt
    assert stream.getvalue() == "train  3/9  stopped\n"


def test_a_remark_keeps_its_brackets_and_finds_the_open_progress(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    stream = io.StringIO()
    with Progress(stream, clock=clock):
        say("resumed [bold]from[/bold] step 3")
    say("after")
    assert stream.getvalue() == "resumed [bold]from[/bold] step 3\n"
    assert capsys.readouterr() == ("", "after\n")


def test_a_terminal_gets_bars_and_its_cursor_back_on_ctrl_c(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")
    stream = Terminal()
    with pytest.raises(KeyboardInterrupt), Progress(stream, clock=clock) as progress:
        task = progress.add("train wide", total=500, done=120)
        say("resumed [bold]from[/bold] step 120")
        walk(clock, task, 120, 130, 0.5, "loss [0.2]")
        raise KeyboardInterrupt
    shown = stream.getvalue()
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert "resumed [bold]from[/bold] step 120" in plain
    assert "130/500  2.0 it/s  eta 3m05s  loss [0.2]  stopped" in plain
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l"), "the cursor stays hidden"


@pytest.mark.parametrize("term", ["dumb", ""])
def test_a_terminal_that_cannot_redraw_gets_plain_lines(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, term: str
) -> None:
    monkeypatch.setenv("TERM", term)
    stream = Terminal()
    with Progress(stream, clock=clock) as progress:
        progress.add("train", total=1).update(1)
    assert stream.getvalue() == "train  1/1  took 0s\n"


def test_threads_may_share_it() -> None:
    import threading

    stream = io.StringIO()
    with Progress(stream, every=0) as progress:
        tasks = [progress.add(f"worker {i}", total=50) for i in range(4)]
        threads = [threading.Thread(target=lambda t=t: [t.update(n) for n in range(1, 51)]) for t in tasks]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    lines = stream.getvalue().splitlines()
    assert len(lines) == 200 and all(re.match(r"worker \d  \d+/50", line) for line in lines)
