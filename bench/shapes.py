"""The shapes of models that the benches measure, with random weights."""

import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from model import ModelConfig


def qwen3(hidden_size, mlp_size, layers, heads, tied):
    return ModelConfig(
        vocab_size=151_936,
        hidden_size=hidden_size,
        intermediate_size=mlp_size,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=8,
        head_dim=128,
        rope_theta=1e6,
        tie_word_embeddings=tied,
    )


SHAPES = {
    "5M": ModelConfig(
        vocab_size=8192,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        tie_word_embeddings=True,
    ),
    "SmolLM2-135M": ModelConfig(
        model_type="llama",
        vocab_size=49_152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        head_dim=64,
        tie_word_embeddings=True,
    ),
    "Qwen3-0.6B": qwen3(1024, 3072, 28, 16, tied=True),
    "Qwen3-4B": qwen3(2560, 9728, 36, 32, tied=True),
    "Qwen3-8B": qwen3(4096, 12288, 36, 32, tied=False),
    "Qwen3-32B": qwen3(5120, 25600, 64, 64, tied=False),
}


def add_shape_flags(parser, default):
    parser.add_argument("--shape", default=default, choices=SHAPES, help="(default: %(default)s)")
    parser.add_argument("--layers", type=int, help="in place of the shape's own number")


def shape_of(args):
    """The ModelConfig that add_shape_flags' flags describe."""
    shape = SHAPES[args.shape]
    return replace(shape, num_hidden_layers=args.layers or shape.num_hidden_layers)
