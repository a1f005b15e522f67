"""Paint the prompts' pictures, on running ComfyUI servers or with a pipeline of diffusers.

The workflow is any that ComfyUI exports in API format (Workflow > Export (API)). Prompt and seed
are put into its nodes, found by title or id. Pictures that are there are left alone: the same
command goes on where it stopped.
"""

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import EllaError
from ..files import locked
from ..questions import load_items
from .options import count

if TYPE_CHECKING:
    from ..generate.jobs import Job

    Paint = Callable[[Sequence[Job], Callable[[], object]], list[Job]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("--questions", type=Path, required=True, help="the benchmark's questions")
    add("--folder", type=Path, required=True, help="where the pictures go")
    add("--pictures", type=count, default=4, help="pictures per prompt (4)")
    add("--seed", type=int, default=0, help="of a prompt's first picture; then 1 more each (0)")
    way = parser.add_mutually_exclusive_group(required=True)
    way.add_argument("--workflow", type=Path, help="a workflow in API format")
    way.add_argument("--pipeline", metavar="MODEL", help="folder or repository of diffusers")
    _add_servers(parser.add_argument_group("with --workflow"))
    _add_pipeline(parser.add_argument_group("with --pipeline"))


def _add_servers(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--server", action="append", default=[], help="http://HOST:PORT; may be repeated")
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
    add("--queue", type=count, default=2, help="prompts that each server has at a time (2)")
    add("--timeout", type=float, default=600, help="seconds that a picture may take (600)")


def _add_pipeline(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--connector", default="", help="file of the connector; without one it paints without ELLA")
    add("--llm", default="", help="folder or file of the connector's LLM")
    add("--steps", type=count, default=50, help="(50)")
    add("--guidance", type=float, default=7.5, help="classifier-free guidance scale (7.5)")
    add("--width", type=count, default=512, help="in pixels (512)")
    add("--height", type=count, default=512, help="in pixels (512)")


def run(arguments: argparse.Namespace) -> None:
    """Paint what is missing."""
    from tqdm import tqdm
    from tqdm.contrib.logging import logging_redirect_tqdm

    from ..generate.jobs import missing, plan

    name, paint = (_with_workflow if arguments.workflow else _with_pipeline)(arguments)
    items = load_items(arguments.questions)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    jobs = plan(items, arguments.folder, name, arguments.pictures, arguments.seed)
    failed = []
    with locked(arguments.folder / "generate"):
        todo = missing(jobs)
        if todo:
            done = len(jobs) - len(todo)
            with (
                logging_redirect_tqdm(),
                tqdm(total=len(jobs), initial=done, unit="picture") as bar,
            ):
                failed = paint(todo, bar.update)
    if failed:
        raise EllaError(
            f"{len(failed)} of {len(jobs)} pictures failed, the others are there. The same command "
            "tries them again:\n" + "\n".join(f"  {_failure(job)}" for job in failed)
        )
    print(f"{arguments.folder} has all {len(jobs)} pictures")


def _with_workflow(arguments: argparse.Namespace) -> "tuple[str, Paint]":
    from ..generate.servers import paint_on_servers
    from ..generate.workflow import Workflow

    if not arguments.server:
        raise EllaError("--workflow needs the address of a running ComfyUI: --server")
    workflow = Workflow.load(
        arguments.workflow,
        arguments.prompt_node or ["Prompt"],
        arguments.seed_node,
        arguments.output_node,
    )
    return workflow.hash, partial(
        paint_on_servers,
        workflow=workflow,
        addresses=arguments.server,
        queue=arguments.queue,
        timeout=arguments.timeout,
    )


def _with_pipeline(arguments: argparse.Namespace) -> "tuple[str, Paint]":
    from ..generate.pipeline import Pipeline, paint_with_pipeline

    if bool(arguments.connector) != bool(arguments.llm):
        raise EllaError("--connector and --llm belong together: name both, or none for no ELLA")
    pipeline = Pipeline(
        arguments.pipeline,
        arguments.connector,
        arguments.llm,
        arguments.steps,
        arguments.guidance,
        arguments.width,
        arguments.height,
    )
    return pipeline.hash, partial(paint_with_pipeline, pipeline=pipeline)


def _failure(job: "Job") -> str:
    reasons = "; ".join(f"{server}: {message}" for server, message in job.errors)
    return f"{job.path.name}, {reasons}"
