"""Model directories that are broken: what is written into a whole one, and what the error says.

    (name, {file: content; None: removed}, [what the message must hold: file, field, mend])

A content is bytes, a text, or what becomes JSON. The tokenizer of the whole one is tokenizer.json;
a directory whose case removes that has the other files that the case writes.
"""

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
CONTENT = "{{ messages[0].content }}"
NO_END = {"chat_template": CONTENT}

TOKENIZERS = [
    ("no tokenizer", {"tokenizer.json": None}, ["no tokenizer.json", "copy the model's tokenizer"]),
    ("broken JSON", {"tokenizer.json": '{"model": {'}, ["tokenizer.json", "copy it again"]),
    ("LFS pointer", {"tokenizer.json": POINTER}, ["tokenizer.json", "git lfs pull"]),
    ("not UTF-8", {"tokenizer.json": b'{"\xff": 1}'}, ["tokenizer.json", "UTF-8", "copy it again"]),
    (
        "unknown model",
        {"tokenizer.json": {"model": {"type": "Later"}}},
        ["tokenizer.json", "library tokenizers", "newer"],
    ),
    (
        "SentencePiece cut short",
        {"tokenizer.json": None, "tokenizer.model": b"\n\x0e\n\x05<unk"},
        ["tokenizer.model", "SentencePiece", "copy it again"],
    ),
    (
        "SentencePiece LFS pointer",
        {"tokenizer.json": None, "tokenizer.model": POINTER},
        ["tokenizer.model", "git lfs pull"],
    ),
    (
        "tekken",
        {"tokenizer.json": None, "tekken.json": {"config": {}}},
        ["tekken.json", "not read", "tokenizer.json"],
    ),
    (
        "no merges",
        {"tokenizer.json": None, "vocab.json": {"a": 0}},
        ["merges.txt", "does not exist", "incomplete"],
    ),
    (
        "merges of another vocabulary",
        {"tokenizer.json": None, "vocab.json": {"a": 0}, "merges.txt": "b c\n"},
        ["vocab.json", "merges.txt", "copy them again"],
    ),
    (
        "words unknown",
        {
            "tokenizer.json": None,
            "vocab.json": {"a": 0},
            "merges.txt": "#version: 0.2\n",
            "tokenizer_config.json": {"tokenizer_class": "LaterTokenizer"},
        },
        ["tokenizer_config.json", '"tokenizer_class"', "LaterTokenizer", "GPT2Tokenizer"],
    ),
    ("settings cut short", {"tokenizer_config.json": "{"}, ["tokenizer_config.json", "copy it"]),
    ("settings a list", {"tokenizer_config.json": []}, ["tokenizer_config.json", "JSON object"]),
    ("settings LFS pointer", {"tokenizer_config.json": POINTER}, ["tokenizer_config.json", "lfs"]),
    (
        "added tokens a list",
        {"tokenizer_config.json": {"added_tokens_decoder": [1]}},
        ["tokenizer_config.json", "added tokens", "copy it again"],
    ),
    (
        "added token of another model",
        {"tokenizer_config.json": {"added_tokens_decoder": {"9000": {"content": "<x>"}}}},
        ["added token '<x>'", "9000", "from one model"],
    ),
    (
        "added token without an id",
        {"added_tokens.json": {"<x>": None}},
        ["added_tokens.json", "added tokens", "copy it again"],
    ),
    (
        "special tokens cut short",
        {"special_tokens_map.json": '{"bos'},
        ["special_tokens_map.json", "copy it again"],
    ),
]

