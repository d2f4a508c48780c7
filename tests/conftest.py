"""Settings of the whole suite: fewer examples than hypothesis' hundred, where a test names no number."""

from hypothesis import settings

settings.register_profile("suite", parent=settings(), max_examples=50)
settings.load_profile("suite")
