"""How bytes come from object stores to the processes of a node."""

from lapa.config.base import Config, runtime


class CacheConfig(Config):
    """A folder on a fast local disk that keeps blocks of shards; every process of a node shares it."""

    dir: str | None = runtime(None)
    """A local folder, which several jobs may share. When null, `LAPA_CACHE_DIR`; where that is not set either,
    `lapa/blocks` under `XDG_CACHE_HOME` or `~/.cache`."""
    max_bytes: int | None = runtime(None, gt=0)
    """What it may hold; the blocks used least recently make room. `LAPA_CACHE_BYTES`, or 64 GiB, when null."""


class ReadConfig(Config):
    """Nothing here changes what is read, or in which order."""

    cache: CacheConfig | None = runtime(CacheConfig())
    """For datasets on object stores; local ones are read where they lie. Null reads every byte from the store."""
    attempts: int = runtime(20, gt=0)
    """How often a read is tried while the store is slow, throttles, or cuts connections; the defaults bear
    five minutes of it and more."""
    backoff_seconds: float = runtime(0.5, ge=0)
    """Wait before the second attempt; each further wait doubles, up to 30 s, and is shortened by chance, so that
    many processes do not come back at once."""
    threads: int = runtime(4, gt=0)
    """Downloads at a time of each process that reads; each holds one block (16 MiB) of memory."""
