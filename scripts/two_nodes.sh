#!/usr/bin/env bash
# Trains a tiny model on two nodes, each a network namespace of this machine with a host name of its own, joined by a
# cable (a veth pair): mpirun starts one rank on each. The losses must be those of one process, and when the cable is
# pulled the run must end with a sentence instead of waiting for ever.
#
# scripts/two_nodes.sh [build directory]     needs root, iproute2 and openmpi-bin; takes about a minute
set -euo pipefail
cd "$(dirname "$0")/.."
cepe=$(realpath "${1:-build}")/cepe
tag=cepe-$$
work=$(mktemp -d "${TMPDIR:-/tmp}/$tag.XXXXXX")

stop() {
  echo "two_nodes.sh: $1" >&2
  exit 1
}
clean_up() {
  local node
  for node in a b; do
    ip netns pids "$tag-$node" 2>/dev/null | xargs -r kill -9 2>/dev/null || true
    ip netns delete "$tag-$node" 2>/dev/null || true
  done
  rm -rf "$work"
}
[ "$(id -u)" -eq 0 ] || stop "network namespaces need root"
for program in ip mpirun unshare; do command -v "$program" >/dev/null || stop "$program is not installed"; done
[ -x "$cepe" ] || stop "$cepe is not built"
trap clean_up EXIT

for node in a b; do
  ip netns add "$tag-$node" || stop "this machine does not allow network namespaces"
  ip -n "$tag-$node" link set lo up
done
ip link add eth0 netns "$tag-a" type veth peer name eth0 netns "$tag-b"
ip -n "$tag-a" address add 10.231.7.1/24 dev eth0
ip -n "$tag-b" address add 10.231.7.2/24 dev eth0
for node in a b; do ip -n "$tag-$node" link set eth0 up; done

# on <node> <command>: a process of that node. mpirun calls it as if it were ssh, with the address and one command line.
cat >"$work/on" <<END
#!/usr/bin/env bash
case \$1 in a | 10.231.7.1) node=a ;; *) node=b ;; esac
shift
exec ip netns exec $tag-\$node unshare --uts bash -c "hostname node-\$node; exec \$*"
END
chmod +x "$work/on"

for line in {1..60}; do echo "Line $line of a little book about nothing much, and of $((line * 7919 % 997)) other things."; done >"$work/book.txt"
base=$PWD/tests/golden/generate/plain
"$cepe" data --model "$base" --out "$work/shards" "$work/book.txt" >/dev/null 2>&1
cat >"$work/train.toml" <<END
[model]
base = "$base"
encoder_layers = 1
cross_attention_layers = 1
[data]
train = ["$work/shards"]
[train]
chunk_length = 16
context_chunks = [1, 2, 4]
decoder_tokens = 32
batch = 6
micro_batch = 2
steps = 20
warmup_steps = 5
learning_rate = 2e-3
precision = "float32"
[run]
rank_minutes = 0.1
END

export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive
on_two_nodes() {
  timeout --kill-after=10 100 "$work/on" a mpirun --allow-run-as-root --host 10.231.7.1,10.231.7.2 -np 2 --bind-to none \
    --mca plm_rsh_agent "$work/on" --mca btl tcp,self --mca btl_tcp_if_include eth0 --mca oob_tcp_if_include eth0 \
    -x OMP_NUM_THREADS -x OMP_WAIT_POLICY "$cepe" train "$work/train.toml" --device cpu "$@"
}

echo "== one process"
"$cepe" train "$work/train.toml" --device cpu --run "$work/one" >"$work/one.txt" || stop "one process failed: $(tail -n 3 "$work/one.txt")"
echo "== two nodes"
on_two_nodes --run "$work/two" >"$work/two.txt" 2>&1 || stop "two nodes failed: $(tail -n 20 "$work/two.txt")"
grep -q "2 ranks share" "$work/two.txt" || stop "the run did not have two ranks"
losses() { sed -n 's/.*"loss":\([^,}]*\).*"step":\([0-9]*\).*/\2 \1/p' "$1/log.jsonl"; }
paste <(losses "$work/one") <(losses "$work/two") | awk '
  { d = $2 - $4; if (d < 0) d = -d; if (d > most) most = d; if ($1 != $3) exit 2; steps++ }
  END { printf "   %d steps, the losses differ by at most %.2g\n", steps, most; exit !(steps == 20 && most < 1e-3) }' ||
  stop "the losses differ"

echo "== the cable is pulled"
on_two_nodes --run "$work/cut" --train.steps=1000000 --run.checkpoint_every=0 >"$work/cut.txt" 2>&1 &
job=$!
for _ in {1..300}; do
  grep -q '^step 20/' "$work/cut.txt" && break
  sleep 0.1
done
grep -q '^step 20/' "$work/cut.txt" || stop "the run did not start: $(tail -n 20 "$work/cut.txt")"
ip -n "$tag-b" link set eth0 down
started=$SECONDS
for _ in {1..600}; do
  grep -q 'have not answered for 0.1 minutes\|MPI failed, a rank may be gone' "$work/cut.txt" && break
  kill -0 "$job" 2>/dev/null || break
  sleep 0.1
done
grep 'cepe: ' "$work/cut.txt" | sed 's/^/   /' || stop "no rank said why it ended: $(tail -n 20 "$work/cut.txt")"
echo "   said after $((SECONDS - started)) s"
for _ in {1..200}; do
  kill -0 "$job" 2>/dev/null || break
  sleep 0.1
done
kill -0 "$job" 2>/dev/null && stop "the run goes on after its rank has said why it ended: $(tail -n 20 "$work/cut.txt")"
wait "$job" && stop "the run ended as if nothing had happened"
echo "== done"
