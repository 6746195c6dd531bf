#!/usr/bin/env bash
# The model's own improvements, each an ablation with its number: short runs of equal data and seed, one GPU each, in as many
# lanes as there are GPUs, and what a query scaling gains without training. Prints one Markdown table and writes it to
# OUT/table.md. What was finished before with the same options is not run again, so that a sitting may be cut anywhere; an
# unfinished run begins anew.
#
# usage: scripts/ablations.sh [options] [NAME...]      NAME: of the list below; none: all, in its order
#
#   --cepe FILE       the program                                      (build/cepe)
#   --out DIR         runs, evaluations, table.md                      (runs/ablations)
#   --parts DIR       trained parts to start from                      (models/smollm2-135m-cepe)
#   --base MODEL      their decoder                                    (SmolLM2-135M-Instruct.Q4_1.gguf)
#   --tokens DIR      token shards: DIR/train, DIR/valid               (data/tokens)
#   --ask DIR         samples of `cepe data ask`: DIR/train, DIR/valid (data/tokens/ask)
#   --recall DIR      data of `cepe eval recall`; "": none is measured (~/.cache/cepe/eval/recall)
#   --lengths LIST    of it                                            (32k,128k)
#   --limit N         examples a task and length                       (20)
#   --devices LIST    a lane each: 0,1 are GPUs, cpu is none; a GPU that is named more often has as many lanes (0,1)
#   --steps N         of a run                                         (300)
#   --warm-up N       steps of stage warmup before a fresh encoder's   (300)
#   --seconds N       no run begins later than so long after the start (0: no limit)
#   --set KEY=VALUE   a setting of every run of stage ask, --set-warm-up of every warm-up; each may come several times
#   --list            print the names and what they are
set -euo pipefail
source "$(dirname "$0")/steps.sh"

# name | kind | what differs. kind: as-is, the parts with another "cross_attention" in their config.json, not trained (a JSON
# object follows); parts, training goes on from the parts; fresh, from the decoder's own layers by way of stage warmup.
# A + behind the kind: `cepe eval recall` afterwards.
list() {
  cat <<'END'
base              | parts+ |
log-1k            | parts+ | --model.query_log_scale=0.144 --model.query_log_tokens=1024
shipped           | as-is+ | {}
log-8k-0.11       | as-is+ | {"query_log_tokens": 8192, "query_log_scale": 0.11}
null-key          | parts+ | --model.null_key=true
positions         | parts+ | --model.position_buckets=16
pooling-2         | parts+ | --model.pooling=2
pooling-4         | parts  | --model.pooling=4
log-8k-0.05       | as-is+ | {"query_log_tokens": 8192, "query_log_scale": 0.05}
log-8k-0.2        | as-is+ | {"query_log_tokens": 8192, "query_log_scale": 0.2}
log-32k-0.1       | as-is+ | {"query_log_tokens": 32768, "query_log_scale": 0.1}
log-32k-0.2       | as-is+ | {"query_log_tokens": 32768, "query_log_scale": 0.2}
fresh             | fresh  |
encoder-4         | fresh  | --model.encoder_layers=4
encoder-12        | fresh  | --model.encoder_layers=12
every-other-layer | fresh  | --model.cross_attention_at=[1,3,5,7,9,11,13,15,17,19,21,23,25,27,29]
first-and-last    | fresh  | --model.cross_attention_at=[0,1,2,3,4,5,6,22,23,24,25,26,27,28,29]
last-8            | fresh  | --model.cross_attention_layers=8
every-other-of-15 | fresh  | --model.cross_attention_at=[15,17,19,21,23,25,27,29]
evidence-0.5      | parts  | --train.evidence_weight=0.5
evidence-2        | parts  | --train.evidence_weight=2
ask-weight-3      | parts  | --train.ask_weight=3
ask-weight-12     | parts  | --train.ask_weight=12
no-reconstruction | parts  | --data.ask_weights=["recall=0"]
reconstruction-4  | parts  | --data.ask_weights=["recall=4"]
twice-as-long     | long   |
twice-held        | long   | --hold
END
}

cepe=build/cepe out=runs/ablations parts=models/smollm2-135m-cepe base=SmolLM2-135M-Instruct.Q4_1.gguf
tokens=data/tokens ask=data/tokens/ask recall=${HOME:-/root}/.cache/cepe/eval/recall lengths=32k,128k limit=20
devices=0,1 steps=300 warm_up=300 seconds=0 settings=() warm_up_settings=() wanted=()
while [ $# -gt 0 ]; do
  case $1 in
    --list) list; exit 0 ;;
    --set) settings+=("--$2"); shift ;;
    --set-warm-up) warm_up_settings+=("--$2"); shift ;;
    --cepe | --out | --parts | --base | --tokens | --ask | --recall | --lengths | --limit | --devices | --steps | --seconds)
      printf -v "${1#--}" %s "$2"; shift ;;
    --warm-up) warm_up=$2; shift ;;
    -*) stop "$1: no such option; the head of $0 lists them" ;;
    *) wanted+=("$1") ;;
  esac
  shift
done

