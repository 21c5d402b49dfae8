# The native kernel is built where there is a compiler; the image that runs needs none.
FROM python:3.11-slim-bookworm AS build
RUN apt-get update && apt-get install --yes --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY pyproject.toml ./
RUN python -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; print(*p['dependencies'], *p['optional-dependencies']['postgresql'], sep='\n')" > /requirements.txt
COPY README.md LICENSE ./
COPY approx approx
COPY energy energy
COPY search search
COPY service service
# Where the kernel cannot be built, the package is built without it, and is many times slower: better no image then.
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels . \
    && python -m zipfile --list /wheels/*.whl | grep approx/crosslayer_native.so

FROM python:3.11-slim-bookworm
# torch first and by itself: it is by far the largest layer, and changes least. The usual build has gigabytes of CUDA,
# which nothing here uses: give the index of PyTorch's builds for CPUs, which pytorch.org names, as TORCH_INDEX.
ARG TORCH_INDEX=
RUN pip install --no-cache-dir ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "torch>=2.13,<2.14" "torchvision>=0.28,<0.29"
# Then what the package needs, which changes less than the package.
COPY --from=build /requirements.txt /
RUN pip install --no-cache-dir --requirement /requirements.txt
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir --no-deps /wheels/*.whl \
    && useradd --create-home --uid 10001 crosslayer \
    && install -d -o crosslayer /datasets /stages /images
USER crosslayer
WORKDIR /tmp
CMD ["search", "serve"]
