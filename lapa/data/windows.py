"""Windows: the distance between the two frames of a pair, given in seconds, used in timesteps."""

from lapa.errors import ConfigError


def window_of(seconds: float, fps: float) -> int:
    """Timesteps nearest to ``seconds`` at ``fps``. Raises ConfigError for a window of less than half a timestep."""
    window = int(seconds * fps + 0.5)
    if window < 1:
        raise ConfigError(
            f"window_seconds={seconds:g} rounds to 0 timesteps at {fps:g} frames per second: both frames of a pair "
            f"would be the same. Use at least {1 / fps:.3g} seconds."
        )
    return window
