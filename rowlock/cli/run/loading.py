"""Load the application that a command names as `module:attribute`."""

from __future__ import annotations

import sys
import traceback
from importlib import import_module
from pathlib import Path

from rowlock.app import Rowlock
from rowlock.errors import ConfigurationError, RowlockError
from rowlock.words import quoted


def load(app: str | None) -> Rowlock:
    """Load the application at `module:attribute` from the current folder; without a name, return one without tasks.

    Raises `ConfigurationError` with the part that is wrong; for a module that fails during its import, with the line
    that failed.
    """
    if app is None:
        return Rowlock()
    module, _, attribute = app.partition(":")
    if not module or not attribute:
        raise ConfigurationError(f"APP must be module:attribute, like tasks:app; got {quoted(app)}.")
    found = _import(module)
    for name in attribute.split("."):
        if not hasattr(found, name):
            raise ConfigurationError(f"The module {module} has no {attribute}{_instead(module)}.")
        found = getattr(found, name)
    if not isinstance(found, Rowlock):
        raise ConfigurationError(f"{app} must be a Rowlock; it is a {type(found).__name__}{_instead(module)}.")
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
                f"The module {quoted(error.name)} must be in {folder} or on Python's path. "
                "Start the command in the folder that contains it, or set PYTHONPATH."
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
