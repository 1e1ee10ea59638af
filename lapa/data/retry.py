"""Reading from object stores again when they are slow, throttle, or cut a connection."""

import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

from lapa.errors import DataError, LapaError

logger = logging.getLogger(__name__)

_Result = TypeVar("_Result")

_LONGEST_WAIT_SECONDS = 30.0

_PERMANENT = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
"""What the next attempt would meet again."""
_OUR_MISTAKES = (TypeError, ValueError, AttributeError, LookupError, AssertionError, ImportError)

# Its own generator: training's must not move because a connection broke.
_chance = random.SystemRandom()


def retried(action: Callable[[], _Result], *, url: str, attempts: int, backoff_seconds: float, missing: str) -> _Result:
    """The action's result, after as many attempts as it takes.

    Stores' clients raise errors of their own packages (botocore, aiohttp, google…), so everything is taken for
    passing but what is known to stay. Raises DataError naming ``url``; ``missing`` is the remedy where it is not there.
    """
    for attempt in range(1, attempts + 1):
        try:
            return action()
        except (LapaError, *_OUR_MISTAKES):
            raise
        except FileNotFoundError as error:
            raise DataError(f"{url} is missing. {missing}") from error
        except _PERMANENT as error:
            raise DataError(
                f"{url} cannot be read: {_words(error)}. Check that this job's credentials may read it."
            ) from error
        except Exception as error:
            if attempt == attempts:
                raise DataError(
                    f"{url} cannot be read: {attempts} attempts failed, the last one with {_words(error)}. Check the "
                    "object store and the network, then run the stage again: it continues where it stopped."
                ) from error
            logger.warning("object=%s attempt=%d of=%d error=%r", url, attempt, attempts, _words(error))
        time.sleep(_wait_seconds(attempt, backoff_seconds))
    raise AssertionError("the last attempt returns or raises")


def _wait_seconds(attempt: int, backoff_seconds: float) -> float:
    longest = min(backoff_seconds * 2.0 ** (attempt - 1), _LONGEST_WAIT_SECONDS)
    return _chance.uniform(longest / 2, longest)


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
