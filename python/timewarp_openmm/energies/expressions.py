"""OpenMM's algebraic expressions, evaluated on tensors.

Custom forces state their energy as text, such as ``"scale*(r-r0)^2; scale=0.5*k"``: an expression
and, after semicolons, definitions of the names that it uses (OpenMM user guide, "Writing Custom
Expressions").
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

Value = Tensor | float
Function = Callable[..., Value]

_TOKEN = re.compile(r"\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?|[A-Za-z_]\w*")
#: Put before names, since OpenMM allows some that Python reserves: "or", "lambda".
_MARK = "n_"


def _tensor(value: Value, like: Tensor) -> Tensor:
    return value if isinstance(value, Tensor) else torch.full_like(like, value)


def _unary(of_tensor: Callable[[Tensor], Tensor], of_number: Callable[[float], float]) -> Function:
    def apply(x: Value) -> Value:
        return of_tensor(x) if isinstance(x, Tensor) else of_number(x)

    return apply


def _select(condition: Value, if_true: Value, if_false: Value) -> Value:
    if not isinstance(condition, Tensor):
        return if_true if condition != 0 else if_false
    true, false = _tensor(if_true, condition), _tensor(if_false, condition)
    return torch.where(condition != 0, true, false)


def _binary(
    of_tensors: Callable[[Tensor, Tensor], Tensor], of_numbers: Callable[[float, float], float]
) -> Function:
    def apply(x: Value, y: Value) -> Value:
        if isinstance(x, Tensor):
            return of_tensors(x, _tensor(y, x))
        return of_tensors(_tensor(x, y), y) if isinstance(y, Tensor) else of_numbers(x, y)

    return apply


def _step(x: Tensor) -> Tensor:
    return (x >= 0).to(x.dtype)


def _delta(x: Tensor) -> Tensor:
    return (x == 0).to(x.dtype)


FUNCTIONS: dict[str, Function] = {
    "sqrt": _unary(torch.sqrt, math.sqrt),
    "exp": _unary(torch.exp, math.exp),
    "log": _unary(torch.log, math.log),
    "sin": _unary(torch.sin, math.sin),
    "cos": _unary(torch.cos, math.cos),
    "tan": _unary(torch.tan, math.tan),
    "asin": _unary(torch.asin, math.asin),
    "acos": _unary(torch.acos, math.acos),
    "atan": _unary(torch.atan, math.atan),
    "atan2": _binary(torch.atan2, math.atan2),
    "sinh": _unary(torch.sinh, math.sinh),
    "cosh": _unary(torch.cosh, math.cosh),
    "tanh": _unary(torch.tanh, math.tanh),
    "erf": _unary(torch.erf, math.erf),
    "erfc": _unary(torch.erfc, math.erfc),
    "abs": _unary(torch.abs, abs),
    "floor": _unary(torch.floor, math.floor),
    "ceil": _unary(torch.ceil, math.ceil),
    "step": _unary(_step, lambda x: float(x >= 0)),
    "delta": _unary(_delta, lambda x: float(x == 0)),
    "square": lambda x: x * x,
    "cube": lambda x: x * x * x,
    "recip": lambda x: 1 / x,
    "min": _binary(torch.minimum, min),
    "max": _binary(torch.maximum, max),
    "select": _select,
}


def _power(base: Value, exponent: Value) -> Value:
    # A few products are much faster than pow().
    if isinstance(exponent, float) and exponent == int(exponent) and 1 <= exponent <= 16:
        bits = format(int(exponent), "b")
        result = base
        for bit in bits[1:]:
            result = result * result
            if bit == "1":
                result = result * base
        return result
    return base**exponent


_OPERATORS: dict[type[ast.operator], Function] = {
    ast.Add: lambda x, y: x + y,
    ast.Sub: lambda x, y: x - y,
    ast.Mult: lambda x, y: x * y,
    ast.Div: lambda x, y: x / y,
    ast.Pow: _power,
}


def _parse(text: str) -> ast.expr:
    marked = _TOKEN.sub(
        lambda match: _MARK + match.group() if match.group()[0].isidentifier() else match.group(),
        text,
    )
    try:
        return ast.parse(marked.replace("^", "**").strip(), mode="eval").body
    except SyntaxError as error:
        raise ValueError(f"the expression '{text}' cannot be read: {error.msg}") from error


class Expression:
    """An expression with its definitions, ready to be evaluated.

    Parameters
    ----------
    text : str
        As OpenMM takes it.

    Raises
    ------
    ValueError
        If it cannot be read.

    Examples
    --------
    >>> Expression("2*a^2 + b; b=step(a-1)").evaluate({"a": 3.0})
    19.0
    """

    def __init__(self, text: str) -> None:
        self.text = text
        main, *definitions = [part for part in text.split(";") if part.strip()]
        self._main = _parse(main)
        self._definitions: dict[str, ast.expr] = {}
        for definition in definitions:
            name, equals, right = definition.partition("=")
            if not equals:
                raise ValueError(f"the expression '{text}' has no '=' in '{definition.strip()}'")
            self._definitions[name.strip()] = _parse(right)

    def evaluate(
        self, variables: Mapping[str, Value], functions: Mapping[str, Function] | None = None
    ) -> Value:
        """Return its value; tensors are taken element by element and must broadcast.

        Parameters
        ----------
        variables : mapping from name to Tensor or float
        functions : mapping from name to function, optional
            Functions beside OpenMM's own (tabulated ones).

        Raises
        ------
        ValueError
            If it uses a name or function that there is not.
        """
        return _Evaluation(self, variables, {**FUNCTIONS, **(functions or {})}).main()


class _Evaluation:
    """One evaluation: every definition is worked out once, when it is first used."""

    def __init__(
        self,
        expression: Expression,
        variables: Mapping[str, Value],
        functions: Mapping[str, Function],
    ) -> None:
        self.expression = expression
        self.known = dict(variables)
        self.functions = functions

    def main(self) -> Value:
        return self.value(self.expression._main)

    def value(self, node: ast.expr) -> Value:
        if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
            return float(node.value)
        if isinstance(node, ast.Name):
            return self.named(node.id.removeprefix(_MARK))
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
            value = self.value(node.operand)
            return -value if isinstance(node.op, ast.USub) else value
        if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            return _OPERATORS[type(node.op)](self.value(node.left), self.value(node.right))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            name = node.func.id.removeprefix(_MARK)
            if name in self.functions:
                return self.functions[name](*(self.value(argument) for argument in node.args))
            raise ValueError(
                f"the expression '{self.expression.text}' calls {name}(), unknown here"
            )
        raise ValueError(f"the expression '{self.expression.text}' cannot be read")

    def named(self, name: str) -> Value:
        if name not in self.known:
            if name not in self.expression._definitions:
                raise ValueError(f"the expression '{self.expression.text}' does not define {name}")
            self.known[name] = self.value(self.expression._definitions[name])
        return self.known[name]
