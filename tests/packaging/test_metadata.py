"""What the Comfy Registry and ComfyUI-Manager read agrees with the rest of the repository."""

import re
import struct

import pytest
import tomllib

from bootstrap import ROOT, host_dir

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PROJECT, COMFY = PYPROJECT["project"], PYPROJECT["tool"]["comfy"]


def required(file):
    lines = (line.partition("#")[0].strip() for line in file.read_text("utf-8").splitlines())
    return [line for line in lines if line]


def names(requirements):
    return {re.match(r"[\w.-]+", line).group().lower().replace("_", "-") for line in requirements}


def test_the_version_is_that_of_the_changelog():
    newest = re.search(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert re.fullmatch(r"\d+\.\d+\.\d+", PROJECT["version"])
    assert newest.group(1) == PROJECT["version"]


def test_requirements_are_those_that_comfyui_does_not_bring():
    ours = required(ROOT / "requirements.txt")
    assert PROJECT["dependencies"] == ours
    theirs = names(required(host_dir() / "requirements.txt"))
    assert {"torch", "transformers"} <= theirs
    assert names(ours) & theirs == set()


def test_addresses_are_those_of_one_repository():
    repository = PROJECT["urls"]["Repository"]
    owner = repository.split("/")[-2]
    assert COMFY["PublisherId"] == owner
    assert all(url.startswith(repository) for url in PROJECT["urls"].values())
    assert f"git clone {repository}\n" in (ROOT / "README.md").read_text("utf-8")
    path = repository.removeprefix("https://github.com/")
    start = f"https://raw.githubusercontent.com/{path}/main/"
    assert (ROOT / COMFY["Icon"].removeprefix(start)).is_file()


def test_the_icon_is_square_and_small_enough():
    header = (ROOT / "docs/images/icon.png").read_bytes()[:24]
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", header[16:]) == (400, 400)


def test_the_oldest_comfyui_is_the_same_everywhere():
    oldest = COMFY["requires-comfyui"].removeprefix(">=")
    assert f"ComfyUI of version {oldest} or later" in (ROOT / "README.md").read_text("utf-8")
    assert f"ComfyUI {oldest} or later" in (ROOT / "__init__.py").read_text("utf-8")


def test_the_registrys_archive_has_what_the_readme_shows_and_not_the_scripts():
    left_out = required(ROOT / ".comfyignore")
    assert {"scripts/", "tests/"} <= set(left_out)
    assert all((ROOT / folder).is_dir() for folder in left_out)
    assert COMFY["includes"] == []  # would bring back what is left out, and what git ignores
    readme = (ROOT / "README.md").read_text("utf-8")
    linked = re.findall(r"""(?:\]\(|src=")(?!https?:|#)([^)"#]+)""", readme)
    assert {"CONTRIBUTING.md", "docs/benchmarks.md", "docs/images/help.jpg"} <= set(linked)
    for path in linked:
        assert (ROOT / path).is_file(), path
        assert not path.startswith(tuple(left_out)), path


def test_links_within_the_readme_lead_to_a_heading():
    readme = (ROOT / "README.md").read_text("utf-8")
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", readme, flags=re.DOTALL), re.M)
    anchors = {re.sub(r"[^\w -]", "", text).lower().replace(" ", "-") for text in headings}
    linked = set(re.findall(r"\]\(#([^)]+)\)", readme))
    assert "install-into-your-comfyui" in linked
    assert linked <= anchors


@pytest.mark.parametrize("field", ["name", "description", "license"])
def test_fields_that_the_registry_shows(field):
    assert PROJECT[field]


def test_the_name_is_one_that_the_registry_takes():
    assert re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", PROJECT["name"])
    assert "comfyui" not in PROJECT["name"]
