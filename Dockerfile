# Stride in a container; docs/deployment.md says how to run it.
#
#     docker build -t stride .
#     docker build -t stride:cuda --build-arg TORCH_INDEX=https://pypi.org/simple --build-arg COMPILER=none .

# A tag moves. A digest does not, and builds the same system again:
#     --build-arg BASE=python:3.11-slim-bookworm@sha256:…
ARG BASE=python:3.11-slim-bookworm


FROM ${BASE} AS build

# Where torch comes from. PyTorch's own index has it for the CPU alone; PyPI's wheel of the same
# release brings gigabytes of CUDA libraries, which a GPU needs and nothing else does.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

ENV PATH=/opt/stride/bin:$PATH \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ONLY_BINARY=:all:

WORKDIR /source
RUN python -m venv /opt/stride

# What changes seldom comes first: a change of the source fetches nothing again. Nothing runs torch's
# own C++ tests (83 MB) or compiles against its headers (62 MB).
COPY docker/constraints.txt ./
RUN pip install --no-deps --index-url "$TORCH_INDEX" --constraint constraints.txt torch \
    && rm -r /opt/stride/lib/python3*/site-packages/torch/test \
             /opt/stride/lib/python3*/site-packages/torch/include
COPY pyproject.toml ./
RUN python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"], sep="\n")' \
        > requirements.txt \
    && pip install --requirement requirements.txt --constraint constraints.txt

COPY README.md LICENSE ./
COPY decoding decoding
COPY server server
RUN pip install --no-deps .


FROM ${BASE}

# The CPU kernels are compiled for the processor at hand when Stride first starts, and kept in the
# volume. COMPILER=none leaves the compiler out: transformers' code then computes, several times
# slower on a CPU, unless the volume already holds kernels for this processor.
ARG COMPILER=g++

# Debian keeps only the newest version of a package, so a version pinned here would soon be gone.
# hadolint ignore=DL3008
RUN if [ "$COMPILER" != none ]; then \
        apt-get update \
        && apt-get install --yes --no-install-recommends "$COMPILER" \
        && rm -rf /var/lib/apt/lists/*; \
    fi

# Everything that is ever written goes below /var/lib/stride: models, kernels, history. The user has
# a fixed number, so that a directory of the host can be given to it.
RUN useradd --uid 10001 --user-group --home-dir /var/lib/stride --shell /usr/sbin/nologin stride \
    && install --directory --owner=stride --group=stride --mode=0750 /var/lib/stride

COPY --from=build /opt/stride /opt/stride

ENV PATH=/opt/stride/bin:$PATH \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PYTHONUNBUFFERED=1 \
    HF_HOME=/var/lib/stride/huggingface \
    STRIDE_CACHE_DIR=/var/lib/stride \
    STRIDE_PORT=8000

USER 10001:10001
WORKDIR /var/lib/stride
VOLUME /var/lib/stride
EXPOSE 8000
STOPSIGNAL SIGTERM

# Alive, which it is as soon as it listens; /ready says whether the model is loaded. Fetching and
# converting a model comes before that and counts as starting.
HEALTHCHECK --interval=10s --timeout=5s --start-period=15m --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f\"http://127.0.0.1:{os.environ['STRIDE_PORT']}/health\", timeout=4)"]

# A container has an address of its own, so this listens on all of them; what is published decides who
# can connect. Without keys it refuses to start, unless STRIDE_ALLOW_OPEN=true says otherwise.
# Options may follow: docker run … stride --lossless-only
ENTRYPOINT ["stride", "serve", "--host", "0.0.0.0"]
