# SPDX-License-Identifier: Apache-2.0
#
# For tests/run and tests/lab/demo-shm: the Debian packages they need. Sourced; leaves nothing behind but the packages.
INSTALL_POLICY=()

# Installs what is missing of packages.txt beside this file, with root or sudo only then; the log goes to the file
# named. Says what it does; at an error also the log's end, and returns 1.
install_packages() {
  local log=$1 name list missing=() as_root=() apt code=0
  list=$(dirname "${BASH_SOURCE[0]}")/packages.txt
  while read -r name _; do
    [[ -z $name || $name == \#* ]] && continue
    [[ $(dpkg-query -W -f='${db:Status-Status}' "$name" 2>/dev/null) == installed ]] || missing+=("$name")
  done <"$list"
  ((${#missing[@]} == 0)) && return 0
  if (($(id -u) != 0)); then
    command -v sudo >/dev/null || { echo "missing packages, and neither root nor sudo: ${missing[*]}"; return 1; }
    as_root=(sudo -n)
  fi
  echo "installing: ${missing[*]}"
  # Packages that are only tools here (etcd) must not start as services of this machine.
  if [[ ! -e /usr/sbin/policy-rc.d ]]; then
    INSTALL_POLICY=("${as_root[@]}" rm -f /usr/sbin/policy-rc.d)
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee /usr/sbin/policy-rc.d >/dev/null
    "${as_root[@]}" chmod 755 /usr/sbin/policy-rc.d
  fi
  apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Dpkg::Use-Pty=0)
  { "${apt[@]}" update && "${apt[@]}" install --no-install-recommends "${missing[@]}"; } >"$log" 2>&1 || code=1
  remove_install_policy
  ((code == 0)) || tail -n 30 "$log"
  return "$code"
}

# Takes the policy file away again if it is ours: for whoever is interrupted meanwhile.
remove_install_policy() {
  ((${#INSTALL_POLICY[@]} == 0)) || "${INSTALL_POLICY[@]}"
  INSTALL_POLICY=()
}
