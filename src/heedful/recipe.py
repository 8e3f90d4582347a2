"""A recipe: a YAML file of settings in sections, read strictly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from heedful.errors import UsageError, reason_of


class _Loader(yaml.SafeLoader):
    """Plain YAML whose keys are single words, none given twice: the first of the two would be lost."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                problem = "a key that is not one word"
                raise yaml.constructor.ConstructorError(problem=problem, problem_mark=key.start_mark)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(problem=f"'{key.value}' twice", problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_recipe(path: Path) -> dict[str, Any]:
    """Read a YAML file of sections into leaf -> value."""
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise UsageError(f"Cannot read the recipe {path}: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = getattr(error, "problem_mark", None)
        line = f":{where.line + 1}" if where else ""
        raise UsageError(f"{path}{line} is not YAML: {getattr(error, 'problem', error)}.") from error
    except Exception as error:  # YAML's own types trip over a date that does not exist, or a tag without its value
        fix = "Put texts that look like dates or numbers into quotes."
        raise UsageError(f"{path} holds a value that cannot be read: {reason_of(error)}.", fix) from error
    if not isinstance(tree, dict) or not all(isinstance(v, dict) for v in tree.values()):
        raise UsageError(f"{path} must hold sections with settings below them, as in `train:` and then `  lr: 1e-4`.")
    return {f"{section}.{key}": value for section, leaves in tree.items() for key, value in leaves.items()}
