"""Paint the prompts' pictures on running ComfyUI servers.

The workflow is any that ComfyUI exports in API format (Workflow > Export (API)). Prompt and seed
are put into its nodes, found by title or id. Pictures that are there are left alone: the same
command goes on where it stopped.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import EllaError
from ..files import locked
from ..questions import load_items
from .options import count

if TYPE_CHECKING:
    from ..generate.jobs import Job


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("--questions", type=Path, required=True, help="the benchmark's questions")
    add("--folder", type=Path, required=True, help="where the pictures go")
    add("--workflow", type=Path, required=True, help="a workflow in API format")
    add("--server", action="append", required=True, help="http://HOST:PORT; may be repeated")
    add(
        "--prompt-node",
        action="append",
        metavar="NODE[.INPUT]",
        help="title or id of a node that takes the prompt; may be repeated (Prompt)",
    )
    add(
        "--seed-node",
        action="append",
        default=[],
        metavar="NODE[.INPUT]",
        help="title or id of a node that takes the seed (every `seed` and `noise_seed`)",
    )
    add(
        "--output-node",
        action="append",
        default=[],
        metavar="NODE",
        help="title or id of the node that saves the picture, if there are several",
    )
    add("--pictures", type=count, default=4, help="pictures per prompt (4)")
    add("--seed", type=int, default=0, help="of a prompt's first picture; then 1 more each (0)")
    add("--queue", type=count, default=2, help="prompts that each server has at a time (2)")
    add("--timeout", type=float, default=600, help="seconds that a picture may take (600)")


def run(arguments: argparse.Namespace) -> None:
    """Paint what is missing."""
    from tqdm import tqdm
    from tqdm.contrib.logging import logging_redirect_tqdm

    from ..generate.jobs import missing, plan
    from ..generate.servers import paint_on_servers
    from ..generate.workflow import Workflow

    workflow = Workflow.load(
        arguments.workflow,
        arguments.prompt_node or ["Prompt"],
        arguments.seed_node,
        arguments.output_node,
    )
    items = load_items(arguments.questions)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    jobs = plan(items, arguments.folder, workflow.hash, arguments.pictures, arguments.seed)
    with locked(arguments.folder / "generate"):
        todo = missing(jobs)
        done = len(jobs) - len(todo)
        if not todo:
            print(f"{arguments.folder} has all {done} pictures")
            return
        with logging_redirect_tqdm(), tqdm(total=len(jobs), initial=done, unit="picture") as bar:
            failed = paint_on_servers(
                todo, workflow, arguments.server, bar.update, arguments.queue, arguments.timeout
            )
    if failed:
        raise EllaError(
            f"{len(failed)} of {len(jobs)} pictures failed, the others are there. The same command "
            "tries them again:\n" + "\n".join(f"  {_failure(job)}" for job in failed)
        )
    print(f"{arguments.folder} has all {len(jobs)} pictures")


def _failure(job: "Job") -> str:
    reasons = "; ".join(f"{server}: {message}" for server, message in job.errors)
    return f"{job.path.name}, {reasons}"
