#!/usr/bin/env bash
# Creates a TPU pod slice on Google Cloud, trains on all its hosts, deletes it.
#
#   launch/tpu_pod.sh create NAME --zone us-central2-b --type v4-32 [--spot] [--version VERSION]
#   launch/tpu_pod.sh run    NAME --zone us-central2-b -- --config configs/kdef.py \
#       --workdir gs://BUCKET/runs/kdef --config.data.dir=gs://BUCKET/data
#   launch/tpu_pod.sh delete NAME --zone us-central2-b
#
# A pod has no shared disk: the run directory and the prepared data are in a bucket, which the
# hosts' service account must read and write, or on a disk that is mounted on every host.
# `run` copies this checkout to every host, installs it with the extras [tpu,gcs] and starts one
# process per host; JAX connects them. The same `run` command continues a stopped run. --dry_run prints the
# commands without running them. gcloud must be installed and logged in.
set -euo pipefail

usage() {
  sed -n '2,13s/^# \{0,1\}//p' "$0" >&2
  exit 2
}

fail() {
  echo "tpu_pod.sh: $*" >&2
  exit 2
}

(($# >= 2)) || usage
action=$1 name=$2
shift 2
zone='' type='' version='' spot='' dry_run='' arguments=()
while (($#)); do
  case $1 in
    --zone) zone=${2-}; shift 2 ;;
    --type) type=${2-}; shift 2 ;;
    --version) version=${2-}; shift 2 ;;
    --spot) spot=--spot; shift ;;
    --dry_run) dry_run=1; shift ;;
    --) shift; arguments=("$@"); break ;;
    *) fail "unknown argument $1; expected --zone, --type, --version, --spot, --dry_run or --" ;;
  esac
done
[[ -n $zone ]] || fail "expected --zone, found none"

call() {
  if [[ -n $dry_run ]]; then
    printf '%q ' "$@"
    echo
  else
    "$@"
  fi
}

on_all_hosts() {
  call gcloud compute tpus tpu-vm ssh "$name" --zone "$zone" --worker=all --command "$1"
}

[[ -n $dry_run ]] || command -v gcloud >/dev/null || fail "expected gcloud, found none on the PATH"

case $action in
  create)
    [[ -n $type ]] || fail "expected --type, such as v4-32, found none"
    call gcloud compute tpus tpu-vm create "$name" --zone "$zone" --accelerator-type "$type" \
      --version "${version:-tpu-ubuntu2204-base}" ${spot:+"$spot"}
    ;;
  run)
    ((${#arguments[@]})) || fail "expected the arguments of fer-jax train after --, found none"
    for argument in "${arguments[@]}"; do
      [[ $argument != *://* || $argument =~ ^(.*=)?gs://.+ ]] || fail "expected buckets of Google \
Cloud (gs://), or paths on a disk that all hosts share, found the URL $argument"
    done
    root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
    archive=$(mktemp --suffix=.tar.gz)
    trap 'rm -f "$archive"' EXIT
    call git -C "$root" archive --format=tar.gz --output "$archive" HEAD
    call gcloud compute tpus tpu-vm scp "$archive" "$name:fer_jax.tar.gz" --zone "$zone" --worker=all
    on_all_hosts "mkdir -p fer_jax && tar -xzf fer_jax.tar.gz -C fer_jax && python3 -m venv .venv \
&& .venv/bin/pip install -q -e './fer_jax[tpu,gcs]'"
    on_all_hosts "cd fer_jax && ../.venv/bin/python -m fer_jax.main $(printf '%q ' "${arguments[@]}")"
    ;;
  delete)
    call gcloud compute tpus tpu-vm delete "$name" --zone "$zone" --quiet
    ;;
  *)
    fail "expected create, run or delete, found $action"
    ;;
esac
