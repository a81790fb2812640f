"""Several processes, one run.

    ranks       who takes part, which share of the work is whose, what the ranks tell each other
    sharding    FSDP2: how weights, gradients and AdamW's moments are spread over them

In: the environment that torchrun sets. Out: a device for this rank, a few collectives on Python
lists, and a model whose parameters are DTensors. What is heavy is sharded; what is light (verdicts,
rewards, log-probs) is gathered, so that every rank computes statistics over the global batch with
the bits that one process would have. Checkpoints are in training/checkpoint.py.

    from distributed import ranks, sharding
"""
