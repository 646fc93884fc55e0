"""Run every bench_*.py of this folder, one after the other, and write results.md beside them.

A benchmark is a script that prints a JSON object a claim, the main one last, and exits 1 on a miss:
`name`, `ok`, `ratio` (or `measured` and `unit`), `floor` or `ceiling`, and whatever else is worth
reading. The claim in words is `claim`, or else the first line of the script's docstring. Exits 1
when a claim is missed or a script gave no result.

`run_all.py NAME ...` runs only these (all of them take hours). Each script's last results are kept,
with their day and machine, in results.json, of which results.md is written.
"""

from __future__ import annotations

import ast
import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent
RESULTS = HERE / "results.md"
KEPT = HERE / "results.json"
LIMIT_S = 3600
#: Keys that have a column of their own.
COLUMNS = {"name", "claim", "ok", "ratio", "measured", "unit", "floor", "ceiling"}


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def machine() -> str:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    python = f"Python {platform.python_version()}, torch {version('torch')}"
    return f"{processor()}, {cores} cores, {platform.system()}, {python}"


def results(script: Path) -> list[dict]:
    """Run one script; return what it says of its claims, the main one first."""
    print(f"{script.name} …", file=sys.stderr, flush=True)
    question = (ast.get_docstring(ast.parse(script.read_text("utf-8"))) or script.stem).split("\n")[
        0
    ]
    nothing = {"name": script.stem, "claim": question, "ok": False}
    try:
        done = subprocess.run(
            [sys.executable, str(script)],
            stdout=subprocess.PIPE,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return [nothing | {"no_result": f"stopped after {LIMIT_S} s"}]
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if not found or (done.returncode == 0) != all(result["ok"] for result in found):
        return [nothing | {"no_result": f"exit status {done.returncode}"}]
    return [{"claim": question} | result for result in reversed(found)]


def row(result: dict, day: str) -> str:
    """Return the result as a row of the table."""
    unit = f" {result['unit']}" if "unit" in result else ""
    value = result.get("ratio", result.get("measured"))
    measured = "none" if value is None else f"{value}{unit}"
    sign, bound = ("≥", result["floor"]) if "floor" in result else ("≤", result.get("ceiling"))
    wanted = "" if bound is None else f"{sign} {bound}{unit}"
    others = "; ".join(
        f"{name.replace('_', ' ')} {shown(value)}"
        for name, value in result.items()
        if name not in COLUMNS
    )
    verdict = "met" if result["ok"] else "**MISSED**"
    cells = (result["claim"], measured, wanted, verdict, day, others)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return f"{value:,}" if isinstance(value, int) else str(value)


def page(kept: dict[str, dict]) -> str:
    found = [result for entry in kept.values() for result in entry["results"]]
    missed = sum(not result["ok"] for result in found)
    machines = dict.fromkeys(entry["machine"] for entry in kept.values())
    return "\n".join(
        [
            "# What was measured",
            "",
            "Written by `make bench` (`benchmarks/run_all.py`). Each script in `benchmarks/` says",
            "how it measures and pins what it measures against.",
            "",
            *(f"- Machine: {name}" for name in machines),
            f"- Claims: {len(found) - missed} met, {missed} missed",
            "",
            "| Claim | Measured | Bound | | Day | Other figures |",
            "|---|---|---|---|---|---|",
            *(row(result, entry["day"]) for entry in kept.values() for result in entry["results"]),
            "",
        ]
    )


def main() -> int:
    names = sys.argv[1:]
    scripts = {script.stem.removeprefix("bench_"): script for script in HERE.glob("bench_*.py")}
    if unknown := set(names) - set(scripts):
        raise SystemExit(f"no such benchmark: {', '.join(sorted(unknown))}")
    kept = json.loads(KEPT.read_text("utf-8")) if KEPT.exists() else {}
    for name in names or sorted(scripts):
        found = results(scripts[name])
        day = f"{datetime.now(UTC):%Y-%m-%d}"
        kept[name] = {"day": day, "machine": machine(), "results": found}
        now = {name: kept[name] for name in sorted(kept) if name in scripts}
        KEPT.write_text(json.dumps(now, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        RESULTS.write_text(page(now), encoding="utf-8")
    ran = [result for name in names or scripts for result in kept[name]["results"]]
    return 0 if ran and all(result["ok"] for result in ran) else 1


if __name__ == "__main__":
    sys.exit(main())
