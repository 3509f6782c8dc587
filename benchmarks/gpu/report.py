# SPDX-License-Identifier: Apache-2.0
"""From the figures to Markdown."""

from __future__ import annotations

from typing import Any


def markdown(figures: dict[str, Any]) -> str:
    """All tables, those whose part failed as one line with the reason."""
    parts = [_card(figures.get("card", {}))]
    kernels = figures.get("kernels")
    if kernels:
        parts += [_ceilings(kernels), _kernels(kernels["kernels"])]
    parts += [_engine(model) for model in figures.get("engine", [])]
    parts += [f"Failed: {name}: {reason}" for name, reason in figures.get("failed", {}).items()]
    return "\n\n".join(parts) + "\n"


def _card(card: dict[str, str]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in card.items())


def _ceilings(figures: dict[str, Any]) -> str:
    ceilings, host = figures["ceilings"], figures["host"]
    launches = ", ".join(f"{name} {value:.1f} us" for name, value in host.items())
    return (
        f"Ceilings: copy {ceilings['bytes_per_s'] / 1e12:.2f} TB/s (read plus written), bf16 "
        f"product {ceilings['flops'] / 1e12:.0f} TFLOP/s. Host time of a launch: {launches}."
    )


def _kernels(rows: list[dict[str, Any]]) -> str:
    head = ["kernel", "us", "torch us", "ours / torch", "GB/s", "TFLOP/s", "share of ceiling"]
    lines = [head, ["---", *["---:"] * 6]]
    for row in rows:
        if "failed" in row:
            lines.append([row["name"], f"failed: {row['failed']}", *["-"] * 5])
            continue
        ratio, share = row["us"] / row["torch_us"], f"{100 * row['share']:.0f} %"
        numbers = [row["us"], row["torch_us"], ratio, row["gb_per_s"], row["tflops"]]
        lines.append([row["name"], *(_number(number) for number in numbers), share])
    return _table(lines)


def _engine(model: dict[str, Any]) -> str:
    title = (
        f"{model['model']}: {model['weight_bytes'] / 1e9:.2f} GB of weights and buffers, loaded "
        f"in {model['load_s']:.1f} s"
    )
    head = ["work", "token/s", "ms a step", "(least-most)", "floor ms", "busy ms", "gap ms"]
    lines = [[*head, "CPU ms", "launches"], ["---", *["---:"] * 8]]
    for row in model["rows"]:
        spread = f"{_number(row['ms_least'])}-{_number(row['ms_most'])}"
        names = ("floor_ms", "busy_ms", "gap_ms", "cpu_ms", "launches")
        rest = [_number(row.get(name)) for name in names]
        cells = [row["name"], _number(row["tokens_per_s"]), _number(row["ms"]), spread]
        lines.append([*cells, *rest])
    return "\n\n".join([title, _table(lines), "\n".join(map(_largest, model["rows"]))])


def _largest(row: dict[str, Any]) -> str:
    if not row.get("kernels"):
        return f"- {row['name']}: no profile ({row.get('profiler', '')})"
    parts = [
        f"{name[:60]} {_number(ms)} ms in {_number(count)}"
        for name, (ms, count) in row["kernels"].items()
    ]
    return f"- {row['name']}: " + "; ".join(parts)


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def _table(lines: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
