"""The HTTP API over stored results, the workers that run requested searches, and a client. The API never trains."""

__all__: list[str] = []
