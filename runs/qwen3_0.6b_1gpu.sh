#!/usr/bin/env bash
# The same losses on one GPU. Qwen3-0.6B takes 10 GiB (float32 master weights, gradient and AdamW,
# bfloat16 reference), and the activations of --token-budget.
#   bash runs/qwen3_0.6b_1gpu.sh MODEL_DIR problems.jsonl ir_groups.jsonl OUT
set -e
cd "$(dirname "$0")/.."
flags=(
    --model "$1"                 # Qwen/Qwen3-0.6B
    --problems "$2"
    --ir-groups "$3"
    --out "$4"
    --rollout-batch 64           # a small model needs a steadier gradient than 8 samples give
    --lr 2e-6                    # and a higher learning rate than 8B parameters
    --max-length 2048            # shorter programs; the paper's 8,192 fit too, but are slower
    --max-new-tokens 1024
    --token-budget 8192
)
python train.py "${flags[@]}"    # everything else has the paper's values, which are the defaults
