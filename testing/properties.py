"""How many examples tests of properties try: Hypothesis profiles.

    HYPOTHESIS_PROFILE=nightly make test

tries twenty times as many as `make test`, and others each time; those of `make test` are always the
same, so that it does not fail for what the last change has nothing to do with.
"""

import os

from hypothesis import settings

DEFAULT_EXAMPLES = 100
FACTORS = {"ci": 1, "nightly": 20}
"""By profile, examples for each one of the default profile."""

PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "ci")

for name, factor in FACTORS.items():
    # No deadline: machines are slow where other tests run beside.
    settings.register_profile(
        name,
        deadline=None,
        max_examples=DEFAULT_EXAMPLES * factor,
        derandomize=name == "ci",
    )
settings.load_profile(PROFILE)


def examples(number: int) -> settings:
    """Decorate a test to try so many examples, or more in another profile."""
    return settings(max_examples=number * FACTORS[PROFILE])
