"""Fixtures of several tests: a small model, ragged groups, a handful of problems."""

import json
import os
import sys
from pathlib import Path

# The tests run in more processes than there are cores. Before torch, and for what they start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

torch.set_num_threads(1)
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
LONGEST = [
    "test_ranks.py",
    "test_ir.py",
    "test_decode_kernels.py",
    "test_harnesses.py",
    "test_kernels.py",
    "test_compare.py",
    "test_ablation.py",
]


def pytest_collection_modifyitems(items):
    """The longest files go first, so that no process is left alone with one of them."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(LONGEST)))


@pytest.fixture
def tiny():
    """A model with every moving part (grouped queries, its own head_dim, q and k norms)."""
    from model import ModelConfig, Transformer

    torch.manual_seed(0)
    config = ModelConfig(
        vocab_size=61,
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        tie_word_embeddings=True,
    )
    model = Transformer(config)
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(8.0 if p.dim() == 2 else 1.0)  # far from the flat start, so that mistakes show
    return model


@pytest.fixture
def some_groups():
    """Ragged groups: other prompt lengths, other numbers of responses, a response of one token."""
    from groups import Group

    generator = torch.Generator().manual_seed(1)

    def draw(length):
        return torch.randint(0, 61, (length,), generator=generator)

    return [
        Group(draw(5), [draw(7), draw(1), draw(4)]),
        Group(draw(1), [draw(3)]),
        Group(draw(9), [draw(6), draw(2), draw(8), draw(5)]),
    ]


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """A folder with problems to Python and Bash only: their programs start quickly."""
    from data import read_problems

    folder = tmp_path_factory.mktemp("data")
    problems = read_problems(ROOT / "toy" / "problems.jsonl")
    problems = [p for p in problems if p["target_language"] in ("python", "bash")]
    (folder / "problems.jsonl").write_text(_jsonl(problems[:24]))
    (folder / "heldout.jsonl").write_text(_jsonl(problems[24:30]))
    groups = (ROOT / "toy" / "ir_groups.jsonl").read_text().splitlines()
    (folder / "ir_groups.jsonl").write_text("\n".join(groups[:12]) + "\n")
    return folder


def _jsonl(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)
