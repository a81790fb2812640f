"""More ranks than one: the same gradient, the same curve, exact restarts.

And what is left when a rank, a save or a file fails.
"""

import json
import os
import random
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest
import torch
import torch.distributed as dist
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed import device_mesh
from torch.distributed.tensor import DTensor, Shard
from torch.testing._internal.distributed.fake_pg import FakeStore

import train
from checkpoints import ONE_OF_EACH_NEW_KIND, checkpoint_by_transformers
from config import Config
from conftest import ROOT
from data import append_rows
from distributed import ranks, sharding
from groups import Group, token_logprobs
from model import ModelConfig, Transformer, load_model, save_model
from rollout import KVCache
from step_records import ir_groups_of
from support import flags, processes_of, rows, wait_for_row
from training import checkpoint, plan
from training.plan import memory_per_rank
from training.run import load_policy

TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]
RANKS = str(ROOT / "tests" / "distributed" / "rank_program.py")


def torchrun(count, *command, node=(), **more):
    return subprocess.Popen(
        [*TORCHRUN, *(node or ["--standalone"]), f"--nproc_per_node={count}", *map(str, command)],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        **more,
    )


def ended(process, code=0, seconds=200):
    text, _ = process.communicate(timeout=seconds)
    assert process.returncode == code, text[-3000:]
    return text


# ------------------------------------------------------------------------------ one gradient


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    torch.manual_seed(0)
    experts = {
        "model_type": "qwen3_moe",
        "num_experts": 11,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "mlp_only_layers": (0,),
    }
    for name, more in (("tied", {}), ("untied", experts)):
        model = Transformer(
            ModelConfig(
                vocab_size=61,
                hidden_size=24,
                intermediate_size=40,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=2,
                head_dim=8,
                tie_word_embeddings=name == "tied",
                **more,
            )
        )
        with torch.no_grad():
            for p in model.parameters():
                p.mul_(8.0 if p.dim() >= 2 else 1.0)
        save_model(model, folder / name)
    subprocess.run([sys.executable, RANKS, "gradient", folder], check=True)
    for count in (2, 4):
        ended(torchrun(count, RANKS, "gradient", folder))
    return folder, {count: torch.load(folder / f"result-{count}.pt") for count in (1, 2, 4)}


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("name", ["tied", "untied"])
def test_the_gradient_does_not_depend_on_the_ranks(results, count, name):
    """Uneven groups and lengths; the token budget cuts them differently on every rank.

    Of 4 ranks one has none."""
    folder, result = results
    for engine in ((), ("recompute",)):
        want, metrics, logps = result[1][name, *engine]
        grads, theirs, of = result[count][name, *engine]
        assert set(grads) == set(want) and theirs == pytest.approx(metrics, rel=1e-5)
        for k in want:
            assert want[k].norm() > 0 and (grads[k] - want[k]).norm() <= 1e-5 * want[k].norm(), k
        assert all(torch.allclose(a, b, atol=1e-5) for x, y in zip(of, logps) for a, b in zip(x, y))
    grads, dtype = result[count][
        name, "half"
    ]  # bfloat16 weights under float32 ones: rounding, and nothing else
    assert dtype == "torch.bfloat16" and all(g.dtype == torch.float32 for g in grads.values())
    for k, v in result[1][name, "half"][0].items():
        assert (grads[k] - v).norm() <= 0.1 * v.norm(), k
    assert torch.allclose(
        result[count][name, "logits"], result[1][name, "logits"], atol=1e-4
    )  # sampled from: after one step of AdamW
    for saved in (
        folder / f"{name}-{count}",
        folder / f"run-{name}-{count}" / "step-000001",
    ):  # what one process reads
        ours, theirs = load_model(saved), load_model(folder / f"{name}-1")
        assert all(
            torch.allclose(a, b, atol=1e-5) for a, b in zip(ours.parameters(), theirs.parameters())
        )
    for k, v in result[1][name, "moments"].items():
        assert torch.allclose(result[count][name, "moments"][k], v, atol=1e-5)
        assert torch.equal(
            result[count][name, "moments of 1"][k], v
        )  # one process wrote it, `count` ranks read it


