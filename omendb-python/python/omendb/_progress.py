"""Progress on standard error: tqdm where it is installed, plain lines where not."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_EVERY_SECONDS = 0.2


@contextmanager
def waiting(label: str, left: Callable[[], int]) -> Iterator[None]:
    """Shows how much is left while the body runs; ``left`` is asked a few times a second."""
    total = left()
    started = time.monotonic()
    done = threading.Event()
    bar = _bar(label, total)

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


def _bar(label: str, total: int) -> Callable[[int], None]:
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return lambda done: print(f"\r{label}: {done:,} of {total:,}", end="", file=sys.stderr, flush=True)
    bar = tqdm(total=total, desc=label, unit="rec", leave=False)

    def show(done: int) -> None:
        bar.n = done
        bar.refresh()
        if done >= total:
            bar.close()

    return show
