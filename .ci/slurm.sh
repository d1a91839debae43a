#!/usr/bin/env bash
# The Slurm that the tests of the Slurm pool run against: present, else from Debian's or Ubuntu's packages with apt as root or with
# passwordless sudo, else one sentence names them. Nothing is started here, and no service of the machine is left running.
set -euo pipefail
export PATH="$PATH:/usr/sbin:/sbin"
have() { command -v "$1" >/dev/null 2>&1; }
as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; elif have sudo && sudo -n true 2>/dev/null; then sudo -n "$@"; else return 1; fi
}
all() { have munged && have slurmctld && have slurmd && have sbatch; }

all && exit 0
packages="slurmctld slurmd slurm-client munge"
echo "slurm: apt-get install $packages" >&2
if have apt-get && as_root true; then
  as_root apt-get update -qq >/dev/null
  # The tests start their own; services that packages would start are told not to.
  policy=/usr/sbin/policy-rc.d
  [ -e $policy ] || { printf '#!/bin/sh\nexit 101\n' | as_root tee $policy >/dev/null; as_root chmod 755 $policy; made=1; }
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages >/dev/null || true
  [ -n "${made:-}" ] && as_root rm -f $policy
fi
all || { echo "slurm: the tests of the Slurm pool need the packages $packages" >&2; exit 1; }
