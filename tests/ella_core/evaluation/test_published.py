"""Published scores stand beside their judge, protocol and source."""

from ella_core.evaluation.published import published_scores


def find(benchmark, model, table):
    (entry,) = (
        entry
        for entry in published_scores(benchmark)
        if entry.model == model and entry.source.endswith(table)
    )
    return entry.scores


def test_the_papers_tables():
    assert find("DPG-Bench", "ELLA-SDv1.5", "Table 4")["score"] == 74.91
    assert find("DPG-Bench", "SDXL", "Table 4")["relation"] == 86.76
    assert find("T2I-CompBench", "ELLA-SDXL", "Table 3") == {
        "color": 0.7260,
        "shape": 0.5634,
        "texture": 0.6686,
        "spatial": 0.2214,
        "non-spatial": 0.3069,
    }
    tsc = "SD v1.5, TinyLlama, resampler of 6 blocks, AdaLN (TSC)"
    assert find("DPG-Bench", tsc, "Table 6") == {"score": 72.91}
    assert find("T2I-CompBench", tsc, "Table 6")["texture"] == 0.5175
    assert len(published_scores("T2I-CompBench")) == 12 + 4 + 5


def test_every_entry_says_how_it_was_made():
    for benchmark in ("DPG-Bench", "T2I-CompBench", "GenEval"):
        entries = published_scores(benchmark)
        assert entries
        assert all(e.judge and e.protocol and e.source and e.scores for e in entries)
