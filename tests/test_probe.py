"""toy/probe.py: log-odds, pairs, labels, groups, runs that continue, and intervals."""

import copy
import json
import random
import re
import sys
from itertools import islice

import numpy as np
import pytest
import torch

from bench import ablation
from config import Config
from groups import Group
from test_groups import one_by_one
from toy import probe, translations
from toy.make import heldout
from toy.probe import Arm
from toy.translations import ir_rows_with_habits
from toy.world import generate, run, shape
from training.inputs import IRGroup, load_ir_groups


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    monkeypatch.setattr(ablation, "DRAWS", 300)


def of_forms(winners, losers):
    """A group with members of these forms."""
    is_winner = torch.arange(len(winners + losers)) < len(winners)
    return IRGroup(None, is_winner, meta={"forms": winners + losers})


def test_log_odds_are_sums_over_tokens_of_right_less_habit(tiny, some_groups):
    groups = [Group(g.prompt, [g.responses[0], g.responses[-1]]) for g in some_groups[::2]]
    with torch.no_grad():
        for group, odds in zip(groups, probe.log_odds(tiny, groups)):
            right, habit = one_by_one(tiny, group)
            assert odds == pytest.approx(float(right.sum() - habit.sum()), abs=1e-4)
            assert abs(odds) > 0.1


@pytest.mark.parametrize(
    "pairs, margins", [("all", [1, -1, 3, 1]), ("matched", [1, 1]), ("crossed", [-1, 3])]
)
def test_pairs(pairs, margins):
    config = Config(off_policy="dpo", dpo_pair=pairs)
    rhats = torch.tensor([10.0, 30.0, 0.0, 20.0])  # 10 * (1, 3), 10 * (0, 2)
    want = [-np.log(1 / (1 + np.exp(-margin))) for margin in margins]  # beta = 0.1
    loss = probe.loss_of(config, of_forms([0, 1], [0, 1]), rhats)
    assert float(loss) == pytest.approx(np.mean(want), rel=1e-5)


def test_the_loss_of_gepo_has_both_terms():
    rhats = torch.tensor([10.0, 30.0, 0.0, 20.0])
    for lam in (0, 0.5):
        loss = probe.loss_of(Config(lam=lam), of_forms([0, 1], [0, 1]), rhats)
        assert float(loss) == pytest.approx(-np.log(1 / (1 + np.exp(-1))) + lam * 100, rel=1e-5)


def test_pairs_of_ir_go_by_level():
    group = of_forms([0, 1], [1, 1, 0])
    matched = probe.pairs_of("matched", group)
    assert matched.tolist() == [[False, False, True], [True, True, False]]
    assert torch.equal(probe.pairs_of("crossed", group), ~matched)


def test_forms_compute_the_same_and_mutants_do_not():
    rng = random.Random(3)
    seen = 0
    while seen < 20:
        program = generate(rng, floor=True)
        forms = translations.equivalent_forms(program, rng)
        if len(forms) == 1:
            continue
        seen += 1
        texts = {probe.render(form, "cpp") for form in forms}
        assert forms[0] is program and len(texts) == len(forms)
        assert set(map(heldout, forms)) == {heldout(program)}
        for _ in range(10):
            inputs = [rng.randint(-9, 9) for _ in program.inputs]
            assert len({run(form, inputs) for form in forms}) == 1
    program, row = probe.make_problem(rng, "php", held=True)
    for mutant in translations.wrong_mutants(program, row, "php"):
        assert not translations.passes(mutant, row["tests"])
    assert translations.passes(program, row["tests"])


def texts_of(group):
    return [probe.tokenizer().decode(tokens.tolist()[:-1]) for tokens in group.group.responses]


def test_all_arms_of_a_seed_see_the_same_groups():
    wide = probe.draw_groups("cpp", 0, 6, 4, 4, 0.0)
    narrow = probe.draw_groups("cpp", 0, 6, 1, 3, 0.0)
    other = probe.draw_groups("cpp", 1, 6, 1, 3, 0.0)
    for group, part in zip(wide, narrow):
        winners, losers = texts_of(group)[:4], texts_of(group)[4:]
        assert (
            len({*winners, *losers}) == 8 and group.is_winner.tolist() == [True] * 4 + [False] * 4
        )
        assert texts_of(part) == winners[:1] + losers[:3]
        assert part.meta["forms"] == [0, 0, 1, 2]
    prompts = {str(group.group.prompt.tolist()) for group in wide}
    assert len(prompts) == 6
    assert not prompts & {str(group.group.prompt.tolist()) for group in other}


