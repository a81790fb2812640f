"""What a run will do and how much memory it needs, printed before it starts."""

from distributed import ranks, sharding
from model import packed_bytes
from rollout import CACHE_TOKENS, READ_TOKENS


def memory_per_rank(
    model, n_parameters, world_size, config, compute_bytes=2, sharded=True, packed=0
):
    """Bytes that a rank needs at most, part by part. compute_bytes: of one number when computing.

    packed: bytes of the weights that are copied for sampling on a CPU.

    state: weights, gradients and AdamW's moments. pi_ref: the frozen reference. training, sampling:
    what each takes beside these; they take turns. peak: all at once (with --engine offload, state
    and pi_ref are in the host's memory and not in the peak).
    A test holds all but the gathered weights against what tensors take. Left out: the allocator's
    slack, and torch itself (about 1 GiB)."""
    state = 16 * n_parameters // world_size  # float32: weight, gradient, two moments
    pi_ref = 0
    if config.kl_coef:
        pi_ref = (compute_bytes if sharded else 4) * n_parameters // world_size
    training = _activations(model, config, compute_bytes) + 2**28
    if config.rhat_dtype == "float64":  # torch has no fused attention for it
        training += 22 * model.num_attention_heads * config.max_length**2
    sampling = _kv_cache(model, world_size, config, compute_bytes) + packed
    sampling += max(_reading(model, config, compute_bytes), _drawing(model, world_size, config))
    if sharded:
        training += _gathered_weights(model, n_parameters, compute_bytes)
        sampling += compute_bytes * n_parameters  # the copy that is whole on every rank
    peak = max(training, sampling)
    if "offload" not in config.engine:
        peak += state + pi_ref
    return {
        "state": state,
        "pi_ref": pi_ref,
        "training": training,
        "sampling": sampling,
        "peak": peak,
    }


def _activations(model, config, compute_bytes):
    """Kept for the backward of one forward of --token-budget tokens."""
    q_size = model.num_attention_heads * model.head_dim
    kv_size = model.num_key_value_heads * model.head_dim
    mlp_size = 4 * model.intermediate_size
    if model.num_experts:  # each token once for each of its experts; the router's are in float32
        of_an_expert = 4 * model.moe_intermediate_size + 2 * model.hidden_size
        mlp_size = model.num_experts_per_tok * of_an_expert
        mlp_size += 2 * (model.hidden_size + model.num_experts)
    numbers_per_token = 8 * model.hidden_size + mlp_size + 6 * q_size + 7 * kv_size
    one_layer = compute_bytes * config.token_budget * numbers_per_token
    if "recompute" not in config.engine:
        return one_layer * model.num_hidden_layers
    inputs_of_layers = (
        compute_bytes * model.hidden_size * config.token_budget * model.num_hidden_layers
    )
    return one_layer + inputs_of_layers


def _gathered_weights(model, n_parameters, compute_bytes):
    """Two blocks and the gradient of one, the head and its gradient; and the gradients once more
    in float32, to be reduced."""
    head = model.vocab_size * model.hidden_size
    heads = head if model.tie_word_embeddings else 2 * head
    block = (n_parameters - heads) // model.num_hidden_layers
    return (3 * compute_bytes + 4) * block + (2 * compute_bytes + 4) * head


def _kv_cache(model, world_size, config, compute_bytes):
    """Keys and values of the sequences that rollout.generate runs at a time."""
    sequences = -(-config.rollout_batch // world_size)
    # Not in whole rows of --max-length: where all prompts are shorter, so are the rows.
    tokens = min(sequences * config.max_length, max(CACHE_TOKENS, config.max_length))
    kv_size = model.num_key_value_heads * model.head_dim
    return 2 * compute_bytes * kv_size * model.num_hidden_layers * tokens


def _reading(model, config, compute_bytes):
    """What one layer holds while prompts are read: the largest forward of rollout.generate.

    The MLP's gate, its activation, up and their product, or attention's q, k, v, y and a copy of
    the keys for every sample; the stream and its norm, which is computed in float32; the mask of
    pieces and windows, as bools and as numbers."""
    tokens = min(READ_TOKENS, config.rollout_batch * config.max_length)
    q_size = model.num_attention_heads * model.head_dim
    kv_size = model.num_key_value_heads * model.head_dim
    mlp_size = 4 * model.intermediate_size
    if model.num_experts:
        mlp_size = 4 * model.num_experts_per_tok * model.moe_intermediate_size
    attention_size = 2 * q_size + (2 + config.samples_per_prompt) * kv_size
    widest = max(mlp_size, attention_size)
    size = tokens * (compute_bytes * (widest + 4 * model.hidden_size) + 8 * model.hidden_size)
    if config.max_length > READ_TOKENS or any(model.windows):
        pairs = min(READ_TOKENS, config.max_length) * config.max_length
        size += (1 + compute_bytes) * pairs
    return size


def _drawing(model, world_size, config):
    """What a step of all sequences holds on a CPU: logits and log-probs in float32, probabilities
    and their sums in float64."""
    sequences = -(-config.rollout_batch // world_size)
    rows = min(sequences, max(1, CACHE_TOKENS // config.max_new_tokens))
    return 24 * rows * model.vocab_size


def print_plan(run, inputs):
    """run: a training.run.Run, inputs: its training.inputs.Inputs."""
    config, policy = run.config, run.policy
    n_parameters = sum(p.numel() for p in policy.parameters())
    world_size = ranks.world_size()
    needed = memory_per_rank(
        policy.config,
        n_parameters,
        world_size,
        config,
        policy.dtype.itemsize,
        sharding.is_sharded(),
        packed_bytes(policy),
    )
    gib = {part: f"{size / 2**30:.2f}" for part, size in needed.items()}
    offload = "offload" in config.engine
    state_is, state_where = (
        ("beside it", " in the memory of the host") if offload else ("in it", "")
    )
    prompts = config.rollout_batch // config.samples_per_prompt
    off_policy = ""
    if inputs.ir_groups:
        off_policy = (
            f": {len(inputs.ir_groups)} IR groups, {config.gepo_batch} a step; weight "
            f"{config.w_gepo}, beta {config.beta}, lambda {config.lam}"
        )
    missing = [f"{language} ({mend})" for language, mend in inputs.missing.items()]
    print(
        f"model     {config.model}: {n_parameters / 1e6:.2f}M parameters, "
        f"{policy.config.num_hidden_layers} layers, vocabulary {policy.config.vocab_size}; "
        f"{world_size} x {policy.device.type}\n"
        f"memory    {gib['peak']} GiB a rank: training {gib['training']} "
        f"(--token-budget {config.token_budget}), sampling {gib['sampling']}, in turns; "
        f"{state_is} {gib['state']} weights, gradients, AdamW and {gib['pi_ref']} pi_ref"
        f"{state_where}\n"
        f"on-policy {len(inputs.problems)} problems; {prompts} prompts x "
        f"{config.samples_per_prompt} samples a step; {config.advantage}, KL {config.kl_coef}, "
        f"clip {config.clip_eps}, {config.inner_epochs} inner epoch(s)\n"
        f"off-policy {config.off_policy}{off_policy}\n"
        f"steps     {run.first_step} to {run.total_steps}, lr {config.lr:g}; "
        f"{config.rollout_batch * run.total_steps} samples in all; out: {config.out}\n"
        f"{inputs.sandbox}; {config.judge_workers} workers\n"
        f"languages found: {', '.join(inputs.languages)}; "
        f"missing: {', '.join(missing) or 'none'}",
        flush=True,
    )
