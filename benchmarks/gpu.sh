#!/usr/bin/env bash
# The checks and benchmarks of a GPU, on a bare machine without network:
#
#   make setup && bash benchmarks/gpu.sh pack build/gpu      # here: under 60 MiB
#   bash benchmarks/gpu.sh run build/gpu OUT                 # there: at most 8 minutes
#   bash benchmarks/gpu.sh small build/gpu OUT               # the same on a CPU, toy sizes
#
# There: Linux on x86-64, CPython 3.12 as `python3` (or PYTHON=...), JAX 0.10.2 to 0.11
# with CUDA; no TensorFlow. Each part has a limit, and one that fails stops no other. OUT
# gets a log for each, and figures as JSON.
set -uo pipefail

LIMIT=480
PYTHON=${PYTHON:-python3}

usage() { sed -n '2,11s/^# \{0,1\}//p' "$0"; exit 2; }
[ $# -ge 2 ] || usage
verb=$1
bundle=$(mkdir -p "$2" && cd "$2" && pwd)
here=$(cd "$(dirname "$0")/.." && pwd)

if [ "$verb" = pack ]; then
  exec "$here/.venv/bin/python" "$here/benchmarks/gpu_bundle.py" "$bundle" "${@:3}"
fi
[ $# -ge 3 ] || usage
mkdir -p "$3"
out=$(cd "$3" && pwd)
failed=0

# part NAME SECONDS COMMAND...: runs a command within its limit and what is left of all.
part() {
  local name=$1 limit=$2 began=$SECONDS left=$((LIMIT - SECONDS))
  shift 2
  if [ "$left" -lt 5 ]; then echo "== $name: left out, no time"; failed=1; return; fi
  [ "$limit" -le "$left" ] || limit=$left
  timeout --kill-after=5 "$limit" "$@" > "$out/$name.log" 2>&1
  local code=$?
  [ "$code" = 0 ] || failed=1
  echo "== $name: exit $code, $((SECONDS - began)) s"
  grep -vE '^(WARNING|I0000|W0000)' "$out/$name.log" | tail -n 8
}

site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
part install 90 "$PYTHON" -m pip install --quiet --no-index --no-deps --no-compile \
  --no-cache-dir --target "$site" "$bundle"/wheels/*.whl
export PYTHONPATH="$site:$bundle/code/benchmarks" TF_CPP_MIN_LOG_LEVEL=3
export XDG_CACHE_HOME="$site/cache" MPLCONFIGDIR="$site/matplotlib"
cd "$bundle/code" || exit 1
marked=$(grep -rl --include='*_test.py' 'mark\.gpu' tests)
bench="$PYTHON benchmarks"

if [ "$verb" = run ]; then
  part devices 60 "$PYTHON" -c 'import jax; print(jax.__version__, jax.devices())'
  # shellcheck disable=SC2086
  JAX_PLATFORMS=cuda part tests 120 "$PYTHON" -m pytest -m gpu -p no:cacheprovider $marked
  cudnn='Run.attention_kernel=cudnn Run.logits_chunk=512'
  part step_422m 100 $bench/accelerator.py --gin_file gin/models/422m.gin \
    --tokens 32768 --variant "$cudnn" --json "$out/step_422m.json"
  part step_2b 130 $bench/accelerator.py --gin_file gin/models/2b.gin \
    --tokens 16384 --variant "$cudnn" --json "$out/step_2b.json"
  part inference_422m 90 $bench/accelerator_inference.py --store "$bundle/store" \
    --gin_file gin/models/422m.gin --json "$out/inference_422m.json"
  part inference_2b 90 $bench/accelerator_inference.py --store "$bundle/store" \
    --gin_file gin/models/2b.gin --prompts 1000 --json "$out/inference_2b.json"
  model=gin/models/422m.gin more='Run.attention_kernel=cudnn' length=1024
elif [ "$verb" = small ]; then
  export JAX_PLATFORMS=cpu
  part devices 60 "$PYTHON" -c 'import jax; print(jax.__version__, jax.devices())'
  # shellcheck disable=SC2086
  part tests 120 "$PYTHON" -m pytest -m gpu -p no:cacheprovider $marked
  part step_tiny 120 $bench/accelerator.py --gin_file gin/models/tiny.gin \
    --tokens 512 --length 256 --variant Run.logits_chunk=128 --json "$out/step_tiny.json"
  part inference_tiny 120 $bench/accelerator_inference.py --store "$bundle/store" \
    --gin_file gin/models/tiny.gin --prompts 8 --generate 4 --max-tokens 4 \
    --batch-size 4 --sequence-length 256 --json "$out/inference_tiny.json"
  model=gin/models/tiny.gin more='Run.logits_chunk=128' length=256
else
  usage
fi
part train 90 "$PYTHON" -m flan_jax train --gin_file=gin/runs/base.gin \
  --gin_file=$model --gin.MODEL_DIR="$site/run" --gin.STORE="$bundle/store" \
  --gin.MIXTURE_OR_TASK_NAME=microworld_mini_copa --gin.HELD_OUT='()' \
  --gin.TRAIN_STEPS=4 --gin.SEQUENCE_LENGTH=$length --gin.BATCH_TOKENS=$((4 * length)) \
  --gin.WRITERS="('jsonl',)" "--gin.$more"
echo "== $SECONDS s of $LIMIT; logs and figures in $out"
exit $failed
