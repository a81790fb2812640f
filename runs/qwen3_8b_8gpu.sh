#!/usr/bin/env bash
# The paper's run (arXiv 2505.12723, section 4.1): Qwen3-8B, 2,400 translation problems, 9,600 IR
# groups, one epoch. The paper trained on 4 A100-80G; here it is 8 GPUs, with 35 GiB each,
# by the plan that the run prints.
#   bash runs/qwen3_8b_8gpu.sh MODEL_DIR problems.jsonl ir_groups.jsonl OUT
# Two nodes of four or eight GPUs: the same line on both, with OUT on a file system that both see.
# HOST is the name of the first node:
#   NODES="--nnodes=2 --rdzv_backend=c10d --rdzv_endpoint=HOST:29500 --rdzv_id=oorl" \
#       bash runs/qwen3_8b_8gpu.sh ...
# The same line again continues a run that was stopped, on any number of GPUs.
# The paper's data: problems of SYNTHETIC-1 and APPS, from Python or C++ to Python, C++, Java, PHP,
# Bash and JavaScript. Groups of SLTrans:
#   python ir.py --source Perf_Optimized.parquet Size_Optimized.parquet --out ir_groups.jsonl
set -e
cd "$(dirname "$0")/.."
flags=(
    --model "$1"                 # Qwen/Qwen3-8B, non-thinking mode: the empty think block
    --problems "$2"              # 2,400 problems
    --ir-groups "$3"             # 9,600 groups
    --out "$4"
    --steps 1200                 # one epoch: 2,400 x 4 samples and 9,600 groups, 8 of each a step
    --off-policy gepo            # Eq. 9
    --advantage reinforce++      # the on-policy algorithm of the paper
    --w-rl 1                     # Eq. 10
    --w-gepo 0.01                # Eq. 10
    --lam 1                      # lambda, Eq. 9
    --beta 0.1                   # the paper does not say
    --gepo-logp sum              # Eq. 7: the log-prob of a sequence
    --samples-per-prompt 4       # the paper does not say; 9,600 = 4 x 2,400
    --rollout-batch 8            # "batch size 8"
    --gepo-batch 8               # the same, of groups
    --kl-coef 0.01               # the paper does not say (Eq. 1 has the term)
    --clip-eps 0.2               # Eq. 5; the paper does not say
    --inner-epochs 1             # the paper does not say
    --lr 5e-7                    # AdamW, cosine, no weight decay
    --warmup-ratio 0.03
    --temperature 1              # the paper does not say
    --max-length 8192            # tokens
    --max-new-tokens 4096        # the paper does not say
    --token-budget 16384         # ours: for memory; it changes no gradient
    --engine recompute           # ours: activations again in the backward, which saves 117 GiB
)
torchrun ${NODES:---standalone} --nproc_per_node="${GPUS:-8}" train.py "${flags[@]}"
