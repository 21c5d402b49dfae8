"""The HTTP API over stored results. It never trains."""

from service.app import create_app as create_app

__all__ = ["create_app"]
