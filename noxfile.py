"""Other interpreters and other versions than a checkout's own: `nox -s tests`, `nox -s floors`."""

import nox

nox.options.default_venv_backend = "venv"
# An interpreter that is not there is skipped, and said to be.
nox.options.error_on_missing_interpreters = False
PYTHONS = ["3.11", "3.12", "3.13"]


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """The default suite; arguments after `--` go to pytest, e.g. `nox -s tests -- tests/flow`."""
    session.install(".[test]")
    session.run("pytest", "-q", *session.posargs)


@nox.session(python=PYTHONS[0])
def floors(session: nox.Session) -> None:
    """Flows, stores, figures and the command line on the least versions that are admitted."""
    session.install(
        "-c", "tests/floors.txt", ".", "pytest", "pytest-xdist", "hypothesis", "beartype"
    )
    chosen = session.posargs or [
        "tests/flow/test_flow.py",
        "tests/store",
        "tests/cli",
        "tests/plot",
    ]
    session.run("pytest", "-q", *chosen)


@nox.session
def package(session: nox.Session) -> None:
    """Wheel and sdist, built and installed in a clean environment, types checked from outside."""
    session.install(".[test]", "build", "pyright")
    session.run("pytest", "-q", "-m", "slow", "tests/test_package.py")
