"""Finds the application that a command names as `module:attribute`."""

from __future__ import annotations

import sys
import traceback
from importlib import import_module
from pathlib import Path

from rowlock.app import Rowlock
from rowlock.errors import ConfigurationError, RowlockError
from rowlock.words import quoted


def load(app: str | None) -> Rowlock:
    """The application at `module:attribute`, as from the current folder; without one, one that has no tasks.

    Raises `ConfigurationError` that says which half is wrong; a module that fails while it is imported is named with
    the line that failed.
    """
    if app is None:
        return Rowlock()
    module, _, attribute = app.partition(":")
    if not module or not attribute:
        raise ConfigurationError(f"APP is {quoted(app)}: write it as module:attribute, like tasks:app.")
    found = _import(module)
    for name in attribute.split("."):
        if not hasattr(found, name):
            raise ConfigurationError(f"The module {module} has no {attribute}{_instead(module)}.")
        found = getattr(found, name)
    if not isinstance(found, Rowlock):
        raise ConfigurationError(f"{app} is a {type(found).__name__}, not a Rowlock{_instead(module)}.")
    return found


def _import(module: str) -> object:
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        return import_module(module)
    except RowlockError:
        raise
    except ModuleNotFoundError as error:
        if error.name is not None and (module == error.name or module.startswith(f"{error.name}.")):
            raise ConfigurationError(
                f"There is no module {quoted(error.name)} in {folder} or on Python's path: "
                "start the command in the folder that holds it, or set PYTHONPATH."
            ) from error
        raise _broken(module, error) from error
    except Exception as error:  # whatever the module's own code raises
        raise _broken(module, error) from error


def _broken(module: str, error: Exception) -> ConfigurationError:
    if isinstance(error, SyntaxError):
        return ConfigurationError(f"The module {module} cannot be imported: {type(error).__name__}: {error}")
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
    where = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    return ConfigurationError(f"The module {module} cannot be imported: {type(error).__name__}: {error}{where}")


def _instead(module: str) -> str:
    names = [name for name, value in vars(sys.modules[module]).items() if isinstance(value, Rowlock)]
    return f": try {' or '.join(f'{module}:{name}' for name in names)}" if names else ""
