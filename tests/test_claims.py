"""The claims as they are frozen, and what a claim may not say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from or1lab.claims import MOST_PRIMARY, load_claims, load_follow_ups, study
from or1lab.errors import UsageError
from or1lab.run_statistics import STATISTICS
from or1lab.world import CLAIMS, FOLLOW_UPS

PLAIN = {
    "id": "sgd-end", "statement": "s", "where": "AE6", "evidence": "e", "experiment": "sgd_steps",
    "arms": ["1-64-64-1", "4-64-16-1"], "statistic": "final_accuracy", "kind": "greater", "smallest_effect": 0.02,
    "family": "primary", "figure": "sgd_steps",
}  # fmt: skip
LISTED = Path(__file__).parent.parent.parent / "shared" / "claims.md"


def written(path: Path, *claims: dict) -> Path:
    path.write_text(yaml.safe_dump({"claims": list(claims)}))
    return path


def test_all_claims_of_the_paper_and_five_of_ours_are_there():
    claims = load_claims()
    ours = [claim for claim in claims if claim.id.startswith("ours-")]
    assert len(ours) >= 5 and len(claims) - len(ours) >= 33
    assert all(claim.where.startswith("ours") for claim in ours)
    if LISTED.exists():
        wanted = set(re.findall(r"^\| ([a-z]+-[a-z-]+|verifier) \|", LISTED.read_text(), re.M))
        assert len(wanted) == 33 and wanted <= {claim.id for claim in claims}


def test_primary_claims_come_first_and_have_five_seeds():
    families = [claim.family for claim in load_claims()]
    primary = families.count("primary")
    assert 1 <= primary <= MOST_PRIMARY and families[:primary] == ["primary"] * primary
    for claim in load_claims():
        assert len(study(claim.experiment).seeds) >= (5 if claim.family == "primary" else 3)


def test_smallest_effects_are_those_fixed():
    """Accuracy 0.02, truncation 0.05, length and cost 10%, entropy and steps a factor 1.5."""
    fixed = {"truncation": 0.05, "near_target": 0.2, "kept_groups": 0.05, "rollout_share": 0.05, "law_error": 0.0,
             "scaling_efficiency": 0.1, "masked_long_excess": 0.01, "kl_change": 1.1, "seconds_a_step": 1.1,
             "tokens_to_reach": 1.1, "length_when_reached": 1.1, "final_length": 1.1}  # fmt: skip
    for claim in load_claims():
        expected = fixed.get(claim.statistic, 1.5 if claim.scale == "log" else 0.02)
        size = abs(claim.smallest_effect)
        assert (1 / size if claim.scale == "log" and size < 1 else size) == pytest.approx(expected, abs=1e-4), claim.id


def test_every_statistic_decides_something_and_entropy_and_times_are_compared_as_ratios():
    used = {claim.statistic for claim in load_claims()}
    assert used == set(STATISTICS)
    for claim in load_claims():
        ratio = re.search("entropy|steps_to|tokens|length_when|final_length|seconds|deviation|kl_", claim.statistic)
        assert (claim.scale == "log") == bool(ratio), claim.id


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arms": ["1-64-64-1", "4-64-16-2"]}, "the study sgd_steps has no arm '4-64-16-2' (did you mean"),
        ({"arms": ["1-64-64-1"]}, "one and the number `against`"),
        ({"arms": ["1-64-64-1", "1-64-64-1"]}, "two different ones"),
        ({"kind": "ordered"}, "if ordered, three or more"),
        ({"against": 0.5}, "one and the number `against`"),
        ({"statistic": "final_acuracy"}, "unknown statistic 'final_acuracy' (did you mean 'final_accuracy'?)"),
        ({"experiment": "kl", "arms": ["none", "kl"]}, "5 seeds at least, but the study kl has 3"),
        ({"experiment": "kll"}, "no experiment 'kll'"),
        ({"kind": "grater"}, "claims.0.kind"),
        ({"scale": "log", "smallest_effect": 0.0}, "factors, above 0"),
        ({"kind": "less", "smallest_effect": -0.02}, "of a claim of kind less"),
        ({"kind": "equivalent", "smallest_effect": 0.0}, "of a claim of kind equivalent"),
        ({"effect": 1}, "unknown key 'claims.0.effect'"),
    ],
)
def test_an_impossible_claim_is_told(tmp_path, change, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        load_claims(written(tmp_path / "claims.yaml", PLAIN | change))


def test_a_claim_twice_and_too_many_primary_ones(tmp_path):
    load_claims(written(tmp_path / "claims.yaml", PLAIN))
    with pytest.raises(UsageError, match="'sgd-end' is there twice"):
        load_claims(written(tmp_path / "claims.yaml", PLAIN, PLAIN))
    many = [PLAIN | {"id": f"claim-{i}"} for i in range(11)]
    with pytest.raises(UsageError, match="11 primary claims, at most 10"):
        load_claims(written(tmp_path / "claims.yaml", *many))


def test_no_id_is_ever_lost():
    """Ids are what verdicts are known by: each stands once in the files."""
    ids = re.findall(r"^  - id: (\S+)$", CLAIMS.read_text() + FOLLOW_UPS.read_text(), re.M)
    assert sorted(ids) == sorted({claim.id for claim in [*load_claims(), *load_follow_ups()]})


def test_follow_ups_are_of_at_most_five_studies_that_no_other_claim_names():
    """So none of their runs was planned before, but for a baseline."""
    own = {claim.experiment for claim in load_follow_ups()}
    assert 0 < len(own) <= 5 and not own & {claim.experiment for claim in load_claims()}
    assert all(claim.registered and claim.group == "follow-up" for claim in load_follow_ups())
    assert all(claim.group == claim.family for claim in load_claims())


@pytest.mark.parametrize("change", [{"registered": "2026-11-28"}, {"family": "secondary"}])
def test_a_follow_up_is_secondary_and_dated(tmp_path, change):
    with pytest.raises(UsageError, match="sgd-end: a follow-up is secondary, and says when it was registered"):
        load_follow_ups(written(tmp_path / "follow_ups.yaml", PLAIN | change))


def test_claims_import_nothing_heavy():
    code = "import or1lab.claims, sys; print([m for m in ('torch', 'transformers', 'trl', 'vllm') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
