from __future__ import annotations

import numpy as np
import pytest

from convae.core.errors import DataError
from convae.pictures.spectra import spectra


def test_spectra_are_lines_on_logarithmic_axes() -> None:
    x = np.linspace(0.1, 0.9, 9)
    figure = spectra({"images": (x, x**-2), "latents": (x[1:], np.zeros(8))}, x_label="frequency", y_label="power")
    (axes,) = figure.axes
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    first, second = axes.lines
    np.testing.assert_allclose(np.asarray(first.get_ydata()), x**-2)
    assert np.isnan(np.asarray(second.get_ydata())).all()
    assert first.get_linestyle() == "--"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["images", "latents"]


def test_spectra_need_lines_of_equal_lengths() -> None:
    with pytest.raises(DataError):
        spectra({}, x_label="frequency", y_label="power")
    with pytest.raises(DataError, match="images"):
        spectra({"images": ([1, 2], [1])}, x_label="frequency", y_label="power")