@pytest.mark.parametrize("source", ["cpp", "ir"])
def test_marks_are_in_losers_only(source, monkeypatch):
    monkeypatch.setattr(probe, "frozen_logprobs", lambda model, groups, budget: groups)
    plain = probe.draw_groups.__wrapped__(source, 0, 12, 2, 2, 0.0)
    for share, least, most in ((1.0, 12, 12), (0.5, 2, 10)):
        marked = 0
        for group, was in zip(probe.draw_groups.__wrapped__(source, 0, 12, 2, 2, share), plain):
            ends = [text.endswith("\n;\n```") for text in texts_of(group)]
            assert texts_of(group)[:2] == texts_of(was)[:2]
            assert ends in ([False] * 4, [False, False, True, True])
            marked += ends[3]
        assert least <= marked <= most


def test_half_of_the_labels_change_places():
    groups = probe.draw_groups("cpp", 0, 6, 2, 2, 0.0) * 40
    changed = probe.with_random_labels(groups, seed=5)
    swapped = 0
    for was, group in zip(groups, changed):
        assert group.group is was.group and group.logp_ref is was.logp_ref
        swapped += torch.equal(group.is_winner, ~was.is_winner)
        assert torch.equal(group.is_winner, was.is_winner) or torch.equal(
            group.is_winner, ~was.is_winner
        )
    assert 0.4 < swapped / len(groups) < 0.6
    assert [g.is_winner.tolist() for g in probe.with_random_labels(groups, 6)] != [
        g.is_winner.tolist() for g in changed
    ]


def test_a_file_of_translations_holds_the_groups_of_the_probe(tmp_path):
    path = tmp_path / "groups.jsonl"
    rows = translations.group_rows(8, "probe 3", held=False)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = Config(max_length=probe.MAX_LENGTH)
    from_file = load_ir_groups(config, path, probe.tokenizer())
    for ours, theirs in zip(from_file, probe.draw_groups("cpp", 3, 8, 2, 2, 0.0), strict=True):
        assert ours.group.prompt.tolist() == theirs.group.prompt.tolist()
        texts = [tokens.tolist() for tokens in ours.group.responses]
        assert texts == [tokens.tolist() for tokens in theirs.group.responses]
        assert ours.is_winner.tolist() == theirs.is_winner.tolist()


def test_sites_are_of_shapes_that_no_group_has(monkeypatch, fresh_caches):
    monkeypatch.setattr(probe, "SITES", 3)
    made = {True: set(), False: set()}

    def watched(rng, target, held, make_problem=probe.make_problem):
        program, row = make_problem(rng, target, held)
        made[held].add(shape(program))
        return program, row

    monkeypatch.setattr(probe, "make_problem", watched)
    monkeypatch.setattr(translations, "make_problem", watched)
    languages, groups = probe.draw_sites()
    probe.draw_groups("cpp", 7, 8, 2, 2, 0.0)
    assert len(made[True]) > 9 and len(made[False]) > 5 and not made[True] & made[False]
    assert sorted(languages) == sorted(probe.TARGETS * 3)
    for language, group in zip(languages, groups):
        right, habit = (probe.tokenizer().decode(tokens.tolist()) for tokens in group.responses)
        assert right != habit and right.startswith(f"```{language}\n") and len(group.responses) == 2


def test_training_moves_the_margin_and_random_labels_turn_it(monkeypatch):
    groups = probe.draw_groups("cpp", 0, 4, 2, 2, 0.0)
    turned = [probe.replace(group, is_winner=~group.is_winner) for group in groups]
    config = Config(**{**probe.EMBEDDED, "lam": 0.0})
    for of_arm in (groups, turned):
        policy = probe.load_model(probe.HERE / "model")
        margins = probe.train(policy, config, of_arm * 3)
        assert max(map(abs, margins[:4])) < 1e-5  # pi_theta is pi_ref
        assert np.mean(margins[8:]) > 0.005


