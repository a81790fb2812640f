"""The weights of a model directory in Hugging Face's layout: safetensors, in one file or in shards.

    read_weights        directory -> {name: tensor}, each checked against the model's parameters
    write_model_files   {name: parameter}, config.json -> directory, each file atomically

Both go tensor by tensor, so that beside the model one tensor (reading) or one shard (writing) is in
memory. Parameters may be sharded over the ranks (distributed/sharding.py): each rank reads the rows
it holds, and the ranks share the writing. Left out: other formats (*.bin, GGUF).
"""

import json
import os
import re
from dataclasses import dataclass

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from data.files import read_json_object, require_file
from distributed import ranks, sharding

SINGLE_FILE = "model.safetensors"
INDEX = "model.safetensors.index.json"
# What a save may have written.
OURS = re.compile(r"model(-\d+-of-\d+)?\.safetensors(\.index\.json)?(\.tmp)?")
TIED_HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"


# ----------------------------------------------------------------------------------------- reading


def read_weights(directory, parameters, config, dtype, device):
    """The tensors of a model directory by name, in `dtype` on `device`: {name: Tensor}.

    directory: Path. parameters: {name: Tensor}, what the model asks for; they give shapes and
    sharding, and may be on the meta device. A tied head is not among them: it is the embedding.
    config: ModelConfig. dtype: torch.dtype. device: torch.device or its name.
    Raises FileNotFoundError or ValueError naming the file and the tensor, also for a weight that is
    not finite."""
    wanted = {}  # name in the file: (the parameter, the number of its expert or None)
    for name, parameter in parameters.items():
        for file_name, expert in names_in_file(name, parameter).items():
            wanted[file_name] = parameter, expert
    if config.tie_word_embeddings:
        wanted[TIED_HEAD] = wanted[EMBEDDING]
    read = {}  # name in the file: its rows on this rank; None: an expert of another rank
    for path in _weight_files(directory):
        require_file(path)
        try:
            read |= _read_file(path, wanted, config, dtype, device)
        except (SafetensorError, OSError) as error:
            raise ValueError(
                f"{path}: not a whole safetensors file ({error}); copy it again"
            ) from None
    missing = sorted(set(wanted) - set(read) - {TIED_HEAD})
    if missing:
        raise ValueError(
            f"{directory}: {len(missing)} tensors are missing, the first is {missing[0]}; "
            "is config.json that of another model?"
        )
    if config.tie_word_embeddings:
        head = read.pop(TIED_HEAD, None)
        if head is not None and not torch.equal(head, read[EMBEDDING]):
            raise ValueError(
                f"{directory}: {TIED_HEAD} is not {EMBEDDING}, although config.json ties them; "
                'set "tie_word_embeddings" to false'
            )
    weights = {}
    for name, parameter in parameters.items():
        if parameter.dim() == 3:
            rows = _stack_experts(name, parameter, read, dtype, device)
        else:
            rows = read.pop(name)
        weights[name] = sharding.tensor_from_local_rows(rows, parameter)
    return weights


def names_in_file(name, parameter):
    """What a file calls a parameter: {name: None}. The experts of a layer, which the model holds
    as one parameter [experts, outputs, inputs], are tensors of their own: {name: its number}."""
    if parameter.dim() < 3:
        return {name: None}
    numbers = range(len(parameter))
    return {name.replace(".experts.", f".experts.{number}."): number for number in numbers}


def _stack_experts(name, parameter, read, dtype, device):
    """This rank's rows of a parameter of experts, out of `read`."""
    own = sharding.local_rows(parameter)
    shape = (own.stop - own.start, *parameter.shape[1:])
    rows = torch.empty(shape, dtype=dtype, device=device)
    for file_name, number in names_in_file(name, parameter).items():
        expert = read.pop(file_name)
        if expert is not None:
            rows[number - own.start] = expert
    return rows


def _weight_files(directory):
    path = directory / INDEX
    single = directory / SINGLE_FILE
    if single.exists() or not path.exists():  # where both are there transformers takes it too
        path = single
        for pickled in directory.glob("pytorch_model*.bin"):
            if not path.exists():
                raise ValueError(
                    f"{pickled}: weights are read from safetensors only; load the model in "
                    "transformers and write it with save_pretrained"
                )
        return [path]
    try:
        files = set(read_json_object(path)["weight_map"].values())
        return [directory / file for file in sorted(files)]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: not an index of shards ({error!r}); copy it again") from None


