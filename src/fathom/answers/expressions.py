"""The identity of a mathematical expression: math-verify's parser reads it, and its values at fixed points name it.

Two expressions are the same function if they agree at a few generic points (Schwartz and Zippel's argument, carried
over to analytic functions), so the values, to 12 digits, serve as a key: ``x^2+2x+1`` and ``(x+1)^2`` share one, and so
do ``\\sqrt 8`` and ``2\\sqrt 2``. Unlike repeated simplification this is quick, always ends in the same form, and makes
equality an equivalence relation. Symbols stand for positive numbers.

Hostile input is refused before it is parsed where it could compute huge numbers, which nothing could interrupt, and is
abandoned where it takes longer than `SECONDS`; math-verify's own time limit uses SIGALRM, which threads do not have.
"""

from __future__ import annotations

import ctypes
import queue
import re
import threading
import zlib
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from typing import Any

__all__ = ["SECONDS", "expression_key", "looks_mathematical", "warm_up"]

SECONDS = 1.5  # that one expression may take; usual ones take 1 to 50 ms
_POINTS = 3
_MAX_LENGTH = 300
_MAX_NESTING = 12
_MAX_POWER = 2000  # product of all numeric exponents
_HARMFUL = re.compile(
    r"\d{41}|!\s*!|[)}\]]\s*!|\d{4}\s*!|\\[dt]?binom\D{0,9}\d{4}|choose|\d[eE]\d{4}"
    r"|\\(?:sum|prod|i*o?int|lim)(?![a-zA-Z])|(?:\^|\*\*)\s*-?\w+\s*(?:\^|\*\*)"
)
_POWER_OR_BRACKET = re.compile(r"(?:\^|\*\*)\s*(?:[({]?\s*-?\s*(\d+)|[({])?|[({\[]|[)}\]]")
_FUNCTIONS = r"arcsin|arccos|arctan|sinh|cosh|tanh|sin|cos|tan|cot|sec|csc|log|ln|exp"
_WORDS = re.compile(
    rf"(?<![\\a-zA-Z])(?:(sqrt)\s*\(|({_FUNCTIONS}|pi|infty|theta|alpha|beta|gamma|lambda)(?![a-zA-Z]))"
)
_NAMED = re.compile(
    rf"\\(?:begin|end)\{{[a-z]{{1,12}}\}}|\\[a-zA-Z]+|(?<![a-zA-Z])(?:sqrt|{_FUNCTIONS}|pi|theta|alpha|beta|gamma|lambda)(?![a-zA-Z])"
)


@lru_cache(maxsize=1)
def warm_up() -> None:
    """Imports sympy and math-verify's parser, about a second's work, so that no vote has to wait for it."""
    from latex2sympy2_extended import latex2sympy  # type: ignore[import-untyped]

    latex2sympy("\\frac{x}{2}+1")


def expression_key(text: str) -> str | None:
    """The key of an expression, equation or inequality, in LaTeX or plain. None where it does not parse or is refused.

    A constant that is rational is named by its value as ``evaluate`` would give it, e.g. ``"3/2"``.
    """
    if not looks_mathematical(text) or not _is_harmless(text):
        return None
    try:
        return _reader.call(lambda: _key(_latex(text)))
    except TimeoutError:
        return None


def looks_mathematical(text: str) -> bool:
    """Whether a text has the shape of an expression: short symbols joined by operators, not words of a language."""
    if len(text) > _MAX_LENGTH or not re.search(r"[\d\\+*/^=<>()]|[≤≥∞π√]|^[a-z]$", text):
        return False
    bare = _NAMED.sub(" ", text)
    return not re.search(r"[A-Za-z]{3}", bare) and not re.search(r"[a-z] [a-z]{2}\b", bare) and text.isprintable()


