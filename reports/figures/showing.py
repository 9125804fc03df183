"""A plotly figure that never offers to upload itself, wherever it is displayed."""

from typing import Any

import plotly.graph_objects as go

from ..page import PLOTLY_CONFIG


class Figure(go.Figure):  # type: ignore[misc]  # plotly has no types
    """A plotly figure whose display, HTML and files carry the reports' configuration.

    plotly puts a button that uploads the data to a web service into the figures it displays. The configuration that
    takes it away is no part of a figure, so it is added wherever a figure leaves Python, unless a `config` is given.
    """

    def show(self, *args: Any, **kwargs: Any) -> None:
        """Display the figure as plotly does."""
        super().show(*args, **{"config": dict(PLOTLY_CONFIG), **kwargs})

    def to_html(self, *args: Any, **kwargs: Any) -> str:
        """HTML of the figure; plotly.js is inside unless `include_plotlyjs` says otherwise."""
        return str(super().to_html(*args, **{"config": dict(PLOTLY_CONFIG), **kwargs}))

    def write_html(self, *args: Any, **kwargs: Any) -> None:
        """Write the figure as a page of its own."""
        super().write_html(*args, **{"config": dict(PLOTLY_CONFIG), **kwargs})

    def _repr_mimebundle_(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return dict(super()._repr_mimebundle_(*args, **{"config": dict(PLOTLY_CONFIG), **kwargs}))

    def _repr_html_(self) -> str:
        bundle = self._repr_mimebundle_()
        return str(bundle["text/html"]) if "text/html" in bundle else self.to_html(full_html=False)

    def _ipython_display_(self) -> None:
        import plotly.io as pio

        if pio.renderers.render_on_display and pio.renderers.default:
            self.show()
        else:
            print(repr(self))


def show(figure: go.Figure) -> None:
    """Display any plotly figure without the button that uploads it."""
    figure.show(config=dict(PLOTLY_CONFIG))  # plotly takes entries out of what it is given
