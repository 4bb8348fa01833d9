#!/usr/bin/env bash
# Measures what a GPU does with convae, in less than nine minutes; a second call continues. Writes benchmarks/gpu.md and
# JSON to benchmarks/gpu_results. `--rehearse` runs everything on the CPU in a minute, `--help` lists the options.
#
# PYTHON is the interpreter, by default that of .venv if its torch sees a GPU, otherwise python3. Packages that it lacks
# can be brought as wheels in a folder WHEELS, for a machine without network: `--missing` lists them.
set -euo pipefail
cd "$(dirname "$0")/.."
sees_gpu() { "$1" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' 2>/dev/null; }
if [ -z "${PYTHON:-}" ]; then
	PYTHON=python3
	if [ -x .venv/bin/python ] && { [[ " $* " == *" --rehearse "* ]] || sees_gpu .venv/bin/python; }; then
		PYTHON=.venv/bin/python
	fi
fi
export PYTHONPATH="$PWD/src:$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
export CUBLAS_WORKSPACE_CONFIG=:4096:8 # which torch's deterministic algorithms need
if [ -n "${WHEELS:-}" ]; then
	site=$(mktemp -d)
	"$PYTHON" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --target "$site" "$WHEELS"/*.whl
	export PYTHONPATH="$PYTHONPATH:$site"
fi
if [ "${1:-}" = --missing ]; then
	exec "$PYTHON" - <<-'PY'
		from importlib.util import find_spec
		needed = {
		    "beartype", "diffusers", "filelock", "hypothesis", "jaxtyping", "matplotlib", "numpy", "PIL", "platformdirs",
		    "pydantic", "pytest", "pythae", "rich", "safetensors", "sklearn", "torch", "triton", "typer", "xdist", "yaml",
		}
		print(*sorted(name for name in needed if find_spec(name) is None), sep="\n")
	PY
fi
exec "$PYTHON" -m benchmarks.gpu "$@"
