"""Models that stages made, in MLflow's registry: versions, aliases, and what each was made from.

Every version carries the tags `lapa.digest` (of the model's files) and `lapa.inputs` (JSON: name ->
`{"url": …, "digest": …}` of what it was made from); digests are how lineage is walked.
"""

import json
import logging
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from lapa.config.run import TrackingConfig
from lapa.errors import NotRegistered, TrackingError
from lapa.files import exists, join
from lapa.tracking.delivery import brief
from lapa.tracking.mlflow_client import import_mlflow, is_refusal, open_client, tracking_uri

logger = logging.getLogger(__name__)

LAQ_MODEL = "lapa-laq"
INVERSE_DYNAMICS_MODEL = "lapa-inverse-dynamics"
VLA_MODEL = "lapa-vla"
POLICY_MODEL = "lapa-policy"
DIGEST_TAG = "lapa.digest"
INPUTS_TAG = "lapa.inputs"
URL_TAG = "lapa.url"
"""Where the files were exported to after the version had been registered; MLflow never changes a source."""
LEDGER_SUFFIX = ".promotions"
"""Of the model whose versions are the promotions of another one (`lapa.tracking.ledger`); no model to deploy."""
ALIAS_PATTERN = re.compile(r"[a-z][a-z0-9_-]{0,254}")
RESERVED_ALIASES = re.compile(r"latest|v\d+")


@dataclass(frozen=True, kw_only=True)
class ModelVersion:
    """One registered model: immutable but for its aliases and tags."""

    name: str
    version: int
    source: str
    run_id: str
    tags: dict[str, str]
    aliases: tuple[str, ...]
    created_ms: int
    description: str

    @property
    def digest(self) -> str:
        return self.tags.get(DIGEST_TAG, "")

    @property
    def url(self) -> str:
        """Where its files are now: where `export` put them last, else where they were made."""
        return self.tags.get(URL_TAG) or self.source

    @property
    def inputs(self) -> dict[str, dict[str, str]]:
        """What it was made from: name -> url and digest."""
        return dict(json.loads(self.tags.get(INPUTS_TAG, "{}")))


def require_manifest(source: str) -> None:
    """The usual verifier: a model folder is complete with its `config.json`, a policy with its `manifest.json`."""
    if not any(exists(join(source, name)) for name in ("config.json", "manifest.json")):
        raise TrackingError(
            f"{source} has neither config.json nor manifest.json, so it is no complete model folder; nothing was "
            "registered. Let the stage that makes it finish first."
        )


