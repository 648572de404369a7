"""Runs searches: models, judges, disk and command line. Light to import; each file is imported for what it does."""
