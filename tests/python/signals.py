"""Ctrl-C in a test."""

from __future__ import annotations

import faulthandler
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def signal_after(seconds: float, number: int = signal.SIGINT) -> Iterator[list[float]]:
    """Send this process a signal; yields a list that will hold when. Aborts a run that hangs."""
    sent: list[float] = []
    # A shell starts its background jobs, and so the tests in one, with Ctrl-C ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def send() -> None:
        sent.append(time.monotonic())
        os.kill(os.getpid(), number)

    faulthandler.dump_traceback_later(60, exit=True)
    timer = threading.Timer(seconds, send)
    timer.start()
    try:
        yield sent
    finally:
        timer.join()
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGINT, before)
