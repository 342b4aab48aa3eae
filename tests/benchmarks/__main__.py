"""``make bench``: run the benchmarks, print a table of ratios, write ``bench.json``.

A ratio comes from runs of both sides in turns, in one script: absolute times differ between
machines and hours, ratios hardly. ``ONLY=name`` (or an argument) runs those whose name holds it.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

MODULES = {
    "client_mask": ("client_mask_1m_k8_vs_flower", "client_mask_1m_k32", "client_mask_1m_k100"),
    "client_upload": ("client_mask_share_1m_k32_vs_flower", "client_mask_share_1m_k100_vs_flower"),
    "server_unmask": (
        "server_unmask_100x1m_drop0_vs_flower",
        "server_unmask_100x1m_drop10_vs_flower",
        "server_unmask_100x1m_drop30_vs_flower",
        "server_masks_only_drop30_vs_flower",
    ),
    "linear_complexity": ("flower_linear_complexity",),
    "memory": ("server_memory_100x10m", "client_memory_10m"),
    "backends": ("ckks_error", "ckks_equals_masking"),
    "prg_limit": ("mask_vs_prg_limit", "mask_vs_kernel_limit"),
    "privacy_tax": ("privacy_tax",),
    "accounting": ("joint_query_10000", "joint_query_10000_coarse", "ledger_spend"),
    "noise_sampler": ("noise_sampler_vs_opendp",),
    "dpsgd_step": ("dpsgd_step_vs_plain",),
    "subnet_vs_plain": ("subnet_vs_plain",),
    "round_overhead": ("round_overhead",),
    "recording_overhead": ("recording_overhead",),
    "paper_size": ("paper_size",),
}


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("only", nargs="?", default="", help="part of a benchmark's name")
    parser.add_argument("--out", type=Path, default=Path("bench.json"))
    options = parser.parse_args(arguments)
    chosen = [
        module
        for module, names in MODULES.items()
        if options.only in module or any(options.only in name for name in names)
    ]
    if not chosen:
        parser.error(f"no benchmark's name holds {options.only!r}: {', '.join(MODULES)}")
    results = [
        row
        for module in chosen
        for row in run(module, options.only)
        if options.only in module or options.only in str(row["name"])
    ]
    show(results)
    options.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return 0


def run(module: str, only: str) -> list[dict[str, object]]:
    """Run one module; those whose rows cost minutes each are told which ones are asked for."""
    rows = importlib.import_module(f"tests.benchmarks.{module}").rows
    return rows(only) if inspect.signature(rows).parameters else rows()


def show(results: list[dict[str, object]]) -> None:
    table = Table("benchmark", "ratio", "goal", "ours", "peer", "unit", title="Benchmarks")
    for row in results:
        sign = "≤" if row.get("better") == "lower" else "≥"
        table.add_row(
            str(row["name"]),
            f"{row['ratio']:.2f}",
            f"{sign} {row['goal']:g}",
            f"{row['ours']:.4g}",
            f"{row['peer']:.4g}",
            str(row["unit"]),
        )
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
