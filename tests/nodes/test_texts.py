"""Texts of the JavaScript and of the templates: each is translated, and none is left over."""

import json
import re

import pytest

from bootstrap import ROOT

LANGUAGES = ("zh", "ja")
CALL = re.compile(r'\bt\(\s*(?:"((?:[^"\\]|\\.)+)")?')  # of t in web/ella-texts.js
NAME = re.compile(r"<\w+>")


@pytest.fixture(scope="module")
def english():
    """The texts in the code."""
    found = set()
    for file in (ROOT / "web").glob("*.js"):
        code = file.read_text("utf-8")
        if 'from "./ella-texts.js"' in code:
            found.update(CALL.findall(code))
    assert found
    assert "" not in found, "a text is not written out where t is called"
    return found


@pytest.fixture(params=LANGUAGES)
def translated(request, host):
    """English -> translation, as the editor gets them."""
    return host.server.get("/i18n")[request.param]["ella"]


def test_every_text_is_translated_and_none_is_left_over(english, translated):
    assert translated.keys() == english


def test_every_value_has_its_place(translated):
    for text, translation in translated.items():
        assert sorted(NAME.findall(translation)) == sorted(NAME.findall(text)), text


def test_translations_are_in_another_language(translated):
    for text, translation in translated.items():
        assert re.search("[\u3040-\u30ff\u4e00-\u9fff\uff08\uff1a]", translation), text


def test_no_character_that_the_editors_translation_reads_as_code(translated):
    """It gets these texts too, with all others in locales/."""
    assert not set("{}@|").intersection("".join([*translated, *translated.values()]))


def texts_of_templates():
    """Paragraphs of notes, and titles of groups and nodes."""
    for path in (ROOT / "workflows").glob("*.json"):
        workflow = json.loads(path.read_text(encoding="utf-8"))
        for node in workflow["nodes"]:
            yield node.get("title")
            if node["type"] == "MarkdownNote":
                yield from node["widgets_values"][0].split("\n\n")
        yield from (group["title"] for group in workflow["groups"])


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_text_of_every_template_is_translated_and_none_is_left_over(language, host):
    translated = host.server.get("/i18n")[language]["ellaTemplates"]
    names = {None, "ELLA", "ControlNet", "IPAdapter"}  # the same in every language
    assert translated.keys() == {*texts_of_templates()} - names
    for text, translation in translated.items():
        assert re.search("[\u3040-\u30ff\u4e00-\u9fff]", translation), text
        for part in (r"`[^`]+`", r"https?://[^)]+", r"\*ella-[\w-]+\*", r"^- "):
            found = [sorted(re.findall(part, each, re.M)) for each in (text, translation)]
            assert found[0] == found[1], text
    assert not set("{}@|").intersection("".join([*translated, *translated.values()]))
