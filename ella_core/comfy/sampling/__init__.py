"""The connector and its conditionings: made while the graph runs, filled while a sampler runs."""
