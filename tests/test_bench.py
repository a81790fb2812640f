"""The benches that use the trainer's own functions still run: no figure is checked."""

import json
import sys
import time

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from bench import decode, gpu, noise, rollout, step, step_trl
from bench.shapes import SHAPES
from model import ModelConfig


def last_line(capsys):
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_step(monkeypatch, capsys):
    monkeypatch.setitem(SHAPES, "tiny", ModelConfig(61, 24, 40, 7, 4, 2, 8))
    monkeypatch.setattr(step, "SEQUENCE_TOKENS", 96)
    flags = ["--repeats", "1", "--shape", "tiny", "--layers", "2"]
    monkeypatch.setattr(sys, "argv", ["bench/step.py", *flags])
    step.main()
    result = last_line(capsys)
    assert result["step"]["s"] > 0 and result["layers"] == 2


def test_rollout(monkeypatch, capsys):
    monkeypatch.setitem(SHAPES, "tiny", ModelConfig(61, 24, 40, 2, 4, 2, 8))
    flags = ["--shape", "tiny", "--sequences", "8", "--new-tokens", "5", "--prompt-tokens", "7"]
    monkeypatch.setattr(sys, "argv", ["bench/rollout.py", *flags])
    rollout.main()
    rows = last_line(capsys)["rows"]
    assert list(rows) == ["8 sequences, even", "8 sequences, ragged"]
    assert all(row["ratio"] > 0 and row["share of the floor"] > 0 for row in rows.values())
    for row in rows.values():  # the same seconds where reading is what takes longer in every step
        assert row["of the roofline"] >= (1 - 1e-9) * row["share of the floor"]


@pytest.mark.parametrize("seconds", [(0.2, 0.01), (0.01, 0.2)])
def test_the_fastest_run_has_its_own_lengths(seconds):
    """Sampling draws other lengths each time; each run here gives back how long it took."""
    left = list(seconds)

    def run():
        time.sleep(left[0])
        return [left.pop(0)]

    assert rollout.fastest(run, 2)[1] == [0.01]


def test_the_roofline_has_the_flops_of_sampling():
    """Against what torch counts; the cache is dense, so no row looks at more keys than it has."""
    torch.manual_seed(0)
    model = rollout.random_model(ModelConfig(61, 24, 40, 2, 4, 2, 8), torch.float32)
    prompts = torch.randint(61, (2, 7)).tolist()
    with FlopCounterMode(display=False) as counter:
        rollout.generate(model, prompts, rollout.SAMPLES, 5, 1.0, [], 0)
    lengths = [5] * 2 * rollout.SAMPLES
    flops = rollout.roofline_s(model, lengths, 7, float("inf"), 1.0)
    assert flops == pytest.approx(counter.get_total_flops(), rel=0.1)
    bytes = rollout.roofline_s(model, lengths, 7, 1.0, float("inf"))
    assert bytes == pytest.approx(rollout.bytes_to_read(model, lengths, 7), rel=0.1)


def test_decode(monkeypatch, capsys):
    monkeypatch.setitem(SHAPES, "tiny", ModelConfig(61, 24, 40, 2, 4, 2, 8))
    flags = ["--shape", "tiny", "--sequences", "3", "--context", "50", "--repeats", "1"]
    monkeypatch.setattr(sys, "argv", ["bench/decode.py", *flags])
    decode.main()
    assert 0 < last_line(capsys)["share of the floor"] < 1


def test_noise(monkeypatch, capsys, tmp_path):
    flags = ["--steps", "1", "--groups", "1", "--precisions", "float32", "bfloat16"]
    monkeypatch.setattr(sys, "argv", ["bench/noise.py", *flags])
    noise.main()
    row = last_line(capsys)["rows"]["1"]["sum"]
    assert 0 < row["float32"] < 0.01 * row["signal"] < row["bfloat16"]


def test_the_page_of_a_gpu_has_every_target(tmp_path):
    """Of reports as the benches print them, and of a step that died."""
    row = {"forward ms": 17.1, "both ms": 69.4, "forward / floor": 1.31, "both / floor": 1.32}
    head = {"faster backend": "slab", "rows": {"ours, slab": {**row, "peak MiB": 277}}}
    rollout = {"rows": {"64 sequences, even": {"decoding": 0.61, "ratio": 5.2}}}
    decode = {"share of the floor": 0.71}
    reports = {"head": head, "decode": decode, "rollout": rollout, "load": {"ratio": 0.91}}
    results = []
    for each in gpu.STEPS:
        report = reports.get(each.name)
        output = f"a table\n{json.dumps(report)}\n" if report else "Killed\n"
        results.append((each, 0 if report else 137, 3.0, output))
    page = gpu.page(results)
    for target in (target for each in gpu.STEPS for target in each.targets):
        assert f"| {target} | " in page
    for measured in ("17.1 and 69.4 ms, 277 MiB", "even: 61%", "even: 5.20", "| 91% |", "| 71% |"):
        assert measured in page
    assert "| a training step: >= 38 % MFU | nothing: the step did not end well |" in page
    assert "| `python bench/noise.py --steps 5` | 137 | 3 |" in page


def test_without_a_gpu_it_says_what_to_run(monkeypatch, capsys):
    monkeypatch.setattr(gpu.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["bench/gpu.py"])
    with pytest.raises(SystemExit):
        gpu.main()
    assert "`make bench` measures a CPU" in capsys.readouterr().err


def test_the_steps_of_train_py_that_are_compared_with_trl(monkeypatch, capsys):
    """Of a peer that takes 10 s for 100 tokens, after a first step that is left out."""
    monkeypatch.setattr(sys, "argv", ["bench/step_trl.py", "toy/model", "--steps", "1"])
    monkeypatch.setattr(
        step_trl, "theirs_in_its_own_process", lambda args: [(99.0, 1), (10.0, 100), (10.0, 100)]
    )
    step_trl.main()
    (figures,) = [
        json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")
    ]
    rows = figures["rows"]
    assert rows["TRL"] == {"s a step": 10.0, "tokens a step": 100.0, "ms a token": 100.0}
    assert 8 <= rows["ours"]["tokens a step"] <= 8 * 128
    assert rows["ratio"]["ms a token"] == 100.0 / rows["ours"]["ms a token"]
