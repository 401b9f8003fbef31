"""How heavy the package is: its wheel, what it installs, and what importing it costs.

    maturin build --release --manifest-path omendb-python/Cargo.toml --out target/wheels
    pip install --no-index --no-deps --force-reinstall target/wheels/omendb-*.whl
    python omendb-python/benches/footprint.py target/wheels/omendb-*.whl

The bounds: at most 20 MB of wheel and 50 milliseconds of import.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import zipfile
from pathlib import Path

IMPORT = "import time; start = time.perf_counter(); import omendb; print(time.perf_counter() - start)"
FIRST_USE = (
    "import time; start = time.perf_counter(); import omendb; db = omendb.open(':memory:'); "
    "docs = db.create_collection('docs', dim=2); docs.upsert(['a'], [[1.0, 0.0]]); docs.search([1.0, 0.0]); "
    "print(time.perf_counter() - start)"
)


def milliseconds(program: str, rounds: int = 21) -> list[float]:
    """Sorted times of fresh interpreters, the first ones left out as they fill the caches."""
    times = []
    for _ in range(rounds + 3):
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        times.append(float(done.stdout) * 1e3)
    return sorted(times[3:])


def main() -> None:
    for name in sys.argv[1:]:
        wheel = Path(name)
        with zipfile.ZipFile(wheel) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
        print(f"wheel         {wheel.name}: {wheel.stat().st_size / 1e6:.2f} MB, unpacked {unpacked / 1e6:.2f} MB")
    for label, program in (("import omendb", IMPORT), ("to first hit ", FIRST_USE)):
        times = milliseconds(program)
        print(f"{label} median {statistics.median(times):.1f} ms, least {times[0]:.1f} ms, most {times[-1]:.1f} ms")


if __name__ == "__main__":
    main()
