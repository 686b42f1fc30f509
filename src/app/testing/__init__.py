"""For tests of applications and of backends: the contract as classes, and a DataLayer in memory (`plugin.py`)."""

import pytest

pytest.register_assert_rewrite(f"{__name__}.contract")
