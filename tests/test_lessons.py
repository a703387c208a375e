"""What the quickstart's sliders show: the loss and the advantages of the library, checked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from or1lab import lessons
from or1lab.plots import lessons as plots


def test_groups_of_every_number_of_right_responses():
    every = lessons.group(4)
    assert list(every["right"]) == [0, 1, 2, 3, 4] and list(every["kept"]) == [False, True, True, True, False]
    assert every["of_right"].isna()[0] and every["of_wrong"].isna()[4]
    assert every["of_right"][1:].to_list() == pytest.approx([1.5, 0.866, 0.5, 0], abs=1e-3)
    assert every["of_wrong"][:-1].to_list() == pytest.approx([0, -0.5, -0.866, -1.5], abs=1e-3)
    for right, title in ((0, "rejected: all rewards are equal"), (1, "kept"), (4, "rejected: all rewards are equal")):
        assert plots.group(every, right).axes[0].get_title("left") == f"this group: {title}"


def test_the_term_of_a_token_is_clipped_on_the_side_of_its_advantage():
    terms = lessons.clipping(0.2, 0.3)
    ratio, advantage = terms["ratio"].to_numpy(), terms["advantage"].to_numpy()
    expected = np.minimum(ratio * advantage, ratio.clip(0.8, 1.3) * advantage)
    assert terms["objective"].to_numpy() == pytest.approx(expected, abs=1e-5)
    held = ((advantage > 0) & (ratio > 1.31)) | ((advantage < 0) & (ratio < 0.79))
    assert not terms["push"][held].any()
    free = ~held & (abs(ratio - 1.3) > 0.01) & (abs(ratio - 0.8) > 0.01)
    assert terms["push"][free].to_numpy() == pytest.approx((ratio * advantage)[free], abs=1e-5)


def test_a_bonus_holds_entropy_and_too_much_of_it_costs_accuracy():
    ends = {alpha: lessons.bandit(alpha).query("step == step.max()").mean() for alpha in (0.0, 0.4, 1.0)}
    none, some, much = ends.values()
    assert none["entropy"] < some["entropy"] < much["entropy"] and none["kept"] < some["kept"] < much["kept"]
    assert some["accuracy"] > none["accuracy"] + 0.05 and much["accuracy"] < none["accuracy"] - 0.2
