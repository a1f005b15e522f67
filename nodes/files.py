"""Embeds and prompts in files."""

from pathlib import Path
from typing import Any

import folder_paths
from comfy_api.latest import io, ui

from ..ella_core.comfy.files import folders
from ..ella_core.comfy.files.prompts import NO_FILE, prompt_files, read_prompts
from ..ella_core.comfy.llm.embeds import LLMEmbeds
from ..ella_core.errors import EllaError
from .types import CATEGORY, EmbedsType, search_aliases


class ELLASaveEmbeds(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ELLASaveEmbeds",
            **search_aliases("ELLASaveEmbeds"),
            display_name="ELLA Save Embeds",
            category=CATEGORY,
            description="Saves what the LLM has read as a file in output/ella_embeds. With it a "
            "machine without the LLM can paint the prompt. The file holds the features, the LLM's "
            "kind and how it read; of the text only a hash.",
            inputs=[
                EmbedsType.Input("embeds", tooltip="From LLM Text Encode (ELLA) or a blend."),
                io.String.Input(
                    "filename_prefix",
                    default="prompt",
                    optional=True,
                    tooltip="The file's name begins with it; a number follows.",
                ),
            ],
            outputs=[
                io.String.Output(
                    display_name="embeds_name", tooltip="The file, as ELLA Load Embeds calls it."
                )
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, embeds: LLMEmbeds, filename_prefix: str = "prompt") -> io.NodeOutput:
        from ..ella_core.comfy.llm.embeds_file import save_embeds

        prefix = f"{folders.EMBEDS_FOLDER}/{folders.embeds_prefix(filename_prefix)}"
        root = folder_paths.get_output_directory()
        folder, name, counter, *_ = folder_paths.get_save_image_path(prefix, root)
        path = Path(folder, f"{name}_{counter:05}_.safetensors")
        save_embeds(embeds, path)
        shown = path.relative_to(folders.embeds_folder()).as_posix()
        return io.NodeOutput(shown, ui=ui.PreviewText(shown))


class ELLALoadEmbeds(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ELLALoadEmbeds",
            **search_aliases("ELLALoadEmbeds"),
            display_name="ELLA Load Embeds",
            category=CATEGORY,
            description="Loads a prompt that ELLA Save Embeds has saved. It needs no LLM. A "
            "connector that was trained with another LLM refuses it.",
            inputs=[
                io.Combo.Input(
                    "embeds_name",
                    options=folders.embeds_names(),
                    tooltip="A file in output/ella_embeds. After saving one press R.",
                )
            ],
            outputs=[
                EmbedsType.Output(
                    display_name="ELLA_LLM_EMBEDS",
                    tooltip="The prompt, for ELLA Timestep Conditioning or ELLA Conditioning.",
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, embeds_name: str | None) -> bool | str:
        """Say what is missing, before anything runs."""
        return folders.check_name(folders.embeds_path, embeds_name)

    @classmethod
    def fingerprint_inputs(cls, embeds_name: str | None) -> str | None:
        """Load again if the file was replaced on the disk."""
        return embeds_name and folders.file_identity(folders.embeds_path(embeds_name))

    @classmethod
    def execute(cls, embeds_name: str) -> io.NodeOutput:
        from ..ella_core.comfy.llm.embeds_file import load_embeds

        return io.NodeOutput(load_embeds(folders.embeds_path(embeds_name)))


class ELLAPromptList(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ELLAPromptList",
            **search_aliases("ELLAPromptList"),
            display_name="ELLA Prompt List",
            category=CATEGORY,
            description="Gives prompts one after the other, from its text box or a text file: "
            "what is behind it runs once for each, so each becomes a picture of its own.",
            inputs=[
                io.String.Input(
                    "text",
                    multiline=True,
                    default="",
                    optional=True,
                    tooltip="A prompt a line. Empty lines, and lines that begin with #, are left "
                    "out.",
                ),
                io.Combo.Input(
                    "file",
                    options=[NO_FILE, *prompt_files()],
                    default=NO_FILE,
                    optional=True,
                    tooltip="A .txt file in ComfyUI's input folder, in the same form. Its prompts "
                    "come behind those of the text box.",
                ),
            ],
            outputs=[
                io.String.Output(
                    display_name="prompts",
                    is_output_list=True,
                    tooltip="The prompts, for the text of LLM Text Encode (ELLA) or ELLA Prompt.",
                )
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, text: str | None = "", file: str | None = NO_FILE) -> str:
        """Read again if the file has changed."""
        return "\n".join(read_prompts("", file)) if file else ""

    @classmethod
    def execute(cls, text: str = "", file: str = NO_FILE) -> io.NodeOutput:
        prompts = read_prompts(text, file)
        if not prompts:
            raise EllaError(
                "ELLA Prompt List has no prompt. Write one a line into its text, or choose a .txt "
                "file of ComfyUI's input folder."
            )
        return io.NodeOutput(prompts)


NODES: list[Any] = [ELLASaveEmbeds, ELLALoadEmbeds, ELLAPromptList]
