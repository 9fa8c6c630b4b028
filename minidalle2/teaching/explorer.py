"""A slider or menu beside a picture that follows it; without a kernel, the picture alone.

GitHub and exported pages can't show widgets. The bundle therefore carries the picture of the first
values as well, which they show in the widget's place.
"""

import base64
from collections.abc import Callable, Mapping, Sequence

import ipywidgets as widgets
from matplotlib.figure import Figure

from minidalle2.teaching.figures import png_of


class Explorer(widgets.VBox):
    """Draws `figure(**values)` for the values that its controls stand at.

    Each keyword is a sequence of values to choose among, in order; it starts at the first, or at
    that of `start`. Words become a menu, numbers a slider.
    """

    def __init__(
        self, figure: Callable[..., Figure], start: Mapping | None = None, **choices: Sequence
    ):
        at = {name: values[0] for name, values in choices.items()} | dict(start or {})
        self.controls = {name: _control(name, values, at[name]) for name, values in choices.items()}
        self.figure = figure
        # Boxes stretch what is in them; a picture shall keep its size.
        self.picture = widgets.Image(format="png", layout={"align_self": "flex-start"})
        self.says = widgets.Label()
        self.draw()
        for control in self.controls.values():
            control.observe(self.draw, names="value")
        super().__init__([*self.controls.values(), self.picture, self.says])

    @property
    def values(self) -> dict:
        return {name: control.value for name, control in self.controls.items()}

    def draw(self, change: dict | None = None) -> None:
        self.picture.value = png_of(self.figure(**self.values))
        self.says.value = ", ".join(f"{name} is {value}" for name, value in self.values.items())

    def _repr_mimebundle_(self, **kwargs) -> dict:
        bundle = super()._repr_mimebundle_(**kwargs)
        bundle["image/png"] = base64.b64encode(self.picture.value).decode()
        bundle["text/plain"] = f"Explorer: {self.says.value}"
        return bundle


def _control(name: str, values: Sequence, value: str | float) -> widgets.Widget:
    options = list(values)
    style = {"description_width": "initial"}
    if isinstance(options[0], str):
        return widgets.Dropdown(
            options=options, value=value, description=name, style=style, layout={"width": "560px"}
        )
    return widgets.SelectionSlider(
        options=options, value=value, description=name, style=style, continuous_update=False,
        layout={"width": "420px"},
    )  # fmt: skip
