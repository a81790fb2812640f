#!/usr/bin/env bash
# Does GEPO help a real model? SmolLM2-135M on two CPU cores: fine-tuned on the embedded world's
# corpus, then REINFORCE++ without GEPO, with it, and with it on labels at random. Some two hours; a
# run that ended is not run again.
#   bash runs/smollm2_rl.sh [MODEL_DIR]
# MODEL_DIR is what runs/smollm2_cpu.sh has made, unless it is given.
set -e
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
out=out/smollm2
model=${1:-$out/model}

if [ ! -e $out/toy/model.safetensors ]; then
    rm -rf $out/toy  # what an earlier try left
    $python -m toy.finetune "$model" $out/toy --steps 40 --batch 16 --lr 2e-4
fi

flags=(
    --lr 5e-5
    --samples-per-prompt 4
    --rollout-batch 16
    --kl-coef 0
    --save-every 100
    --eval-ir-groups "''"
)
$python bench/ablation.py $out/ablation --model $out/toy --seeds 2 --steps 8 \
    --groups 40 --scored 120 --flags="${flags[*]}" \
    --arms "RL,RL + GEPO,RL + GEPO, labels at random"
