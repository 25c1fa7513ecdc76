"""The run-time type checker of the import hook: an int where a float is meant is fine."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
