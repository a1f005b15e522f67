"""Which of ComfyUI's names this pack uses, and which of them a ComfyUI lacks.

python tests/support/host_names.py [NAME ...]    prints those that are not there, as JSON
"""

import ast
import inspect
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from pkgutil import resolve_name

ROOT = Path(__file__).resolve().parents[2]
HOST = ("comfy", "comfy_api", "comfy_execution", "folder_paths", "node_helpers", "nodes", "server")
IO = "comfy_api.latest.io"


def used_names() -> set[str]:
    """Dotted names of ComfyUI's that the pack imports or reads, such as `comfy.ops.manual_cast`."""
    folders = (ROOT / "ella_core/comfy", ROOT / "nodes")
    files = [ROOT / "__init__.py", *(file for folder in folders for file in folder.rglob("*.py"))]
    return {name for file in files for name in names_in(file)}


def names_in(file: Path) -> set[str]:
    """Those of one Python file, with the keywords that it gives to inputs, outputs and schemas."""
    return set(_names(ast.parse(file.read_text("utf-8"))))


def _names(tree: ast.AST) -> Iterator[str]:
    bound: dict[str, str] = {}  # what a name in the file stands for
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                root = alias.name.partition(".")[0]
                bound[alias.asname or root] = alias.name if alias.asname else root
        elif isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                bound[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    yield from (name for name in bound.values() if _of_host(name))
    for node in ast.walk(tree):
        name = _dotted(node, bound)
        if _of_host(name):
            yield name
        if isinstance(node, ast.Call) and (called := _called(node.func, bound)):
            yield from (f"{called}.{keyword.arg}" for keyword in node.keywords if keyword.arg)


def _called(func: ast.expr, bound: dict[str, str]) -> str:
    """The class of `comfy_api.latest.io` that is called, empty for any other."""
    name = _dotted(func, bound)
    if isinstance(func, ast.Attribute) and func.attr in ("Input", "Output") and not name:
        return f"{IO}.{func.attr}"  # of a type that the pack made with io.Custom
    return name if name.startswith(IO) and name.endswith((".Input", ".Output", ".Schema")) else ""


def _of_host(name: str) -> bool:
    return name.partition(".")[0] in HOST


def _dotted(node: ast.AST, bound: dict[str, str]) -> str:
    """`a.b.c` with its `a` as it was imported; empty for anything else."""
    if isinstance(node, ast.Attribute):
        before = _dotted(node.value, bound)
        return before and f"{before}.{node.attr}"
    return bound.get(node.id, "") if isinstance(node, ast.Name) else ""


def is_there(name: str) -> bool:
    """Whether the importable ComfyUI has a dotted name, be it that of a class's parameter."""
    owner, _, last = name.rpartition(".")
    if ".instance" in name:
        owner, _, last = name.partition(".instance")
        return _sets(resolve_name(owner), last.strip(".") or "instance")
    try:
        resolve_name(name)
    except ImportError:
        return False
    except AttributeError:
        found = resolve_name(owner)
        return isinstance(found, type) and last in inspect.signature(found).parameters
    return True


def _sets(owner: type, attribute: str) -> bool:
    """Whether a class sets the attribute, as PromptServer does once it runs."""
    return bool(re.search(rf"\.{attribute} = ", inspect.getsource(owner)))


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "scripts"))
    from tiny_models import import_host

    import_host()
    resolve_name("utils.extra_config")  # first, as main.py does: `nodes` hides this package

    names = sys.argv[1:] or sorted(used_names())
    print(json.dumps({"missing": [n for n in names if not is_there(n)], "checked": len(names)}))
