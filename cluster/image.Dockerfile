# The image that kubernetes/ names: Ray with the pinned dependencies, those of the extras included,
# and none of our code, which comes with each job. Build and push it from the root of the checkout:
#   docker build -f cluster/image.Dockerfile -t REGISTRY/raytower:2.60.0 .
# With CUDA, Ray's own and the one that torch's wheels on PyPI bring:
#   docker build -f cluster/image.Dockerfile -t REGISTRY/raytower:2.60.0-gpu \
#     --build-arg RAY=rayproject/ray:2.60.0-py311-gpu --build-arg TORCH=https://pypi.org/simple .
# RAY takes a digest as well (rayproject/ray@sha256:...), for an image that is the same for ever;
# `docker buildx build --sbom=true` attaches a list of all that is in it.
ARG RAY=docker.io/rayproject/ray:2.60.0-py311-cpu
FROM ${RAY}
ARG TORCH=https://download.pytorch.org/whl/cpu
# Ray's image builds as its user `ray` (1000:100), and files are copied as root's unless told.
COPY --chown=1000:100 pyproject.toml constraints.txt /tmp/raytower/
# hnswlib is published as source alone; Ray's image has Python's headers and no compiler.
RUN sudo apt-get update \
    && sudo apt-get install -y --no-install-recommends g++ \
    && sudo rm -rf /var/lib/apt/lists/*
# It would be built for the processor of this machine alone.
ENV HNSWLIB_NO_NATIVE=1 CC=gcc CXX=g++
# The folder of what was copied is root's with some builders: nothing is written there.
RUN cd /tmp/raytower \
    && python -c 'import tomllib; p = tomllib.load(open("pyproject.toml", "rb"))["project"]; print(*p["dependencies"], *(r for e in ("hnsw", "mlflow", "onnx", "text") for r in p["optional-dependencies"][e]), sep="\n")' > /tmp/requirements.txt \
    && pip install --no-cache-dir --extra-index-url ${TORCH} -c constraints.txt -r /tmp/requirements.txt \
    && rm /tmp/requirements.txt
