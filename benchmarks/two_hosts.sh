#!/bin/bash
# Trains on two hosts that are two network namespaces of this machine, joined by a virtual cable, against one process;
# then kills the process of the second host in mid-run, and sees that the run goes on. Needs root and iproute2.
#
#     sudo benchmarks/two_hosts.sh FOLDER        # with convae importable by `python`
set -eu
here=$(dirname "$(realpath "$0")")
folder=$(realpath "${1:?give a folder for the runs}"); mkdir -p "$folder"; cd "$folder"
python=${PYTHON:-python}

cleanup() { ip netns del convae-a 2>/dev/null || true; ip netns del convae-b 2>/dev/null || true; }
trap cleanup EXIT
cleanup
ip netns add convae-a; ip netns add convae-b
ip link add veth-a netns convae-a type veth peer name veth-b netns convae-b
for host in a b; do
    [ $host = a ] && address=10.123.0.1 || address=10.123.0.2
    ip -n convae-$host address add $address/24 dev veth-$host
    ip -n convae-$host link set veth-$host up
    ip -n convae-$host link set lo up
done

# Each host has a cache of its own, so that each decodes its images; the second has no run folder.
on() { # HOST RECIPE-OPTIONS...
    local host=$1 address=10.123.0.2 leads=false; shift
    if [ "$host" = a ]; then address=10.123.0.1; leads=true; fi
    mkdir -p "$folder/host-$host"
    cd "$folder/host-$host"
    exec env CONVAE_CACHE="$folder/cache-$host" GLOO_SOCKET_IFNAME=veth-$host OMP_NUM_THREADS=1 \
        ip netns exec convae-$host "$python" -m torch.distributed.run --nnodes 2 --nproc-per-node 1 --max-restarts 3 \
        --rdzv-backend c10d --rdzv-endpoint 10.123.0.1:29400 --rdzv-conf is_host=$leads --rdzv-id "$id" \
        --local-addr $address -m convae train "$@"
}
recipe="$here/two_hosts.yaml"

env OMP_NUM_THREADS=1 CONVAE_CACHE="$folder/cache-one" "$python" -m convae train "$recipe" --out "$folder/one"
id=plain-$$
(on a "$recipe" --out run) & a=$!
(on b "$recipe" --out run) & b=$!
wait $a; wait $b
"$python" "$here/two_hosts.py" "$folder/one" "$folder/host-a/run"
test ! -e "$folder/host-b/run" || { echo "the second host wrote a run folder"; exit 1; }
bytes=$(ip -s -n convae-a link show veth-a | awk '/TX:/ {getline; print $1}')
echo "host a sent $bytes bytes over the cable"

id=cut-$$
(on a "$recipe" training.epochs=40 training.checkpoint_every=2 --out cut) & a=$!
(on b "$recipe" training.epochs=40 training.checkpoint_every=2 --out cut) & b=$!
until ls "$folder"/host-a/cut/checkpoints/step-* > /dev/null 2>&1; do sleep 0.2; done
for process in $(ip netns pids convae-b); do
    tr '\0' '\n' < /proc/"$process"/environ | grep -q ^LOCAL_RANK= && victim=$process
done
kill -9 "$victim"; echo "killed process $victim of host b after $(ls "$folder/host-a/cut/checkpoints" | tail -1)"
wait $a; wait $b
grep -q "Training is done" "$folder/host-a/cut/README.md" && echo "the run went on to its end"