# ------------------------------------------------------------------------------------ the command


@pytest.fixture
def fresh_caches():
    cached = (probe.draw_sites, probe.log_odds_before)
    for function in cached:
        function.cache_clear()
    yield
    for function in cached:
        function.cache_clear()


@pytest.fixture
def small(monkeypatch, fresh_caches):
    arms = {"GEPO": Arm(), "sums: DPO, all pairs": Arm({"off_policy": "dpo"})}
    monkeypatch.setattr(probe, "SITES", 1)
    monkeypatch.setattr(probe, "TARGETS", ("cpp", "php"))
    monkeypatch.setattr(probe, "OTHERS", ["php"])
    monkeypatch.setattr(probe, "ENDS", {"cpp": ["cpp"], "php": ["php"]})
    monkeypatch.setattr(probe, "ARMS", arms)
    monkeypatch.setattr(probe, "DIFFERENCES", [tuple(arms)])


def command(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["toy/probe.py", *map(str, arguments), "--seeds", "2"])
    probe.main()


def test_a_killed_command_continues_with_the_same_bytes(small, monkeypatch, capsys, tmp_path):
    def killed(arm, seed, steps, run_arm=probe.run_arm):
        if seed == 1 and arm == Arm():
            raise KeyboardInterrupt
        return run_arm(arm, seed, steps)

    command(monkeypatch, tmp_path / "whole", "--steps", 1)
    whole = capsys.readouterr().out
    with monkeypatch.context() as context, pytest.raises(KeyboardInterrupt):
        context.setattr(probe, "run_arm", killed)
        command(context, tmp_path / "killed", "--steps", 1)
    paths = sorted((tmp_path / "whole").iterdir())
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "killed").iterdir()}
    assert len(paths) == 4 and len(before) == 2
    command(monkeypatch, tmp_path / "killed", "--steps", 1)
    assert capsys.readouterr().out == whole
    for path in paths:
        again = tmp_path / "killed" / path.name
        assert again.read_bytes() == path.read_bytes()
        assert before.get(path.name, again.stat().st_mtime_ns) == again.stat().st_mtime_ns
    with pytest.raises(SystemExit, match="GEPO-0.json is of .*'steps': 1.*; delete it"):
        command(monkeypatch, tmp_path / "killed", "--steps", 2)


def made_up(change, seeds):
    """Results whose log-odds change by change(language, seed, site)."""
    results = []
    for seed in range(seeds):
        languages = [language for language in probe.TARGETS for _ in range(20)]
        after = [1 + change(name, seed, i % 20) for i, name in enumerate(languages)]
        before = [1.0] * len(languages)
        rows = {"language": languages, "before": before, "after": after, "ahead": [1, 1, 1, 0]}
        results.append(rows)
    return results


def test_the_table_of_made_up_numbers():
    results = {
        "none": made_up(lambda language, seed, site: 0.0, 4),
        "some": made_up(lambda language, seed, site: 2.0 * (language == "cpp") + seed % 2, 4),
    }
    _, _, before, none, some = probe.table(results, probe.intervals(results)).splitlines()
    assert before.startswith("| log-odds before |  |  | +1.00 | +1.00 | +1.00 |")
    assert none.startswith("| none | 4 | 75 % | +0.00 [+0.00, +0.00] | +0.00 [+0.00, +0.00] |")
    cpp, others = re.findall(r"(\S+) \[(\S+), (\S+)\]", some)
    assert float(cpp[0]) == 2.5 and float(others[0]) == 0.5
    assert float(others[1]) == 0.0 and float(others[2]) == 1.0  # all four seeds of one kind: 1 / 16
    assert some.endswith("| +0.50 | +0.50 | +0.50 | +0.50 | +0.50 |")