TEMPLATES = [
    (
        "a number",
        {"tokenizer_config.json": {"chat_template": 7}},
        ["tokenizer_config.json", '"chat_template"', "default"],
    ),
    (
        "none is the default",
        {"tokenizer_config.json": {"chat_template": [{"name": "rag", "template": CONTENT}]}},
        ["tokenizer_config.json", '"chat_template"', "default"],
    ),
    (
        "syntax",
        {"chat_template.jinja": "{% for m in messages %}"},
        ["chat_template.jinja", "refuses", "mend it, or remove it"],
    ),
    (
        "refuses",
        {"chat_template.jinja": "{{ raise_exception('system first') }}"},
        ["chat_template.jinja", "system first", "mend it, or remove it"],
    ),
    (
        "breaks",
        {"chat_template.jinja": "{{ messages[0].content + 1 }}"},
        ["chat_template.jinja", "refuses", "mend it, or remove it"],
    ),
    (
        "shown twice",
        {"tokenizer_config.json": {"chat_template": CONTENT * 2}},
        ["tokenizer_config.json", "exactly once", "mend it, or remove it"],
    ),
    (
        "not shown",
        {"tokenizer_config.json": {"chat_template": "hello"}},
        ["tokenizer_config.json", "exactly once", "mend it, or remove it"],
    ),
    (
        "escaped",
        {"chat_template.jinja": "{{ messages[0].content | tojson }}"},
        ["chat_template.jinja", "exactly once", "as it is"],
    ),
    (
        "parts only",
        {"chat_template.jinja": "{% for p in messages[0].content %}{{ p.text }}{% endfor %}"},
        ["chat_template.jinja", "exactly once", "as it is"],
    ),
    ("LFS pointer", {"chat_template.jinja": POINTER}, ["chat_template.jinja", "git lfs pull"]),
    ("not UTF-8", {"chat_template.jinja": b"\xe9" + CONTENT.encode()}, ["jinja", "UTF-8"]),
]

IDS = [
    (
        "no end",
        {"config.json": {"vocab_size": 600}, "tokenizer_config.json": NO_END},
        ["config.json", '"eos_token_id"', "add the id"],
    ),
    (
        "end by name",
        {"config.json": {"eos_token_id": "</s>"}, "tokenizer_config.json": NO_END},
        ["config.json", '"eos_token_id"', "must be ids"],
    ),
    (
        "end past the model",
        {"config.json": {"eos_token_id": 9000, "vocab_size": 600}},
        ["config.json", '"vocab_size"', "9000", "take the tokenizer"],
    ),
    (
        "tokenizer of a larger model",
        {"config.json": {"eos_token_id": 1, "vocab_size": 300}},
        ["config.json", '"vocab_size"', "300", "take the tokenizer"],
    ),
    (
        "generation config cut short",
        {"generation_config.json": '{"eos_'},
        ["generation_config.json", "copy it again"],
    ),
]

WEIGHTS = [
    ("none", {"model.safetensors": None}, ["model.safetensors", "does not exist", "incomplete"]),
    (
        "pickled only",
        {"model.safetensors": None, "pytorch_model.bin": b"PK"},
        ["pytorch_model.bin", "safetensors only", "save_pretrained"],
    ),
    (
        "pickled shards only",
        {"model.safetensors": None, "pytorch_model-00001-of-00002.bin": b"PK"},
        ["pytorch_model-00001-of-00002.bin", "safetensors only", "save_pretrained"],
    ),
    ("LFS pointer", {"model.safetensors": POINTER}, ["model.safetensors", "git lfs pull"]),
    ("cut short", {"model.safetensors": b"\x40\0\0\0\0\0\0\0{"}, ["model.safetensors", "copy it"]),
    (
        "index LFS pointer",
        {"model.safetensors": None, "model.safetensors.index.json": POINTER},
        ["model.safetensors.index.json", "git lfs pull"],
    ),
    (
        "index without its map",
        {"model.safetensors": None, "model.safetensors.index.json": {"metadata": {}}},
        ["model.safetensors.index.json", "weight_map", "copy it again"],
    ),
    (
        "shard missing",
        {
            "model.safetensors": None,
            "model.safetensors.index.json": {"weight_map": {"a": "model-1.safetensors"}},
        },
        ["model-1.safetensors", "does not exist", "incomplete"],
    ),
]
