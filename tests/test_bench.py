"""The benches that use the trainer's own functions still run: no figure is checked."""

import json
import sys

from bench import noise, packing, step
from model import ModelConfig


def last_line(capsys):
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_step(monkeypatch, capsys):
    small = ModelConfig(61, 24, 40, 2, 4, 2, 8)
    for module in (packing, step):
        monkeypatch.setattr(module, "CONFIG", small)
    monkeypatch.setattr(step, "SEQUENCE_TOKENS", 96)
    monkeypatch.setattr(sys, "argv", ["bench/step.py", "--repeats", "1"])
    step.main()
    assert last_line(capsys)["step"]["s"] > 0


def test_noise(monkeypatch, capsys, tmp_path):
    flags = ["--steps", "1", "--groups", "1", "--precisions", "float32", "bfloat16"]
    monkeypatch.setattr(sys, "argv", ["bench/noise.py", *flags])
    noise.main()
    row = last_line(capsys)["rows"]["1"]["sum"]
    assert 0 < row["float32"] < 0.01 * row["signal"] < row["bfloat16"]
