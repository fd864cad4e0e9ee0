"""What no room may do, beyond the layers that import-linter checks."""

from __future__ import annotations

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "python" / "runner"
BOUNDARY = {"engine.py", "wire.py", "sim.py", "reasons.py", "baileys.py", "baileys_export.py"}


def runtime_imports(path: Path) -> set[str]:
    """The modules that a file imports when it runs; what stands under `if TYPE_CHECKING` does not count."""
    found: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            waiting.extend(node.orelse)
            continue
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
        waiting.extend(ast.iter_child_nodes(node))
    return found


def test_only_the_boundary_touches_the_extension() -> None:
    touching = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if "runner._core" in runtime_imports(path)
    }
    assert touching <= BOUNDARY


def test_only_the_admin_room_knows_the_web_framework() -> None:
    web = {"fastapi", "starlette", "anycorn"}
    knowing = {
        path.relative_to(PACKAGE).parts[0]
        for path in PACKAGE.rglob("*.py")
        if web & {name.partition(".")[0] for name in runtime_imports(path)}
    }
    assert knowing == {"admin"}
