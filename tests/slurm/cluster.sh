#!/usr/bin/env bash
# A Slurm cluster of one node, this machine, in a folder of its own: `cluster.sh start DIR`, `cluster.sh stop DIR`.
# Real munged, slurmctld and slurmd on free ports, as the user who calls; no accounting, no cgroups, nothing outside DIR.
# Afterwards SLURM_CONF=DIR/slurm.conf reaches it. CPUS in the environment is the number of processors it has (2).
set -euo pipefail
act=$1 dir=$2
export PATH="$PATH:/usr/sbin:/sbin"
export SLURM_CONF="$dir/slurm.conf"

stop() {
  for name in slurmd slurmctld munge/munged; do
    [ -s "$dir/$name.pid" ] && kill "$(cat "$dir/$name.pid")" 2>/dev/null || true
  done
}

start() {
  for program in munged slurmctld slurmd sbatch squeue scancel; do
    command -v "$program" >/dev/null || { echo "$program is missing: run .ci/slurm.sh (make test does)" >&2; exit 1; }
  done
  mkdir -p "$dir/state" "$dir/spool" "$dir/munge"
  chmod 700 "$dir" "$dir/munge"
  read -r ctld_port slurmd_port < <(python3 -c '
import socket
pair = [socket.socket(), socket.socket()]
for one in pair: one.bind(("127.0.0.1", 0))
print(*[one.getsockname()[1] for one in pair])')
  user=$(id -un) host=$(hostname -s)
  head -c 1024 /dev/urandom >"$dir/munge/key"
  chmod 400 "$dir/munge/key"
  cat >"$SLURM_CONF" <<CONF
ClusterName=hone
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$ctld_port
SlurmdPort=$slurmd_port
SlurmUser=$user
SlurmdUser=$user
AuthType=auth/munge
AuthInfo=socket=$dir/munge/socket
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.pid
SlurmdSpoolDir=$dir/spool
StateSaveLocation=$dir/state
SlurmctldLogFile=$dir/slurmctld.log
SlurmdLogFile=$dir/slurmd.log
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/none
KillWait=5
SchedulerParameters=batch_sched_delay=0,sched_interval=2
NodeName=$host NodeAddr=127.0.0.1 CPUs=${CPUS:-2} RealMemory=1000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
  munged --force --key-file="$dir/munge/key" --socket="$dir/munge/socket" --pid-file="$dir/munge/munged.pid" \
    --log-file="$dir/munge/log" --seed-file="$dir/munge/seed"
  # Their words go to logs of their own; fd 1 and 2 would keep whoever reads ours waiting.
  slurmctld -f "$SLURM_CONF" -c >/dev/null 2>&1
  slurmd -f "$SLURM_CONF" -c >/dev/null 2>&1
  for _ in $(seq 150); do
    [ "$(sinfo --noheader --format %T 2>/dev/null)" = idle ] && return
    sleep 0.2
  done
  tail -n 20 "$dir"/slurmctld.log "$dir"/slurmd.log >&2
  echo "the node did not come up" >&2
  exit 1
}

"$act"
