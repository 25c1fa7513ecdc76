"""The counter of overlaps sees those that are there, and no others."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure
from overlaps import boxes, outside, overlaps, smallest


@pytest.fixture
def figure():
    figure = Figure(figsize=(4, 3))
    ax = figure.add_axes((0.2, 0.2, 0.7, 0.7))
    ax.plot([0, 1], [0, 1], label="line")
    return figure


def test_a_plain_figure_has_no_overlap(figure):
    assert overlaps(figure) == []
    assert outside(figure) == []


def test_texts_on_one_another_are_one_overlap(figure):
    (ax,) = figure.axes
    ax.text(0.5, 0.5, "here")
    assert overlaps(figure) == []
    ax.text(0.55, 0.5, "too", fontsize=5)
    assert overlaps(figure) == [("here", "too")]
    assert smallest(figure) == 5


def test_ticks_that_collide_are_counted_and_ticks_beyond_the_axis_are_not(figure):
    (ax,) = figure.axes
    ax.set_xticks([0.5, 0.51, 0.52, 7.0], ["aaaa", "bbbb", "cccc", "nowhere"])
    ax.set_xlim(0, 1)
    assert len(overlaps(figure)) == 3
    assert "nowhere" not in [box.words for box in boxes(figure)]


def test_a_legend_may_hide_no_text_but_its_own(figure):
    (ax,) = figure.axes
    ax.legend(loc="center")
    assert overlaps(figure) == []
    ax.text(0.5, 0.5, "hidden", ha="center")
    assert ("hidden", "(legend)") in overlaps(figure)


def test_text_that_leaves_the_figure_is_named(figure):
    (ax,) = figure.axes
    ax.text(0.9, 0.5, "far too long for what is left of it")
    ax.text(2.0, 0.5, "cut", clip_on=True)
    assert outside(figure) == ["far too long for what is left of it"]


def test_rotated_labels_are_boxes_of_their_own(figure):
    (ax,) = figure.axes
    ax.set_xticks(np.arange(3) / 2, ["a long name"] * 3, rotation=90)
    assert overlaps(figure) == []
    assert outside(figure) != []


def test_what_is_invisible_is_not_counted(figure):
    (ax,) = figure.axes
    ax.text(0.5, 0.5, "seen")
    ax.text(0.5, 0.5, "unseen", visible=False)
    ax.text(0.5, 0.5, " ")
    assert overlaps(figure) == []
    plt.close("all")