def _is_harmless(text: str) -> bool:
    """Whether parsing it is quick: no towers of powers, no sums or integrals, and bounded exponents and nesting."""
    if _HARMFUL.search(text):
        return False
    power, depth = 1, 0
    exponents: list[int] = []  # the depths at which an exponent's braces were opened
    for match in _POWER_OR_BRACKET.finditer(text):
        token = match.group()
        if token[0] in "^*":
            if len(exponents) > 1 or (exponents and not text[: match.start()].rstrip()[-1:].isalpha()):
                return False
            power *= min(max(1, int(match.group(1) or 1)), 10**6)
            if "(" in token or "{" in token:
                depth += 1
                exponents.append(depth)
        elif token in "({[":
            depth += 1
        else:
            if exponents and exponents[-1] == depth:
                exponents.pop()
            depth -= 1
        if power > _MAX_POWER or depth > _MAX_NESTING:
            return False
    return True


def _latex(text: str) -> str:
    """Plain notation turned into LaTeX: names of functions get a backslash, sqrt(…) its braces, * its dot."""
    text = text.replace("**", "^").replace("≤", r"\le ").replace("≥", r"\ge ").replace("π", r"\pi ")
    text = text.replace("∞", r"\infty ").replace("×", "*").replace("·", "*").replace("−", "-").replace("√", "sqrt")
    text = re.sub(r"<=", r"\\le ", re.sub(r">=", r"\\ge ", text)).replace("!=", r"\ne ")
    text = re.sub(r"\\sqrt\s*(\d|[a-zA-Z](?![a-zA-Z]))", r"\\sqrt{\1}", text)
    text = re.sub(r"(?<!\\)sqrt\s*(\d+|[a-z])(?![a-z(])", r"sqrt(\1)", text)
    text = re.sub(r"\^\s*\(([^()]*)\)", r"^{\1}", text)
    out, start, closing, depth = [], 0, [], 0
    for match in re.finditer(r"[()]", text):  # the brackets of sqrt( … ) become braces
        at = match.start()
        if match.group() == "(":
            depth += 1
            if text[:at].rstrip().endswith("sqrt") and "\\sqrt" not in text[max(0, at - 6) : at]:
                closing.append(depth)
                out.append(text[start:at].rstrip()[:-4] + r"\sqrt{")
                start = at + 1
        else:
            if closing and closing[-1] == depth:
                closing.pop()
                out.append(text[start:at] + "}")
                start = at + 1
            depth -= 1
    text = "".join(out) + text[start:]
    return _WORDS.sub(lambda m: f"\\{m.group()} ", text).replace("*", r"\cdot ")


def _key(latex: str) -> str | None:
    import sympy  # type: ignore[import-untyped]
    from latex2sympy2_extended import latex2sympy

    try:
        parsed = latex2sympy(latex)
        if isinstance(parsed, sympy.MatrixBase):
            entries = [_values_key(entry) for entry in parsed]
            return None if None in entries else f"matrix{parsed.shape}:" + ",".join(map(str, entries))
        if isinstance(parsed, sympy.core.relational.Relational):
            return _relation_key(parsed)
        return _values_key(parsed) if isinstance(parsed, sympy.Expr) else None
    except Exception:  # the parser raises bare Exceptions, and on odd input sympy raises whatever it meets
        return None


def _values_key(expression: Any) -> str | None:
    expression = expression.doit()
    if expression.is_Rational:
        rational = Fraction(int(expression.p), int(expression.q))
        return str(rational) if rational.numerator.bit_length() + rational.denominator.bit_length() < 8192 else None
    values = _values(expression)
    if values is None:
        return None
    if all(_close(value, values[0]) for value in values) and (near := _as_rational(values[0])) is not None:
        return str(near)
    if all(_close(value, values[0]) for value in values):
        values = values[:1]
    return "~" + ",".join(map(_digits, values))


def _relation_key(relation: Any) -> str | None:
    """A relation is its sides' difference up to a factor: any for an equation, a positive one for an inequality."""
    operator, difference = str(relation.rel_op), (relation.lhs - relation.rhs).doit()
    if operator in (">", ">="):
        operator, difference = {">": "<", ">=": "<="}[operator], -difference
    values = _values(difference) if difference.free_symbols else None  # of constants it says no more than a truth value
    if values is None or abs(values[0]) < 1e-15:
        return None
    scale = values[0] if operator in ("==", "!=") else abs(values[0])
    return operator + ",".join(_digits(value / scale) for value in values)


