"""Texts of the pack's JavaScript in ComfyUI's own editor, in other languages."""
# ruff: noqa: RUF001  Chinese has its own parentheses, commas and colons.

import re

import pytest
from playwright.sync_api import expect
from transformers import AutoTokenizer

from comfyui import PACK_NAME, Server
from editor import Editor
from support.host import T5
from support.hub import MAIN, REPO, T5_FOLDER, Hub, remove_models, small_repository
from support.prompts import report, say, small_workflow
from tiny_models import write_t5
from workflow import set_widgets

TEXT = "A red cat sits on a blue chair, and it does not look at us."
LONG = f"{TEXT} " * 80  # more than a thousand tokens
BUILD = """llm => {
  const [loader, node] = ["ELLALoadLLM", "ELLALLMTextEncode"].map((type) =>
    LiteGraph.createNode(type))
  for (const each of [loader, node]) app.graph.add(each)
  window.prompt = node
  loader.widgets[0].value = llm
  window.connect = () => loader.connect(0, node, 0)
}"""
SET = "text => { prompt.widgets[0].value = text }"


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    with Hub(small_repository(tmp_path_factory.mktemp("repo"))) as hub:
        yield hub


@pytest.fixture(scope="module")
def server(hub, tmp_path_factory):
    base = tmp_path_factory.mktemp("comfyui")
    write_t5(base / "models/text_encoders/t5")
    environment = hub.environment(base / "home")
    with Server(base, ["--cpu"], environment=environment) as server:
        server.post("/settings", {"Comfy.Locale": "zh"})
        yield server


@pytest.fixture(scope="module")
def open_editor(browser, server):
    return Editor(browser, server)


def test_the_report_of_a_run(editor):
    node = "app.graph.nodes[0]"
    create = "app.graph.add(LiteGraph.createNode('ELLATimestepConditioning'))"
    editor.page.evaluate(f"{create}, 0")
    prompts = [{"name": "positive", "tokens": [61]}, {"name": "negative", "tokens": [1]}]
    said = {"kind": "connector", "passes": 12, "timesteps": 25, "milliseconds": 11_750}
    say(editor, editor.page.evaluate(f"{node}.id"), prompts=prompts, **said)
    words = "正面 61、负面 1 个 token\n连接器：25 个时间步计算 12 次，11.75 s"
    assert report(editor, node) == words


def test_the_only_llm_is_offered_for_a_missing_one(editor):
    """No connector is installed, so none is offered."""
    editor.load(small_workflow())
    dialog = editor.page.locator(".global-dialog, [role=dialog][data-dismissable-layer]").filter(
        has_text=f"未安装 {T5}。要使用 t5 吗？"
    )
    assert "tsc.safetensors" not in dialog.inner_text()
    dialog.get_by_role("button", name="确认").click()
    llm = "app.graph.nodes.find((node) => node.type === 'ELLALoadLLM').widgets[0].value"
    editor.page.wait_for_function(f"{llm} === 't5'")


def test_a_declined_offer_is_not_repeated(editor):
    """Undo, redo and a change of tabs load the graph again."""
    workflow = set_widgets(small_workflow(), llm_name="not there")
    dialog = editor.page.locator(".global-dialog, [role=dialog][data-dismissable-layer]")
    offer = dialog.filter(has_text="未安装 not there。要使用 t5 吗？")
    editor.load(workflow)
    offer.get_by_role("button", name="取消").click()
    offer.wait_for(state="hidden")
    editor.load(workflow)
    assert offer.count() == 0
    editor.load(set_widgets(workflow, llm_name="nor this"))
    dialog.filter(has_text="未安装 nor this。要使用 t5 吗？").wait_for(timeout=20_000)


