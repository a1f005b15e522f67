"""The connector is asked once for all prompts and the schedule, then never again."""

import uuid

import pytest

from support.host import EllaGraph

STEPS = 6


class Counted:
    """An `EllaGraph` whose connector notes its passes."""

    def __init__(self, host):
        self.host = host
        self.name = f"passes-{uuid.uuid4().hex}"
        # Words of its own: what an earlier test has had computed would not be computed again.
        self.graph = EllaGraph(f"A red cat, {self.name}.", f"blurry {self.name}")
        ella = self.graph.add("TestCountPasses", ella=self.graph.ella, name=self.name)
        self.graph.nodes[self.graph.conditioning.id]["inputs"]["ella"] = ella[0]
        self.graph.ella = ella
        self.seen = 0

    def run(self):
        """(prompts, timesteps) of each pass that this run made."""
        result = self.host.run(self.graph)
        assert result.error is None, result.error
        records = self.host.records(self.name)
        new, self.seen = records[self.seen :], len(records)
        return [(r["prompts"].item(), len(r["timesteps"])) for r in new]


@pytest.fixture
def counted(host):
    return Counted(host)


def test_one_pass_for_all_prompts_and_the_whole_schedule_and_none_for_a_new_seed(counted):
    sampler = counted.graph.sample(record=False, steps=STEPS)
    counted.graph.save(sampler)
    # Before the run one timestep, for the tensor that other nodes see.
    assert counted.run() == [(2, 1), (2, STEPS)]
    inputs = counted.graph.nodes[sampler.id]["inputs"]
    for change in ({"seed": 2}, {"cfg": 7.0}, {"sampler_name": "dpmpp_2m"}, {"denoise": 0.5}):
        inputs.update(change)
        passes = counted.run()
        assert passes == ([] if "denoise" not in change else [(2, STEPS - 1)]), change


def test_an_edited_negative_leaves_the_positive_alone(counted):
    graph = counted.graph
    graph.save(graph.sample(record=False, steps=STEPS))
    counted.run()
    negative, _ = graph.nodes[graph.conditioning.id]["inputs"]["negative"]
    graph.nodes[negative]["inputs"]["text"] = "dark"
    assert counted.run() == [(1, 1), (1, STEPS)]


def test_sigmas_off_the_schedule_are_computed_when_they_come(counted):
    counted.graph.save(counted.graph.sample(record=False, steps=STEPS, sampler_name="dpm_2"))
    placeholder, schedule, *between = counted.run()
    assert (placeholder, schedule) == ((2, 1), (2, STEPS))
    assert set(between) == {(2, 1)}
    assert 0 < len(between) < STEPS


def test_another_strength_takes_no_pass(counted):
    graph = counted.graph
    positive, _ = graph.nodes[graph.conditioning.id]["inputs"]["positive"]
    weaker = graph.add("ELLAConditioning", ella=graph.ella, embeds=[positive, 0], strength=0.5)
    graph.save(graph.sample(record=False, steps=STEPS, positive=weaker))
    assert counted.run()  # also of the empty prompt, unless an earlier test has had it computed
    graph.nodes[weaker.id]["inputs"]["strength"] = 0.7
    assert counted.run() == []


def test_a_conditioning_that_another_node_zeroed_takes_no_pass(counted):
    graph = counted.graph
    zero = graph.add("ConditioningZeroOut", conditioning=graph.conditioning[2])
    graph.save(graph.sample(record=False, steps=STEPS, negative=zero))
    assert counted.run() == [(2, 1), (1, STEPS)]
