"""What FFmpeg says while files are open: its messages of all threads, PyAV's logging left as it was."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeAlias

import av.logging

Message: TypeAlias = tuple[int, str, str]
"""FFmpeg's level, who says it, and what."""


class _Listener:
    """Keeps FFmpeg's messages while somebody listens; then PyAV's logging is as it was before."""

    def __init__(self) -> None:
        # Reentrant: the collector may close a forgotten reader of a file in the middle of it.
        self._lock, self._ears = threading.RLock(), 0

    @contextmanager
    def listening(self) -> Iterator[Sequence[Message]]:
        with self._lock:
            self._ears += 1
            if self._ears == 1:
                self._before = av.logging.get_level(), av.logging.get_skip_repeated()
                av.logging.set_level(max(self._before[0] or 0, av.logging.WARNING))
                av.logging.set_skip_repeated(False)
                self._capture = av.logging.Capture(local=False)
                self._messages = self._capture.__enter__()
            messages = self._messages
        try:
            yield messages
        finally:
            with self._lock:
                self._ears -= 1
                if not self._ears:
                    self._capture.__exit__(None, None, None)
                    av.logging.set_skip_repeated(self._before[1])
                    av.logging.set_level(self._before[0])


_LISTENER = _Listener()
listening = _LISTENER.listening
"""Messages from every thread, as they come. A file's threads may speak until it is closed, so it is open within this
alone: PyAV fails on a message that comes after its logging was switched off."""
