"""The suite that every adapter passes.

    class TestMyAdapter(AdapterConformance):
        @pytest.fixture
        def case(self) -> ConformanceCase: ...

        @pytest.fixture
        async def adapter(self, case) -> AsyncIterator[MyAdapter]: ...

Each test's docstring says which promise of the seam it holds. It needs pytest, and anyio's plug-in for it.
"""

from __future__ import annotations

from typing import ClassVar

import pytest

from gateway.testing.promises.after import AfterSubmit
from gateway.testing.promises.before import BeforeSubmit
from gateway.testing.promises.doubt import WhenInDoubt
from gateway.testing.promises.extras import Extras


class AdapterConformance(BeforeSubmit, AfterSubmit, WhenInDoubt, Extras):
    """Inherit it with two fixtures: `adapter` on a working backend, and `case`, a ConformanceCase."""

    pytestmark: ClassVar = [pytest.mark.anyio]

    @pytest.fixture
    def anyio_backend(self) -> str:
        """Run on asyncio, as the gateway does."""
        return "asyncio"