class Registry:
    """Registered models of one MLflow server or store. Every method raises `TrackingError` when it refuses or
    stays away for `wait_seconds`, and `NotRegistered` for a name that is not there."""

    def __init__(self, uri: str, *, wait_seconds: float = 60.0) -> None:
        self.uri = uri
        self._wait = wait_seconds
        self._client = open_client(uri)

    @classmethod
    def open(cls, config: TrackingConfig, *, store: str, wait_seconds: float = 60.0) -> "Registry":
        """The registry beside a run's tracking; ``store`` is the work folder."""
        return cls(tracking_uri(config, str(store)), wait_seconds=wait_seconds)

    def register(
        self,
        name: str,
        source_url: str,
        *,
        digest: str,
        inputs: Mapping[str, Mapping[str, str]],
        run_id: str | None = None,
        tags: Mapping[str, str] | None = None,
        description: str = "",
        verify: Callable[[str], object] = require_manifest,
    ) -> ModelVersion:
        """Add a version, after ``verify`` has read the files.

        The same digest again gives the version there is; tags it does not have yet are added, so that an
        evaluation can tell its numbers of a policy that finetuning registered. What a version was made
        from never changes.
        """
        verify(source_url)
        if known := self.find(name, digest=digest):
            logger.info("registered name=%s version=%d digest=%s already", name, known.version, digest[:12])
            self.set_tags(name, known.version, {k: v for k, v in (tags or {}).items() if k not in known.tags})
            return self.get(name, known.version)
        every_tag = {**(tags or {}), DIGEST_TAG: digest, INPUTS_TAG: json.dumps(inputs, sort_keys=True)}
        try:
            version = self.append(name, source_url, run_id=run_id, tags=every_tag, description=description)
        except TrackingError as error:
            if "://" not in source_url or source_url.startswith("file:"):
                raise TrackingError(
                    f"{error} A tracking server takes no models from a local folder such as {source_url}: "
                    "set work_url to an object store, or leave tracking.uri unset to use the embedded store."
                ) from error
            raise
        logger.info("registered name=%s version=%d digest=%s", name, version, digest[:12])
        return self.get(name, version)

    def append(
        self, name: str, source_url: str, *, tags: Mapping[str, str], run_id: str | None = None, description: str = ""
    ) -> int:
        """Add a version, whatever there is, and give its number. The server numbers versions one after the other,
        and no two alike: whoever adds at the same time gets another number."""
        self._ensure(name)
        made = self._ask(
            lambda: self._client.create_model_version(
                name, source_url, run_id=run_id or None, tags=dict(tags), description=description or None
            )
        )
        return int(made.version)

    def names(self) -> list[str]:
        """Every registered model's name."""
        found = [model.name for model in self._ask(lambda: _pages(self._client.search_registered_models))]
        return sorted(name for name in found if not name.endswith(LEDGER_SUFFIX))

    def list_models(self, name: str | None = None) -> list[ModelVersion]:
        """Versions of one model, or of all; by name, newest first."""
        found = []
        for model in [name] if name is not None else self.names():
            aliases = self._aliases(model)
            found += [self._version(raw, aliases) for raw in self._search(f"name = '{_quoted(model)}'")]
        return sorted(found, key=lambda version: (version.name, -version.version))

    def entries(self, name: str) -> list[ModelVersion]:
        """Versions of one model without their aliases, oldest first; none where there is no such model."""
        found = [self._version(raw, {}) for raw in self._search(f"name = '{_quoted(name)}'")]
        return sorted(found, key=lambda version: version.version)

    def get(self, name: str, which: int | str) -> ModelVersion:
        """A version by its number (`3`, `"3"`) or an alias (`"production"`)."""
        if str(which).isdigit():
            raw = self._ask(lambda: self._client.get_model_version(name, str(which)))
        else:
            raw = self._ask(lambda: self._client.get_model_version_by_alias(name, str(which)))
        return self._version(raw, self._aliases(name))

    def find(self, name: str, *, digest: str) -> ModelVersion | None:
        """The version of a model that holds these very files."""
        raws = self._search(f"name = '{_quoted(name)}' and tags.`{DIGEST_TAG}` = '{_quoted(digest)}'")
        if not raws:
            return None
        return self._version(min(raws, key=lambda raw: int(raw.version)), self._aliases(name))

    def holding(self, digest: str) -> list[ModelVersion]:
        """Versions with these very files, of whatever model: a policy may be registered under several names."""
        raws = self._search(f"tags.`{DIGEST_TAG}` = '{_quoted(digest)}'")
        return [self._version(raw, {}) for raw in raws if not raw.name.endswith(LEDGER_SUFFIX)]

    def aliases(self, name: str) -> dict[str, int]:
        """Versions by alias."""
        return self._aliases(name)

    def set_alias(self, name: str, alias: str, version: int) -> None:
        """Point an alias at a version; it leaves the one it had."""
        if not ALIAS_PATTERN.fullmatch(alias) or RESERVED_ALIASES.fullmatch(alias):
            raise TrackingError(
                f"alias {alias!r} cannot be used: lower-case letters, digits, _ and - only, and neither `latest` "
                "nor `v1`, which MLflow keeps for itself. Try `candidate` or `production`."
            )
        self._ask(lambda: self._client.set_registered_model_alias(name, alias, str(version)))
        logger.info("alias name=%s alias=%s version=%d", name, alias, version)

    def set_tags(self, name: str, version: int, tags: Mapping[str, str]) -> None:
        """Add tags to a version: gate verdicts, who approved."""
        for key, value in tags.items():
            self._ask(partial(self._client.set_model_version_tag, name, str(version), key, value))

    def _ensure(self, name: str) -> None:
        mlflow = import_mlflow()

        def create() -> None:
            try:
                self._client.create_registered_model(name)
            except mlflow.exceptions.MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise

        self._ask(create)

    def _aliases(self, name: str) -> dict[str, int]:
        # Only here: MLflow's search for versions leaves their aliases out.
        model = self._ask(lambda: self._client.get_registered_model(name))
        return {alias: int(version) for alias, version in model.aliases.items()}

    def _search(self, text: str) -> list[Any]:
        found: list[Any] = self._ask(lambda: _pages(self._client.search_model_versions, filter_string=text))
        return found

    def _version(self, raw: Any, aliases: Mapping[str, int]) -> ModelVersion:
        number = int(raw.version)
        return ModelVersion(
            name=raw.name,
            version=number,
            source=raw.source,
            run_id=raw.run_id or "",
            tags=dict(raw.tags),
            aliases=tuple(sorted(alias for alias, version in aliases.items() if version == number)),
            created_ms=int(raw.creation_timestamp),
            description=raw.description or "",
        )

    def _ask(self, request: Callable[[], Any]) -> Any:
        """Ask until the server answers; a refusal is final."""
        deadline, pause = time.monotonic() + self._wait, 0.5
        while True:
            try:
                return request()
            except Exception as error:
                if is_refusal(error):
                    is_missing = getattr(error, "error_code", "") == "RESOURCE_DOES_NOT_EXIST"
                    raise (NotRegistered if is_missing else TrackingError)(
                        f"The registry {self.uri} refused: {brief(error)}. `lapactl models list` shows what there is."
                    ) from error
                if time.monotonic() + pause > deadline:
                    raise TrackingError(
                        f"The registry {self.uri} stayed away for {self._wait:.0f} s: {brief(error)}. "
                        "Check tracking.uri and that the server runs, then repeat the command: it is safe to."
                    ) from error
                time.sleep(pause)
                pause = min(pause * 2, 10.0)


def _pages(search: Callable[..., Any], **arguments: Any) -> list[Any]:
    found: list[Any] = []
    token = None
    while True:
        page = search(page_token=token, **arguments)
        found += page
        token = page.token
        if not token:
            return found


def _quoted(text: str) -> str:
    return text.replace("'", "")
