"""Files and functions stay short enough to be read at once."""

import ast

import pytest

from bootstrap import ROOT

FILE, FUNCTION = 300, 50  # lines that none has


def sources():
    """Our own files: what the scripts fetch or make is in folders with a dot."""
    top = (path for path in ROOT.iterdir() if not path.name.startswith("."))
    files = (file for path in top for file in ([path] if path.is_file() else path.rglob("*")))
    return sorted(file for file in files if file.suffix in (".py", ".js"))


def functions(source):
    """(name, lines) of every function and method, decorators included."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min(part.lineno for part in (node, *node.decorator_list))
            yield node.name, node.end_lineno - first + 1


@pytest.fixture(scope="module")
def texts():
    return {
        file.relative_to(ROOT).as_posix(): file.read_text(encoding="utf-8") for file in sources()
    }


def test_all_files_are_looked_at(texts):
    folders = {path.partition("/")[0] for path in texts}
    assert {"ella_core", "nodes", "scripts", "tests", "benchmarks", "web"} <= folders
    assert {"__init__.py", "web/ella.js", "tests/packaging/test_size.py"} <= texts.keys()


def test_files_are_short(texts):
    lines = {path: len(text.splitlines()) for path, text in texts.items()}
    assert {path: count for path, count in lines.items() if count >= FILE} == {}


def test_functions_are_short(texts):
    python = {path: text for path, text in texts.items() if path.endswith(".py")}
    found = {(path, *function) for path, text in python.items() for function in functions(text)}
    assert {entry for entry in found if entry[2] >= FUNCTION} == set()


def test_a_functions_decorators_and_last_line_count():
    source = (
        "class A:\n    @property\n    @staticmethod\n    async def f():\n        x = [\n        ]\n"
    )
    assert list(functions(source)) == [("f", 5)]
