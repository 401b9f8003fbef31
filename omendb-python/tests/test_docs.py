"""Every example in a docstring and in the README runs as written."""

from __future__ import annotations

import doctest
import importlib
import os
import re
from pathlib import Path

import pytest

import omendb

MODULES = ["omendb", "omendb._errors", "omendb._hits", "omendb._collection", "omendb._database", "omendb._async"]
INTEGRATIONS = {"langchain": "langchain_core", "llama_index": "llama_index.core", "haystack": "haystack"}


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name: str) -> None:
    outcome = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert outcome.failed == 0 and outcome.attempted > 0


@pytest.mark.parametrize("name", sorted(INTEGRATIONS))
def test_integration_docstrings(name: str) -> None:
    pytest.importorskip(INTEGRATIONS[name])
    outcome = doctest.testmod(importlib.import_module(f"omendb.{name}"))
    assert outcome.failed == 0 and outcome.attempted > 0


def test_every_public_method_is_documented() -> None:
    for kind in (omendb.Database, omendb.Collection, omendb.Hits, omendb.BatchHits, omendb.AsyncCollection):
        for name, member in vars(kind).items():
            if not name.startswith("_") and callable(member):
                assert member.__doc__, f"{kind.__name__}.{name}"


def test_readme(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    readme = Path(__file__).parents[1] / "README.md"
    blocks = re.findall(r"```python\n(.*?)```", readme.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert blocks
    before = Path.cwd()
    os.chdir(tmp_path)
    try:
        for block in blocks:
            exec(compile(block, str(readme), "exec"), {})
    finally:
        os.chdir(before)
    assert "crash safe storage" in capsys.readouterr().out
