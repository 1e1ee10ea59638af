"""How a policy server serves one bundle. Holds no secret: the token comes from a file or the environment."""

from typing import Literal

from fsspec.registry import known_implementations
from pydantic import Field, field_validator

from lapa.config.base import Config
from lapa.config.conventions import Conventions

TOKEN_VARIABLE = "LAPA_SERVER_TOKEN"
"""Environment variable that holds the token where there is no token file."""

MIB = 2**20


class ServingConfig(Config):
    """Everything that `python -m lapa serve` is told."""

    bundle: str
    """URL of the policy bundle: a local folder, `s3://…`."""
    name: str = ""
    """What the model is called in replies and metrics; the bundle folder's name by default."""
    version: str = ""
    """Its version in the registry, as replies and metrics give it."""
    expected_digest: str = ""
    """Digest that the bundle must have (or begin with); another one is not served."""
    device: str | None = None
    """`cpu`, `cuda`, …; the accelerator when there is one and none is given."""
    seed: int = 0
    """Of the noise that flow heads start from."""

    compiled: bool = False
    """Compile the backbone with `torch.compile` before the server is ready. It takes a compiler and some minutes; where
    it fails, the policy is served as it is and the log says why. So is a Hugging Face backbone: none was measured
    compiled yet."""

    robot: Conventions | None = None
    """What the robots that will ask mean by their actions; a policy that learned something else is not served, nor one
    with other dimensions."""

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    """0 for any free one; the log says which."""
    token_file: str | None = None
    """File with one accepted token a line; several while one replaces another."""
    is_open: bool = False
    """Serve without any token on addresses that other machines reach. Without it, that is refused."""
    has_open_metrics: bool = False
    """`/metrics` asks for no token, for scrapers that have none."""

    max_batch: int = Field(16, ge=1)
    """Robots whose requests are answered by one forward pass."""
    queue: int = Field(64, ge=1)
    """Requests that may wait; one more is refused with 429."""
    deadline_seconds: float = Field(5.0, gt=0)
    """After so long a request is refused with 504: an action for what the robot saw then is stale."""
    bounds: Literal["clamp", "refuse"] = "clamp"
    """What happens to an action outside the range of the bundle's action space; counted either way."""
    execute: int = Field(0, ge=0)
    """Actions of a chunk that are used before the policy looks again, where the protocol sends one at a time; 0 for
    all of them."""

    image_key: str = ""
    """Field of the observation that holds the policy's camera, where the usual names do not say it."""
    state_key: str = ""
    """Field of the observation that holds proprioception, where the usual names do not say it."""
    max_request_bytes: int = Field(16 * MIB, ge=1024)
    max_image_pixels: int = Field(4096 * 4096, ge=1)
    """Of one image, once decoded."""
    max_sessions: int = Field(64, ge=1)
    """Websockets that are open at a time."""
    header_seconds: float = Field(10.0, gt=0)
    """A connection that has not sent a whole request head by then is closed."""
    body_seconds: float = Field(30.0, gt=0)
    """A request whose body is not there by then is refused with 408."""

    record: str = ""
    """Folder, `s3://…` or any other fsspec URL, that observations, instructions, states and the actions that were sent
    are recorded to; nothing is recorded without it."""
    record_share: float = Field(1.0, gt=0, le=1)
    """Share of the episodes that are recorded, each whole; which ones is decided by their ids."""
    record_queue_bytes: int = Field(256 * MIB, ge=MIB)
    """Observations that may wait to be recorded; what comes while they fill this is dropped and counted."""
    record_shard_bytes: int = Field(64 * MIB, ge=1024)
    """Of one file; the next one is begun then."""
    record_shard_seconds: float = Field(300.0, gt=0)
    """What was recorded is stored after about so long, however little: what a killed server loses at most, twice."""

    warmups: int = Field(2, ge=1)
    """Inferences on a made-up observation before the server is ready."""
    drain_seconds: float = Field(0.0, ge=0)
    """After SIGTERM: how long requests are still taken while readiness is off, so that routers look elsewhere."""
    grace_seconds: float = Field(30.0, gt=0)
    """After that: how long what is under way may take."""

    @field_validator("record")
    @classmethod
    def _is_a_known_store(cls, url: str) -> str:
        """A server must not find out when it stores the first shard."""
        protocol, separator, _ = url.partition("://")
        if separator and protocol not in known_implementations:
            raise ValueError(f"{url!r} begins with {protocol}://, which is no store that fsspec knows, such as s3://")
        return url


class ReplayConfig(Config):
    """What `python -m lapa replay` compares with what."""

    recording: str
    """Folder that `lapactl serve --record` wrote, a file of it, or a bundle: what was recorded at its export."""
    bundle: str
    """The policy that is asked now."""
    expected_digest: str = ""
    device: str | None = None
    tolerance: float = Field(0.01, ge=0)
    """Share of each dimension's range that an action may differ by; a bundle's own replay allows as much."""
    limit: int | None = Field(None, gt=0)
    """Observations that are compared at most, the first ones."""