def _read_file(path, wanted, config, dtype, device):
    tensors = {}
    with safe_open(path, framework="pt", device=str(device)) as file:
        for name in file.keys():
            if name.endswith("rotary_emb.inv_freq"):
                continue  # what old checkpoints carry along
            place = f"{path}: tensor {name}"
            if name not in wanted:
                raise ValueError(
                    f"{place} does not belong to a {config.model_type} with this config.json; "
                    "is it that of another model?"
                )
            tensors[name] = _read_tensor(file.get_slice(name), *wanted[name], dtype, place)
    return tensors


def _read_tensor(stored, parameter, expert, dtype, place):
    """The rows that this rank holds of a stored tensor; None if it is an expert of another rank."""
    shape = list(parameter.shape if expert is None else parameter.shape[1:])
    if stored.get_shape() != shape:
        raise ValueError(
            f"{place} is {stored.get_shape()}, config.json asks for {shape}; is it that of "
            "another model?"
        )
    own = sharding.local_rows(parameter)
    if expert is None:
        rows = stored[own].to(dtype)
    elif own.start <= expert < own.stop:
        rows = stored[:].to(dtype)
    else:
        return None
    # One number is enough: a sum with a NaN or an infinity in it is not finite.
    if not rows.sum(dtype=torch.float32).isfinite():
        raise ValueError(f"{place} holds NaN or infinity; the checkpoint is broken")
    return rows


# ----------------------------------------------------------------------------------------- writing


@dataclass
class Shard:
    """One file of weights."""

    file: str
    parameters: dict  # {name: Tensor}


def write_model_files(directory, config_json, parameters, shard_bytes):
    """Writes config.json and the parameters, in shards of at most shard_bytes bytes. -> None.

    directory: Path. config_json: dict. parameters: {name: Tensor}. shard_bytes: int.
    Files are written under other names and then renamed, so that each appears whole or not at all;
    what an earlier save left over goes last. All ranks must call if the parameters are sharded."""
    directory.mkdir(parents=True, exist_ok=True)
    shards = plan_shards(parameters, shard_bytes)
    _write_shards(directory, shards)
    if ranks.rank() > 0:
        return
    json_files = {"config.json": config_json}
    if len(shards) > 1:
        json_files[INDEX] = _index(shards)
    for file, content in json_files.items():
        (directory / f"{file}.tmp").write_text(json.dumps(content, indent=2) + "\n")
    files = [shard.file for shard in shards] + list(json_files)
    for file in files:
        os.replace(directory / f"{file}.tmp", directory / file)
    for path in directory.iterdir():
        if OURS.fullmatch(path.name) and path.name not in files:
            path.unlink()


def plan_shards(parameters, shard_bytes):
    """Cuts the parameters, in their order, into shards; a larger parameter gets its own shard.

    parameters: {name: Tensor}. shard_bytes: int. -> list of Shard."""
    parts = []
    room = 0
    for name, parameter in parameters.items():
        size = parameter.nbytes
        if size > room:
            parts.append({})
            room = max(shard_bytes, size)
        parts[-1][name] = parameter
        room -= size
    if len(parts) == 1:
        return [Shard(SINGLE_FILE, parts[0])]
    return [
        Shard(f"model-{number:05d}-of-{len(parts):05d}.safetensors", part)
        for number, part in enumerate(parts, start=1)
    ]


def _write_shards(directory, shards):
    """Every rank writes one shard at a time: all gather, all write, then the next ones."""
    world_size = ranks.world_size()
    for start in range(0, len(shards), world_size):
        own_tensors = {}
        for writer, shard in enumerate(shards[start : start + world_size]):
            for name, parameter in shard.parameters.items():
                # Gathered on every rank, since that is a collective; kept by the one that writes.
                tensor = sharding.unshard(parameter)
                if writer != ranks.rank():
                    continue
                tensor = tensor.cpu().contiguous()
                for file_name, expert in names_in_file(name, parameter).items():
                    own_tensors[file_name] = tensor if expert is None else tensor[expert]
        if own_tensors:
            file = shards[start + ranks.rank()].file
            save_file(own_tensors, directory / f"{file}.tmp", metadata={"format": "pt"})
        # Slow disks are waited for here, not in the next collective, which has a time limit.
        ranks.barrier()


def _index(shards):
    """What model.safetensors.index.json holds."""
    total_size = 0
    weight_map = {}
    for shard in shards:
        for name, parameter in shard.parameters.items():
            total_size += parameter.nbytes
            weight_map |= dict.fromkeys(names_in_file(name, parameter), shard.file)
    return {"metadata": {"total_size": total_size}, "weight_map": weight_map}
