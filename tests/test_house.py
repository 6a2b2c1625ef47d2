"""How the package is built: which module may know which."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[1]


def modules() -> dict[str, Path]:
    found = {}
    for folder, name in ((ROOT / "reid_tracker", "reid_tracker"), (ROOT / "training", "reid_tracker.training")):
        for path in folder.rglob("*.py"):
            parts = [name, *path.relative_to(folder).with_suffix("").parts]
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


class Imports(ast.NodeVisitor):
    """Modules that a file imports, at its top or within functions; not what only type checkers see."""

    def __init__(self, known: dict[str, Path]) -> None:
        self.known, self.found = known, set[str]()

    def visit_If(self, node: ast.If) -> None:
        if not (isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"):
            self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        self.found |= {each.name for each in node.names}

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for each in node.names:
            inner = f"{node.module}.{each.name}"
            self.found.add(inner if inner in self.known else str(node.module))


def test_no_module_imports_itself_by_way_of_others() -> None:
    known, graph = modules(), {}
    for name, path in known.items():
        imports = Imports(known)
        imports.visit(ast.parse(path.read_text(encoding="utf-8")))
        # The package itself holds the version and names that are imported when they are used.
        graph[name] = {each for each in imports.found if each in known and each not in (name, "reid_tracker")}
    assert len(graph) > 100 and sum(map(len, graph.values())) > 300
    TopologicalSorter(graph).prepare()  # raises a CycleError that names the modules


def test_no_folder_imports_itself_by_way_of_others() -> None:
    known, graph = modules(), dict[str, set[str]]()

    def room(name: str) -> str:
        return ".".join(name.split(".")[:2])

    for name, path in known.items():
        imports = Imports(known)
        imports.visit(ast.parse(path.read_text(encoding="utf-8")))
        others = {room(each) for each in imports.found if each in known and each != "reid_tracker"}
        graph.setdefault(room(name), set()).update(others - {room(name), "reid_tracker"})
    TopologicalSorter(graph).prepare()
