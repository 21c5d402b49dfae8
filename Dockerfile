# The native kernel is built where there is a compiler; the image that runs needs none.
FROM python:3.11-slim-bookworm AS build
RUN apt-get update && apt-get install --yes --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY approx approx
COPY energy energy
COPY search search
COPY service service
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.11-slim-bookworm
# torch first and by itself: it is by far the largest layer, and changes least.
RUN pip install --no-cache-dir "torch>=2.13,<2.14"
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir "$(echo /wheels/*.whl)[postgresql]" \
    && useradd --create-home --uid 10001 crosslayer \
    && install -d -o crosslayer /datasets /stages
USER crosslayer
WORKDIR /tmp
CMD ["search", "serve"]
