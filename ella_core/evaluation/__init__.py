"""Measure text-to-image models: DPG-Bench, T2I-CompBench, and the arithmetic of GenEval.

Question files, pictures, answers and scores are plain files, so that each step can run by itself,
on another machine or with another program. docs/evaluation.md ("Files") says what is in them; the
code that reads and writes them is in `questions`, `pictures` and `answers`.
"""
