"""A ComfyUI that several users share."""

from comfyui import PACK_NAME, Server

PAGES = {
    "ELLALoad.md": "Load ELLA",
    "T5TextEncode ": "T5 Text Encode #ELLA",  # the editor truncates the URL at '#'
    "T5TextEncoderLoader ": "Load T5 TextEncoder #ELLA",
}


def test_help_needs_no_user(tmp_path):
    """The editor asks for a page without saying whose editor it is."""
    with Server(tmp_path, ["--cpu", "--multi-user"]) as server:
        for asked, title in PAGES.items():
            page = server.text(f"/extensions/{PACK_NAME}/docs/{asked}")
            assert page.startswith(f"# {title}\n")
