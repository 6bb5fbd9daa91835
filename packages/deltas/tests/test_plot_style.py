"""Pictures of reports: the same numbers give the same text, and the caller's settings stay."""

import re

import matplotlib as mpl

from llgbm.deltas.plot_style import INK, STYLE, new_figure, styled, svg_of


@styled
def picture() -> str:
    figure = new_figure(4, 2, entries=20)
    figure.subplots().set_xlabel("steps")
    assert mpl.rcParams["text.color"] == INK
    return svg_of(figure)


def test_a_picture_is_an_element_of_texts_that_names_no_page_and_no_date() -> None:
    svg = picture()
    assert svg.startswith("<svg")
    assert ">steps</text>" in svg
    assert not re.search(r"https?:", re.sub(r'xmlns(:\w+)?="[^"]*"', "", svg))
    assert picture() == svg


def test_settings_of_the_caller_stay_and_a_legend_fits() -> None:
    before = {key: mpl.rcParams[key] for key in STYLE}
    svg = picture()
    assert {key: mpl.rcParams[key] for key in STYLE} == before
    assert float(re.search(r'height="([\d.]+)pt"', svg)[1]) >= 72 * (0.19 * 20 + 0.3) - 1
