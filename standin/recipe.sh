#!/usr/bin/env bash
# Makes the stand-in's checkpoint and its evaluation in one go, on a machine with one GPU.
#
#     standin/recipe.sh WORK SECONDS CORES [SHARDS]
#
# WORK is an empty folder, SECONDS the time there is, SHARDS a folder of examples that were made before.
# What is to be kept lies in $OUT (else WORK/out), at most 8 files of at most 16 MiB, whatever step ended it.
# Steps: judged examples; a first training on them and, without SHARDS and where they are few, on many unjudged drafts; the
# first model's own answers to new training problems; a second training, with repairs of what was wrong in them and, without
# SHARDS, with what was judged meanwhile; evaluation, left out with TEST_SEEDS empty. What it draws is a function of SEED;
# how much it makes depends on the machine.
set -euo pipefail
[ $# -ge 3 ] || { sed -n '2,11s/^# \{0,1\}//p' "$0"; exit 2; }
work=$(realpath -m "$1") total=$2 cores=$3 shards=${4:+$(realpath "$4")}
: "${OUT:=$work/out}" "${PYTHON:=python3}" "${SEED:=0}" "${DEVICE:=cuda}" "${DROPOUT:=0.1}"
: "${JUDGED_SECONDS:=$([ -n "$shards" ] && echo 0 || echo $((total / 8)))}" # of judging before the first training
: "${ENOUGH:=6000}"    # judged drafts, with which a training does without unjudged ones
: "${DRAFTS:=$([ -n "$shards" ] && echo 0 || echo 60000)}" # unjudged, of the first training, where there are fewer
: "${LATER_DRAFTS:=$((DRAFTS / 3))}" # and of the second
: "${COPIES:=4}"       # of each repair of an attempt of its own
: "${NAMINGS:=6}"      # of each judged example: once as it was judged, else under other names
: "${FIRST_SECONDS:=$((total * 36 / 100))}" # 52 s on an H200 left a model that got nothing right, nor near it
: "${OWN_SECONDS:=$((total * 10 / 100))}" "${FAILURES_SECONDS:=$((total * 8 / 100))}"
: "${TEST_SEEDS=held_out:0..90 longer:0..90}" "${TEST_SAMPLES:=6}" "${TEST_REPAIRS:=4}"
: "${BATCH:=256}"    # answers sampled at a time; twice as many are judged to the end, whatever time that takes
: "${TRAINING:=}"    # further options of both trainings
: "${FIRST:=}"       # a checkpoint to take for the first training's
OUT=$(realpath -m "$OUT") FIRST=${FIRST:+$(realpath "$FIRST")}
cd "$(dirname "$0")/.."
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1 TOKENIZERS_PARALLELISM=true
mkdir -p "$work/data" "$OUT"
exec > >(tee -a "$OUT/recipe.log") 2>&1
data=$work/data

judged() { cat "$data"/train-*.jsonl 2> /dev/null | grep -c '"kind": "draft"' || true; }
drafts() { # FIRST-SEED COUNT: unjudged ones, if too few are judged
    local there
    there=$(judged)
    echo "== $there judged drafts" >&2
    [ "$there" -ge "$ENOUGH" ] || [ "$2" = 0 ] || echo "--drafts $1..$(($1 + $2))"
}
left() { echo $((total - SECONDS)); }
minutes() { awk "BEGIN { print ($1 > 5 ? $1 : 5) / 60 }"; }
step() { # NAME LIMIT COMMAND...: ends the recipe where the command fails or takes longer than LIMIT seconds
    local name=$1 limit=$2 begun=$SECONDS
    shift 2
    echo "== $name, at ${begun} s, ${limit} s at most"
    timeout --kill-after=10 "$limit" "$@" || { echo "== $name FAILED ($?)"; exit 1; }
    echo "== $name took $((SECONDS - begun)) s"
}
keep() { # what there is, also after a step that failed
    kill $(jobs -p) 2> /dev/null || true
    local model=$work/final page
    [ -s "$model/model.safetensors" ] || model=${FIRST:-$work/first}
    [ ! -s "$model/model.safetensors" ] || tar -C "$model" -czf "$OUT/checkpoint.tar.gz" --exclude='*.pt' .
    for page in as_drafts cooler; do
        [ ! -s "$work/$page/evaluation.md" ] || cp "$work/$page/evaluation.md" "$OUT/evaluation-$page.md"
    done
    (cd "$work" && tar -czf "$OUT/records.tar.gz" --ignore-failed-read \
        $(ls -d own*/samples.jsonl {as_drafts,cooler}/{samples.jsonl,evaluation.json} data/*-summary.txt 2> /dev/null)) || true
    find "$OUT" -size +16M -name '*.gz' -exec split -b 16M -d {} {}. \; -delete
    echo "== kept after $SECONDS s"
    ls -l "$OUT"
}
trap keep EXIT

examples() { # FIRST-SEED COUNT MINUTES: a pair that is refused is told and left out, which is no fault here
    rm -f "$data/train-summary.txt"
    nice "$PYTHON" -m standin.make --split train --start "$1" --count "$2" --minutes "$3" --repairs 2 \
        --workers "$cores" --out "$data" || [ -s "$data/train-summary.txt" ]
    grep -q '"kind": "draft"' "$data"/train-*.jsonl # else nothing passes on this machine
}
sample() { # MODEL MINUTES OUT OPTIONS...
    local model=$1 time=$2 out=$3
    shift 3
    "$PYTHON" -m standin.evaluate configs/quickstart.yaml "sampler.model=$model" "sampler.device=$DEVICE" \
        "sampler.batch_size=$BATCH" "sampler.concurrency=$BATCH" "seed=$SEED" --judges "${judges:-$cores}" \
        --minutes "$time" --out "$out" "$@"
}
own() { # TEMPERATURE FIRST-SEED
    judges=$((cores > 1 ? cores / 2 : 1)) sample "$first" "$(minutes "$OWN_SECONDS")" "$work/own-$1" \
        "sampler.temperature=$1" --seeds "train:$2..$(($2 + 6000))" --samples 3 --repairs 0
}
export -f examples sample own minutes
export PYTHON data cores work DEVICE BATCH SEED OWN_SECONDS

step "looking at what is installed" 60 "$PYTHON" -c "import pydantic, rich, safetensors, tokenizers, torch, transformers, \
triton, typer, yaml; print('torch', torch.__version__, 'triton', triton.__version__, torch.cuda.device_count(), 'GPUs')"
start=$((500000 + 1000000 * SEED)) # of what is judged here; given shards are of lower seeds
if [ -n "$shards" ]; then
    cp "$shards"/*.jsonl "$data"
    [ ! -e "$data/attempts.jsonl" ] || mv "$data/attempts.jsonl" "$data/attempts-before-$SEED.jsonl"
else
    step "judged examples" "$((JUDGED_SECONDS + 90))" bash -c "examples $start 50000 $(minutes "$JUDGED_SECONDS")"
fi
if [ -z "$FIRST" ]; then
    step "preparing" "$((total / 4))" "$PYTHON" -m standin.prepare --data "$data" --workers "$cores" --held-out 0..400 \
        --namings "$NAMINGS" $(drafts $((start + 100000)) "$DRAFTS")
    # While the GPU trains the cores judge on; with shards there is nothing to add.
    [ -n "$shards" ] || bash -c "examples $((start + 50000)) 50000 $(minutes $((FIRST_SECONDS - 25)))" &
    # shellcheck disable=SC2086
    step "first training" "$((FIRST_SECONDS + 60))" "$PYTHON" -m standin.train --data "$data" --out "$work/first" \
        --state "$work/first.pt" --minutes "$(minutes "$FIRST_SECONDS")" --device "$DEVICE" --seed "$SEED" --batch-tokens 65536 \
        --dropout "$DROPOUT" $TRAINING
    wait $! || exit 1
fi
export first=${FIRST:-$work/first}
# Two temperatures at once: what a run would ask it for, and more of what it is unsure of.
step "its own answers" "$((OWN_SECONDS + 200))" bash -c \
    "own 0.8 $((start + 300000)) & other=\$!; own 1.0 $((start + 310000)) && wait \$other"
step "its failures" "$((FAILURES_SECONDS + 60))" "$PYTHON" -m standin.attempts --data "$data" --samples "$work/own-0.8" "$work/own-1.0" \
    --copies "$COPIES" --workers "$cores" --minutes "$(minutes "$FAILURES_SECONDS")"
step "preparing again" "$((total / 4))" "$PYTHON" -m standin.prepare --data "$data" --workers "$cores" --held-out 0..400 \
    --namings "$NAMINGS" $(drafts $((start + 200000)) "$LATER_DRAFTS") --tokenizer "$first"
later=$(($(left) * $([ -n "$TEST_SEEDS" ] && echo 42 || echo 88) / 100))
# shellcheck disable=SC2086
step "second training" "$((later + 30))" "$PYTHON" -m standin.train --data "$data" --out "$work/final" --state "$work/final.pt" \
    --minutes "$(minutes "$later")" --device "$DEVICE" --seed "$SEED" --batch-tokens 65536 --rate 1e-3 --warmup 50 \
    --dropout "$DROPOUT" --begin-from "$first" $TRAINING
[ -n "$TEST_SEEDS" ] || exit 0
test="--seeds $TEST_SEEDS --samples $TEST_SAMPLES --repairs $TEST_REPAIRS"
step "evaluation" "$(left)" bash -c "sample $work/final $(minutes $(($(left) - 100))) $work/as_drafts $test"
[ "$(left)" -gt 45 ] || { echo "== no time is left for cooler repairs"; exit 0; }
step "evaluation, the same repairs at a temperature of 0.3" "$(left)" bash -c "sample $work/final \
    $(minutes $(($(left) - 30))) $work/cooler 'sampler.operator_temperatures={repair: 0.3}' $test --after $work/as_drafts"
