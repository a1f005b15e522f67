"""Help pages and translated texts: none is missing, none is left over."""

import ast
import dataclasses
import importlib.util
import io
import json
import re
from urllib.parse import quote

import pytest
from PIL import Image

from bootstrap import ROOT
from comfyui import PACK_NAME

LANGUAGES = ("zh", "ja")
DOCS = f"/extensions/{PACK_NAME}/docs"
# Headings that each page has, in this order among others.
SECTIONS = {
    "en": ["Inputs", "Outputs", "Example", "What goes wrong"],
    "zh": ["输入", "输出", "示例", "常见问题"],
    "ja": ["入力", "出力", "例", "うまくいかないとき"],
}
# Messages on the pages that are not found in the code as they stand: ComfyUI's own, or with values.
FILLED_IN = {
    "Required input is missing": "",
    "The LLM folder ... holds no tokenizer": "The LLM folder ... holds no ...",
    "The dtypes fp8 and int8 need the Python package torchao": "The dtypes ... need the Python",
    "clip_negative is connected and clip_positive is not": "... is connected and ... is not",
    "long_prompt is ...; set it to whole or chunk": "long_prompt is ...; set it to ...",
}


@pytest.fixture(scope="module")
def nodes(host):
    infos = host.server.get("/object_info")
    return {i: info for i, info in infos.items() if info["python_module"].endswith(PACK_NAME)}


@pytest.fixture(scope="module")
def current(nodes):
    """The nodes that are not deprecated. Those that are keep English alone."""
    return {node_id: info for node_id, info in nodes.items() if not info["deprecated"]}


@pytest.fixture(scope="module")
def texts(host):
    """Language -> node id -> its texts, as the editor gets them."""
    translations = host.server.get("/i18n")
    return {language: translations[language]["nodeDefs"] for language in LANGUAGES}


def inputs_of(info):
    return [*info["input"].get("required", {}), *info["input"].get("optional", {})]


def pages(host, nodes):
    """(node id, language, text) of every page where the editor looks for it."""
    for node_id in nodes:
        folder = f"{DOCS}/{quote(node_id)}"
        yield node_id, "en", host.server.text(f"{folder}.md")
        for language in () if nodes[node_id]["deprecated"] else LANGUAGES:
            yield node_id, language, host.server.text(f"{folder}/{language}.md")


def test_pages_have_the_nodes_title_and_all_sections(host, nodes, texts):
    for node_id, language, page in pages(host, nodes):
        info = nodes[node_id] if language == "en" else texts[language][node_id]
        title = page.splitlines()[0].removeprefix("# ")
        assert info["display_name"].startswith(title), (node_id, language)
        found = [s for s in re.findall("^## (.+)$", page, re.M) if s in SECTIONS[language]]
        assert found == SECTIONS[language], (node_id, language)


def test_pages_name_every_input(host, nodes, texts):
    for node_id, language, page in pages(host, nodes):
        for name in inputs_of(nodes[node_id]):
            named = f"**{name}**"
            if language != "en":
                label = texts[language][node_id]["inputs"][name]["name"]
                named = f"**{label}**\uff08`{name}`\uff09"  # full-width parentheses
            assert named in page, (node_id, language, name)


def test_pages_name_every_output(host, nodes, texts):
    for node_id, language, page in pages(host, nodes):
        for i, name in enumerate(nodes[node_id]["output_name"]):
            label = name
            if language != "en":
                label = texts[language][node_id]["outputs"][str(i)].get("name", name)
            assert f"**{label}**" in page, (node_id, language, name)


def test_conditioning_nodes_are_called_as_comfyui_calls_them(host, nodes):
    infos = host.server.get("/object_info")
    # By its id too: ConditioningAverage was the name of that node before it was "(Average)".
    shown = {info["display_name"] for info in infos.values()} | infos.keys()
    english = [page for _, language, page in pages(host, nodes) if language == "en"]
    documents = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    for text in [*english, *(file.read_text("utf-8") for file in documents)]:
        assert set(re.findall(r"Conditioning \(.+?\)|\bConditioning[A-Z]\w+", text)) <= shown


def test_every_language_quotes_the_same_messages_and_shows_the_same_pictures(host, nodes):
    of = {}
    for node_id, language, page in pages(host, nodes):
        quotes = re.findall(r'"([^"]+)"', page.replace("*", ""))
        of[node_id, language] = sorted(quotes), re.findall(r"\]\((images/[^)]+)\)", page)
    for (node_id, language), quoted_and_shown in of.items():
        assert quoted_and_shown == of[node_id, "en"], (node_id, language)


def literals(folder):
    """Every text in the code, with ... for what is filled in."""
    for file in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            parts = node.values if isinstance(node, ast.JoinedStr) else [node]
            texts = [part.value if isinstance(part, ast.Constant) else "..." for part in parts]
            yield "".join(map(str, texts))


