"""Import directions between the parts of the repository."""

import ast

import pytest

from bootstrap import ROOT

HOST = ("comfy", "comfy_api", "comfy_execution", "folder_paths", "node_helpers", "nodes", "server")
CORE = ROOT / "ella_core"
OUTSIDE = ("benchmarks", "ella_nodes", "miniature", "nodes", "scripts", "support", "tests")


def modules(folder):
    """Names under which the files of a folder are imported."""
    return {path.stem for path in (ROOT / folder).glob("*.py")}


def imported(file):
    """Dotted names of the modules that a file imports, the pack's own from its root on."""
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


def reached(start):
    """Modules of the library that these files import, directly or through others."""
    seen, waiting = set(), {*start}
    while waiting:
        names = {name for file in waiting for name in imported(file)}
        # A name may be a module's, or one in it. Its packages run too.
        paths = {ROOT.joinpath(*name.split(".")[:n]) for name in names for n in range(1, 9)}
        files = {each for path in paths for each in (path.with_suffix(".py"), path / "__init__.py")}
        waiting = {file for file in files if file.is_file() and CORE in file.parents} - seen
        seen |= waiting
    return {file.relative_to(CORE).as_posix() for file in seen}


def test_sampling_does_not_import_the_editors_side():
    found = reached((CORE / "comfy/sampling").glob("*.py"))
    assert {path for path in found if path.startswith("comfy/editor/")} == set()
    assert {"comfy/llm/embeds.py", "comfy/memory.py", "store.py"} <= found
    assert "comfy/editor/report.py" in reached([CORE / "comfy/official.py"])


def test_the_library_does_not_import_scripts_tests_or_nodes(files):
    assert importers(files, [*OUTSIDE, *modules("scripts"), *modules("tools")]) == set()


def test_nodes_need_neither_training_nor_evaluation():
    run_in_comfyui = [*(ROOT / "nodes").glob("*.py"), *(CORE / "comfy").rglob("*.py")]
    assert importers(run_in_comfyui, ["ella_core.training", "ella_core.evaluation"]) == set()


def test_scripts_and_tests_do_not_import_each_other():
    scripts, tests = ((ROOT / folder).rglob("*.py") for folder in ("scripts", "tests"))
    assert importers(scripts, ["tests", "support"]) == set()
    # The command miniature.py has the name of a package that tests may import.
    assert importers(tests, ["scripts", *modules("scripts") - {"miniature", "test"}]) == set()


def test_what_scripts_and_tests_share_imports_neither():
    shared = [*(ROOT / "tools").glob("*.py"), *(ROOT / "miniature").glob("*.py")]
    found = importers(shared, ["tests", "support", *modules("scripts") - {"miniature"}])
    assert found == set()
