"""Metadata for the Comfy Registry and ComfyUI-Manager agree with the rest of the repository."""

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


PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"""(?:\]\(|src=")(?!https?:)([^)"#]*)(?:#([^)"]+))?""")


def anchors(page):
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", page, flags=re.DOTALL), re.M)
    return {re.sub(r"[^\w -]", "", text).lower().replace(" ", "-") for text in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_what_is_there(page):
    for path, anchor in LINK.findall(page.read_text("utf-8")):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), path
        if anchor:
            assert anchor in anchors(target.read_text("utf-8")), (path, anchor)


def test_the_registrys_archive_has_what_the_readme_shows_and_not_the_scripts():
    left_out = required(ROOT / ".comfyignore")
    assert {"scripts/", "tests/"} <= set(left_out)
    assert all((ROOT / folder).is_dir() for folder in left_out)
    assert COMFY["includes"] == []  # would bring back what is left out, and what git ignores
    linked = {path for path, _ in LINK.findall((ROOT / "README.md").read_text("utf-8"))}
    assert {"CONTRIBUTING.md", "docs/nodes.md", "docs/images/help.jpg"} <= linked
    assert not any(path.startswith(tuple(left_out)) for path in linked)


def test_the_readme_links_to_every_page():
    linked = {path for path, _ in LINK.findall((ROOT / "README.md").read_text("utf-8"))}
    assert {f"docs/{page.name}" for page in PAGES[2:]} <= linked


@pytest.mark.parametrize("field", ["name", "description", "license"])
def test_fields_that_the_registry_shows(field):
    assert PROJECT[field]


def test_the_name_is_one_that_the_registry_takes():
    assert re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", PROJECT["name"])
    assert "comfyui" not in PROJECT["name"]
