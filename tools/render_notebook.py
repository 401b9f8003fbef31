"""Runs a notebook from its first cell to its last and writes what each cell shows into it.

    python tools/render_notebook.py omendb-python/examples/tour.ipynb            run it, and write the outputs
    python tools/render_notebook.py --check omendb-python/examples/tour.ipynb    run it; fail if a cell does, or if it
                                                                                 holds no outputs

Needs nothing but Python: a cell's last expression is shown as a notebook shows it, as HTML where the value knows how.
"""

import ast
import contextlib
import io
import json
import os
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any


def run(source: str, names: dict[str, Any], number: int) -> list[dict[str, Any]]:
    """Runs a cell; its outputs in the format of notebooks."""
    tree = ast.parse(source, f"cell {number}")
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    printed, value = io.StringIO(), None
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, f"cell {number}", "exec"), names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), names)
    outputs: list[dict[str, Any]] = []
    if printed.getvalue():
        outputs.append({"name": "stdout", "output_type": "stream", "text": printed.getvalue().splitlines(keepends=True)})
    if value is not None:
        data = {"text/plain": repr(value).splitlines(keepends=True)}
        if hasattr(value, "_repr_html_"):
            data["text/html"] = [value._repr_html_()]
        outputs.append({"data": data, "execution_count": number, "metadata": {}, "output_type": "execute_result"})
    return outputs


def main() -> int:
    check = "--check" in sys.argv
    place = Path([argument for argument in sys.argv[1:] if argument != "--check"][0]).resolve()
    notebook = json.loads(place.read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    # What it writes goes to a directory of its own; HERE tells where its files are.
    names: dict[str, Any] = {"__name__": "__main__", "HERE": place.parent}
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        for number, cell in enumerate(code, start=1):
            try:
                outputs = run("".join(cell["source"]), names, number)
            except Exception:
                traceback.print_exc()
                print(f"{place.name}: cell {number} failed", file=sys.stderr)
                return 1
            if check and outputs and not cell["outputs"]:
                print(f"{place.name}: cell {number} shows nothing yet; run {Path(__file__).name} on it", file=sys.stderr)
                return 1
            cell["outputs"], cell["execution_count"] = outputs, number
        os.chdir(place.parent)
    if not check:
        temporary = place.with_suffix(".tmp")
        temporary.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(temporary, place)
    print(f"{place.name}: {len(code)} cells ran")
    return 0


if __name__ == "__main__":
    sys.exit(main())