def test_the_messages_quoted_are_in_the_code(host, nodes):
    code = [*literals("ella_core"), *literals("nodes")]
    for node_id, _, page in pages(host, nodes):
        for quoted in re.findall(r'^- \*"([^"]+)"\*', page, re.M):
            parts = [re.escape(part.strip()) for part in FILLED_IN.get(quoted, quoted).split("...")]
            message = re.compile(".*".join(parts), re.DOTALL)
            assert any(map(message.search, code)), (node_id, quoted)


def rows(text):
    """dtype -> median and worst distance from fp32, from the rows of a table."""
    found = re.findall(r"^\| `?(\w+)[^|]*\| ([\d.]+) \| ([\d.]+) \|", text, re.M)
    return {dtype: distances for dtype, *distances in found}


def test_the_precisions_are_those_of_the_benchmarks(host):
    _, _, section = (ROOT / "docs/benchmarks.md").read_text("utf-8").partition("**Precision**")
    measured = rows(section)
    assert measured.pop("fp32") == ["0", "0"]  # what the others are compared with
    assert measured.keys() == {"fp16", "bf16", "fp8", "int8"}
    for page in ("ELLALoadLLM", "ELLALoadLLM/zh", "ELLALoadLLM/ja"):
        assert rows(host.server.text(f"{DOCS}/{page}.md")) == measured, page


def test_pictures_are_there_and_small_and_none_is_left_over(host, nodes):
    named = set()
    for node_id, _, page in pages(host, nodes):
        found = re.findall(r"\]\(images/([^)]+)\)", page)
        assert found, node_id
        named.update(found)
    folder = ROOT / "web/docs/images"
    assert named == {file.name for file in folder.iterdir()}
    for name in named:
        picture = (folder / name).read_bytes()
        assert len(picture) < 60_000, name
        assert min(Image.open(io.BytesIO(picture)).size) > 100, name


def test_no_page_is_left_over(nodes, current):
    found = {
        file.relative_to(ROOT / "web/docs").as_posix() for file in (ROOT / "web/docs").rglob("*.md")
    }
    assert found == {f"{i}.md" for i in nodes} | {
        f"{i}/{language}.md" for i in current for language in LANGUAGES
    }


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_text_of_every_node_is_translated(current, texts, language):
    assert texts[language].keys() == current.keys()
    for node_id, info in current.items():
        text = texts[language][node_id]
        assert text.keys() == {"display_name", "description", "inputs", "outputs"}, node_id
        assert text["inputs"].keys() == set(inputs_of(info)), node_id
        assert all(entry.keys() == {"name", "tooltip"} for entry in text["inputs"].values())
        assert text["outputs"].keys() == set(map(str, range(len(info["output"])))), node_id
        for i, (kind, name) in enumerate(zip(info["output"], info["output_name"], strict=True)):
            # An output that is called as its type has its type's name in every language.
            expected = {"tooltip"} if kind == name else {"name", "tooltip"}
            assert text["outputs"][str(i)].keys() == expected, (node_id, i)


@pytest.mark.parametrize("language", LANGUAGES)
def test_translated_texts_are_in_that_language(texts, language):
    script = re.compile("[\u4e00-\u9fff]" if language == "zh" else "[\u3040-\u30ff]")
    for node_id, text in texts[language].items():
        slots = [*text["inputs"].values(), *text["outputs"].values()]
        for value in (text["display_name"], text["description"], *(s["tooltip"] for s in slots)):
            only_a_name = re.fullmatch(r"[\w .]+。", value)  # "LLM。"
            assert script.search(value) or only_a_name, (node_id, value)


@pytest.mark.parametrize("language", LANGUAGES)
def test_nodes_are_found_by_the_english_words_of_their_title(current, texts, language):
    for node_id, info in current.items():
        for word in ("ELLA", "LLM"):
            assert (
                word not in info["display_name"] or word in texts[language][node_id]["display_name"]
            )


@pytest.mark.parametrize("language", LANGUAGES)
def test_texts_have_no_characters_that_the_editors_translation_reads_as_code(texts, language):
    assert not set("{}@|").intersection(str_of(texts[language]))


def str_of(texts):
    return "".join(map(str_of, texts.values())) if isinstance(texts, dict) else texts


def test_only_nodes_have_search_terms(nodes):
    terms = json.loads((ROOT / "web/search-terms.json").read_text(encoding="utf-8"))
    assert terms.keys() <= nodes.keys()


def test_comfyui_gets_the_search_terms_if_it_knows_such(nodes):
    terms = json.loads((ROOT / "web/search-terms.json").read_text(encoding="utf-8"))
    for node_id, words in terms.items():
        assert nodes[node_id].get("search_aliases", words) == words


def test_search_aliases_are_given_where_the_schema_has_them():
    spec = importlib.util.spec_from_file_location("node_types", ROOT / "nodes/types.py")
    types = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(types)
    older = dataclasses.make_dataclass("Schema", [])
    newer = dataclasses.make_dataclass("Schema", [("search_aliases", list)])
    assert types.search_aliases("ELLALoadLLM", older) == {}
    assert types.search_aliases("ELLALoadLLM", newer) == {
        "search_aliases": ["T5", "FLAN", "text encoder"]
    }
