"""Sliders and menus with a picture that is redrawn whenever one of them changes.

GitHub and exported pages cannot show widgets. The output therefore also contains the picture as a
PNG, which they show in place of the widget.
"""

import base64
from collections.abc import Callable, Mapping, Sequence

import ipywidgets as widgets
from matplotlib.figure import Figure

from minidalle2.teaching.figures import png_of


class Explorer(widgets.VBox):
    """Shows `figure(**values)` for the current values of its controls.

    Each keyword of `choices` gives the possible values of one control, in order. Strings make a
    menu, numbers make a slider. A control starts at its value in `start`, or else at its first.
    """

    def __init__(
        self, figure: Callable[..., Figure], start: Mapping | None = None, **choices: Sequence
    ):
        at = {name: values[0] for name, values in choices.items()} | dict(start or {})
        self.controls = {name: _control(name, values, at[name]) for name, values in choices.items()}
        self.figure = figure
        # A box stretches its children. Without flex-start, the picture would lose its size.
        self.picture = widgets.Image(format="png", layout={"align_self": "flex-start"})
        self.says = widgets.Label()
        self.draw()
        for control in self.controls.values():
            control.observe(self.draw, names="value")
        super().__init__([*self.controls.values(), self.picture, self.says])

    @property
    def values(self) -> dict:
        """The current value of each control, by name."""
        return {name: control.value for name, control in self.controls.items()}

    def draw(self, change: dict | None = None) -> None:
        """Redraws the picture and its label. ipywidgets passes `change`, which is not used."""
        self.picture.value = png_of(self.figure(**self.values))
        self.says.value = ", ".join(f"{name} is {value}" for name, value in self.values.items())

    def _repr_mimebundle_(self, **kwargs) -> dict:
        bundle = super()._repr_mimebundle_(**kwargs)
        bundle["image/png"] = base64.b64encode(self.picture.value).decode()
        bundle["text/plain"] = f"Explorer: {self.says.value}"
        return bundle


def _control(name: str, values: Sequence, value: str | float) -> widgets.Widget:
    """Returns a menu for strings and a slider for numbers."""
    options = list(values)
    style = {"description_width": "initial"}
    if isinstance(options[0], str):
        return widgets.Dropdown(
            options=options, value=value, description=name, style=style, layout={"width": "560px"}
        )
    return widgets.SelectionSlider(
        options=options,
        value=value,
        description=name,
        style=style,
        continuous_update=False,
        layout={"width": "420px"},
    )
