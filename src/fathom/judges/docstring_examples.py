"""The examples that a programming question carries in its own text, as test cases for the code that answers it.

Models are asked for code by a prompt such as HumanEval's (Chen et al., arXiv 2107.03374): a signature and a docstring
with examples, in doctest style, or as ``f(3) == 5``, ``f(3) ➞ 5``, ``f(3) # returns 5`` and the like, or in words:
``For n = 3 the output should be 5``. The examples are public, so to pass them is evidence, and no proof.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

from fathom.answers import code_block

__all__ = ["Example", "entry_point", "examples_in", "program"]

_MAX_EXAMPLES = 64
_MAX_PROMPT = 100_000
_DEF = re.compile(r"^[ \t]*(?:async[ \t]+)?def[ \t]+(\w+)[ \t]*\(", re.MULTILINE)
_NAMED = re.compile(
    r"\bfunction\s+(?:called\s+|named\s+)?[`'\"]?([A-Za-z_]\w*)[`'\"]?\s*\(|\b(?:called|named)\s+[`'\"](\w+)"
)
_ARROW = re.compile(
    r"[)\s`]*(?:#\s*)?(?:={1,3}>|==+|-+>|➞|→|➜|⇒|=|:(?=\s)"
    r"|(?:the\s+)?(?:function\s+)?(?:should|will|would|must)\s+(?:return|be|give|output)|returns?\b|gives\b|is\b|evaluates\s+to\b)"
    r"[ \t]*:?\s*`?"
)
_BINDING = re.compile(r"([A-Za-z_]\w*)\s*(?:==?|:)\s*")
_HEADING = re.compile(r"^[ \t]*(?:for )?examples?[ \t]*:?[ \t]*$", re.MULTILINE | re.IGNORECASE)
_SEPARATOR = re.compile(r"\s*(?:,|and\b|&)?\s*")
_OUTPUT_WORDS = frozenset({"output", "result", "return", "returns", "explanation", "answer"})
_IN_WORDS = re.compile(
    r"\b(?:for|if|when|with|given|input)\b:?\s*(?=[A-Za-z_]\w*\s*(?:=|:))|\binput:\s*", re.IGNORECASE
)
_OUTPUT = re.compile(
    r"[,;.\s]*(?:(?:the|it|your|function|output|result|answer|then)\b\s*)*(?:should|will|must|would)?\s*(?:be|return|give|output|is)?\b\s*"
    r"(?:=>|->|➞|:|=)?\s*",
    re.IGNORECASE,
)
_CONSTANTS = {"true": "True", "false": "False", "null": "None", "TRUE": "True", "FALSE": "False"}
_CONTINUATION_ENDS = re.compile(r"^(?:def |class |if __name__|print\(|assert |```|#|@|<\|)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Example:
    """An example: `call` is a Python expression; `expected` a Python literal that it should equal, or, where `shown`,
    what its value should look like. `setup` are statements that come first."""

    call: str
    expected: str
    shown: bool = False
    setup: str = ""

    @property
    def case(self) -> str:
        """The example as a test case for the examiner."""
        check = (
            f"expect_shown({self.call}, {self.expected!r})" if self.shown else f"expect({self.call}, {self.expected})"
        )
        return f"{self.setup}\n{check}\n".lstrip()


def entry_point(prompt: str) -> str | None:
    """The name of the function that a prompt asks for: the last that it defines, or that it names in words."""
    defined = _DEF.findall(prompt[:_MAX_PROMPT])
    if defined:
        return str(defined[-1])
    named = _NAMED.search(prompt[:_MAX_PROMPT])
    return (named.group(1) or named.group(2)) if named else None


def examples_in(prompt: str) -> list[Example]:
    """The examples in a prompt, each once, in their order; those in doctest style alone where there are any.

    Only what is plainly an example counts: a call whose arguments are literals, and a literal for its outcome.
    """
    prompt = prompt[:_MAX_PROMPT]
    name = entry_point(prompt)
    found = list(_doctests(prompt))
    if not found and name is not None:
        headings = [match.end() for match in _HEADING.finditer(prompt)]
        sections = (list(_calls(prompt[start:], name)) for start in (*reversed(headings), 0))
        found = next((calls for calls in sections if calls), []) or list(_worded(prompt, name))
    return list(dict.fromkeys(found))[:_MAX_EXAMPLES]


def _doctests(prompt: str) -> Iterator[Example]:
    """``>>> f(3)`` with its outcome on the next lines; statements without one set up those after them."""
    import doctest  # brings unittest and pdb along, which nobody should wait for that asks no such question

    prompt = "\n".join(line.replace("\t", "    ") for line in prompt.split("\n"))
    setup: list[str] = []
    for block in re.findall(r"^[ ]*>>>.*(?:\n(?![ ]*$).*)*", prompt, re.MULTILINE):
        try:
            steps = doctest.DocTestParser().get_examples(_aligned(block))
        except ValueError:
            continue
        for step in steps:
            source = step.source.strip()
            if not _is_expression(source):
                if not step.want and _parses(source):
                    setup.append(source)
                continue
            outcome = _outcome(step.want)
            if outcome is not None:
                yield Example(_uncommented(source), outcome[0], outcome[1], "\n".join(setup))


def _aligned(block: str) -> str:
    """A doctest block whose lines all start at the column of its prompts, and where a new prompt ends an outcome."""
    indent = len(block) - len(block.lstrip(" "))
    lines = []
    for line in block.split("\n"):
        stripped = line.lstrip(" ")
        margin = min(len(line) - len(stripped), indent)
        lines.append(stripped if stripped.startswith((">>>", "...")) else line[margin:])
    return re.sub(r"^(>>>|\.\.\.)(?=\S)", r"\1 ", "\n".join(lines), flags=re.MULTILINE)


def _outcome(want: str) -> tuple[str, bool] | None:
    """The literal at the head of a doctest's outcome, or its one line as text; None where it has neither."""
    lines = re.split(r"^\s*(?:\"\"\"|\'\'\')", want, maxsplit=1, flags=re.MULTILINE)[0].strip().split("\n")
    for count in range(len(lines), 0, -1):
        if (literal := _as_literal("\n".join(lines[:count]))) is not None:
            return literal, False
    first = lines[0].strip()
    if (value := _literal_at(first, 0)) is not None and first[value[1] :].lstrip().startswith(
        ("#", "(", ",", "because")
    ):
        return value[0], False
    if not first or first.startswith("Traceback") or len(lines) > 1:
        return None
    return first, True


