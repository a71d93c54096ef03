"""The examples of property tests: the same on every machine, in every order of the tests."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers


def repeat_examples() -> None:
    """Let examples repeat, and no test depend on time: a test is about the code alone.

    New examples: `make test ARGS="--hypothesis-profile search"`.
    """
    settings.register_profile(
        "repeatable",
        derandomize=True,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    settings.register_profile("search", settings.get_profile("repeatable"), derandomize=False)
    settings.load_profile("repeatable")
    _leave_constants_of_modules_out()


def _leave_constants_of_modules_out() -> None:
    """Draw no constants of the project's modules where examples repeat.

    Hypothesis 6.131 and later tries the constants of all modules imported so far. These depend on
    the tests that the process has run before, so that the examples would, too.
    """
    found = getattr(providers, "_get_local_constants", None)
    if found is None:
        return
    none = type(providers.GLOBAL_CONSTANTS)()

    def constants() -> object:
        repeats = settings.default is not None and settings.default.derandomize
        return none if repeats else found()

    providers._get_local_constants = constants  # type: ignore[assignment]
