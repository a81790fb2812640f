"""What test_ranks.py starts with torchrun: python rank_program.py WHAT FOLDER. Not a test."""

import gc
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import torch

import train
import training.log
import training.run
from config import Config
from distributed import ranks, sharding
from groups import Group, frozen_logprobs
from judge.verdict import Verdict
from model import Transformer, load_model, save_model, unsharded_copy
from step_records import ir_groups_of, samples_of
from training import checkpoint
from training.run import load_policy
from training.samples import PendingVerdicts


def batch(groups):
    """(this rank's part of `groups` and of what belongs to them)"""
    g = torch.Generator().manual_seed(5)
    winner = [torch.tensor([i % 2 == 0 for i in range(len(of.responses))]) for of in groups]
    ref = [torch.randn(len(of.responses), generator=g) - 20 for of in groups]
    old = [[torch.rand(len(y), generator=g) - 5 for y in of.responses] for of in groups]
    advantages = [[torch.randn(len(y), generator=g) for y in of.responses] for of in groups]
    mine = ranks.share_of(len(groups))
    return [[x[i] for i in mine] for x in (groups, winner, ref, old, advantages)]


def local_part(tensor):
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def gradient(folder):
    """Both halves over uneven groups, one rank without any, of each model in `folder`.

    Then a step, a checkpoint, and back."""
    draw = torch.Generator().manual_seed(1)

    def ids(n):
        return torch.randint(0, 61, (n,), generator=draw)

    groups = [
        Group(ids(5), [ids(7), ids(1), ids(4)]),
        Group(ids(1), [ids(3), ids(2)]),
        Group(ids(9), [ids(6), ids(2), ids(30), ids(5)]),
    ]
    device, result = ranks.start(), {}
    for name in ("tied", "untied"):
        c = Config(
            model=str(folder / name),
            gepo_batch=3,
            token_budget=25,
            w_gepo=0.3,
            w_rl=0.7,
            clip_eps=5.0,
        )
        for engine in ((), ("recompute",)):
            c.engine = engine
            model = load_policy(c, c.model, device)
            part, winner, ref, old, advantages = batch(groups)
            metrics = train.off_policy_half(model, c, ir_groups_of(part, winner, ref))
            metrics |= train.on_policy_half(model, c, samples_of(part, old, advantages))
            grads = {k: sharding.unshard(p.grad) for k, p in model.named_parameters()}
            result[name, *engine] = (
                grads,
                metrics,
                ranks.all_gather_list(frozen_logprobs(model, part, 25, 0.7)),
            )
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
        optimizer.step()
        held = sum(
            local_part(t).nbytes
            for p in model.parameters()
            for t in (p, p.grad, *(optimizer.state[p][k] for k in ("exp_avg", "exp_avg_sq")))
        )
        optimizer.zero_grad()
        half = load_model(
            c.model, device, compute_dtype=torch.bfloat16 if sharding.is_sharded() else None
        )  # as on a GPU
        train.off_policy_half(half, c, ir_groups_of(part, winner, ref))
        result[name, "half"] = (
            {k: sharding.unshard(p.grad) for k, p in half.named_parameters()},
            str(unsharded_copy(half).lm_head.weight.dtype),
        )
        copy = unsharded_copy(model)
        result[name, "whole"] = sum(p.nbytes for p in copy.parameters())
        result[name, "logits"], result[name, "held"] = (
            copy.logits(torch.arange(12)[None]).detach(),
            ranks.all_gather_list([held]),
        )
        save_model(model, folder / f"{name}-{ranks.world_size()}", shard_bytes=9000)
        saved = checkpoint.save(
            folder / f"run-{name}-{ranks.world_size()}", 1, model, optimizer, c.model, {}
        )
        again = load_policy(c, saved, device)
        fresh = torch.optim.AdamW(again.parameters(), lr=0.1)
        checkpoint.load_optimizer(saved, again, fresh)
        result[name, "moments"] = {
            k: sharding.unshard(fresh.state[p]["exp_avg_sq"]) for k, p in again.named_parameters()
        }
        other = folder / f"run-{name}-1" / "step-000001"  # one that a single process wrote
        if ranks.world_size() > 1:
            checkpoint.load_optimizer(other, again, fresh)
            result[name, "moments of 1"] = {
                k: sharding.unshard(fresh.state[p]["exp_avg_sq"])
                for k, p in again.named_parameters()
            }
    if ranks.rank() == 0:
        torch.save(result, folder / f"result-{ranks.world_size()}.pt")
    ranks.shut_down()


def families(folder):
    """Each model in `folder`, loaded in rows by all ranks: its log-probs, and saved again."""
    device = ranks.start()
    groups = [Group(torch.arange(5, 25), [torch.arange(30, 50), torch.arange(8, 11)])]
    for directory in sorted(folder.iterdir()):
        whole = load_model(directory)
        sharded = load_model(directory, device, compute_dtype=torch.float32)
        for model in (sharded, unsharded_copy(sharded)):
            got = frozen_logprobs(model, groups, 1000)
            torch.testing.assert_close(got, frozen_logprobs(whole, groups, 1000))
        save_model(sharded, directory / "saved", shard_bytes=20_000)
        ranks.barrier()
        again = load_model(directory / "saved").state_dict()
        assert all(torch.equal(again[k], v) for k, v in whole.state_dict().items()), directory
    ranks.shut_down()


def broken(folder):
    """train.py, whose last rank raises in its second step."""
    flags, real = json.loads((folder / "flags.json").read_text()), train.generate

    def generate(*args, seed, **more):
        if ranks.rank() == ranks.world_size() - 1 and seed % 10 == 1:
            raise ValueError("the last rank found a hair in its soup")
        return real(*args, seed=seed, **more)

    train.generate = generate
    train.main(flags)


def judge_errors(folder):
    """train.py, whose judge fails for a quarter of the samples of every step."""
    real = PendingVerdicts.wait

    def wait(pending):
        verdicts = real(pending)
        for i in range(1, len(verdicts), 4):
            verdicts[i] = Verdict("JE", None, "disk full")
        return verdicts

    PendingVerdicts.wait = wait
    training.log.MAX_JUDGE_ERRORS = 1.0
    train.main(json.loads((folder / "flags.json").read_text()))


def models_alive(folder):
    """train.py up to its first step: how many models each rank holds then."""

    def count_models(run):
        alive = sum(isinstance(thing, Transformer) for thing in gc.get_objects())
        (folder / f"models-{ranks.rank()}").write_text(str(alive))
        ranks.barrier()
        os._exit(0)

    gc.disable()  # a collection by chance would hide what this looks for
    train.train = count_models
    train.main(json.loads((folder / "flags.json").read_text()))


if __name__ == "__main__":
    torch.set_num_threads(1)
    ranks.report_rank_failure(globals()[sys.argv[1]])(Path(sys.argv[2]))
