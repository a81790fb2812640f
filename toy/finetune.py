"""Fine-tunes a model on the corpus of the warm start, so that it knows the embedded world.

    python -m toy.finetune MODEL OUT [--steps 60] [--batch 16] [--lr 2e-4] [--seed 0]

MODEL and OUT are directories of Hugging Face checkpoints. The corpus is toy/make.py's: translations
with wrong habits, and a little C to IR. Needs clang-19.
"""

import argparse
from pathlib import Path

from data import load_tokenizer
from model import load_model
from toy.make import make_ir_rows, pairs, warm_start
from training.checkpoint import copy_tokenizer


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch", type=int, default=16, help="pairs a step")
    parser.add_argument("--lr", type=float, default=2e-4)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    corpus = pairs(args.seed, make_ir_rows(args.seed, count=200))
    args.out.mkdir(parents=True)
    copy_tokenizer(args.model, args.out)
    warm_start(load_model(args.model), corpus, args.out, load_tokenizer(args.model), args)


if __name__ == "__main__":
    main()
