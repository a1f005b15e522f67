"""Which parts may import which."""

import ast

import pytest

from bootstrap import ROOT

HOST = ("comfy", "comfy_api", "comfy_execution", "folder_paths", "node_helpers", "nodes", "server")
CORE = ROOT / "ella_core"


def imported(file):
    """Dotted names of the modules that a file of the library imports, its own from ella_core on."""
    package = file.relative_to(ROOT).parts[:-1]
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def importers(files, of):
    """Files, relative to the pack, that import a module whose name begins with one of `of`."""
    prefixes = tuple(f"{name}." for name in of)
    return {
        file.relative_to(ROOT).as_posix()
        for file in files
        if any(f"{name}.".startswith(prefixes) for name in imported(file))
    }


@pytest.fixture(scope="module")
def files():
    return sorted(CORE.rglob("*.py"))


def test_only_the_comfy_folder_imports_the_host(files):
    found = importers(files, [*HOST, "ella_core.comfy"])
    assert {path for path in found if not path.startswith("ella_core/comfy/")} == set()
    assert "ella_core/comfy/sampling/wrappers.py" in found


def test_sampling_does_not_import_the_editors_side(files):
    found = importers(files, ["ella_core.comfy.editor"])
    assert {path for path in found if path.startswith("ella_core/comfy/sampling/")} == set()
    assert "ella_core/comfy/official.py" in found


def test_the_library_does_not_import_scripts_tests_or_nodes(files):
    names = [path.stem for path in (ROOT / "scripts").glob("*.py")]
    assert importers(files, [*names, "support", "scripts", "tests"]) == set()
