"""Damage that a decoder only logs: FFmpeg hides a broken picture behind its neighbours and goes on.

Decoding in several threads, nothing tells whose message it is: another file may be decoded in this process at the same
time. So a message that speaks of damage is a suspicion, and the file is decoded once more in one thread, whose own
messages can be told apart. Clean files are decoded once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import av
import av.logging

from flashbench.decoding.container import opened, packets
from flashbench.decoding.log import Message, listening

_WARNINGS = re.compile("overread|mismatch|bits left|damage|corrupt|truncat", re.IGNORECASE)
"""What warnings about a broken picture say; other warnings are about style. Errors always count."""
_BOOKKEEPING = re.compile("mmco: unref short failure")
"""An error that says nothing of a picture: a file that was cut without encoding it anew releases what it never had."""


class Watch:
    """Looks out for messages about damage while a file is decoded; made by `watch`."""

    def __init__(self, path: Path, messages: Sequence[Message]) -> None:
        self._path, self._messages, self._seen, self._whole = path, messages, len(messages), False

    def check(self) -> None:
        """Refuse the file if its decoder has said that it is damaged.

        Raises:
            ValueError: it has; the message says near which picture.
        """
        new = self._messages[self._seen :]
        self._seen += len(new)
        if not self._whole and any(_speaks_of_damage(message) for message in new):
            if reason := _damage(self._path):
                raise ValueError(reason)
            self._whole = True


@contextmanager
def watch(path: Path) -> Iterator[Watch]:
    """A `Watch` over the decoding of a file, which stands inside."""
    with listening() as messages:
        yield Watch(path, messages)


def _speaks_of_damage(message: Message) -> bool:
    level, name, text = message
    if name == "swscaler" or _BOOKKEEPING.search(text):
        return False
    return level <= av.logging.ERROR or (level <= av.logging.WARNING and bool(_WARNINGS.search(text)))


def _damage(path: Path) -> str:
    """What a file's decoder says of damage when it works in this thread alone; empty if nothing."""
    with opened(path) as (container, stream), av.logging.Capture(local=True) as messages:
        stream.codec_context.thread_type, stream.codec_context.thread_count = "NONE", 1
        number = 0
        for packet in packets(container, stream):
            pictures = packet.decode()
            if said := [message for message in messages if _speaks_of_damage(message)]:
                text = " ".join(message[2].strip() for message in said[:3])
                return f"it is damaged near picture {number + 1}: {_printable(text)}"
            number += len(pictures)
            messages.clear()
    return ""


def _printable(text: str) -> str:
    plain = "".join(mark if mark.isprintable() else "?" for mark in text)
    return plain if len(plain) <= 120 else plain[:119] + "…"
