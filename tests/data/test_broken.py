"""Broken model directories: each is an error that names the file, the field and the mend."""

import json

import pytest
from broken_directories import IDS, TEMPLATES, TOKENIZERS, WEIGHTS

import vocabularies
from conftest import ROOT
from data import load_tokenizer
from model import load_model


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The files of a directory whose tokenizer loads."""
    tokenizers = pytest.importorskip("tokenizers")
    directory = tmp_path_factory.mktemp("whole")
    vocabularies.byte_level(tokenizers).save(str(directory / "tokenizer.json"))
    vocabularies.write_json(directory, config={"vocab_size": 600, "eos_token_id": 1})
    load_tokenizer(directory)
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def write(directory, files):
    for name, content in files.items():
        if content is None:
            (directory / name).unlink()
            continue
        if not isinstance(content, bytes | str):
            content = json.dumps(content)
        if isinstance(content, str):
            content = content.encode()
        (directory / name).write_bytes(content)


def check(load, directory, words):
    with pytest.raises((ValueError, FileNotFoundError)) as raised:
        load(directory)
    message = str(raised.value)
    assert str(directory) in message
    assert [word for word in words if word not in message] == [], message


@pytest.mark.parametrize("case", TOKENIZERS + TEMPLATES + IDS, ids=lambda case: case[0])
def test_tokenizer_and_template(case, whole, tmp_path):
    _, files, words = case
    write(tmp_path, whole)
    write(tmp_path, files)
    check(load_tokenizer, tmp_path, words)


@pytest.mark.parametrize("case", WEIGHTS, ids=lambda case: case[0])
def test_weights(case, tmp_path):
    _, files, words = case
    toy = ROOT / "toy" / "model"
    write(tmp_path, {path.name: path.read_bytes() for path in toy.iterdir()})
    write(tmp_path, files)
    check(load_model, tmp_path, words)


def test_there_are_cases_enough(tmp_path):
    assert len(TOKENIZERS + TEMPLATES + IDS + WEIGHTS) >= 25
    check(load_tokenizer, tmp_path / "nothing", ["nothing does not exist", "give the directory"])
