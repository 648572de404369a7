"""What the throughput benchmark knows of each problem: right bodies and plausible wrong ones, as pieces of kernels.

`candidates.py` puts them into whole programs. Loads no torch.
"""

from __future__ import annotations

from dataclasses import dataclass

from sandbox.types import Problem

PROBLEM = """
import torch
class Model(torch.nn.Module):
    def forward(self, {names}):
        return {answer}
def get_inputs():
    return [{inputs}]
def get_init_inputs():
    return []
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How to answer one problem.

    `kind` names the skeleton in `candidates.py`; `inputs` are the arguments of `forward`, `loads` what the kernel reads
    before `bodies`, each of which is one right way to compute `y` (and `z`); `wrong` are bodies that look right.
    `out` makes the output, `init` is the body of the constructor.
    """

    kind: str
    inputs: tuple[str, ...] = ("x",)
    loads: tuple[tuple[str, str, str], ...] = (("x", "x", "offsets"),)  # name, input, index
    bodies: tuple[str, ...]
    wrong: tuple[str, ...]
    out: str = "torch.empty_like(x)"
    init: str = "pass"
    extent: str = "1"


TANH = "2.0 / (1.0 + tl.exp(-2.0 * ({0}))) - 1.0"
GELU = "v = x + b\nu = 0.7978845608028654 * (v + 0.044715 * v * v * v)\ny = 0.5 * v * (1.0 + TANH)".replace(
    "TANH", TANH.format("u")
)
SOFTMAX = "e = tl.exp(x - tl.max(x, axis=1)[:, None])\ny = e / tl.sum(e, axis=1)[:, None]"
SOFTMAX_2 = (
    "e = tl.exp2((x - tl.max(x, axis=1)[:, None]) * 1.4426950408889634)\ny = e * (1.0 / tl.sum(e, axis=1)[:, None])"
)
CAUSAL = "x = tl.where(columns[None, :] <= (rows % cols)[:, None], x * 0.125, float('-inf'))\n"
MEAN = "m = tl.sum(tl.where(mask, x, 0.0), axis=1) / cols\nd = tl.where(mask, x - m[:, None], 0.0)\n"
ROW_SUM = "tl.sum(tl.where(mask, x, 0.0), axis=1)"

