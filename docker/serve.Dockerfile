# The policy server, `lapactl serve`, and what it needs to load a bundle: no stage, no training. docs/guide-images.md says
# how to build it: `make image-serve-gpu` or `make image-serve-cpu`. Probes are the manifests'.
#
# Both images must have Python 3.11 or 3.12 and the same C library; name them by digest for a build that repeats.
ARG BASE_IMAGE=debian:bookworm-slim
ARG BUILD_IMAGE=${BASE_IMAGE}

FROM ${BUILD_IMAGE} AS build
ENV DEBIAN_FRONTEND=noninteractive
# Versions of packages follow the base image, which is the one place to pin them.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates python3-venv \
    && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/lapa
ENV PATH=/opt/lapa/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
COPY pyproject.toml requirements.lock docker/dependencies.py ./

# The Makefile holds the one pin of torch and passes it, with the options of pip that choose the build.
# A private index and its certificate come as secrets and are in no layer: pip.conf may say `cert = /run/secrets/ca`.
ARG TORCH
# The options in TORCH are words of their own.
# hadolint ignore=SC2086
RUN --mount=type=secret,id=pip-conf,target=/etc/pip.conf --mount=type=secret,id=ca \
    test -n "${TORCH}" || { echo "Name torch with --build-arg TORCH=…, or build with make image-serve-gpu." >&2; exit 1; } \
    && pip install --constraint requirements.lock ${TORCH}

# What serving needs, in the locked versions; a package that the lock does not know would come
# in a version that nobody chose, so it ends the build.
RUN --mount=type=secret,id=pip-conf,target=/etc/pip.conf --mount=type=secret,id=ca \
    python dependencies.py wanted serve > wanted.txt \
    && pip install --constraint requirements.lock --requirement wanted.txt \
    && pip check \
    && python dependencies.py check

COPY README.md LICENSE ./
COPY lapa lapa
COPY cli/lapactl cli/lapactl
COPY k8s/lapa_k8s k8s/lapa_k8s
RUN --mount=type=secret,id=pip-conf,target=/etc/pip.conf --mount=type=secret,id=ca \
    pip wheel --no-deps --wheel-dir dist . \
    && pip install --no-deps dist/lapa-*.whl


FROM ${BASE_IMAGE} AS serve
ENV DEBIAN_FRONTEND=noninteractive
# More of the distribution, where somebody needs it.
ARG SYSTEM_PACKAGES=""
# hadolint ignore=DL3008,SC2086
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates python3 ${SYSTEM_PACKAGES} \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 lapa \
    && useradd --uid 10001 --gid 10001 --no-log-init --create-home lapa \
    && install --directory --owner=10001 --group=10001 /scratch
# Owned by root: a server cannot change the program it runs.
COPY --from=build /opt/lapa /opt/lapa

# USER for platforms that choose a user of their own, whom no file knows.
# Bytecode was written by pip; the root may be read-only.
ENV PATH=/opt/lapa/bin:$PATH \
    HOME=/home/lapa \
    USER=lapa \
    LANG=C.UTF-8 \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
WORKDIR /home/lapa
USER 10001:10001
EXPOSE 8000
CMD ["lapactl", "serve", "--help"]

# Last, because they change with every commit.
ARG VERSION=""
ARG REVISION=""
LABEL org.opencontainers.image.title="LAPA policy server" \
      org.opencontainers.image.description="Robot policies by websocket and HTTP: lapactl serve BUNDLE" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
