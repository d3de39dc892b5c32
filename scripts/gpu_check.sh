#!/usr/bin/env bash
# Everything that wants a GPU, in one command and within 9 minutes: versions, the tests that make
# sense there (parity at full float32, the jitted step, donation, resume, augmentation, several
# seeds), the parity table in float32, TF32 and bfloat16, the benchmark beside PyTorch, and the
# documented recipes on real data with the speed recipe cifar10-94.
#
#     JAXCNN_DATA=DIR scripts/gpu_check.sh [OUT]
#
# DIR holds mnist/ (IDX files) and cifar10-jpeg.tar.xz; without it the recipes run on the embedded
# digits. OUT (default gpu_check/) receives the log, the JUnit report, JSON tables and the run
# folders. Nothing is installed: jax with its CUDA plugin, torch, and the project's other
# dependencies must be there.
set -uo pipefail
cd "$(dirname "$0")/.."

out=${1:-gpu_check}
python=${PYTHON:-python3}
mkdir -p "$out"
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1
export XLA_PYTHON_CLIENT_PREALLOCATE=false
status=0

main() {
    nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader || status=1
    "$python" - <<'PY' || { status=1; return; }
import platform, sys
import flax, jax, optax, torch
print("python", platform.python_version(), "| jax", jax.__version__, "| flax", flax.__version__,
      "| optax", optax.__version__, "| torch", torch.__version__)
print("devices:", jax.devices())
if jax.default_backend() != "gpu":
    sys.exit("JAX sees no GPU: install the project's extra cuda12 or cuda13")
PY
    # Equal bits on a GPU need algorithms without atomics, and the same ones in every process.
    XLA_FLAGS="${XLA_FLAGS:-} --xla_gpu_deterministic_ops=true --xla_gpu_autotune_level=0" \
        limited 120 "$python" -m pytest -q -p no:cacheprovider -p no:xdist --junitxml "$out/tests.xml" \
        -k "not test_parity or cnn_mnist or alexnet_cifar" \
        tests/test_gpu.py tests/test_parity.py tests/test_train.py tests/test_fit.py tests/test_steps.py \
        tests/test_precision.py tests/test_augment_functions.py || status=1
    for products in float32 tf32 bfloat16; do
        limited 40 "$python" scripts/parity.py cnn_mnist alexnet_cifar --dtype float32 \
            --products "$products" --format json --out "$out/parity-$products.json" || status=1
    done
    # A file a network: what has been measured is there when the time is up.
    for network in alexnet_cifar resnet_cifar cnn_mnist vgg_cifar; do
        limited 60 "$python" scripts/benchmark.py "$network" --device gpu --dtype bfloat16 \
            --what train epoch --batch 128 --rounds 5 --format json \
            --out "$out/benchmark-$network.json" || status=1
    done
    if [ -d "${JAXCNN_DATA:-}/mnist" ]; then
        cifar=folder:$JAXCNN_DATA/cifar10-jpeg.tar.xz
        recipe cifar10-94 --data "$cifar" --precision bfloat16
        recipe cifar10-alexnet --data "$cifar" --precision bfloat16
        recipe cifar10-vgg --data "$cifar" --precision bfloat16
        recipe mnist-cnn --data "idx:$JAXCNN_DATA/mnist"
        recipe cifar10-resnet --data "$cifar" --precision bfloat16
        recipe cifar10-densenet --data "$cifar" --precision bfloat16
    else
        recipe digits-cnn
        recipe digits-cnn --network mlp_mnist --precision bfloat16
    fi
    limited 30 "$python" scripts/benchmark_seeds.py digits-cnn --seeds 8 --rounds 5 || status=1
}

# Run a command for some seconds at most, and not beyond the 9 minutes of all.
limited() {
    local limit=$1 left=$((530 - SECONDS))
    shift
    [ "$left" -gt 0 ] || { echo "no time is left for: $*"; return 1; }
    timeout $((limit < left ? limit : left)) "$@" && return
    echo "failed or out of time: $*"
    return 1
}

# Train a recipe; its results.json holds the seconds of training, evaluation and compilation.
recipe() {
    local start=$SECONDS folder="$out/$1-$RANDOM"
    limited 90 "$python" scripts/train.py "$@" --workdir "$folder" || status=1
    echo "recipe $*: $((SECONDS - start)) s, start-up, reading and compilation included"
    cat "$folder/results.json" || status=1
}

main > >(tee "$out/log") 2>&1
wait
echo "gpu_check: $([ $status = 0 ] && echo passed || echo FAILED), $SECONDS s" | tee -a "$out/log"
exit $status