def _values(expression: Any) -> list[Any] | None:
    """The expression's values, as mpmath numbers of 25 digits, at each point; None where one is not a finite number."""
    import mpmath  # type: ignore[import-untyped]

    symbols = sorted(expression.free_symbols, key=str)
    values = []
    for point in range(_POINTS if symbols else 1):
        where = {symbol: _coordinate(f"{symbol}/{point}") for symbol in symbols}
        number = expression.evalf(25, subs=where)
        with mpmath.workdps(30):
            value = mpmath.mpmathify(_number(number))
        if not mpmath.isfinite(value):
            return None
        values.append(value)
    return values


def _number(number: Any) -> Any:
    """A sympy number as an mpmath one, without rounding dust in its lesser part. TypeError if it is no number."""
    import mpmath

    real, imaginary = (mpmath.mpf(part._mpf_ if part.is_Float else part) for part in number.as_real_imag())
    if abs(imaginary) <= abs(real) * mpmath.mpf("1e-18"):
        return real
    if abs(real) <= abs(imaginary) * mpmath.mpf("1e-18"):
        real = mpmath.mpf(0)
    return mpmath.mpc(real, imaginary)


def _coordinate(name: str) -> Any:
    """A fixed generic number in (0.5, 1.5) for a symbol, from its name alone; i is the imaginary unit."""
    import sympy

    if name.startswith("i/"):
        return sympy.I
    return sympy.Rational(1, 2) + sympy.Rational(zlib.crc32(name.encode()), 2**32 + 15)


def _close(a: Any, b: Any) -> bool:
    return bool(abs(a - b) <= 1e-18 * max(1, abs(a)))


def _as_rational(value: Any) -> Fraction | None:
    """The rational with a small denominator that a value plainly is, e.g. 1 for sin² x + cos² x."""
    import mpmath

    if isinstance(value, mpmath.mpc) or abs(value) > 1e15:
        return None
    with mpmath.workdps(30):
        near = Fraction(mpmath.nstr(value, 25)).limit_denominator(1000)
        return near if abs(value - mpmath.mpf(near.numerator) / near.denominator) < 1e-18 else None


def _digits(value: Any) -> str:
    import mpmath

    return str(mpmath.nstr(value, 12, min_fixed=0, max_fixed=0))


class _Abandoned(BaseException):
    """Raised inside a reader that ran out of time; no ``except Exception`` of the parser may swallow it."""


class _Reader:
    """One daemon thread that reads expressions, replaced where one takes too long. The caller always gets away."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._work: queue.SimpleQueue[tuple[Callable[[], str | None], queue.SimpleQueue[str | None]]] | None = None
        self._thread: threading.Thread | None = None
        self._runaways: list[threading.Thread] = []

    def call(self, function: Callable[[], str | None]) -> str | None:
        warm_up()  # the import is no part of the time that an expression may take
        result: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        with self._lock:
            self._stop_runaways()
            if self._thread is None or not self._thread.is_alive() or self._work is None:
                self._work = queue.SimpleQueue()
                self._thread = threading.Thread(target=_serve, args=(self._work,), name="expressions", daemon=True)
                self._thread.start()
            self._work.put((function, result))
            try:
                return result.get(timeout=SECONDS)
            except queue.Empty:
                self._runaways.append(self._thread)
                self._thread = None
                self._stop_runaways()
                raise TimeoutError from None

    def _stop_runaways(self) -> None:
        self._runaways = [thread for thread in self._runaways if thread.is_alive()]
        for thread in self._runaways:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(_Abandoned))


def _serve(work: queue.SimpleQueue[tuple[Callable[[], str | None], queue.SimpleQueue[str | None]]]) -> None:
    try:
        while True:
            function, result = work.get()
            result.put(function())
    except _Abandoned:
        return


_reader = _Reader()
