"""What models are called by, and that what their names say reaches them."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from upstreams import Upstream

import fathom
from fathom import Budget
from fathom.errors import FathomError, SpecError, UnknownModel, UsageError
from fathom.lab.datasets import load_dataset
from fathom.lab.identity import hash_of, terms_of
from fathom.language.catalogue import CATALOGUE, DEFAULT_MODEL
from fathom.models import KINDS, named_model
from fathom.specs import Spec
from fathom.uris import ModelURI, split_uris


@pytest.mark.parametrize(
    ("text", "kind", "place"),
    [
        ("", "", DEFAULT_MODEL),
        ("embedded", "", DEFAULT_MODEL),
        ("smollm2-135m", "", "smollm2-135m"),
        ("gguf:/models/a (8b).gguf", "gguf", "/models/a (8b).gguf"),
        ("gguf:/models/a (copy)", "gguf", "/models/a (copy)"),
        ("openai:org/model:free@http://h:1/v1", "openai", "org/model:free@http://h:1/v1"),
    ],
)
def test_a_name_without_options(text: str, kind: str, place: str) -> None:
    assert ModelURI.parse(text) == ModelURI(kind, place)


words = st.from_regex(r"[a-z][a-z_]{0,8}", fullmatch=True)
values = st.one_of(
    st.integers(), st.booleans(), st.none(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=8)
)


@given(
    st.sampled_from(["embedded", "smollm2-135m", "openai:m@http://h:1/v1", "gguf:/a (b)/c.gguf", "recursive:q (2)"]),
    st.dictionaries(words, values, min_size=1, max_size=4),
)
def test_options_are_those_of_a_spec(name: str, options: dict[str, object]) -> None:
    said = str(Spec("x", options))[1:]
    bare = ModelURI.parse(name)
    found = ModelURI.parse(name + said)
    assert found == ModelURI(bare.kind, bare.place, options)
    assert ModelURI.parse(str(found)) == found


@given(st.text(max_size=40))
def test_whatever_is_said_is_taken_apart_or_refused(text: str) -> None:
    try:
        found = named_model(text)
    except FathomError:
        return
    assert found.place in CATALOGUE or found.kind in KINDS


@pytest.mark.parametrize("text", ["embedded(temperature 1)", "smollm2-135m(a=1, a=2)", "embedded(a=)"])
def test_parentheses_that_say_nothing_are_one_clear_error(text: str) -> None:
    with pytest.raises(SpecError, match="cannot read"):
        named_model(text)


def test_a_key_is_not_said_in_a_name() -> None:
    with pytest.raises(UsageError, match="OPENAI_API_KEY") as refused:
        named_model("openai:m@http://h:1/v1(api_key=sk-12345)")
    assert "12345" not in str(refused.value)


def test_options_in_the_name_reach_the_server_and_go_before_the_others() -> None:
    with Upstream() as server:
        uri = f"openai:m@{server.url}(temperature=0.25, top_p=0.5, stop=[END])"
        model = fathom.open(uri, temperature=1.5, presence_penalty=0.5)
        assert fathom.solve(model, "What is 6 times 7?", strategy="vote(width=2)").answer
        sent = server.bodies[-1]
    asked = {name: sent[name] for name in ("temperature", "top_p", "presence_penalty", "stop")}
    assert asked == {"temperature": 0.25, "top_p": 0.5, "presence_penalty": 0.5, "stop": ["END"]}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("temperature=hot", "temperature"),
        ("temperature=-1", "between 0 and 100"),
        ("temperture=1", "no option 'temperture'"),
        ("form=poem", "answer form"),
    ],
)
def test_options_that_make_no_sense_are_refused_by_name(options: str, said: str) -> None:
    with Upstream() as server, pytest.raises(UsageError, match=said):
        fathom.open(f"openai:m@{server.url}({options})")


def test_an_unknown_model_is_refused_with_those_that_there_are() -> None:
    for text in ("gpt-9", "gpt-9(temperature=1)", "gguf:", "nowhere:x(a=1)"):
        with pytest.raises(UnknownModel, match="smollm2-135m"):
            named_model(text)


def test_a_sweep_names_the_sampling_that_the_name_says(tmp_path: Path) -> None:
    data = load_dataset("arithmetic:2")
    said = {
        "": {},
        "(temperature=0.25)": {"temperature": 0.25},
        "(top_k=0)": {"top_k": 0},
        "(presence_penalty=0)": {"presence_penalty": 0},
        "(timeout=5)": {},
    }
    with Upstream() as server:
        for options, told in said.items():
            uri = f"openai:m@{server.url}{options}"
            terms = terms_of(fathom.open(uri), uri, data, 0)
            assert json.loads(terms.sampling) == {"temperature": 0.7} | told
    assert hash_of("smollm2-135m(temperature=0.25)") == CATALOGUE["smollm2-135m"].sha256


def test_a_ladder_is_all_that_its_models_are() -> None:
    data = load_dataset("arithmetic:2")
    with Upstream() as server:
        told = set()
        for second in ("", "(temperature=0.5)", "(temperature=0.5, top_k=0)"):
            uri = f"ladder:openai:a@{server.url},openai:b@{server.url}{second}"
            told.add(terms_of(fathom.open(uri), uri, data, 0).sampling)
    assert len(told) == 3
    known = [CATALOGUE[name].sha256 for name in ("smollm2-135m", DEFAULT_MODEL)]
    assert hash_of(f"ladder:smollm2-135m,{DEFAULT_MODEL}") == " | ".join(known)
    assert hash_of("ladder:openai:a,openai:b") == ""


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a,b", ["a", "b"]),
        (" a , b ", ["a", "b"]),
        ("a(x=1, y=[2, 3]),b", ["a(x=1, y=[2, 3])", "b"]),
        ("openai:a@http://h/v1(price=[1, 2]),openai:b", ["openai:a@http://h/v1(price=[1, 2])", "openai:b"]),
        ("gguf:a).gguf,b", ["gguf:a).gguf", "b"]),
        ("a,,b", ["a", "", "b"]),
        ("", [""]),
    ],
)
def test_names_are_parted_at_commas_that_are_not_within_options(text: str, names: list[str]) -> None:
    assert list(split_uris(text)) == names


def test_a_directory_is_known_by_what_makes_its_model(tmp_path: Path) -> None:
    weights = bytearray(random.randbytes(3 << 20))
    (tmp_path / "model.safetensors").write_bytes(weights)
    (tmp_path / "config.json").write_text("{}")
    uri = f"hf:{tmp_path}"
    hashes = [hash_of(uri)]
    (tmp_path / "README.md").write_text("tells nothing of what is written")
    assert hash_of(uri) == hashes[0]
    weights[random.randrange(len(weights))] ^= 1  # trained on
    (tmp_path / "model.safetensors").write_bytes(weights)
    hashes.append(hash_of(uri))
    (tmp_path / "config.json").write_text('{"rope_theta": 10}')
    hashes.append(hash_of(uri))
    assert len({"", *hashes}) == 4
    assert hash_of("hf:no-such/model-anywhere") == ""


SENSELESS = """timeout=abc max_concurrency=lots price=0.5 headers=abc retry=3 model=x place=x sampling=3
context_length=big parameters=x name=5 form=3 prefix=[a] temperature=hot nope=1"""


@pytest.mark.parametrize("option", SENSELESS.split())
def test_options_of_the_wrong_kind_are_refused_before_anything_is_asked(option: str) -> None:
    with Upstream() as server, pytest.raises(UsageError):
        fathom.open(f"openai:m@{server.url}({option})")


def test_a_price_can_be_said_in_a_name() -> None:
    with Upstream() as server:
        model = fathom.open(f"openai:m@{server.url}(price=[2.5, 10])")
        result = fathom.solve(model, "?", strategy="direct", budget=Budget(tokens=200))
        spent = result.receipt.spent
        assert spent.cost == pytest.approx(
            (2.5 * (spent.prompt_tokens + spent.reused_tokens) + 10 * spent.tokens) / 1e6
        )


@pytest.mark.parametrize("name", ["@cf/meta/llama-3", "claude@20240620", "plain"])
def test_names_may_have_an_at_of_their_own(name: str) -> None:
    with Upstream() as server:
        model = fathom.open(f"openai:{name}@{server.url}")
        fathom.solve(model, "?", strategy="direct", budget=Budget(tokens=200))
        assert server.bodies[-1]["model"] == name


@pytest.mark.slow
def test_of_large_weights_some_of_every_matrix_is_looked_at(tmp_path: Path) -> None:
    weights = tmp_path / "model.safetensors"
    with weights.open("wb") as file:
        file.truncate((4 << 30) + random.randrange(1 << 20))  # of holes: nothing is written
        before = hash_of(f"hf:{tmp_path}")
        changed = random.randrange(200) << 24
        file.seek(changed)
        file.write(b"another matrix")
    assert hash_of(f"hf:{tmp_path}") != before
