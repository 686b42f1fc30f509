"""Records: our repositories against bare drivers and against other layers. `--help` lists the options."""

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

from ..page import head, write
from .measure import Plan, Results, pin, run_all, unpin
from .report import table, verdicts
from .stores import STORES

_PACKAGES = (
    *("pydantic", "aiosqlite", "psycopg", "redis", "hiredis", "pymongo", "sqlalchemy", "asyncpg"),
    *("advanced-alchemy", "sqlmodel", "tortoise-orm", "beanie", "pydantic-mongo", "redis-om"),
)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.records", description=__doc__)
    parser.add_argument("stores", nargs="*", choices=[*STORES, []], help="by default all")
    parser.add_argument("--quick", action="store_true", help="a minute instead of six; its numbers are rough")
    parser.add_argument("--rounds", type=int, help="of the operations on one record")
    parser.add_argument("--sides", help="names of sides, divided by commas; by default all")
    parser.add_argument("--write", type=Path, help="a page whose results are replaced by these")
    return parser.parse_args()


async def run(store: str, plan: Plan, wanted: set[str]) -> Results:
    unpin()
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as directory:
        async with STORES[store](Path(directory)) as (title, sides):
            pin()
            return await run_all(title, [side for side in sides if not wanted or side.name in wanted], plan)


def main() -> None:
    options = arguments()
    plan = Plan(rounds=3, operations=96, bulk_rounds=1, bulk_tasks=(1,)) if options.quick else Plan()
    if options.rounds:
        plan = Plan(options.rounds, plan.operations, plan.bulk_rounds, plan.bulk_tasks)
    wanted = set(options.sides.split(",")) if options.sides else set()
    parts = [head("bench", _PACKAGES)]
    missed: list[str] = []
    for store in options.stores or STORES:
        start = time.monotonic()
        results = asyncio.run(run(store, plan, wanted))
        parts.append(table(results))
        missed += verdicts(results)
        print(f"{store}: {time.monotonic() - start:.0f} s", file=sys.stderr)
    parts.append("Missed targets:" if missed else "No target was missed.")
    parts += ["\n".join(f"- {each}" for each in missed)] if missed else []
    text = "\n\n".join(parts) + "\n"
    print(text)
    if options.write:
        write(options.write, text)


if __name__ == "__main__":
    main()