def _calls(prompt: str, name: str) -> Iterator[Example]:
    """``f(…)``, an arrow of some kind, and a literal."""
    for match in re.finditer(rf"(?<![\w.]){re.escape(name)}\s?\(", prompt):
        if prompt[: match.start()].rstrip().endswith("def"):
            continue
        end = _closing(prompt, match.end() - 1)
        if end is None:
            continue
        call = prompt[match.start() : end + 1]
        arrow = _ARROW.match(prompt, end + 1)
        if arrow is None or "\n\n" in arrow.group() or not _is_literal_call(call):
            continue
        if (value := _outcome_at(prompt, arrow.end())) is not None:
            yield Example(_uncommented(call), value)


def _outcome_at(text: str, start: int) -> str | None:
    """The literal there, if it is the whole outcome; of a worked sum, ``f(3) == 1 + 2 = 3``, the one at its end."""
    value = _literal_at(text, start)
    if value is None:
        return None
    rest = text[value[1] :].split("\n", 1)[0]
    if not re.match(r"\s*[-+*/%^]|[\w\"']|\s*(?:if|and|or)\b", rest):
        return value[0]
    last = rest.rfind("=")
    final = _literal_at(rest.rstrip(" .`"), last + 1 + len(rest[last + 1 :]) - len(rest[last + 1 :].lstrip()))
    return final[0] if last >= 0 and final is not None and final[1] == len(rest.rstrip(" .`")) else None


def _worded(prompt: str, name: str) -> Iterator[Example]:
    """``For a = 3 and b = 4 the output should be 7``, and ``Input: a = 3 Output: 7``, with or without names."""
    header = re.search(rf"\bdef\s+{re.escape(name)}\s*\(([^()]*)", prompt)
    known = re.findall(r"(\w+)\s*(?:[:=,]|$)", header.group(1)) if header else []
    for match in _IN_WORDS.finditer(prompt):
        bindings, at = _bindings(prompt, match.end())
        outcome = _OUTPUT.match(prompt, at) if bindings else None
        if outcome is None or not re.search(r"[a-z:>=]", outcome.group(), re.IGNORECASE):
            continue
        value = _outcome_at(prompt, outcome.end())
        if value is not None:
            named = all(key in known for key, _ in bindings)
            arguments = (f"{key}={given}" if named else given for key, given in bindings)
            yield Example(f"{name}({', '.join(arguments)})", value)


