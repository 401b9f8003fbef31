"""Fixtures: a database on disk, and its collections."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import omendb

# Haystack would report its use to its makers.
os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "test.omen"


@pytest.fixture
def db(path: Path) -> Iterator[omendb.Database]:
    with omendb.open(path) as database:
        yield database


@pytest.fixture
def docs(db: omendb.Database) -> omendb.Collection:
    return db.create_collection("docs", dim=4, metric="l2")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20261121)
