"""The editor of the tests' ComfyUI in a real browser. Without one these tests are left out."""

import os

import pytest

from editor import HOW_TO_GET_ONE, Chromium, Editor

LEFT_OUT = "no browser"
OFFERS_VUE = """app.ui.settings.settingsLookup["Comfy.VueNodes.Enabled"]?.type === "boolean" """


# Closed after each file: as long as it is open, the host fixture can queue nothing by itself.
@pytest.fixture(scope="module")
def browser():
    with Chromium() as browser:
        if browser is None and os.environ.get("ELLA_REQUIRE_BROWSER"):
            pytest.fail(f"ELLA_REQUIRE_BROWSER is set: {HOW_TO_GET_ONE}")
        if browser is None:
            pytest.skip(f"{LEFT_OUT}: {HOW_TO_GET_ONE}")
        yield browser


@pytest.fixture(scope="module")
def open_editor(browser, host):
    return Editor(browser, host.server)


@pytest.fixture
def editor(open_editor):
    """The editor, without dialogs and with an empty canvas."""
    open_editor.clear()
    yield open_editor
    assert not open_editor.errors, open_editor.errors


@pytest.fixture(params=["canvas", "vue"])
def renderer(request, editor):
    """ComfyUI's two ways of drawing nodes; the editor of 0.3.64 offers only the first."""
    if request.param == "vue" and not editor.page.evaluate(OFFERS_VUE):
        pytest.skip("this editor does not offer Nodes 2.0")
    editor.set_settings({"Comfy.VueNodes.Enabled": request.param == "vue"})
    yield request.param
    editor.clear()
    editor.set_settings({"Comfy.VueNodes.Enabled": False})


def pytest_terminal_summary(terminalreporter):
    skipped = terminalreporter.stats.get("skipped", [])
    left_out = {report.nodeid for report in skipped if f": {LEFT_OUT}: " in str(report.longrepr)}
    if left_out:
        files = sorted({nodeid.split("::")[0] for nodeid in left_out})
        terminalreporter.write_line(
            f"{len(left_out)} browser tests were left out ({', '.join(files)}): {HOW_TO_GET_ONE}"
        )
