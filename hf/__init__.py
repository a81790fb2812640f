"""The room of Hugging Face's model directories: config.json and safetensors, read and written.

    families.py       what sets the families apart; how to add one
    model_config.py   config.json -> ModelConfig, and back
    rope.py           the frequencies of the rotary positions
    weights.py        the tensors of safetensors files, checked, tensor by tensor

In goes a directory, out come a ModelConfig and tensors by name; and back. The module that these
belong to is model.py's: this room does not know it.
"""

from hf.families import FAMILIES
from hf.model_config import ModelConfig
from hf.rope import rope_frequencies
from hf.weights import read_weights, write_model_files

__all__ = [
    "FAMILIES",
    "ModelConfig",
    "read_weights",
    "rope_frequencies",
    "write_model_files",
]