def test_the_token_count(editor, server):
    line = editor.page.locator(".ella-tokens p")
    editor.page.evaluate(BUILD, "t5")
    expect(line).to_have_text("连接“加载LLM（ELLA）”即可对 token 计数")
    editor.page.evaluate("connect()")
    tokenizer = AutoTokenizer.from_pretrained(server.base / "models/text_encoders/t5")
    n = len(tokenizer(TEXT).input_ids)
    editor.page.evaluate(SET, TEXT)
    expect(line).to_have_text(f"{n} / 128 个 token", timeout=60_000)
    n = len(tokenizer("A red cat // not yet").input_ids)
    editor.page.evaluate(SET, "A (red:1.2) cat // not yet")
    expect(line).to_have_text(f"约 {n} / 128 个 token · 1 个加权")
    editor.page.evaluate(SET, LONG)
    n = len(tokenizer(LONG).input_ids)
    quote = "“[^”]{20,33}”"
    expected = f"^{n:,} 个 token · 训练所用的 128 个到{quote}之前为止$"
    expect(line).to_have_text(re.compile(expected))


def test_the_names_of_inputs_are_the_nodes(editor):
    """A hint calls an input by the name that the node shows."""
    editor.page.evaluate(BUILD, "t5")
    editor.page.evaluate(
        """() => {
          connect()
          const source = LiteGraph.createNode("PrimitiveInt")
          app.graph.add(source)
          source.connect(0, prompt, prompt.inputs.findIndex(({ name }) => name === "max_length"))
        }"""
    )
    hint = "“最大长度”来自其他节点：运行时计数"
    expect(editor.page.locator(".ella-tokens p")).to_have_text(hint)


def test_the_download_dialog(editor, server, hub):
    remove_models(server.base / "models")
    editor.page.evaluate("app.extensionManager.command.execute('ELLA.DownloadModels')")
    dialog = editor.page.get_by_role("dialog", name="下载ELLA模型", exact=True)
    status = dialog.get_by_role("status")
    expect(status).to_have_text("已有的文件保持不变。下载的内容会用校验和校验。")
    size = sum(len(data) for path, data in hub.files.items() if path.startswith(T5_FOLDER))
    row = dialog.locator("label").nth(1)
    expect(row.locator("b")).to_have_text(f"FLAN-T5-XL encoder（{size / 1e6:.0f} MB）")
    target = server.base / "models/text_encoders" / T5_FOLDER
    origin = f"来自 {hub.address}/{REPO}，commit {MAIN[:12]}"
    licence = "许可证：Apache-2.0"
    assert row.locator("div").all_inner_texts() == [origin, f"下载到 {target}", licence]
    expect(dialog.get_by_role("button")).to_have_text(["下载", "关闭"])
    dialog.get_by_role("button", name="下载", exact=True).click()
    expect(status).to_contain_text(": downloaded", timeout=60_000)
    dialog.get_by_role("button", name="关闭", exact=True).click()


def test_the_cache_is_cleared(editor):
    editor.page.evaluate("app.extensionManager.command.execute('ELLA.ClearCache')")
    expected = "已编码提示词的缓存是空的。"
    editor.page.get_by_text(expected, exact=True).wait_for(timeout=20_000)


TEXTS = f"""async () => {{
  const {{ t }} = await import("/extensions/{PACK_NAME}/ella-texts.js")
  return [t("Close"), t("<n> tokens", {{ n: 1234 }}), t("<n> tokens", {{ n: "<n>" }})]
}}"""


def test_the_language_can_be_changed_while_the_editor_is_open(editor):
    expected = {
        "zh": ["关闭", "1,234 个 token", "<n> 个 token"],
        "ja": ["閉じる", "1,234 トークン", "<n> トークン"],
        "fr": ["Close", "1,234 tokens", "<n> tokens"],
    }
    try:
        for language, texts in expected.items():
            editor.set_settings({"Comfy.Locale": language})
            assert editor.page.evaluate(TEXTS) == texts
            editor.page.evaluate("app.extensionManager.command.execute('ELLA.DownloadModels')")
            button = editor.page.locator("dialog").get_by_role("button", name=texts[0], exact=True)
            button.click()
    finally:
        editor.set_settings({"Comfy.Locale": "zh"})


def test_english_where_the_server_has_no_translations(browser, server):
    page = browser.new_page()
    page.route("**/i18n", lambda route: route.fulfill(status=404, body="404: Not Found"))
    page.goto(server.address)
    page.wait_for_function("window.app?.extensionManager?.workflow?.activeWorkflow")
    page.evaluate(BUILD, "t5")
    line = page.locator(".ella-tokens p")
    expect(line).to_have_text("connect Load LLM (ELLA) to count tokens", timeout=60_000)
    page.close()
