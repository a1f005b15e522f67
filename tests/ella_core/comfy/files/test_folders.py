"""The lists behind the dropdowns."""

import sys

import pytest

from tiny_models import import_host

import_host()
import folder_paths

from ella_core.comfy.files import folders

opened: list[str] = []
sys.addaudithook(lambda event, args: opened.append(args[0]) if event == "os.scandir" else None)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """The only folder for LLMs, with two of them, one behind a folder with many files."""
    names = {name: ([str(tmp_path)], set()) for name in folders.LLM_FOLDERS}
    monkeypatch.setattr(folder_paths, "folder_names_and_paths", names)
    for name in ("one", "deep/er/two"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "config.json").touch()
    for i in range(100):
        (tmp_path / "deep" / f"{i}.bin").touch()
    return tmp_path


def test_folders_are_read_once(root):
    assert folders.llm_names() == ["deep/er/two", "one"]
    opened.clear()
    assert folders.llm_names() == ["deep/er/two", "one"]
    assert opened == []


def test_what_is_new_or_gone_is_noticed(root):
    folders.llm_names()
    (root / "deep/er/three.gguf").touch()
    assert folders.llm_names() == ["deep/er/three.gguf", "deep/er/two", "one"]
    (root / "one/config.json").unlink()
    assert folders.llm_names() == ["deep/er/three.gguf", "deep/er/two"]
    (root / "one").rmdir()
    assert folders.llm_names() == ["deep/er/three.gguf", "deep/er/two"]


def test_a_folder_that_comes_later(root, monkeypatch):
    names = {name: ([str(root / "later")], set()) for name in folders.LLM_FOLDERS}
    monkeypatch.setattr(folder_paths, "folder_names_and_paths", names)
    assert folders.llm_names() == [folders.NO_LLM]
    (root / "later").mkdir()
    (root / "later/model.gguf").touch()
    assert folders.llm_names() == ["model.gguf"]


def test_connectors_of_both_folders(tmp_path, monkeypatch):
    places = {name: tmp_path / name for name in folders.CONNECTOR_FOLDERS}
    names = {name: ([str(place)], {".safetensors"}) for name, place in places.items()}
    monkeypatch.setattr(folder_paths, "folder_names_and_paths", names)
    monkeypatch.setattr(folder_paths, "filename_list_cache", {})
    for place, files in zip(places.values(), (["b", "both"], ["a", "both"]), strict=True):
        place.mkdir()
        for name in files:
            (place / f"{name}.safetensors").touch()
    found = folders.connector_names()
    assert found == ["b.safetensors", "both.safetensors", "a.safetensors"]
    assert folders.connector_path("a.safetensors").parent == places["llm_adapters"]
    assert folders.connector_path("both.safetensors").parent == places["ella"]


@pytest.mark.parametrize("place", ["gemma", ""])
@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "merges.txt"])
def test_the_tokenizer_of_a_single_file_belongs_to_its_identity(tmp_path, place, name):
    model = tmp_path / "gemma.safetensors"
    model.touch()
    identities = [folders.llm_identity(model)]
    (tmp_path / "another.safetensors").touch()
    assert folders.llm_identity(model) == identities[0]
    for content in ("one", "the other"):
        (tmp_path / place).mkdir(exist_ok=True)
        (tmp_path / place / name).write_text(content)
        identities.append(folders.llm_identity(model))
    assert len({*identities}) == 3