def test_every_kind_of_family_is_sharded_and_saved(tmp_path):
    for variant in ONE_OF_EACH_NEW_KIND:
        checkpoint_by_transformers(variant, tmp_path / variant)
    ended(torchrun(2, RANKS, "families", tmp_path))


# ------------------------------------------------------------------------------ memory


def test_the_memory_formula_is_what_tensors_take(results, monkeypatch):
    _, result = results
    for name in ("tied", "untied"):
        n = sum(v.numel() for v in result[1][name, "moments"].values())
        for count in (1, 2, 4):
            held = result[count][name, "held"]
            assert len(held) == count and sum(held) == 16 * n
            config, c = (
                ModelConfig.from_pretrained(results[0] / name),
                Config(rollout_batch=8, max_length=100),
            )
            need = memory_per_rank(config, n, count, c, compute_bytes=4)
            assert max(held) <= 1.1 * need["state"]
            cache = KVCache(
                config, 8 // count, 100, "cpu", torch.float32
            )  # beside it, where sharded, the whole copy
            cached = sum(t.nbytes for pair in cache.layers for t in pair)
            reading = need["sampling"] - cached - result[count][name, "whole"]
            assert reading == plan._reading(config, c, 4)  # tests/test_rollout.py measures it
            c.engine = ("offload",)
            assert (
                memory_per_rank(config, n, count, c, compute_bytes=4)["peak"]
                == need["peak"] - need["state"] - need["pi_ref"]
            )
    c, kept = Config(token_budget=512), {}

    def keep(tensor):  # what autograd keeps for the backward, each storage once
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes(), tensor
        return tensor

    experts = {"num_experts": 16, "num_experts_per_tok": 3, "moe_intermediate_size": 64}
    for engine, more in (((), {}), (("recompute",), {}), ((), experts)):
        c.engine, seen = engine, {}
        for layers in (1, 5):  # what embedding and head keep is in both
            torch.manual_seed(0)
            config = ModelConfig(
                vocab_size=61,
                hidden_size=96,
                intermediate_size=256,
                num_hidden_layers=layers,
                num_attention_heads=6,
                num_key_value_heads=2,
                head_dim=32,
                **more,
            )
            model = Transformer(config).bfloat16()
            model.frequencies = model.frequencies.float()
            for block in model.model.layers:
                block.recompute = bool(engine)
            kept.clear()
            kept.update({p.untyped_storage().data_ptr(): (0, None) for p in model.parameters()})
            with torch.autograd.graph.saved_tensors_hooks(
                lambda t: t if kept.get(t.untyped_storage().data_ptr()) == (0, None) else keep(t),
                lambda t: t,
            ):
                token_logprobs(model, [Group(torch.arange(511) % 61, [torch.tensor([3])])])
            seen[layers] = sum(size for size, _ in kept.values())
        parts = [
            memory_per_rank(
                ModelConfig(**{**vars(config), "num_hidden_layers": layers}), 0, 1, c, sharded=False
            )["training"]
            for layers in (1, 5)
        ]
        assert seen[5] - seen[1] == pytest.approx(parts[1] - parts[0], rel=0.1), (engine, more)


def test_the_memory_table_of_docs_distributed():
    table = subprocess.run(
        [sys.executable, ROOT / "bench" / "memory.py"], capture_output=True, text=True, check=True
    ).stdout
    lines = [line for line in table.splitlines() if line.startswith("|")]
    assert len(lines) >= 6 and "\n".join(lines) in (ROOT / "docs/distributed.md").read_text()


# ------------------------------------------------------------------------------ one curve


def close(a, b):
    """Rows of two numbers of ranks: the same samples and verdicts, numbers up to rounding."""
    assert [sorted(row) for row in a] == [sorted(row) for row in b]
    for x, y in zip(a, b):
        for k in x:
            same = (
                x[k] == y[k]
                if k
                in (
                    "step",
                    "verdicts",
                    "rewards",
                    "skipped",
                    "truncated",
                    "response_tokens",
                    "reward",
                )
                else x[k] == pytest.approx(y[k], rel=1e-3, abs=2e-5)
            )
            assert same, (x["step"], k, x[k], y[k])


