"""Which candidates are evaluated next."""
