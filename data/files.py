"""Files of a checkpoint as text and JSON, with errors that name the file and the mend.

In: a path. Out: text, read as UTF-8 whatever the locale, or a dict.
"""

import json

LFS_POINTER = b"version https://git-lfs"


def require_checkpoint(directory) -> None:
    """Raises FileNotFoundError if there is no such directory. directory: Path."""
    if not directory.is_dir():
        raise FileNotFoundError(
            f"{directory} does not exist; give the directory of a Hugging Face checkpoint"
        )


def require_file(path) -> None:
    """Raises FileNotFoundError or ValueError if there is no such file, or a Git LFS pointer only.

    path: Path."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; the checkpoint is incomplete")
    with open(path, "rb") as file:
        if file.read(len(LFS_POINTER)) == LFS_POINTER:
            raise ValueError(
                f"{path} is a Git LFS pointer and not the file itself; "
                "run `git lfs pull` in its repository, or download it"
            )


def read_text(path) -> str:
    """The text of a UTF-8 file. path: Path. Raises FileNotFoundError or ValueError."""
    require_file(path)
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 ({error}); copy it again") from None


def read_json_object(path) -> dict:
    """The object in a JSON file. path: Path. Raises FileNotFoundError or ValueError."""
    text = read_text(path)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not a JSON object ({error}); copy it again") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path}: not a JSON object but {text[:20]!r}; copy it again")
    return value
