FROM python:3.11-slim-bookworm
WORKDIR /app
COPY pyproject.toml README.md LICENSE ./
COPY approx approx
COPY energy energy
COPY search search
COPY service service
RUN pip install --no-cache-dir . \
    && useradd --create-home crosslayer \
    && install -d -o crosslayer /results /datasets
USER crosslayer
