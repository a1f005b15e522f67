"""Pictures side by side, for each value of two settings."""

from typing import Any

import torch
from comfy_api.latest import io

from ..ella_core.errors import EllaError
from ..ella_core.sheet import Axes, cross, draw_sheet, parse_values
from .types import CATEGORY, AxesType, search_aliases


class ELLAXYValues(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ELLAXYValues",
            **search_aliases("ELLAXYValues"),
            display_name="ELLA XY Values",
            category=CATEGORY,
            description="Gives every pair of two lists of values, one after the other: what is "
            "behind it runs once for each. ELLA XY Sheet lays the pictures out.",
            inputs=[
                _values("x", "column", default="3\n7\n12"),
                _name("x", "cfg"),
                _values("y", "row", default="", optional=True),
                _name("y", ""),
            ],
            outputs=[
                _one_by_one("x"),
                _one_by_one("y"),
                AxesType.Output(display_name="axes", tooltip="The labels, for ELLA XY Sheet."),
            ],
        )

    @classmethod
    def execute(
        cls, x_values: str, x_name: str = "cfg", y_values: str = "", y_name: str = ""
    ) -> io.NodeOutput:
        columns, rows = parse_values(x_values), parse_values(y_values)
        if not columns:
            raise EllaError("ELLA XY Values has no value in x_values. Write one a line.")
        axes = Axes(
            tuple(f"{x_name} {value}".strip() for value in columns),
            tuple(f"{y_name} {value}".strip() for value in rows) or ("",),
        )
        # Without y there is one row, whose value nothing should use.
        return io.NodeOutput(*cross(columns, rows or [""]), axes)


class ELLAXYSheet(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ELLAXYSheet",
            **search_aliases("ELLAXYSheet"),
            display_name="ELLA XY Sheet",
            category=CATEGORY,
            description="Lays the pictures of ELLA XY Values out in one, with a label for each "
            "column and row.",
            inputs=[
                io.Image.Input(
                    "images", tooltip="What was painted with the values, from VAE Decode."
                ),
                AxesType.Input("axes", tooltip="From the ELLA XY Values that gave the values."),
                io.String.Input(
                    "title", default="", optional=True, tooltip="Stands above the sheet."
                ),
            ],
            outputs=[io.Image.Output(display_name="IMAGE", tooltip="The sheet.")],
            is_input_list=True,
        )

    @classmethod
    def execute(
        cls, images: list[torch.Tensor], axes: list[Axes], title: list[str] | None = None
    ) -> io.NodeOutput:
        return io.NodeOutput(draw_sheet(images, axes[0], title[0] if title else ""))


def _values(axis: str, place: str, **options: Any) -> io.Input:
    return io.String.Input(
        f"{axis}_values",
        multiline=True,
        tooltip=f"A value a line, each a {place} of the sheet: numbers, seeds, names of files or "
        "texts. Empty lines, and lines that begin with #, are left out. "
        'What is in double quotes, as "1984", is a text.',
        **options,
    )


def _name(axis: str, default: str) -> io.Input:
    return io.String.Input(
        f"{axis}_name",
        default=default,
        optional=True,
        tooltip=f"What {axis} is, for the labels: it stands in front of each value.",
    )


def _one_by_one(axis: str) -> io.Output:
    return io.AnyType.Output(
        display_name=axis,
        is_output_list=True,
        tooltip=f"The value of {axis} for each picture, row by row: connect it to a strength, a "
        "cfg, a seed, ella_name or any other input.",
    )


NODES: list[Any] = [ELLAXYValues, ELLAXYSheet]
