"""The HTTP API over stored results, the workers that run what is asked for, and a client. The API never trains."""

__all__: list[str] = []