@pytest.fixture(scope="module")
def uneven(few):
    """Three IR groups and eight samples of two prompts a step: no number of ranks divides both."""
    return lambda out, *more: flags(few, out, "--gepo-batch", "3", *more)


@pytest.fixture(scope="module")
def alone(uneven, tmp_path_factory):
    out = tmp_path_factory.mktemp("alone") / "run"
    text = subprocess.run(
        [sys.executable, ROOT / "train.py", *uneven(out)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return out, text


@pytest.fixture(scope="module")
def two(uneven, tmp_path_factory):
    out = tmp_path_factory.mktemp("two") / "run"
    return out, ended(torchrun(2, ROOT / "train.py", *uneven(out)))


def test_where_the_time_goes_is_said(alone, two):
    out, text = alone
    metrics = rows(out, times=True)
    assert (
        "seconds a step: " in text
        and " behind the off-policy half" in text
        and "memory at most: " in text
    )
    for row in metrics + rows(two[0], times=True):
        parts = sum(
            row[k]
            for k in ("rollout_s", "gepo_s", "logprob_s", "judge_wait_s", "policy_s", "optimizer_s")
        )
        assert 0.9 * row["step_s"] < parts <= row["step_s"] + 0.01
    wait, judge, beside = (
        sum(row[k] for row in metrics for k in keys)
        for keys in (("judge_wait_s",), ("judge_s",), ("gepo_s", "logprob_s"))
    )
    assert wait <= max(0, judge - beside) + 0.25 * judge  # the judge worked while the GEPO half did
    assert metrics[2]["save_s"] > 0 == metrics[1]["save_s"]  # after step 1 there was a checkpoint
    assert metrics[3]["save_s"] == 0


def test_two_and_four_ranks_give_the_curve_of_one(alone, two, uneven, tmp_path):
    four = tmp_path / "run", ended(torchrun(4, ROOT / "train.py", *uneven(tmp_path / "run")))
    for count, (out, text) in ((2, two), (4, four)):
        close(rows(out), rows(alone[0]))
        assert rows(out, "samples.jsonl") == rows(alone[0], "samples.jsonl")
        assert f"{count} x cpu" in text and text.count("trained 4 step(s)") == 1  # rank 0 speaks


def test_without_a_kl_term_rank_0_has_the_log_probs_of_all(alone, uneven, tmp_path):
    """logp_old of the other rank's samples is known after the policy pass only."""
    out = tmp_path / "run"
    ended(torchrun(2, ROOT / "train.py", *uneven(out, "--kl-coef", "0", "--steps", "1")))
    [row], first = rows(out), rows(alone[0])[0]
    keys = ("logp_gap", "logp_gap_clipped", "ratio_max", "ratio_min", "entropy", "response_tokens")
    close([{key: row[key] for key in keys}], [{key: first[key] for key in keys}])


def test_two_nodes_continue_what_one_process_began(alone, uneven, tmp_path):
    """Plain torchrun rendezvous, two agents with one rank each.

    The run's first half was written by a single process."""
    out = tmp_path / "run"
    shutil.copytree(alone[0], out)
    shutil.rmtree(out / "step-000004")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    node = [
        "--nnodes=2",
        "--rdzv_backend=c10d",
        f"--rdzv_endpoint=127.0.0.1:{port}",
        "--rdzv_id=oorl",
    ]
    agents = [torchrun(1, ROOT / "train.py", *uneven(out, "--resume"), node=node) for _ in range(2)]
    texts = [ended(agent) for agent in agents]
    assert sum("steps     2 to 4" in text for text in texts) == 1
    close(rows(out), rows(alone[0]))
    assert rows(out)[:2] == rows(alone[0])[:2] and [
        p.name for p in checkpoint.saved_checkpoints(out)
    ] == ["step-000002", "step-000004"]


# ------------------------------------------------------------------------------ bfloat16


@pytest.mark.parametrize("count", [1, 2])
def test_bfloat16_begins_at_0_and_1_and_resumes_bit_for_bit(uneven, tmp_path, count):
    """At step 0 rhat is 0 and the ratio 1, exactly; the ratio also later, and with judge errors."""
    out = tmp_path / "run"
    held_out = tmp_path / "held_out.jsonl"
    lines = (ROOT / "toy" / "heldout_groups.jsonl").read_text().splitlines()
    held_out.write_text("\n".join(lines[:3]) + "\n")
    flags = uneven(out, "--dtype", "bfloat16", "--steps", "3", "--lr", "1e-4")
    flags += ["--eval-ir-groups", str(held_out)]
    (tmp_path / "flags.json").write_text(json.dumps(flags))
    for _ in range(2):
        process = torchrun(count, RANKS, "judge_errors", tmp_path)
        text = ended(process)
        if (out / "first").exists():
            break
        assert "steps     0 to 3" in text
        assert text.count("pi_ref of the IR groups:   0%") == 1  # rank 0 speaks
        scores = rows(out, "eval-ir.jsonl")
        assert [row["id"] for row in scores] == ["toy-h-000", "toy-h-001", "toy-h-002"]
        shutil.rmtree(out / "step-000003")
        (out / "first").write_text(json.dumps(rows(out)))
    assert "steps     2 to 3" in text and rows(out, "eval-ir.jsonl") == scores
    metrics = rows(out)
    assert metrics == json.loads((out / "first").read_text())
    for row in metrics:
        assert row["verdicts"]["JE"] >= 2 and row["grad_norm"] > 0
        assert row["ratio_max"] == row["ratio_min"] == 1.0
    assert metrics[0]["gepo_rhat_spread"] == metrics[0]["gepo_margin"] == metrics[0]["kl"] == 0
    assert metrics[2]["gepo_rhat_spread"] > 100 * metrics[2]["gepo_noise"] > 0


# ------------------------------------------------------------------------------ ends of all kinds


def test_four_kills_leave_no_trace(uneven, tmp_path):
    """SIGKILL twice while it saves and twice at a random moment of a later step.

    Then to the end, bit for bit."""
    out, chance, began = tmp_path / "run", random.Random(7), []

    def command(out, *more):
        return [sys.executable, ROOT / "train.py", *uneven(out, "--steps", "12", *more)]

    subprocess.run(command(tmp_path / "whole"), capture_output=True, check=True)
    step_s = max(row["step_s"] for row in rows(tmp_path / "whole", times=True))
    delays = [chance.uniform(0, step_s) for _ in range(2)]
    first, *kills = [*delays, None, None]  # None: while it saves
    chance.shuffle(kills)
    for delay in (first, *kills):
        process = subprocess.Popen(
            command(out, "--save-every", "1"),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "OORL_TEST": str(out)},
        )
        for line in process.stdout:  # the plan, after which nothing of an earlier run is left
            if match := re.match(r"steps +(\d+) to 12", line):
                began.append(int(match[1]))
                break
        moment, deadline = (
            "step-*.tmp" if delay is None else f"step-{began[-1] + 1:06d}",
            time.time() + 60,
        )
        while not any(out.glob(moment)):
            assert process.poll() is None and time.time() < deadline
            time.sleep(0.001)
        time.sleep(delay or 0)
        assert process.poll() is None  # it had something left to do
        process.kill()
        process.communicate()
        assert len(rows(out)) >= began[-1] and len(rows(out, "samples.jsonl")) >= 8 * began[-1]
    assert (
        began[0] == 0 < began[1] and sorted(began) == began and began[-1] >= 2
    )  # it went on each time, and never back
    assert subprocess.run(command(out), capture_output=True).returncode == 0
    for name in ("metrics.jsonl", "samples.jsonl"):
        assert rows(out, name) == rows(tmp_path / "whole", name)
    assert not list(out.glob("*.tmp")) and not processes_of(out)


def gone(out, seconds=30):
    deadline = time.time() + seconds
    while processes_of(out) and time.time() < deadline:
        time.sleep(0.1)
    return not processes_of(out)


@pytest.mark.parametrize(
    "who, how",
    [("rank", signal.SIGKILL), ("torchrun", signal.SIGKILL), ("torchrun", signal.SIGINT)],
)
def test_one_killed_all_gone_and_continued_bit_for_bit(uneven, two, tmp_path, who, how):
    out = tmp_path / "run"
    command = (
        ROOT / "train.py",
        *uneven(out, "--save-every", "1" if how == signal.SIGKILL else "100"),
    )
    process = torchrun(2, *command, env={**os.environ, "OORL_TEST": str(out)})
    wait_for_row(process, out)
    count = [
        pid
        for pid in processes_of(out)
        if b"RANK=1" in open(f"/proc/{pid}/environ", "rb").read().split(b"\0")
        and b"train.py" in open(f"/proc/{pid}/cmdline", "rb").read()
    ]
    killed = time.time()
    os.kill(min(count) if who == "rank" else process.pid, how)
    assert gone(out), processes_of(out)
    text, _ = process.communicate(timeout=30)
    assert (
        time.time() - killed < 30 and process.returncode != 0 and "trained 4 step(s)" not in text
    )  # something is left to do
    if who == "rank":
        assert "rank      : 1" in text[-900:] and "Signal 9 (SIGKILL)" in text[-900:], text[-900:]
    if how == signal.SIGINT:  # torchrun passes it on; the ranks agree on a step to end after
        (saved,) = checkpoint.saved_checkpoints(out)
        assert (
            int(saved.name[-1]) == len(rows(out)) and "the same command continues from" in text
        ), text[-900:]
    if (who, how) != ("torchrun", signal.SIGKILL):
        ended(torchrun(2, *command))
        assert rows(out) == rows(two[0]) and rows(out, "samples.jsonl") == rows(
            two[0], "samples.jsonl"
        )


def test_a_reference_of_no_more_use_is_gone_before_the_first_step(uneven, tmp_path):
    """FSDP's units are cycles: on a GPU pi_ref would stay until Python happens to collect."""
    flags = uneven(tmp_path / "run", "--kl-coef", "0", "--steps", "100")
    (tmp_path / "flags.json").write_text(json.dumps(flags))
    ended(torchrun(2, RANKS, "models_alive", tmp_path))
    assert [(tmp_path / f"models-{rank}").read_text() for rank in (0, 1)] == ["1", "1"]


def test_one_raises_all_end_with_its_words(uneven, tmp_path):
    out = tmp_path / "run"
    (tmp_path / "flags.json").write_text(json.dumps(uneven(out, "--steps", "100")))
    process = torchrun(2, RANKS, "broken", tmp_path, env={**os.environ, "OORL_TEST": str(out)})
    wait_for_row(process, out)
    row = time.time()
    text = ended(process, code=1)
    assert time.time() - row < 30 and gone(out, 1)
    assert (
        "the last rank found a hair in its soup" in text[-600:] and "rank      : 1" in text[-2500:]
    ), text[-2500:]


# ----------------------------------------------------------------------- damaged and full disks


@pytest.fixture
def saves(tmp_path):
    """A run's folder with two checkpoints, and what a third takes."""
    model = load_model(ROOT / "toy" / "model")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for step in (1, 2):
        for p in model.parameters():
            p.grad = torch.ones_like(p)
        optimizer.step()
        checkpoint.save(tmp_path, step, model, optimizer, ROOT / "toy" / "model", {"ir_groups": ""})
    (tmp_path / "config.json").write_text('{"ir_groups": ""}')
    return tmp_path, model, optimizer


@pytest.mark.parametrize(
    "harm", ["model.safetensors", "optimizer/__0_0.distcp", "trainer.json", "gone"]
)
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_taken(saves, capsys, harm):
    run, *_ = saves
    latest = run / "step-000002"
    if harm == "gone":
        (latest / "config.json").unlink()
    elif harm == "trainer.json":
        (latest / harm).write_text((latest / harm).read_text()[:40])
    else:
        with open(latest / harm, "r+b") as f:  # one bit, in the middle
            f.seek(100_000)
            byte = f.read(1)[0]
            f.seek(100_000)
            f.write(bytes([byte ^ 1]))
    assert checkpoint.open_run(run, {"ir_groups": ""}, ()) == (1, run / "step-000001")
    text = capsys.readouterr().out
    assert "step-000002 is damaged" in text and (harm if harm != "gone" else "config.json") in text
    assert (run / "step-000002.damaged").is_dir()
    shutil.copytree(run / "step-000001", latest)  # damaged once more: copied into the wrong place
    (latest / "config.json").write_text("{}")
    assert checkpoint.open_run(run, {"ir_groups": ""}, ()) == (1, run / "step-000001")
    shutil.rmtree(run / "step-000001" / "optimizer")
    for _ in range(2):  # nor does the second start begin it again, and cut its rows
        with pytest.raises(ValueError, match="no whole checkpoint left"):
            checkpoint.open_run(run, {"ir_groups": ""}, ())


@contextmanager
def room(size):
    """No file may be larger: write(2) takes a part, then fails, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    "limit", [1_000_000, 5_000_000]
)  # the weights do not fit; they do and the moments do not
def test_a_full_disk_leaves_the_checkpoint_before(saves, limit):
    run, model, optimizer = saves
    with (
        room(limit),
        pytest.raises(
            OSError, match="step-000003 could not be written .*step-000002 is whole: make room"
        ),
    ):
        checkpoint.save(run, 3, model, optimizer, ROOT / "toy" / "model", {"ir_groups": ""})
    assert sorted(p.name for p in run.iterdir()) == ["config.json", "step-000001", "step-000002"]
    assert checkpoint.open_run(run, {"ir_groups": ""}, ()) == (2, run / "step-000002")
    assert (
        checkpoint.save(run, 3, model, optimizer, ROOT / "toy" / "model", {"ir_groups": ""}).name
        == "step-000003"
    )


def test_a_row_that_does_not_fit_ends_the_run_and_is_cut(tmp_path):
    path, made = (
        tmp_path / "metrics.jsonl",
        [{"step": step, "reward": 0.1, "text": "é" * 40} for step in range(3)],
    )
    append_rows(path, made[:2])
    with room(path.stat().st_size + 20), pytest.raises(OSError, match="metrics.jsonl"):
        append_rows(path, made[2:])  # a part goes in, which the kernel calls a success
    assert path.stat().st_size % 20 and checkpoint.drop_rows_from(path, 2) == made[:2] == [
        json.loads(line) for line in path.open()
    ]
    assert checkpoint.drop_rows_from(path, 1) == made[:1]  # step 1 itself is made again
    append_rows(path, made[1:2])
    with (
        room(100),
        pytest.raises(OSError, match="reference-0.pt could not be written .* make room"),
    ):
        checkpoint.cached_on_disk(tmp_path / "reference-0.pt", lambda: [torch.zeros(1000)])
    (tmp_path / "config.json").write_text('{"ir_groups": ""}')
    checkpoint.open_run(tmp_path, {"ir_groups": ""}, ())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.json", "metrics.jsonl"]


def test_where_nothing_can_be_written_and_nothing_continued(uneven, tmp_path):
    with pytest.raises(OSError, match="/proc/nowhere"):
        train.main(uneven("/proc/nowhere"))
    with pytest.raises(ValueError, match="has no checkpoint to continue; start without --resume"):
        train.main(uneven(tmp_path / "run", "--resume"))


def test_other_settings_only_when_forced(alone, uneven, tmp_path, capsys):
    shutil.copytree(alone[0], tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "step-000004")
    with pytest.raises(ValueError, match=r"--beta was 0.1, is 0.2.*--resume force"):
        train.main(uneven(tmp_path / "run", "--beta", "0.2"))
    assert (
        train.main(
            uneven(tmp_path / "run", "--beta", "0.2", "--resume", "force", "--engine", "recompute")
        )
        == 0
    )
    assert "continued with other settings: --beta was 0.1, is 0.2" in capsys.readouterr().out
    assert (
        rows(tmp_path / "run")[:2] == rows(alone[0])[:2]
        and rows(tmp_path / "run")[3] != rows(alone[0])[3]
    )


# ------------------------------------------------------------------------------ NaN and infinity


def test_a_step_with_nan_is_skipped_and_counted_and_five_end_the_run(
    uneven, alone, tmp_path, monkeypatch
):
    real, poisoned, steps = train.off_policy_half, [], iter(range(100))

    def off_policy_half(model, *args):
        metrics = real(model, *args)
        if next(steps) in poisoned:
            next(model.parameters()).grad[0, 0] = float("nan")
        return metrics

    monkeypatch.setattr(train, "off_policy_half", off_policy_half)
    out, poisoned[:] = tmp_path / "run", [1]
    assert train.main(uneven(out, "--steps", "3")) == 0
    metrics = rows(out)
    assert [row["skipped"] for row in metrics] == [0, 1, 0] and metrics[1][
        "grad_norm"
    ] is None  # JSON has no NaN
    (saved,) = checkpoint.saved_checkpoints(out)  # none after step 1, whose update was skipped
    assert saved.name == "step-000003" and all(
        p.isfinite().all() for p in load_model(saved).parameters()
    )
    out, steps, poisoned[:] = tmp_path / "late", iter(range(100)), [1]
    assert train.main(uneven(out, "--steps", "4", "--save-every", "2")) == 0
    assert [p.name for p in checkpoint.saved_checkpoints(out)] == [
        "step-000003",
        "step-000004",
    ]  # step 1 was to be saved: the next one is
    out, steps, poisoned[:] = tmp_path / "other", iter(range(100)), range(2, 100)
    with pytest.raises(ValueError, match=r"in 5 steps in a row, up to step 6, .*step-000002"):
        train.main(uneven(out, "--steps", "20"))
    assert [row["skipped"] for row in rows(out)] == [0, 0, 1, 1, 1, 1, 1]
    assert [p.name for p in checkpoint.saved_checkpoints(out)] == [
        "step-000002"
    ]  # none of the idle steps replaced it


# ------------------------------------------------------------------------------ engine


def test_compiled_blocks_give_the_gradient(results):
    folder, result = results
    c = Config(token_budget=25, w_gepo=0.3)
    groups = [
        Group(torch.tensor([1, 2, 3]), [torch.arange(4, 4 + n) for n in (2, 9, 5)]),
        Group(torch.tensor([7]), [torch.arange(n) for n in (3, 12)]),
    ]
    winner, ref, grads = (
        [torch.tensor([True, True, False]), torch.tensor([True, False])],
        [torch.zeros(3), torch.zeros(2)],
        [],
    )
    for engine in ((), ("recompute", "compile")):
        c.engine = engine
        model = load_policy(c, folder / "tied", torch.device("cpu"))
        train.off_policy_half(model, c, ir_groups_of(groups, winner, ref))
        grads.append([p.grad for p in model.parameters()])
    for a, b in zip(*grads):
        assert (a - b).norm() <= 1e-5 * a.norm() and a.norm() > 0


def test_offloaded_rows_stay_on_the_cpu(monkeypatch):
    """A mesh of two GPUs that are not there: DTensor.from_local would move the rows to them."""
    monkeypatch.setattr(device_mesh._mesh_resources, "num_devices_per_host", lambda kind: 2)
    dist.init_process_group("fake", store=FakeStore(), rank=1, world_size=2)
    try:
        mesh = device_mesh.DeviceMesh("cuda", [0, 1], _init_backend=False)
        mesh._device_type = "cuda:0"  # a build without CUDA knows no current GPU
        with FakeTensorMode():
            parameter = DTensor.from_local(
                torch.empty(3, 4, device="cuda:0"),
                mesh,
                [Shard(0)],
                run_check=False,
                shape=(5, 4),
                stride=(4, 1),
            )
            assert sharding.local_rows(parameter) == slice(3, 5)
            made = sharding.tensor_from_local_rows(torch.zeros(2, 4), parameter)
            assert made.device.type == made.to_local().device.type == "cpu" and made.shape == (5, 4)
    finally:
        dist.destroy_process_group()


def test_ranks_without_torchrun_are_named(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(
        ValueError,
        match="RANK but no WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT: start with torchrun",
    ):
        ranks.start()