def _bindings(prompt: str, at: int) -> tuple[list[tuple[str, str]], int]:
    """The values given from `at` on, each with its name or without, and where they end."""
    bindings: list[tuple[str, str]] = []
    while True:
        separator = _SEPARATOR.match(prompt, at) if bindings else None
        start = separator.end() if separator else at
        binding = _BINDING.match(prompt, start)
        if (separator is not None and not separator.group().strip() and binding is None) or (
            binding is not None and binding.group(1).lower() in _OUTPUT_WORDS
        ):
            return bindings, at
        value = _literal_at(prompt, binding.end() if binding else start)
        if value is None:
            return bindings, at
        bindings.append((binding.group(1) if binding else "", value[0]))
        at = value[1]


def _closing(text: str, start: int) -> int | None:
    """The index of the bracket that closes the one at `start`, with quoted text skipped; None where none does."""
    depth, at, end = 0, start, min(len(text), start + 5000)
    while at < end:
        character = text[at]
        if character in "\"'":
            quoted = re.compile(r"\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'").match(text, at)
            if quoted is None:
                return None
            at = quoted.end()
            continue
        depth += (character in "([{") - (character in ")]}")
        if depth == 0:
            return at
        at += 1
    return None


_SCALAR = re.compile(
    r"[-+]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![\w])|\b(?:True|False|None|true|false|null|TRUE|FALSE)\b"
    r"|[bru]?(?:\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*')"
)


def _literal_at(text: str, start: int) -> tuple[str, int] | None:
    """The Python literal that starts at `start`, and where it ends."""
    if start >= len(text):
        return None
    if text[start] in "([{":
        end = _closing(text, start)
        value = None if end is None else _as_literal(text[start : end + 1])
        return None if value is None or end is None else (value, end + 1)
    scalar = _SCALAR.match(text, start)
    if scalar is None:
        return None
    value = _as_literal(scalar.group().rstrip(".") if scalar.group()[-1:] == "." else scalar.group())
    return None if value is None else (value, scalar.end())


def _as_literal(text: str) -> str | None:
    """The text as a Python literal, if it is one: true and false of other languages become Python's."""
    text = re.sub(r"\b(?:true|false|null|TRUE|FALSE)\b(?=[^'\"]*$)", lambda m: _CONSTANTS[m.group()], text.strip())
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return None
    return None if value is Ellipsis or "..." in repr(value) else " ".join(text.split("\n"))


def _is_literal_call(call: str) -> bool:
    try:
        tree = ast.parse(call, mode="eval").body
        if not isinstance(tree, ast.Call) or any(isinstance(argument, ast.Starred) for argument in tree.args):
            return False
        for argument in (*tree.args, *(keyword.value for keyword in tree.keywords)):
            ast.literal_eval(argument)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return False
    return bool(tree.args or tree.keywords or call.endswith("()"))


def _parses(source: str) -> bool:
    try:
        ast.parse(source)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return False
    return True


def _is_expression(source: str) -> bool:
    try:
        ast.parse(source, mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return False
    return True


def _uncommented(source: str) -> str:
    return ast.unparse(ast.parse(source, mode="eval"))


def program(prompt: str, answer: str) -> str:
    """The program that an answer amounts to: the prompt's imports and helpers, and the function.

    The answer may be prose with a fenced block, a whole function, or the raw continuation of the prompt's code.
    """
    name = entry_point(prompt)
    given = _code_of(prompt)
    is_continuation = re.match(r"\n*[ \t]+\S", answer) is not None  # whatever fence may close it
    block = None if is_continuation else code_block(answer)
    code = answer if block is None else block
    if name is None or re.search(
        rf"^[ \t]*(?:async[ \t]+)?(?:def[ \t]+{re.escape(name)}\b|{re.escape(name)}[ \t]*=)", code, re.MULTILINE
    ):
        code = textwrap.dedent(code)
        before = given[: given.rfind("def ")] if name is not None and "def " in given else ""
        return f"{before.rstrip()}\n\n{code}" if before.strip() and _parses(before) else code
    if block is None:
        code = _continuation(code)
    elif not code.startswith((" ", "\t")):
        code = textwrap.indent(code, "    ")
    return given.rstrip("\n") + "\n" + code.strip("\n") + "\n" if block is not None else given + code


def _continuation(text: str) -> str:
    """A raw continuation up to where it leaves the function's body."""
    end = _CONTINUATION_ENDS.search(text, 1)
    return text[: end.start()] if end else text


def _code_of(prompt: str) -> str:
    """The code in a prompt: its fenced block, or all from the first line of code on."""
    block = code_block(prompt)
    if block is not None and "def " in block:
        return block
    start = re.search(r"^(?:from \S+ import|import \w|(?:async )?def \w+\(|class \w+\s*[:(]|@\w)", prompt, re.MULTILINE)
    return prompt[start.start() :] if start else ""
