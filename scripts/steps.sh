# Sourced by the scripts beside it: named steps with their times, and one sentence when something fails.
export LC_ALL=C.UTF-8
# Waiting OpenMP threads sleep: spinning ones slow each other down wherever cores are few or shared.
export OMP_WAIT_POLICY=passive
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
script_name=${0##*/}
log_dir=$root/.cache/log
step_name=""
child=""
scratch=""  # a directory to remove when the script ends, however it ends

# step <name>: what follows, until the next step, is called <name>.
step() {
  end_step
  step_name=$1
  step_start=$SECONDS
  printf '\n== %s\n' "$step_name"
}

end_step() {
  if [ -n "$step_name" ]; then printf '   %s: done in %d s\n' "$step_name" $((SECONDS - step_start)); fi
  step_name=""
}

# stop <sentence>: ends the script with the one sentence that says what is wrong.
stop() {
  printf '\n%s: %s\n' "$script_name" "$*" >&2
  step_name=""
  exit 1
}

# quietly <log name> <command...>: its output goes to a log, of which the last line is shown every 15 seconds.
# A non-zero status comes back to the caller, which knows what it means.
quietly() {
  local log=$log_dir/$1.log waited=0 line
  shift
  mkdir -p "$log_dir"
  "$@" >"$log" 2>&1 </dev/null &
  child=$!
  while kill -0 "$child" 2>/dev/null; do
    sleep 1
    waited=$((waited + 1))
    if [ $((waited % 15)) -eq 0 ]; then
      line=$(tail -n 1 "$log" | tr -d '\r')
      printf '   %4d s  %s\n' "$waited" "${line:0:100}"
    fi
  done
  local status=0
  wait "$child" || status=$?
  child=""
  return "$status"
}

# last_lines <log name>: what to show of a log after a failure.
last_lines() { tail -n 15 "$log_dir/$1.log" | sed 's/^/   | /' >&2; }

# Parallel compilations: one a core, and 2 GiB of memory each (LibTorch's headers are large).
build_jobs() {
  local cores memory_kib jobs
  cores=$(nproc)
  memory_kib=$(awk '/^MemAvailable:/ { print $2 }' /proc/meminfo)
  jobs=$((memory_kib / (2 * 1024 * 1024)))
  if [ "$jobs" -gt "$cores" ]; then jobs=$cores; fi
  if [ "$jobs" -lt 1 ]; then jobs=1; fi
  echo "$jobs"
}

on_exit() {
  local status=$?
  if [ -n "$child" ]; then kill "$child" 2>/dev/null || true; fi
  if [ -n "$scratch" ]; then rm -rf "$scratch"; fi
  if [ "$status" -ne 0 ] && [ -n "$step_name" ]; then
    printf '\n%s: failed in the step "%s" (status %d, after %d s)\n' \
      "$script_name" "$step_name" "$status" $((SECONDS - step_start)) >&2
  fi
}
trap on_exit EXIT
