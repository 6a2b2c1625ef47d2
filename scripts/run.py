"""Run a measurement by its name, or list them all.

    python scripts/run.py                    # every name, and what it measures
    python scripts/run.py benchmark_reentry --bundled --ours

The tables of docs/benchmarks.md name the scripts that print them. Those that need evaluation data take them from
REID_TRACKER_DATA.
"""

import ast
import os
import runpy
import sys
from pathlib import Path

SCRIPTS = Path(__file__).parent
SHARED = {"run", "resident", "peers", "docs_site"}  # not measurements


def names() -> dict[str, str]:
    """What each script measures, by its name: the first line of its text."""
    found = {}
    for path in sorted(SCRIPTS.glob("*.py")):
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
        if path.stem not in SHARED and text:
            found[path.stem] = text.partition("\n")[0]
    return found


def main() -> None:
    known = names()
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        width = max(map(len, known))
        print("\n".join(f"{name:<{width}}  {text}" for name, text in known.items()))
        return
    name, *sys.argv[1:] = sys.argv[1:]
    if name not in known:
        sys.exit(f"Error: {name}: no such measurement; python scripts/run.py lists them.")
    text = (SCRIPTS / f"{name}.py").read_text(encoding="utf-8")
    if "REID_TRACKER_DATA" in text and "REID_TRACKER_DATA" not in os.environ:
        print("Note: REID_TRACKER_DATA is not set; what needs evaluation data will say so.", file=sys.stderr)
    sys.argv[0] = str(SCRIPTS / f"{name}.py")
    sys.path.insert(0, str(SCRIPTS))
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
