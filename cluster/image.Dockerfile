# The image that kuberay.yaml names: Ray with the pinned dependencies and none of our code, which
# comes with each job. Build and push it from the root of the checkout:
#   docker build -f cluster/image.Dockerfile -t REGISTRY/raytower:2.60.0 .
FROM rayproject/ray:2.60.0-py311-cpu
COPY pyproject.toml constraints.txt /tmp/raytower/
# hnswlib is published as source alone, and would be built for the processor of this machine alone.
RUN sudo apt-get update \
    && sudo apt-get install -y --no-install-recommends g++ \
    && sudo rm -rf /var/lib/apt/lists/*
ENV HNSWLIB_NO_NATIVE=1
RUN cd /tmp/raytower \
    && python -c 'import tomllib; p = tomllib.load(open("pyproject.toml", "rb"))["project"]; print(*p["dependencies"], *p["optional-dependencies"]["hnsw"], sep="\n")' > requirements.txt \
    && pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu -c constraints.txt -r requirements.txt