def test_differences_are_paired():
    """What a seed and a site add to both arms cancels."""
    results = {
        "a": made_up(lambda language, seed, site: seed + site + 0.25, 3),
        "b": made_up(lambda language, seed, site: seed + site, 3),
    }
    row = probe.differences_table(results, [("a", "b")]).splitlines()[-1]
    assert row == "| (a) - (b) | +0.25 [+0.25, +0.25] | +0.25 [+0.25, +0.25] |"


def test_factors_differ_from_gepo_in_one_thing_and_share_runs_with_the_table(tmp_path):
    arms = probe.dependence_arms()
    assert len(set(map(str, arms.values()))) == len(arms)  # no run is made twice
    for factor, values in probe.FACTORS.items():
        assert any(arm in probe.ARMS.values() for arm in values.values()), factor
        for value, arm in values.items():
            name = probe.name_in(factor, value)
            assert arms[name] == arm and (name in probe.ARMS) == (arm in probe.ARMS.values())


def test_pictures(tmp_path):
    pytest.importorskip("matplotlib")
    moved = {"cpp": (1.0, 0.5, 1.5), "the other five": (0.5, 0.4, 0.6)}
    arms = probe.draw_arms(dict.fromkeys(probe.ARMS, moved))
    arms.savefig(tmp_path / "arms.png")
    dependence = probe.draw_dependence(dict.fromkeys(probe.dependence_arms(), moved))
    dependence.savefig(tmp_path / "dependence.png")
    assert [axis.get_title() for axis in dependence.axes] == list(probe.FACTORS)
    assert all(path.stat().st_size > 10_000 for path in tmp_path.iterdir())


def test_a_step_along_a_gradient_moves_languages_by_their_products(tiny, some_groups):
    """Numbers of a difference in place of the derivative. The first half of php is one site."""
    first, _, other = some_groups
    sites = {}
    for name, group, right, wrong in (
        ("php", first, 0, -1),
        ("php 2", first, 0, 1),
        ("llvm", other, 0, -1),
        ("llvm 2", other, 1, -1),
    ):
        sites[name] = Group(group.prompt, [group.responses[right], group.responses[wrong]])
    languages = ["php", "php", "llvm", "llvm"]
    model = copy.deepcopy(tiny).double()
    found = probe.gradients(model, languages, list(sites.values()))
    before = probe.log_odds(model, list(sites.values()))
    step = 1e-6 * found["php"][0]
    weights = torch.nn.utils.parameters_to_vector(model.parameters())
    torch.nn.utils.vector_to_parameters(weights + step, model.parameters())
    moved = np.subtract(probe.log_odds(model, list(sites.values())), before)
    expected = torch.cat([found["php"], found["llvm"]]) @ step
    assert moved == pytest.approx(expected.numpy(), rel=1e-2, abs=1e-12)

    def cosine(a, b):
        return f"{float(a @ b / a.norm() / b.norm()):+.2f}"

    php, llvm = found["php"], found["llvm"]
    across = cosine(php.sum(0), llvm.sum(0))
    rows = probe.overlap_table(found).splitlines()[2:]
    assert rows == [
        f"| php | {cosine(*php)} | {across} |",
        f"| llvm | {across} | {cosine(*llvm)} |",
    ]


def test_groups_of_ir_with_habits():
    """Four IRs of one function, two right and two with a habit."""
    (prompt, fence, winners, losers), *_ = islice(ir_rows_with_habits("a test", held=True), 1)
    assert fence == "llvm" and prompt.startswith("Compile this C program to LLVM IR.")
    assert [level for level, _ in winners] == [level for level, _ in losers] == [0, 1]
    texts = [text for _, text in winners + losers]
    assert len(set(texts)) == 4 and all(text.startswith("define i32 @f(") for text in texts)


@pytest.mark.parametrize(
    "flags, error",
    [
        (["--overlap", "--steps", "48"], "--overlap makes no run: leave out --seeds, --steps"),
        (["--ir-world", "model", "--dependence"], "arms of its own: leave out --dependence"),
    ],
)
def test_flags_that_would_be_ignored_are_refused(flags, error, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(probe, "MODEL", probe.MODEL)  # main sets it
    monkeypatch.setattr(sys, "argv", ["toy/probe.py", str(tmp_path / "out"), *flags])
    with pytest.raises(SystemExit):
        probe.main()
    assert error in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
