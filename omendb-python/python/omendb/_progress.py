"""Progress on standard error: tqdm where it is installed, plain lines where not."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_EVERY_SECONDS = 0.2


@contextmanager
def waiting(label: str, left: Callable[[], int], unit: str = "rec") -> Iterator[None]:
    """Shows how much is left while the body runs; ``left`` is asked a few times a second."""
    total = left()
    started = time.monotonic()
    done = threading.Event()
    bar = _bar(label, total, unit)

    def show() -> None:
        while not done.wait(_EVERY_SECONDS):
            bar(max(0, total - left()))

    thread = threading.Thread(target=show, name="omendb-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        bar(total)
        print(f"\n{label}: done in {time.monotonic() - started:.1f} s", file=sys.stderr)


@contextmanager
def counting(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """Shows how much is done while the body runs, which tells it by the function that it is given."""
    started = time.monotonic()
    bar = _bar(label, total)
    done = 0

    def show(now: int) -> None:
        nonlocal done
        done = now
        bar(now)

    try:
        yield show
    finally:
        print(f"\n{label}: {done:,} in {time.monotonic() - started:.1f} s", file=sys.stderr)


@contextmanager
def working(label: str) -> Iterator[None]:
    """Shows that something of unknown length goes on, and for how long."""
    started = time.monotonic()
    done = threading.Event()
    show = _clock(label)

    def tick() -> None:
        while not done.wait(_EVERY_SECONDS):
            show(time.monotonic() - started)

    thread = threading.Thread(target=tick, name="omendb-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        show(None)
        print(f"\n{label}: done in {time.monotonic() - started:.1f} s", file=sys.stderr)


def _clock(label: str) -> Callable[[float | None], None]:
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return lambda seconds: print(f"\r{label}: {seconds or 0:.1f} s", end="", file=sys.stderr, flush=True)
    bar = tqdm(desc=label, bar_format="{desc}: {elapsed}", leave=False)
    return lambda seconds: bar.close() if seconds is None else bar.refresh()


def _bar(label: str, total: int, unit: str = "rec") -> Callable[[int], None]:
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return lambda done: print(f"\r{label}: {done:,} of {total:,}", end="", file=sys.stderr, flush=True)
    bar = tqdm(total=total, desc=label, unit=unit, unit_scale=unit == "B", leave=False)

    def show(done: int) -> None:
        bar.n = done
        bar.refresh()
        if done >= total:
            bar.close()

    return show
