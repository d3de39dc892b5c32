#!/usr/bin/env bash
# Train every documented recipe in full, on a GPU or a CPU, and print a table of what came out.
#
#     scripts/documented_runs.sh DATA [OUT] [--seeds N] [--recipe NAME]... [-- OPTION...]
#
# DATA holds mnist/ (IDX files) and cifar-10-batches-py or, without it, cifar10-jpeg.tar.xz. OUT
# (default documented_runs) receives RECIPE/seed-0, ..., seed-(N-1) and table.md. --recipe leaves the
# other recipes out. Options after -- go to train.py, e.g. -- --epochs 1 --examples 1000. Repeated,
# the command skips finished runs and resumes the others; a run that fails does not stop the rest.
set -uo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1
documented=(mnist-mlp mnist-cnn cifar10-alexnet cifar10-vgg cifar10-googlenet cifar10-resnet
    cifar10-densenet cifar10-94 mnist-resnet18-keras)
places=() recipes=() options=() failed=()
seeds=1

die() {
    echo "error: $*" >&2
    exit 2
}

source_of() {
    case $1 in
    mnist-*) echo "idx:$data/mnist" ;;
    *) if [ -d "$data/cifar-10-batches-py" ]; then
        echo "cifar:$data/cifar-10-batches-py"
    else
        echo "folder:$data/cifar10-jpeg.tar.xz"
    fi ;;
    esac
}

train() { # recipe, seed
    local folder="$out/$1/seed-$2" resume=() status
    if [ -e "$folder/best.safetensors" ] && grep -q '"interrupted": false' "$folder/results.json"; then
        echo "$1, seed $2: finished, skipped"
        return
    fi
    if ls "$folder/checkpoints/latest" 2>/dev/null | grep -Eqx '[0-9]+'; then
        resume=(--resume)
    else # killed before there was anything to resume
        rm -rf "$folder/checkpoints"
    fi
    "$python" "$root/scripts/train.py" "$1" --data "$(source_of "$1")" --seed "$2" \
        --workdir "$folder" "${resume[@]}" "${options[@]}"
    status=$?
    if [ $status = 130 ]; then
        echo "stopped; the same command goes on" >&2
        exit 130
    fi
    [ $status = 0 ] || failed+=("$1, seed $2")
}

table() {
    "$python" - "$out" "$seeds" "${recipes[@]}" <<'PY'
import json
import sys
from pathlib import Path
from statistics import mean, stdev

from jaxcnn import log
from jaxcnn.recipes import RECIPES


def percent(values):
    spread = f" +- {100 * stdev(values):.2f}" if len(values) > 1 else ""
    return f"{100 * mean(values):.2f} %{spread}"


def row(recipe):
    runs = []
    for folder in (out / recipe / f"seed-{seed}" for seed in range(seeds)):
        if not (folder / "best.safetensors").exists():
            continue
        result = json.loads((folder / "results.json").read_text())
        if not result["interrupted"]:
            tested = json.loads((folder / "evaluation.json").read_text())["accuracy"]
            runs.append((folder, result, tested))
    documented = RECIPES[recipe][0].partition("documented: ")[2] or "-"
    if not runs:
        return recipe, "", "not finished", "", documented, ""
    folders, results, tested = zip(*runs)
    configs = [log.read_config(folder) for folder in folders]
    split, epochs = results[0]["split"], " or ".join(sorted({str(r["epoch"]) for r in results}))
    if split == "test":
        best = percent([r["best_accuracy"] for r in results])
        last = percent([r["accuracy"] for r in results])
    else:  # the test set saw the best checkpoint only
        best = f"{percent(tested)}, epoch chosen by {split}"
        last = f"{percent([r['accuracy'] for r in results])} ({split})"
    if len(runs) > 1 or seeds > 1:
        best += f", {len(runs)} of {seeds} seeds"
    examples = configs[0]["settings"].get("examples")
    name = recipe if examples is None else f"{recipe}, {examples} training images"
    seconds = mean(
        sum(r["seconds"] for r in log.read_metrics(folder) if r["kind"] == "train")
        for folder in folders
    )
    # A resumed epoch's row counts what followed the last resume only.
    least = ">= " if any(config["resumes"] for config in configs) else ""
    return name, epochs, best, last, documented, f"{least}{seconds:.0f}"


out, seeds = Path(sys.argv[1]), int(sys.argv[2])
print("| recipe | epochs | best test accuracy | last | documented | seconds of training |")
print("|---|---|---|---|---|---|")
for recipe in sys.argv[3:]:
    print("|", " | ".join(row(recipe)), "|")
PY
}

while (($#)); do
    case $1 in
    --seeds | --recipe)
        (($# > 1)) || die "$1: expected a value"
        if [ "$1" = --seeds ]; then seeds=$2; else recipes+=("$2"); fi
        shift 2
        ;;
    --)
        shift
        options=("$@")
        break
        ;;
    -*) die "unknown option $1; see the head of $0" ;;
    *)
        places+=("$1")
        shift
        ;;
    esac
done
((${#places[@]} == 1 || ${#places[@]} == 2)) || die "expected DATA [OUT], got ${#places[@]} arguments"
data=${places[0]} out=${places[1]:-documented_runs}
[[ $seeds =~ ^[1-9][0-9]*$ ]] || die "--seeds must be at least 1, got '$seeds'"
for recipe in "${recipes[@]}"; do
    [[ " ${documented[*]} " = *" $recipe "* ]] ||
        die "unknown recipe '$recipe'; known: ${documented[*]}"
done
((${#recipes[@]})) || recipes=("${documented[@]}")
for recipe in "${recipes[@]}"; do
    path=$(source_of "$recipe")
    [ -e "${path#*:}" ] || die "$recipe: no ${path#*:}"
done

mkdir -p "$out" || die "cannot write to $out"
given=$(realpath "$data") && given+=$(printf ' %q' "${options[@]}")
if [ -e "$out/options" ] && [ "$(<"$out/options")" != "$given" ]; then
    die "$out holds runs of other data or options ($(<"$out/options")); name another OUT"
fi
echo "$given" >"$out/options"

for recipe in "${recipes[@]}"; do
    for ((seed = 0; seed < seeds; seed++)); do
        train "$recipe" "$seed"
    done
done
table | tee "$out/table.md" || failed+=(table)
for run in "${failed[@]}"; do
    echo "failed: $run" >&2
done
((${#failed[@]} == 0))
