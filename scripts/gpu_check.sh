#!/usr/bin/env bash
# Everything that wants a GPU, in one command and under 10 minutes: versions, the tests that make
# sense there (parity on the GPU at full precision, the jitted step, donation, resume, augmentation,
# transfer learning, several seeds), recipes on real data, train steps beside PyTorch's, and what
# several seeds at once gain.
#
#     JAXCNN_DATA=DIR scripts/gpu_check.sh [OUT]
#
# DIR holds mnist/ (IDX files), cifar10-jpeg.tar.xz, cats-dogs-160.tar and
# weights/squeezenet1_1-imagenet.npz; without it the recipes run on the embedded
# digits. OUT (default gpu_check/) receives the log, the JUnit report and the run folders. Nothing
# is installed: jax with its CUDA plugin, torch, and the project's other dependencies must be there.
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
        timeout 300 "$python" -m pytest -q -p no:cacheprovider -p no:xdist --junitxml "$out/tests.xml" \
        -k "not test_parity or cnn_mnist or alexnet_cifar or resnet_cifar" \
        tests/test_gpu.py tests/test_parity.py tests/test_train.py tests/test_fit.py \
        tests/test_augment.py tests/test_augment_functions.py tests/test_runs_transfer.py \
        tests/test_transfer_parity.py tests/test_seeds.py || status=1
    if [ -d "${JAXCNN_DATA:-}/mnist" ]; then
        recipe mnist-cnn --data "idx:$JAXCNN_DATA/mnist"
        recipe cifar10-alexnet --data "folder:$JAXCNN_DATA/cifar10-jpeg.tar.xz" \
            --augment "random_crop(padding=4), random_horizontal_flip"
        recipe cats-dogs --data "folder:$JAXCNN_DATA/cats-dogs-160.tar" --network squeezenet1_1 \
            --init "$JAXCNN_DATA/weights/squeezenet1_1-imagenet.npz" --replace-head 2 --epochs 8
    else
        recipe digits-cnn
        recipe digits-cnn --network mlp_mnist
    fi
    timeout 150 "$python" scripts/benchmark.py cnn_mnist alexnet_cifar vgg_cifar --device gpu --batch 128 \
        --format json --out "$out/benchmark.json" || status=1
    for recipe in digits-cnn digits-overfit; do
        timeout 60 "$python" scripts/benchmark_seeds.py "$recipe" --seeds 8 --rounds 5 || status=1
    done
}

recipe() {
    local start=$SECONDS folder="$out/$1-$RANDOM"
    timeout 100 "$python" scripts/train.py "$@" --workdir "$folder" || status=1
    echo "recipe $*: $((SECONDS - start)) s, start-up and compilation included"
    cat "$folder/results.json" || status=1
}

main > >(tee "$out/log") 2>&1
wait
echo "gpu_check: $([ $status = 0 ] && echo passed || echo FAILED), $SECONDS s" | tee -a "$out/log"
exit $status
