"""The calculations that a rationale writes as `<<a=b>>`: are they right, what is b. Nothing is evaluated as code.

Numbers may have decimals, thousands commas, a currency sign or a percent sign; the operations are + - * / // ** and
brackets, also written x, ×, ÷, ^ and −. What is not of this kind cannot be judged, and is not called wrong. A result
with decimals may be rounded or cut: `20/3=6.67` and `20/3=6.6` are right, `20/3=7` is not.

Usage: `judge("<<48/2=24>>") is True`; `judge("<<2+2=5>>") is False`; `judge("<<two=2>>") is None`;
`value_of("48/2") == "24"`; `value_of(" 4 8 / 2 ") == " 2 4 "`.
"""

import ast
import re
from fractions import Fraction

LONGEST = 200
SIGNS = str.maketrans({"x": "*", "X": "*", "×": "*", "·": "*", "÷": "/", "−": "-", "–": "-", "[": "(", "]": ")"})
READABLE = re.compile(r"[0-9.+*/() -]+")
FINEST = 12  # decimals
MOST = 10**15  # what is as large is left to its writer


def calculate(expression: str) -> Fraction | None:
    """The value of an expression; `None` where it is none that can be read, or has no value."""
    text = re.sub(r"(?<=[0-9]),(?=[0-9]{3}(?![0-9]))|[$€£]", "", expression.strip()).translate(SIGNS)
    text = re.sub(r"(?<![0-9.])([0-9.]+) *%", r"(\1/100)", text).replace("^", "**")
    # A bracket behind a number would be a call.
    if len(text) > LONGEST or not READABLE.fullmatch(text) or re.search(r"[0-9.)] *\(", text):
        return None
    try:
        return _value(ast.parse(text.strip(), mode="eval").body, text.strip())
    except (SyntaxError, ValueError, ArithmeticError, RecursionError, MemoryError):
        return None


def _value(node: ast.expr, text: str) -> Fraction:
    match node:
        case ast.Constant(int() | float()):  # as it is written: a float would round it
            return Fraction(text[node.col_offset : node.end_col_offset])
        case ast.UnaryOp(ast.UAdd(), operand):
            return _value(operand, text)
        case ast.UnaryOp(ast.USub(), operand):
            return -_value(operand, text)
        case ast.BinOp(left, ast.Add(), right):
            return _value(left, text) + _value(right, text)
        case ast.BinOp(left, ast.Sub(), right):
            return _value(left, text) - _value(right, text)
        case ast.BinOp(left, ast.Mult(), right):
            return _value(left, text) * _value(right, text)
        case ast.BinOp(left, ast.Div(), right):
            return _value(left, text) / _value(right, text)
        case ast.BinOp(left, ast.FloorDiv(), right):
            return Fraction(_value(left, text) // _value(right, text))
        case ast.BinOp(left, ast.Pow(), right):
            base, exponent = _value(left, text), _value(right, text)
            if exponent.denominator > 1 or abs(exponent) > 100 or max(map(abs, base.as_integer_ratio())) > 10**9:
                raise ValueError("too large a power")
            return base**exponent.numerator
    raise ValueError("not arithmetic")


def judge(span: str) -> bool | None:
    """Whether all sides of `<<a=b>>` have one value; `None` where that cannot be told.

    A result in percent may be the share or the number: `3/4=75%` and `100-25=75%` are both right.
    """
    *sides, result = span.removeprefix("<<").removesuffix(">>").split("=")
    values, shown = [calculate(side) for side in sides], calculate(result.replace("%", ""))
    if not values or shown is None or None in values:
        return None
    decimals = re.search(r"\.([0-9]+)", result)
    last_place = Fraction(1, 10 ** min(len(decimals[1]), FINEST)) if decimals else 0
    scales = (1, 100) if "%" in result else (1,)
    return all(
        any(value * scale == shown or abs(value * scale - shown) < last_place for scale in scales)
        for value in values
        if value is not None
    )


def value_of(expression: str) -> str | None:
    """The value of what stands between `<<` and `=`, as it is to be written between `=` and `>>`.

    It is exact: `10`, `2.5`, `-0.4`. Where the expression begins with a space, so does the value, and a space ends
    it; where no two of the expression's digits stand together either, the value's are set apart: ` 2 4 `.

    Args:
        expression (`str`): Such as `48/2` or ` 4 8 / 2 `.

    Returns:
        `None` for what cannot be read, has no value, or none of at most 12 decimals and 15 digits before them: how
        2/3 is rounded is the writer's choice.
    """
    spaced = expression.startswith(" ")
    apart = spaced and not re.search(r"[0-9.]{2}", expression)
    value = calculate(re.sub(r"(?<=[0-9.]) (?=[0-9.])", "", expression) if apart else expression)
    if value is None or abs(value) >= MOST or (scaled := value * 10**FINEST).denominator > 1:
        return None
    whole, part = divmod(abs(scaled.numerator), 10**FINEST)
    text = "-" * (value < 0) + f"{whole}.{part:0{FINEST}}".rstrip("0").rstrip(".")
    return f" {' '.join(text) if apart else text} " if spaced else text
