"""Protocols: merge order, rows, cases, claims and recipes."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from flashbench import stats
from flashbench.errors import MissingAsset, UsageError
from flashbench.paths import protocol_root
from flashbench.planning import stand_ins
from flashbench.protocol import compose


@pytest.mark.parametrize("tier", ["smoke", "laptop"])
@pytest.mark.parametrize("name", ["nfe", "strength", "degradation"])
def test_shipped_protocols_load_at_every_tier(name: str, tier: str) -> None:
    loaded = compose.load_protocol(name, tier=tier)
    rows = [variant.row for variant in loaded.variants]
    assert loaded.baseline in rows and len(rows) == len(set(rows))
    assert {"original", "codec", "bicubic", "unsharp", "noise", "l1"} <= set(rows)
    assert set(loaded.primary) <= set(loaded.metric_names)
    assert all({"v1", "v4"} == set(loaded.published) for _ in [0])


def test_rows_of_the_three_protocols() -> None:
    nfe, strength, degradation = (compose.load_protocol(name) for name in ("nfe", "strength", "degradation"))
    assert [variant.row for variant in nfe.variants][:8] == [f"nfe={n}" for n in range(1, 9)]
    assert "degradation_step=675,training=narrow" in [variant.row for variant in strength.variants]
    assert [variant.row for variant in degradation.variants][:3] == [
        "degradation=none", "degradation=pixel", "degradation=pixel+latent",
    ]  # fmt: skip


def test_published_numbers_stand_beside_the_rows() -> None:
    nfe = compose.load_protocol("nfe")
    assert nfe.published["v4"]["nfe=4"]["niqe"] == 4.501
    rows = {variant.row for variant in nfe.variants}
    assert set(nfe.published["v1"]) <= rows


def test_test_cases_are_independent_sources() -> None:
    cases = compose.load_protocol("nfe").cases
    assert len({case.cluster for case in cases}) >= 10
    dev = compose.load_protocol("nfe", overrides=["cases.split=dev"]).cases
    assert len({case.cluster for case in dev}) >= 3
    assert not {case.cluster for case in cases} & {case.cluster for case in dev}


def test_seeds_of_the_protocol_win_over_the_tiers() -> None:
    one, two = (compose.load_protocol("nfe", overrides=[f"seeds={n}"]) for n in (1, 2))
    default = compose.load_protocol("nfe")
    assert len(two.cases) == 2 * len(one.cases) and default.cases == one.cases


def test_command_line_wins_over_everything() -> None:
    loaded = compose.load_protocol("nfe", tier="smoke", overrides=["rows=[{nfe: [2]}]", "baseline=nfe=2", "claims=[]"])
    assert loaded.variants[0].row == "nfe=2" and loaded.variants[0].settings["degradation_step"] == 675


def test_hash_follows_what_moves_numbers() -> None:
    plain = compose.load_protocol("nfe", tier="smoke")
    assert compose.load_protocol("nfe", tier="smoke").hash == plain.hash
    assert compose.load_protocol("nfe", tier="smoke", overrides=["budget.workers=1"]).hash == plain.hash
    assert compose.load_protocol("nfe", tier="smoke", overrides=["seeds=2"]).hash != plain.hash
    assert compose.load_protocol("nfe", tier="smoke", overrides=["settings.shift=3.0"]).hash != plain.hash
    assert compose.load_protocol("nfe", tier="smoke", overrides=["recipes.wide.layers=2"]).hash != plain.hash
    unread = compose.load_protocol("nfe", tier="smoke", overrides=["recipes.pixel.layers=2"])
    assert unread.hash == plain.hash, "a recipe that no variant reads"


def test_recipes_come_with_what_they_need() -> None:
    assert set(compose.load_protocol("nfe", tier="smoke").recipes) == {"codec", "pool", "wide", "l1"}
    assert {"wide", "narrow"} <= set(compose.load_protocol("strength").recipes)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("geometry.frames=6", "the codec's clips have 4n + 1"),
        ("budget.workers=-1", "budget.workers is -1"),
        ("budget.threads=x", "budget.threads is 'x'"),
        ("cases.splt=dev", "did you mean 'split'"),
        ("low.blur_sgima=9", "did you mean 'blur_sigma'"),
        ("recipes.wide.steps=abc", "not of type int"),
        ("name=../../evil", "write `name: nfe`"),
        ("seeds=0", "seeds is 0"),
        ("geometry.height=100", "sides must be multiples of 16"),
        ("settings.degradation_step=1000", "degradation_step is 1000"),
        ("rows=[{nfe: [0, 1, 4]}]", "nfe is 0"),
        ("settings.degradation=blur", "unknown degradation 'blur'"),
        ("recipes.wide.stepps=3", "did you mean 'steps'"),
        ("recipes.wide.kind=flows", "did you mean 'flow'"),
    ],
)
def test_what_cannot_be_made_is_refused_before_any_work(override: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        compose.load_protocol("nfe", tier="smoke", overrides=[override])
    assert said in str(caught.value)


def test_fields_of_low_are_those_of_the_degradation() -> None:
    from dataclasses import fields

    from flashbench.cascade.degrade import PixelDegradation

    assert set(compose._KNOWN["low"]) == {field.name for field in fields(PixelDegradation)}


def test_a_row_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="comes twice"):
        compose.load_protocol("nfe", tier="smoke", overrides=["rows=[{nfe: [4, 4]}]"])


def test_a_claim_needs_two_rows() -> None:
    with pytest.raises(UsageError, match="needs `better` and `than`"):
        compose.load_protocol(
            "nfe", tier="smoke", overrides=["claims=[{id: x, text: t, source: s, metric: niqe, better: nfe=4}]"]
        )


EQUAL = "id: x, text: t, source: s, metric: single_object, equivalent: [tuning=lora, tuning=full]"


@pytest.mark.parametrize(
    ("claim", "said"),
    [
        (f"{EQUAL}, margin: 0.1", "margin of 0.1 without a reason"),
        (f"{EQUAL}, margin: 0.05, margin_reason: r", "where all 48 clusters agree, the 90 % interval still reaches"),
    ],
)
def test_an_equivalence_needs_a_reason_and_an_outcome_that_could_confirm_it(claim: str, said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)):
        compose.load_protocol("tuning", overrides=[f"claims=[{{{claim}}}]"])


def test_a_refused_margin_says_which_margin_and_how_many_clusters_would_do() -> None:
    """The margin that it names is confirmed by clusters that all agree; the number of clusters is the least that is."""
    narrow = f"claims=[{{{EQUAL}, margin: 0.05, margin_reason: r}}]"
    with pytest.raises(UsageError) as refused:
        compose.load_protocol("tuning", overrides=[narrow])
    found = re.search(r"margin above ([\d.]+), or at least (\d+) clusters", refused.value.fix or "")
    assert found
    margin, clusters = float(found[1]), int(found[2])
    assert stats.narrowest(48, 0.9) <= margin < stats.narrowest(48, 0.9) + 0.0011
    assert stats.narrowest(clusters, 0.9) < 0.05 <= stats.narrowest(clusters - 1, 0.9)
    assert compose.load_protocol("tuning", overrides=[narrow.replace("0.05", f"{margin + 0.001}")]).claims
    assert compose.load_protocol("tuning", overrides=[narrow, "cases.limit=12"]).claims, "a part is known to show less"


def test_a_primary_claim_is_measured() -> None:
    claim = '{id: x, text: t, source: s, primary: true, metric: tflop, better: "design=vanilla,nfe=4", than: l1}'
    with pytest.raises(UsageError, match="is primary, and tflop is computed"):
        compose.load_protocol("cost", overrides=[f"claims=[{claim}]"])


def test_no_claim_calls_a_lower_niqe_better_and_one_of_each_table_is_primary() -> None:
    protocols = [compose.load_protocol(name) for name in compose.names()]
    claims = [claim for protocol in protocols for claim in protocol.claims]
    assert all("NIQE" in claim.text for claim in claims if claim.metric.startswith("niqe"))
    assert not [claim.id for claim in claims if re.search(r"\bbetter|improve|(?<!low-)quality", claim.text)]
    assert {p.name: sum(claim.primary for claim in p.claims) for p in protocols} == {
        p.name: int(p.name != "vbench") for p in protocols
    }


def test_protocols_are_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "nfe" in compose.names() and "laptop" in compose.tiers()


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("geometry=3", "`geometry` of protocols/nfe.yaml is 3"),
        ("margins.psnr=abc", "a field has the wrong form"),
        ("geometry.fps=0", "geometry.fps is 0"),
    ],
)
def test_a_field_of_the_wrong_form_is_a_users_mistake(override: str, said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)):
        compose.load_protocol("nfe", overrides=[override])


def test_words_of_a_claim_decide_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(protocol_root(), tmp_path / "protocols")
    monkeypatch.setenv("FLASHBENCH_PROTOCOLS", str(tmp_path / "protocols"))
    before = compose.load_protocol("nfe")
    path = tmp_path / "protocols" / "nfe.yaml"
    path.write_text(
        path.read_text("utf-8")
        .replace("almost all is gained by the second evaluation here", "so it is")
        .replace("NIQE falls from one evaluation to two", "two are lower than one"),
        "utf-8",
    )
    after = compose.load_protocol("nfe")
    assert after.claims != before.claims and after.hash == before.hash


def test_a_users_prompts_are_in_the_hash(tmp_path: Path) -> None:
    (said := tmp_path / "mine.txt").write_text("a dog\na cat\n")
    hashes = []
    for text in ("a dog\na cat\n", "a dog\na cow\n", "a cat\na dog\n"):
        said.write_text(text)
        overrides = [
            f"cases.suite={said}",
            "cases.limit=2",
            "claims=[]",
            "metrics=[sharpness_drift]",
            "primary=[sharpness_drift]",
        ]
        hashes.append(compose.load_protocol("vbench", overrides=overrides).hash)
    assert len(set(hashes)) == 3, "a prompt's line decides official noise"


def test_published_dimensions_stand_by_the_metrics_that_measure_them() -> None:
    try:
        tuning = compose.load_protocol("tuning", tier="paper")
    except MissingAsset:
        tuning = compose.load("tuning", "paper", (), stand_ins.suite)
    cells = tuning.published["v4"]["tuning=lora"]
    assert cells["vbench_long:object_class"] == pytest.approx(0.903) and "object_class" not in cells
    assert compose.load_protocol("tuning").published["v4"]["tuning=lora"]["object_class"] == 90.3
