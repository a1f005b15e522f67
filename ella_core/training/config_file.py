"""A training run's YAML file: the names of `config`, read strictly."""

import dataclasses
import difflib
import math
from collections.abc import Sequence
from functools import reduce
from pathlib import Path
from typing import Any, cast, get_args, get_type_hints

from ..errors import EllaError
from .config import TrainConfig

# Settings that count something, of which there is at least one.
_COUNTS = (
    *("batch", "micro_batch", "steps", "text.tokens", "checkpoint.every", "checkpoint.keep"),
    *("data.resolution", "data.bucket_step", "data.shuffle_shards"),
    *("validation.every", "validation.pictures", "validation.bands", "sheet.every", "sheet.steps"),
)


def load_config(path: Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read a run's YAML file.

    Args:
        path: the file.
        overrides: `name.of.setting=value` each, put over the file's; values are YAML.

    Raises:
        EllaError: the file is not there or not YAML, a name is unknown or missing, or a value is
            of the wrong type or impossible.
    """
    import yaml

    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(tree, dict):
            raise EllaError(f"{path} holds no settings, such as steps: 1000, line by line.")
        for override in overrides:
            name, _, value = override.partition("=")
            _put(tree, name.split("."), yaml.safe_load(value))
    except FileNotFoundError as error:
        raise EllaError(f"There is no config {path}. Presets are in the folder configs.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise EllaError(f"The config {path} can't be read: {error}") from error
    except yaml.YAMLError as error:
        raise EllaError(f"{path} is not YAML: {error}") from error
    return read_config(tree, str(path))


def read_config(tree: Any, name: str = "the config") -> TrainConfig:
    """Make a `TrainConfig` of nested mappings, strictly; see `load_config` for errors."""
    from pydantic import TypeAdapter, ValidationError

    try:
        config: TrainConfig = TypeAdapter(TrainConfig).validate_python(tree)
    except ValidationError as error:
        problems = [_describe(problem) for problem in error.errors(include_url=False)]
        raise EllaError(f"{name}: {'; '.join(problems)}.") from error
    _check(config, name)
    return config


def dump_config(config: TrainConfig) -> str:
    """Spell out every setting as YAML that `load_config` reads."""
    import yaml

    return str(yaml.safe_dump(to_tree(config), sort_keys=False))


def to_tree(config: TrainConfig) -> dict[str, Any]:
    """Turn a config into nested mappings of plain values."""
    from pydantic import TypeAdapter

    tree: dict[str, Any] = TypeAdapter(TrainConfig).dump_python(config, mode="json")
    return tree


def _put(tree: Any, names: list[str], value: Any) -> None:
    for name in names[:-1]:
        if not isinstance(tree.get(name), dict):
            tree[name] = {}
        tree = tree[name]
    tree[names[-1]] = value


def _describe(problem: Any) -> str:
    *parents, name = problem["loc"] or ("",)
    where = ".".join(map(str, problem["loc"]))
    if problem["type"] == "unexpected_keyword_argument":
        known = _fields_at(parents)
        near = difflib.get_close_matches(str(name), known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
        return f"{where} is not a setting: {hint}"
    if problem["type"] == "missing":
        return f"{where} is missing"
    return f"{where} is {problem['input']!r}: {problem['msg']}"


def _fields_at(names: Sequence[str | int]) -> list[str]:
    """Names of the settings in the section that is reached through `names`."""
    section: Any = TrainConfig
    for name in names:
        if isinstance(name, str):
            section = _dataclass_in(get_type_hints(section)[name])
    return [f.name for f in dataclasses.fields(section)]


def _dataclass_in(hint: Any) -> Any:
    if dataclasses.is_dataclass(hint):
        return hint
    return next(filter(None, map(_dataclass_in, get_args(hint))), None)


def _check(config: TrainConfig, name: str) -> None:
    """Raise an `EllaError` if settings are impossible together."""
    data, connector = config.data, config.connector
    for names in _COUNTS:
        value: Any = reduce(getattr, names.split("."), cast(Any, config))
        if value < 1:
            raise EllaError(f"{name}: {names} is {value}. Set it to 1 or more.")
    step = 8 if not data.buckets else math.lcm(8, data.bucket_step)
    given = [connector.resampler, connector.mlp, connector.init_from]
    checks = (
        (config.batch % config.micro_batch == 0, "batch is not a multiple of micro_batch"),
        (0 <= config.text.empty < 1, "text.empty is not between 0 and 1"),
        (data.resolution % step == 0, f"data.resolution is not a multiple of {step}"),
        (sum(map(bool, given)) <= 1, "connector has more than one of resampler, mlp, init_from"),
        (all(s.weight > 0 for s in data.sources), "a source's weight is not positive"),
        (
            all(s.pictures or s.cache for s in (*data.sources, *config.validation.sources)),
            "a source has neither pictures nor cache",
        ),
    )
    for fine, problem in checks:
        if not fine:
            raise EllaError(f"{name}: {problem}. Change it in the config.")