RECIPES: dict[str, Recipe] = {
    "elementwise_chain": Recipe(
        kind="pointwise",
        bodies=(
            f"y = ({TANH.format('0.5 * x')}) / (1.0 + tl.exp(-x)) + x",
            f"y = ({TANH.format('0.5 * x')}) * tl.sigmoid(x) + x",
        ),
        wrong=(f"y = ({TANH.format('0.5 * x')}) * tl.sigmoid(x)", "y = tl.sigmoid(0.5 * x) * tl.sigmoid(x) + x"),
    ),
    "leaky_relu_clamp": Recipe(
        kind="pointwise",
        bodies=(
            "v = tl.where(x > 0, x, 0.2 * x)\ny = tl.minimum(tl.maximum(v, -1.5), 1.5)",
            "y = tl.clamp(tl.maximum(x, 0.2 * x), -1.5, 1.5)",
        ),
        wrong=("y = tl.where(x > 0, x, 0.2 * x)", "y = tl.clamp(tl.maximum(x, 0.02 * x), -1.5, 1.5)"),
    ),
    "bias_gelu": Recipe(
        kind="pointwise",
        inputs=("x", "bias"),
        loads=(("x", "x", "offsets"), ("b", "bias", "offsets % cols")),
        bodies=(GELU, GELU.replace("v * v * v", "(v * v) * v").replace("0.5 * v", "v * 0.5")),
        wrong=(GELU.replace("x + b", "x"), GELU.replace("0.044715", "0.44715")),
    ),
    "broadcast_affine": Recipe(
        kind="pointwise",
        inputs=("x", "scale", "shift"),
        loads=(
            ("x", "x", "offsets"),
            ("s", "scale", "offsets // cols % extent"),
            ("t", "shift", "offsets // cols % extent"),
        ),
        bodies=("y = x * s + t", "y = tl.fma(x, s, t)"),
        wrong=("y = x * s", "y = (x + t) * s"),
        extent="scale.numel()",
    ),
    "swiglu": Recipe(
        kind="pointwise",
        loads=(
            ("g", "x", "offsets // cols * 2 * cols + offsets % cols"),
            ("v", "x", "offsets // cols * 2 * cols + cols + offsets % cols"),
        ),
        bodies=("y = g / (1.0 + tl.exp(-g)) * v", "y = g * tl.sigmoid(g) * v"),
        wrong=("y = tl.sigmoid(g) * v", "y = v * tl.sigmoid(v) * g"),
        out="torch.empty(x.shape[0], x.shape[1] // 2, device=x.device)",
    ),
    "transposed_add": Recipe(
        kind="pointwise",
        inputs=("x", "other"),
        loads=(("x", "x", "offsets % cols * extent + offsets // cols"), ("o", "other", "offsets")),
        bodies=("y = x * 0.5 + o", "y = tl.fma(x, 0.5, o)"),
        wrong=("y = x + o", "y = x * 0.5"),
        out="torch.empty_like(other)",
        extent="other.shape[0]",
    ),
    "softmax_rows": Recipe(
        kind="rows",
        bodies=(SOFTMAX, SOFTMAX_2),
        wrong=(
            "e = tl.exp(x)\ny = e / cols",
            SOFTMAX.replace("axis=1)[:, None])\n", "axis=1)[:, None] + 1.0)\n") + " * 1.01",
        ),
    ),
    "causal_softmax": Recipe(
        kind="rows",
        bodies=(CAUSAL + SOFTMAX, CAUSAL + SOFTMAX_2),
        wrong=(CAUSAL.replace("<=", "<") + SOFTMAX, CAUSAL.replace("0.125", "0.25") + SOFTMAX),
    ),
    "sum_rows": Recipe(
        kind="rows_to_one",
        bodies=(f"y = {ROW_SUM}", f"y = {ROW_SUM} + 0.0 * tl.max(tl.where(mask, x, 0.0), axis=1)"),
        wrong=("y = tl.max(x, axis=1)", f"y = {ROW_SUM} / cols"),
        out="torch.empty(x.shape[0], device=x.device)",
    ),
    "rms_norm": Recipe(
        kind="rows",
        inputs=("x", "self.weight"),
        bodies=(
            "q = tl.sum(tl.where(mask, x * x, 0.0), axis=1) / cols\ny = x * tl.rsqrt(q + 1e-5)[:, None] * w[None, :]",
            "q = tl.sum(tl.where(mask, x * x, 0.0), axis=1) / cols\ny = x / tl.sqrt(q + 1e-5)[:, None] * w[None, :]",
        ),
        wrong=(
            "q = tl.sum(tl.where(mask, x * x, 0.0), axis=1) / cols\ny = x * tl.rsqrt(q + 1e-5)[:, None]",
            "q = tl.sum(tl.where(mask, x, 0.0), axis=1) / cols\ny = x * tl.rsqrt(q * q + 1e-5)[:, None] * w[None, :]",
        ),
        init="self.weight = torch.nn.Parameter(torch.ones(args[0]))",
    ),
    "layer_norm": Recipe(
        kind="rows",
        inputs=("x", "self.norm.weight", "self.norm.bias"),
        bodies=(
            MEAN + "y = d * tl.rsqrt(tl.sum(d * d, axis=1) / cols + 1e-5)[:, None] * w[None, :] + b[None, :]",
            MEAN + "y = d / tl.sqrt(tl.sum(d * d, axis=1) / cols + 1e-5)[:, None] * w[None, :] + b[None, :]",
        ),
        wrong=(
            MEAN + "y = d * tl.rsqrt(tl.sum(d * d, axis=1) / cols + 1e-5)[:, None] * w[None, :]",
            MEAN + "y = d * tl.rsqrt(tl.sum(d * d, axis=1) / cols + 1e-1)[:, None] * w[None, :] + b[None, :]",
        ),
        init="self.norm = torch.nn.LayerNorm(args[0])",
    ),
    "cumulative_sum": Recipe(
        kind="rows",
        bodies=("y = tl.cumsum(tl.where(mask, x, 0.0), axis=1)", "y = tl.cumsum(x, axis=1)"),
        wrong=("y = tl.cumsum(x, axis=1) - x", "y = tl.cumsum(x, axis=1, reverse=True)"),
    ),
    "mean_and_variance": Recipe(
        kind="rows_to_two",
        bodies=(MEAN + "y = m\nz = tl.sum(d * d, axis=1) / (cols - 1)",),
        wrong=(
            MEAN + "y = m\nz = tl.sum(d * d, axis=1) / cols",
            MEAN + "y = m * cols\nz = tl.sum(d * d, axis=1) / (cols - 1)",
        ),
        out="torch.empty(x.shape[0], device=x.device)",
    ),
    "max_middle": Recipe(
        kind="middle",
        bodies=("total = tl.maximum(total, x)", "total = tl.where(x > total, x, total)"),
        wrong=("total = tl.minimum(total, x)", "total = tl.maximum(total, tl.abs(x))"),
        init="float('-inf')",
    ),
    "huber_loss": Recipe(
        kind="loss",
        inputs=("x", "t"),
        bodies=("d = tl.abs(x - t)\nv = tl.where(d < 1.0, 0.5 * d * d, d - 0.5)",),
        wrong=("d = tl.abs(x - t)\nv = tl.where(d < 1.0, d * d, d - 0.5)", "d = x - t\nv = 0.5 * d * d"),
    ),
    "matmul_bias_relu": Recipe(
        kind="matmul",
        inputs=("a", "b", "bias"),
        bodies=("y = tl.maximum(total + c[None, :], 0.0)",),
        wrong=("y = tl.maximum(total, 0.0)", "y = total + c[None, :]"),
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Extra:
    """A problem of the benchmark's own: what it computes, its inputs, and its recipe. `{r}` and `{c}` are sizes."""

    answer: str
    inputs: str = "torch.randn({r}, {c})"
    recipe: Recipe


EXTRAS: dict[str, Extra] = {
    "log_softmax": Extra(
        answer="torch.log_softmax(x, dim=-1)",
        recipe=Recipe(
            kind="rows",
            bodies=("s = x - tl.max(x, axis=1)[:, None]\ny = s - tl.log(tl.sum(tl.exp(s), axis=1))[:, None]",),
            wrong=("s = x - tl.max(x, axis=1)[:, None]\ny = s", SOFTMAX),
        ),
    ),
    "l2_norm": Extra(
        answer="x / torch.linalg.vector_norm(x, dim=-1, keepdim=True)",
        recipe=Recipe(
            kind="rows",
            bodies=("y = x / tl.sqrt(tl.sum(tl.where(mask, x * x, 0.0), axis=1))[:, None]",
                    "y = x * tl.rsqrt(tl.sum(tl.where(mask, x * x, 0.0), axis=1))[:, None]"),
            wrong=("y = x / tl.sum(tl.where(mask, tl.abs(x), 0.0), axis=1)[:, None]",
                   "y = x * tl.rsqrt(tl.sum(tl.where(mask, x * x, 0.0), axis=1) / cols)[:, None]"),
        ),
    ),
    "logsumexp": Extra(
        answer="torch.logsumexp(x, dim=-1)",
        recipe=Recipe(
            kind="rows_to_one",
            bodies=("m = tl.max(x, axis=1)\ny = m + tl.log(tl.sum(tl.exp(x - m[:, None]), axis=1))",),
            wrong=("m = tl.max(x, axis=1)\ny = m",
                   "m = tl.max(x, axis=1)\ny = tl.log(tl.sum(tl.exp(x - m[:, None]), axis=1))"),
            out="torch.empty(x.shape[0], device=x.device)",
        ),
    ),
    "hard_swish": Extra(
        answer="torch.nn.functional.hardswish(x)",
        recipe=Recipe(
            kind="pointwise",
            bodies=("y = x * tl.clamp(x + 3.0, 0.0, 6.0) / 6.0",
                    "y = x * tl.minimum(tl.maximum(x + 3.0, 0.0), 6.0) * 0.16666666666666666"),
            wrong=("y = x * tl.clamp(x + 3.0, 0.0, 6.0)", "y = x * tl.maximum(x + 3.0, 0.0) / 6.0"),
        ),
    ),
    "soft_sign_product": Extra(
        answer="x / (1.0 + x.abs()) * t",
        inputs="torch.randn({r}, {c}), torch.randn({r}, {c})",
        recipe=Recipe(
            kind="pointwise",
            inputs=("x", "t"),
            loads=(("x", "x", "offsets"), ("t", "t", "offsets")),
            bodies=("y = x / (1.0 + tl.abs(x)) * t", "y = x * t / (1.0 + tl.abs(x))"),
            wrong=("y = x / (1.0 + x) * t", "y = x / (1.0 + tl.abs(x)) + t"),
        ),
    ),
    "mean_squared_error": Extra(
        answer="torch.nn.functional.mse_loss(x, t)",
        inputs="torch.randn({r}, {c}), torch.randn({r}, {c})",
        recipe=Recipe(
            kind="loss", inputs=("x", "t"), bodies=("v = (x - t) * (x - t)",),
            wrong=("v = tl.abs(x - t)", "v = 0.5 * (x - t) * (x - t)"),
        ),
    ),
    "sum_middle": Extra(
        answer="x.sum(dim=1)",
        inputs="torch.randn({r} // 64, 64, {c})",
        recipe=Recipe(
            kind="middle", bodies=("total = total + x",), init="0.0",
            wrong=("total = total + tl.abs(x)", "total = tl.maximum(total, x)"),
        ),
    ),
}  # fmt: skip


def extra_problems(*, num_rows: int, num_columns: int) -> list[Problem]:
    """The benchmark's own problems at one size."""
    made = []
    for name, extra in EXTRAS.items():
        source = PROBLEM.format(
            names=", ".join(extra.recipe.inputs), answer=extra.answer,
            inputs=extra.inputs.format(r=num_rows, c=num_columns),
        )  # fmt: skip
        made.append(Problem(id=name, source=source, origin=__file__))
    return made


def recipe_of(problem_id: str) -> Recipe | None:
    """None where a problem has none: its recorded completions are all there is."""
    return EXTRAS[problem_id].recipe if problem_id in EXTRAS else RECIPES.get(problem_id)
