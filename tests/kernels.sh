#!/usr/bin/env bash
# The unit and contract tests again, computed as other processors and thread counts compute: torch,
# oneDNN, MKL, OpenBLAS and numpy each pick their code by what the processor can do, and each can be
# told to pick another. Two runs cover every setting, as no two settings act on the same library:
# what fails in one is found by taking its settings out one by one. Integration tests are left out:
# they take most of the suite's time in waiting for Ray, and call the code that these call.
# Arguments go to pytest.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 2

# Code that every x86-64 processor runs. MKL is told to give the same bits everywhere; without AVX2
# numpy has the C library's logarithms.
OLDEST=(
    ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 MKL_CBWR=COMPATIBLE
    OPENBLAS_CORETYPE=Nehalem "NPY_DISABLE_CPU_FEATURES=X86_V3 X86_V4 AVX512_ICL AVX512_SPR"
    OMP_NUM_THREADS=1
)
# A processor with AVX2 and without AVX-512; MKL may round a row by its place, and sums are shared
# by threads.
AVX2=(
    ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2
    OPENBLAS_CORETYPE=Haswell "NPY_DISABLE_CPU_FEATURES=X86_V4 AVX512_ICL AVX512_SPR"
    OMP_NUM_THREADS=2
)
# Tests without numbers, which would find nothing here.
WITHOUT=(bundle_checks imports reference cli commands runs lease mutants config folders inspect ports keys)
IGNORED=("${WITHOUT[@]/#/--ignore=tests/unit/test_}")
IGNORED=("${IGNORED[@]/%/.py}")
log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0

# Only what fails is shown: the one pytest summary that a caller sees is that of the whole suite.
run() {
    local name=$1
    shift
    if env "$@" .venv/bin/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder \
        "${IGNORED[@]}" tests/unit tests/contract "${ARGS[@]}" >"$log" 2>&1; then
        echo "kernels $name: all passed"
    else
        cat "$log"
        echo "kernels $name: FAILED with: $*"
        status=1
    fi
}

ARGS=("$@")
if [ "$(uname -m)" != x86_64 ]; then
    echo "kernels: not an x86-64 processor; its libraries have no others to pick"
    exit 0
fi
run oldest "${OLDEST[@]}"
if grep -qw avx2 /proc/cpuinfo; then
    run avx2 "${AVX2[@]}"
else
    echo "kernels avx2: left out, this processor has no AVX2"
fi
exit "$status"
