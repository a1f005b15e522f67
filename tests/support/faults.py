"""Runs that must fail with a clear message, and the next graph's that must not."""

import itertools

from .host import EllaGraph

seeds = itertools.count(1000)  # a seed that was there before would not be sampled again


def run_one_step(host, graph, **changes):
    graph.save(graph.sample(**{"record": False, "steps": 1, **changes}))
    return host.run(graph)


def assert_fails(host, graph, node_type, *parts):
    """The run fails at `node_type` with all `parts` in its message, and the next one is fine."""
    result = run_one_step(host, graph)
    assert result.error is not None
    message = result.error["exception_message"]
    assert result.error["node_type"] == node_type, message
    assert "ella_core.errors" in result.error["exception_type"]
    for part in parts:
        assert part in message, message
    assert_still_runs(host)


def assert_refused(host, graph, node_type, *parts):
    """ComfyUI doesn't queue the graph, because of `node_type`, and the next one is fine."""
    error = run_one_step(host, graph).error
    assert error is not None
    assert error["exception_type"] == "prompt_outputs_failed_validation", error
    assert error["node_type"] == node_type, error
    for part in parts:
        assert part in error["exception_message"]
    assert_still_runs(host)


def assert_refuses_choice(host, graph, name, value, *choices):
    """A value that a dropdown does not have: this pack's check or ComfyUI's names the choices."""
    error = run_one_step(host, graph).error
    assert error is not None
    for part in (name, repr(value), *choices):
        assert part in error["exception_message"]
    assert_still_runs(host)


def assert_still_runs(host):
    assert run_one_step(host, EllaGraph(), seed=next(seeds)).error is None
