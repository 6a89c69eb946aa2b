"""Facts of a run in words."""

from __future__ import annotations

import pytest

from site_src.sentences import LONG_FACT, fact_summary

PYTORCH = (
    "PyTorch built with: - GCC 13.3 - C++ Version: 202002 - Intel(R) oneAPI Math Kernel Library Version 2024.2-Product Build 20240605 for "
    "Intel(R) 64 architecture applications - Intel(R) MKL-DNN v3.13.3 (Git Hash b38f97eb6f2173513112f15a0481750b8a66e901) - OpenMP 201511 "
    "- LAPACK is enabled (usually provided by MKL) - CPU capability usage: AVX512 - Build settings: CXX_FLAGS=-O2 -Wall -Wextra"
)


def test_a_long_build_string_is_told_by_what_decides_speed() -> None:
    assert fact_summary(PYTORCH) == (
        "Intel oneAPI Math Kernel Library Version 2024.2-Product Build 20240605; Intel MKL-DNN v3.13.3; CPU capability usage: AVX512"
    )


@pytest.mark.parametrize("value", ["1.31.1", 12, "x" * LONG_FACT])
def test_a_short_fact_stands_as_it_is(value: object) -> None:
    assert fact_summary(value) == str(value)


def test_another_long_fact_is_cut() -> None:
    assert fact_summary("flag " * 100).endswith("…") and len(fact_summary("flag " * 100)) <= LONG_FACT
