"""The whole loop on the embedded world, a few steps of it.

What it logs, how it ends, how it goes on, what it refuses.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch

import train
from config import parse_config
from conftest import ROOT
from data import ir_prompt, ir_response, load_tokenizer
from judge import languages, sandbox
from model import load_model
from support import STEPS, flags, processes_of, rows, table_under, wait_for_row
from training import checkpoint, log
from training.inputs import batch_indices, read_inputs


def evaluation(few):
    lines = (ROOT / "toy" / "heldout_groups.jsonl").read_text().splitlines()
    (few / "heldout_groups.jsonl").write_text("\n".join(lines[:5]) + "\n")
    problems, groups = str(few / "heldout.jsonl"), str(few / "heldout_groups.jsonl")
    return "--eval-problems", problems, "--eval-ir-groups", groups


@pytest.fixture(scope="module")
def whole(few, tmp_path_factory):
    """One uninterrupted run, in its own process as users start it."""
    out = tmp_path_factory.mktemp("whole") / "run"
    result = subprocess.run(
        [
            sys.executable,
            ROOT / "train.py",
            *flags(few, out, *evaluation(few)),
        ],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    return out, result.stdout


def test_a_run_and_what_it_leaves(whole):
    out, text = whole
    metrics = rows(out, times=True)
    assert [row["step"] for row in metrics] == list(range(STEPS))
    first, last = metrics[0], metrics[-1]
    assert (
        abs(first["gepo_preference"] - 0.6931) < 1e-4
        and first["gepo_variance"] == first["gepo_margin"] == first["gepo_rhat_spread"] == 0
        and 0 < first["gepo_noise"] < 1e-4
    )
    table = table_under("Metrics", "docs/metrics.md")
    assert set(first) == {key for line in table for key in re.findall(r"`(\w+)`", line[0])}
    assert (
        last["gepo_rhat_spread"] > 0.01 and last["gepo_preference"] != first["gepo_preference"]
    )  # the terms move
    for row in metrics:
        assert (
            row["logp_gap"] < 1e-3 and row["ratio_max"] == row["ratio_min"] == 1
        )  # sampler and trainer agree; on-policy
        assert sum(row["verdicts"].values()) == 8 and 0 <= row["reward"] <= 1
    assert [row["step"] for row in rows(out, "samples.jsonl")] == [
        k for k in range(STEPS) for _ in range(8)
    ]
    seconds = int(re.search(r"trained 4 step\(s\) in (\d+) s", text)[1])
    assert sum(row["step_s"] for row in metrics) - 1 <= seconds < 300
    assert not list(out.rglob("*.tmp")) and [p.name for p in checkpoint.saved_checkpoints(out)] == [
        "step-000002",
        "step-000004",
    ]
    assert (
        json.loads((checkpoint.saved_checkpoints(out)[-1] / "trainer.json").read_text())["config"][
            "lr"
        ]
        == 1e-3
    )
    transformers = pytest.importorskip("transformers")
    saved = checkpoint.saved_checkpoints(out)[-1]
    tokens = torch.randint(0, 900, (1, 20))
    theirs = transformers.AutoModelForCausalLM.from_pretrained(saved)(tokens).logits
    torch.testing.assert_close(load_model(saved).logits(tokens), theirs, atol=1e-3, rtol=1e-4)
    for said in (
        "parameters",
        "GiB",
        "sandbox: ",
        "languages found: ",
        "steps     0 to 4",
        "pass@1",
        "any -> python",
        "held-out greedy pass@1",
        "rhat      in float32; rounding adds ",
        "held-out IR groups (5) whose winners are ahead, with 95 % intervals:",
    ):
        assert said in text, said


def test_held_out_ir_groups_are_compared(whole):
    """By the log-probs of the model before and after, each by itself, and by their difference."""
    out, _ = whole
    lines = (ROOT / "toy" / "heldout_groups.jsonl").read_text().splitlines()
    groups = list(map(json.loads, lines[:5]))
    scored = rows(out, "eval-ir.jsonl")
    assert [row["id"] for row in scored] == [group["id"] for group in groups]
    after = checkpoint.saved_checkpoints(out)[-1]
    for directory, key in ((ROOT / "toy" / "model", "before"), (after, "after")):
        model, tokenizer = load_model(directory), load_tokenizer(directory)
        for group, row in zip(groups, scored):
            sums = {}
            for side in ("winners", "losers"):
                prompt = tokenizer.chat_prompt(ir_prompt(group["source"]))
                sums[side] = []
                for ir in group[side]:
                    response = tokenizer.encode(ir_response(ir)) + [tokenizer.end_id]
                    logp = model.logits(torch.tensor([prompt + response]))[0].log_softmax(-1)
                    places = torch.arange(len(prompt) - 1, len(prompt + response) - 1)
                    sums[side].append(float(logp[places, response].sum().detach()))
            want = sum(sums["winners"]) / 2 - sum(sums["losers"]) / 2
            assert row[f"logp_margin_{key}"] == pytest.approx(want, abs=1e-3)
    for row in scored:
        difference = row["logp_margin_after"] - row["logp_margin_before"]
        assert row["rhat_margin"] == pytest.approx(difference, abs=1e-3) and difference != 0


def test_a_finished_run_only_prints_its_table_again(whole, few, capsys):
    out, _ = whole
    before = rows(out, times=True)
    assert train.main(flags(few, out, *evaluation(few))) == 0
    text = capsys.readouterr().out
    assert (
        rows(out, times=True) == before
        and "held-out greedy pass@1" in text
        and "finished already" in text
    )
    with checkpoint.run_lock(out), pytest.raises(ValueError, match="in use by another process"):
        train.main(flags(few, out, *evaluation(few)))


def test_stopped_and_continued_equals_uninterrupted(whole, few, tmp_path):
    """By Ctrl-C; test_ranks.py kills."""
    out, command = (
        tmp_path / "run",
        [
            sys.executable,
            ROOT / "train.py",
            *flags(few, tmp_path / "run", "--eval-problems", str(few / "heldout.jsonl")),
        ],
    )
    environment = {**os.environ, "OORL_TEST": str(out)}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    wait_for_row(process, out)
    assert processes_of(out)
    process.send_signal(signal.SIGINT)
    text, _ = process.communicate(timeout=120)
    assert process.returncode == 130 and "the same command continues" in text
    deadline = time.time() + 10
    while processes_of(out) and time.time() < deadline:
        time.sleep(0.05)
    assert not processes_of(out)  # nothing outlives the run
    for name in ("metrics.jsonl", "samples.jsonl"):
        assert (out / name).read_text().endswith("\n") and rows(out, name)  # whole rows only
    for saved in checkpoint.saved_checkpoints(out):
        load_model(saved)  # whole checkpoints only
    assert subprocess.run(command, capture_output=True, timeout=300).returncode == 0
    assert rows(out) == rows(whole[0])
    assert rows(out, "samples.jsonl") == rows(whole[0], "samples.jsonl")


@pytest.mark.parametrize("off_policy", ["dpo", "none"])
@pytest.mark.parametrize("advantage", ["grpo"])
def test_the_other_arms_run(few, tmp_path, off_policy, advantage):
    assert (
        train.main(
            flags(
                few,
                tmp_path / "run",
                "--off-policy",
                off_policy,
                "--advantage",
                advantage,
                "--steps",
                "2",
            )
        )
        == 0
    )
    metrics = rows(tmp_path / "run")
    if off_policy == "none":
        assert not any(k.startswith("gepo_") for k in metrics[0])
    else:
        assert metrics[0]["gepo_variance"] == metrics[1]["gepo_variance"] == 0  # DPO has none
        assert metrics[1]["gepo_margin"] != 0


def test_at_lr_0_nothing_moves(few, tmp_path):
    assert (
        train.main(
            flags(
                few,
                tmp_path / "run",
                "--lr",
                "0",
                "--steps",
                "2",
                "--inner-epochs",
                "2",
                "--advantage",
                "rloo",
            )
        )
        == 0
    )
    for row in rows(tmp_path / "run"):
        assert row["ratio_max"] == row["ratio_min"] == 1 and row["kl"] == 0
        assert row["gepo_rhat_spread"] == row["gepo_margin"] == 0
    old, new = (
        load_model(ROOT / "toy" / "model"),
        load_model(checkpoint.saved_checkpoints(tmp_path / "run")[-1]),
    )
    assert all(torch.equal(a, b) for a, b in zip(old.parameters(), new.parameters()))


def test_no_toolchain_but_python(few, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        languages,
        "why_missing",
        lambda language: None if language.name == "python" else f"{language.install} first",
    )
    assert train.main(flags(few, tmp_path / "run", "--steps", "1", "--off-policy", "none")) == 0
    text = capsys.readouterr().out
    assert (
        "problems left out: bash is missing (apt-get install bash first)" in text
        and "languages found: python;" in text
    )
    assert list(rows(tmp_path / "run")[0]["rewards"]) == ["python"]


def test_no_sandbox_is_refused(few, tmp_path, monkeypatch):
    monkeypatch.setattr(sandbox, "BWRAP", "/nonexistent/bwrap")
    with pytest.raises(sandbox.SandboxError, match="apt-get install bubblewrap"):
        train.main(flags(few, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_judge_errors_stop_the_run_and_are_not_wrong_answers(few, tmp_path, monkeypatch):
    from judge.pool import JudgePool
    from judge.verdict import Verdict

    monkeypatch.setattr(
        JudgePool, "_serve", lambda self, request: Verdict("JE", None, "the disk is full")
    )
    monkeypatch.setattr("training.run.check_canaries", lambda pool, targets: None)
    with pytest.raises(sandbox.SandboxError, match="judge errors: the disk is full"):
        train.main(flags(few, tmp_path / "run"))
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


@pytest.mark.parametrize(
    "more, message",
    [
        (["--unknown-flag", "3"], "unrecognized arguments: --unknown-flag"),
        (["--off-policy", "kto"], "invalid choice: 'kto'"),
        (
            ["--rollout-batch", "7"],
            "--rollout-batch 7 must be a multiple of --samples-per-prompt 4",
        ),
        (["--temperature", "0"], "--temperature is 0.0; it must be at least 0.001"),
        (["--samples-per-prompt", "0"], "--samples-per-prompt is 0; it must be at least 1"),
        (["--save-every", "0"], "--save-every is 0"),
        (["--steps", "-1"], "--steps is -1"),
        (["--lr", "nan"], "--lr is nan"),
        (["--out", ""], "--out is needed with --model"),
        (["--warmup-ratio", "1.1"], "--warmup-ratio is 1.1; it is a share of the steps, at most 1"),
        (["--dpo-pair", "crossed"], "--dpo-pair crossed is of --off-policy dpo"),
    ],
)
def test_bad_flags_are_named(few, tmp_path, capsys, more, message):
    with pytest.raises(SystemExit) as e:
        train.main(flags(few, tmp_path / "run", *more))
    assert e.value.code == 2 and message in capsys.readouterr().err


def test_bad_input_is_one_line_and_no_traceback(few, tmp_path):
    command = flags(few, tmp_path / "run", "--model", str(tmp_path / "nothing"))
    result = subprocess.run(
        [sys.executable, ROOT / "train.py", *command], capture_output=True, text=True
    )
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert "nothing does not exist; give the directory" in result.stderr.splitlines()[-1]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "more, message",
    [
        (["--problems", "BAD"], 'bad.jsonl:1: "source_language" is missing'),
        (["--ir-groups", "BAD"], 'bad.jsonl:1: "language" is missing'),
        (["--max-length", "140", "--max-new-tokens", "8"], "no group is within --max-length 140"),
    ],
)
def test_bad_input_is_named(few, tmp_path, more, message):
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"id": "a"}\n')
    more = [flag.replace("BAD", str(bad)) for flag in more]
    with pytest.raises(ValueError, match=message):
        train.main(flags(few, tmp_path / "run", *more))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"target_language": "python"}, "a: .* are python: a copy would earn the reward"),
        (
            {"target_language": "bash", "tests": [{"stdin": "1", "stdout": " \n"}]},
            'a: no test has an output in "stdout"',
        ),
    ],
)
def test_problems_that_give_their_reward_away_are_refused(few, tmp_path, change, message):
    path = tmp_path / "p.jsonl"
    row = json.loads((few / "problems.jsonl").read_text().splitlines()[0])
    row |= {"id": "a", "source_language": "python", **change}
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(ValueError, match=message):
        train.main(flags(few, tmp_path / "run", "--problems", str(path)))


def test_held_out_problems_that_are_too_long_are_left_out_too(few, tmp_path, capsys):
    """One of them would take a cache that the plan does not know of."""
    path = tmp_path / "heldout.jsonl"
    long, *others = (few / "heldout.jsonl").read_text().splitlines(keepends=True)
    long = {**json.loads(long), "source": "x = 1\n" * 1000}
    path.write_text(json.dumps(long) + "\n" + "".join(others))
    config = parse_config(flags(few, tmp_path / "run", "--eval-problems", str(path)))
    assert [row["id"] for row in read_inputs(config).held_out] == [
        json.loads(line)["id"] for line in others
    ]
    assert f"{path}: 1 of {len(others) + 1} problems left out" in capsys.readouterr().out


def test_only_the_toolchains_of_the_problems_are_tried(few, tmp_path):
    inputs = read_inputs(parse_config(flags(few, tmp_path / "run")))
    assert list(inputs.languages) == ["bash", "python"] and not inputs.missing


def test_changed_flags_are_refused(whole, few):
    with pytest.raises(ValueError, match=r"--lr was 0.001, is 0.5"):
        train.main(
            flags(few, whole[0], "--eval-problems", str(few / "heldout.jsonl"), "--lr", "0.5")
        )


@pytest.mark.parametrize(
    "given, spins",
    [
        ({}, "10000"),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, None),
        ({"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "7"}, "7"),
    ],
)
def test_how_threads_wait_is_the_callers_or_set_before_torch(monkeypatch, given, spins):
    """libgomp reads it once, when torch loads it."""
    before_torch, _ = (ROOT / "train.py").read_text().split("\nimport torch\n")
    monkeypatch.setattr(os, "environ", dict(given))
    exec(before_torch, {})
    assert os.environ.get("GOMP_SPINCOUNT") == spins
    assert os.environ.get("OMP_WAIT_POLICY") == given.get("OMP_WAIT_POLICY")


def test_old_checkpoints_go_and_foreign_folders_are_refused(few, tmp_path):
    model = load_model(ROOT / "toy" / "model")
    optimizer = torch.optim.AdamW(model.parameters())
    for step in range(1, 6):
        checkpoint.save(tmp_path, step, model, optimizer, ROOT / "toy" / "model", {})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-000004", "step-000005"]
    with pytest.raises(ValueError, match="neither empty nor a run of train.py"):
        train.main(flags(few, tmp_path / ".."))
    (tmp_path / "killed").mkdir()
    (tmp_path / "killed" / "config.json.tmp").write_text("{")  # killed while the folder was made
    assert checkpoint.open_run(tmp_path / "killed", {"ir_groups": ""}, ()) == (0, None)
    (tmp_path / "config.json").write_text('{"model_type": "qwen3"}')
    with pytest.raises(ValueError, match="is not of a run of train.py"):
        train.main(flags(few, tmp_path))
    assert (tmp_path / "config.json").read_text() == '{"model_type": "qwen3"}'


def test_scores_of_other_settings_go_when_they_are_forced(tmp_path):
    """They would be the result of a model that has been trained on."""
    (tmp_path / "config.json").write_text('{"ir_groups": "", "steps": 80}')
    for name in ("metrics.jsonl", "eval-before.jsonl", "eval-after.jsonl", "eval-ir.jsonl"):
        (tmp_path / name).write_text("")
    changed = {"ir_groups": "", "steps": 160}
    with pytest.raises(ValueError, match="--steps was 80, is 160"):
        checkpoint._claim_folder(tmp_path, changed, (), "auto")
    assert (tmp_path / "eval-after.jsonl").exists()
    checkpoint._claim_folder(tmp_path, changed, (), "force")
    assert [path.name for path in tmp_path.glob("*.jsonl")] == ["metrics.jsonl"]
    (tmp_path / "eval-after.jsonl").write_text("")
    checkpoint._claim_folder(tmp_path, changed, (), "force")  # nothing has changed
    assert (tmp_path / "eval-after.jsonl").exists()


@pytest.mark.parametrize(
    "file, text",
    [("chat_template.jinja", "{{ messages[0].content }}"), ("generation_config.json", "{}")],
)
def test_how_the_tokenizer_is_used_is_an_input(few, tmp_path, file, text):
    shutil.copytree(ROOT / "toy" / "model", tmp_path / "model")
    config = parse_config(flags(few, tmp_path / "run", "--model", str(tmp_path / "model")))
    before = read_inputs(config)
    (tmp_path / "model" / file).write_text(text)
    after = read_inputs(config)
    assert after.fingerprint != before.fingerprint
    assert after.weights_fingerprint == before.weights_fingerprint


def test_judge_errors_that_are_too_many():
    for errors, verdicts, broken in ((1, 8, False), (2, 8, True), (2, 240, False), (3, 240, True)):
        assert log.too_many(errors, verdicts) == broken


def test_the_times_of_a_step_add_up():
    row = {f"{phase}_s": 1.0 for phase in log.PHASES}
    row |= {"step_s": len(log.PHASES) - 1.0, "judge_s": 0.5}  # to save is no part of it
    total = float(len(log.PHASES))
    assert f"seconds a step: {total:.2f} = " in log.describe_times([row])


def test_changed_files_are_refused(few, tmp_path):
    problems, out = tmp_path / "problems.jsonl", tmp_path / "run"
    problems.write_text((few / "problems.jsonl").read_text())
    command = flags(few, out, "--problems", str(problems), "--steps", "1", "--off-policy", "none")
    assert train.main(command) == 0
    problems.write_text("".join(problems.read_text().splitlines(keepends=True)[:20]))
    with pytest.raises(ValueError, match="the files it reads have changed"):
        train.main(command)


def test_batches_cover_each_epoch_once_and_depend_on_the_step_alone():
    seen = [i for step in range(10) for i in batch_indices(step, 7, 35, seed=3)]
    assert sorted(seen[:35]) == sorted(seen[35:]) == list(range(35)) and seen[:35] != seen[35:]
    assert batch_indices(4, 7, 35, seed=3) == seen[28:35]