field() { cut -d'|' -f"$1" <<<"$2" | sed 's/^ *//; s/ *$//'; }
line_of() { list | awk -F'|' -v name="$1" '{ n = $1; sub(/ +$/, "", n); if (n == name) print }'; }
if [ ${#wanted[@]} -eq 0 ]; then mapfile -t wanted < <(list | sed 's/ *|.*//'); fi
for name in "${wanted[@]}"; do
  [ -n "$(line_of "$name")" ] || stop "$name: no such ablation; --list prints them"
done
for path in "$cepe" "$parts/config.json" "$tokens/train" "$ask/train"; do
  [ -e "$path" ] || stop "$path: not there"
done
mkdir -p "$out"
# Rows of one table have the same data, steps and settings: what was finished with others is not taken for one of them.
told=$(printf '%s\n' "steps $steps" "warm-up $warm_up" "parts $parts" "base $base" "tokens $tokens" "ask $ask" \
  "recall $recall $lengths $limit" "set ${settings[*]}" "set-warm-up ${warm_up_settings[*]}")
[ -e "$out/options" ] || printf '%s\n' "$told" >"$out/options"
if ! differs=$(diff "$out/options" - <<<"$told"); then
  stop "$out: begun with other options ($(grep '^[<>]' <<<"$differs" | tr '\n' ' ')): choose another --out"
fi

# train_run DIRECTORY CONFIG [settings...]: unless it is finished
train_run() {
  local run=$1 config=$2
  shift 2
  [ ! -e "$run/final/config.json" ] || return 0
  rm -rf "$run"
  "$cepe" train "$config" --run "$run" --device "$device" "--model.base=$base" "--data.train=[\"$tokens/train\"]" \
    "--data.validation=[\"$tokens/valid\"]" --run.checkpoint_every=0 --run.checkpoint_minutes=0 --run.validate_every=0 \
    --run.weights=bf16 "$@"
}

# Runs of the stage ask: the peak for two thirds of the steps, then a cosine to 5 %.
ask_run() {
  local run=$1 count=$2 hold=$3
  shift 3
  train_run "$run" configs/smollm2-135m/ask.toml "--data.ask=[\"$ask/train\"]" "--data.ask_validation=[\"$ask/valid\"]" \
    "--train.steps=$count" --train.warmup_steps=$((count / 10)) "--train.hold_steps=$hold" \
    --train.learning_rate=6e-4 --run.validation_samples=400 "${settings[@]}" "$@"
}

# changed_parts DIRECTORY JSON: the parts, and this as their "cross_attention"
changed_parts() {
  mkdir -p "$1"
  python3 - "$parts" "$1" "$2" <<'END'
import json, os, sys
source, target, variants = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
config = json.load(open(os.path.join(source, "config.json"), encoding="utf-8"))
if variants:
    config.setdefault("cross_attention", {}).update(variants)
    config["cepe_format_version"] = 2
json.dump(config, open(os.path.join(target, "config.json"), "w", encoding="utf-8"), indent=2)
weights = os.path.join(target, "model.safetensors")
if not os.path.lexists(weights):
    os.symlink(os.path.abspath(os.path.join(source, "model.safetensors")), weights)
END
}

recall_of() {
  [ -n "$recall" ] || return 0
  [ ! -e "$out/$1/recall/results.json" ] || return 0
  "$cepe" eval recall --model "$2" --base "$base" --device "$device" --data "$recall" --out "$out/$1/recall" \
    --tasks niah_multikey_1,niah_multikey_2,niah_multikey_3 --lengths "$lengths" --placement encoder --limit "$limit"
}

one() {
  local name=$1 line kind how run=$out/$1/run options=()
  line=$(line_of "$name")
  kind=$(field 2 "$line")
  how=$(field 3 "$line")
  mkdir -p "$out/$name"
  read -r -a options <<<"$how"
  case $kind in
    as-is*)
      run=$out/$name
      changed_parts "$run/final" "$how" ;;
    parts*) ask_run "$run" "$steps" $((steps * 2 / 3)) "--model.parts=$parts" "${options[@]}" ;;
    fresh*)
      # What decides the shape; the stage ask takes it from the warm-up's result.
      train_run "$out/$name/warm-up" configs/smollm2-135m/warmup.toml "--train.steps=$warm_up" \
        --run.validation_samples=8 "${warm_up_settings[@]}" "${options[@]}"
      ask_run "$run" "$steps" $((steps * 2 / 3)) "--model.parts=$out/$name/warm-up/final" ;;
    long)
      if [ "$how" = --hold ]; then options=() hold=$((steps * 8 / 5)); else hold=0; fi
      ask_run "$run" $((steps * 2)) "$hold" "--model.parts=$parts" "${options[@]}" ;;
  esac
  if [[ $kind == *+ ]]; then recall_of "$name" "$run/final"; fi
}

# A lane takes the next name of the queue until there is none, or no time.
lane() {
  local device=$1 name begun status
  if [ "$device" != cpu ]; then export CUDA_VISIBLE_DEVICES=$device && device=cuda; fi
  while :; do
    name=$(flock "$out/queue.lock" sh -c 'head -n 1 "$0" && sed -i 1d "$0"' "$out/queue")
    [ -n "$name" ] || return 0
    if [ "$seconds" -gt 0 ] && [ "$SECONDS" -ge "$seconds" ]; then continue; fi
    begun=$SECONDS status=0
    (set -e; one "$name") >"$out/$name.log" 2>&1 </dev/null &
    wait $! || status=$?
    if [ "$status" -eq 0 ]; then
      echo "lane $1: $name: done in $((SECONDS - begun)) s"
    else
      echo "lane $1: $name: failed: $(grep -v '^$' "$out/$name.log" | tail -n 1)"
    fi
  done
}

printf '%s\n' "${wanted[@]}" >"$out/queue"
lanes=$(($(tr -cd , <<<"$devices" | wc -c) + 1))
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((($(nproc) + lanes - 1) / lanes))}
for device in ${devices//,/ }; do lane "$device" & done
wait
list | python3 scripts/ablation_table.py "$out" | tee "$out/table.md"
