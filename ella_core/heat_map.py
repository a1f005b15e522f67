"""A heat map with words as labels, through matplotlib."""

from collections.abc import Sequence

import torch

from .errors import EllaError

_MIN_SIZE = 6.0, 2.5  # inches
_ROW, _COLUMN = 0.28, 0.42  # inches
_DPI = 110
_MAX_ROWS = 500  # 15,400 pixels, some 250 MB as a picture of ComfyUI's


def check_rows(rows: Sequence[object]) -> None:
    """Refuse more rows than a picture has room for.

    Raises:
        EllaError: there are too many.
    """
    if len(rows) > _MAX_ROWS:
        raise EllaError(
            f"The heat map would have {len(rows):,} rows, a word each, and a picture has room for "
            f"at most {_MAX_ROWS}. Shorten the prompt of ELLA Attention Map."
        )


def draw_heat_map(
    values: torch.Tensor, rows: Sequence[str], columns: Sequence[object], title: str, across: str
) -> torch.Tensor:
    """Draw values from 0 to 1 as colours.

    Args:
        values: (R, C).
        rows: R labels.
        columns: C labels.
        title: above it.
        across: what the columns are.

    Returns:
        (1, height, width, 3) float32 from 0 to 1.

    Raises:
        EllaError: there are too many rows, or matplotlib is not installed.
    """
    check_rows(rows)
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise EllaError(
            f"Drawing needs the Python package matplotlib, which can't be imported ({error}). Run "
            f"pip install matplotlib in ComfyUI's Python and restart ComfyUI."
        ) from error
    longest = max(map(len, rows))
    size = (
        max(_MIN_SIZE[0], 1.6 + 0.09 * longest + _COLUMN * len(columns)),
        max(_MIN_SIZE[1], 1.1 + _ROW * len(rows)),
    )
    figure = Figure(figsize=size, dpi=_DPI, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    image = axes.imshow(values.numpy(), vmin=0, vmax=1, aspect="auto", cmap="viridis")
    # Dollars would begin mathematics.
    axes.set_yticks(range(len(rows)), [row.replace("$", r"\$") for row in rows])
    axes.set_xticks(range(len(columns)), list(map(str, columns)), rotation=90)
    axes.set_xlabel(across)
    axes.set_title(title)
    figure.colorbar(image, ax=axes)
    canvas.draw()
    pixels = torch.frombuffer(bytearray(canvas.buffer_rgba()), dtype=torch.uint8)
    width, height = canvas.get_width_height()
    return pixels.view(1, height, width, 4)[..., :3].float() / 255
