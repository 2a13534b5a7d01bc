#!/bin/bash
# Trains on all hosts of a Cloud TPU, driven from your own machine. In
# Treeline's folder:
#
#   export TPU=my-tpu ZONE=us-west4-a TYPE=v5litepod-256 \
#     VERSION=v2-alpha-tpuv5-lite
#   examples/launch/tpu_vm.sh create --spot  # more flags of gcloud may follow
#   examples/launch/tpu_vm.sh state          # until it is ACTIVE
#   examples/launch/tpu_vm.sh install
#   examples/launch/tpu_vm.sh start --workdir=gs://BUCKET/run \
#     --config=configs/llama.py:7b ...
#   examples/launch/tpu_vm.sh watch
#   examples/launch/tpu_vm.sh stop           # saves on all hosts
#   examples/launch/tpu_vm.sh delete
#
# `prepare` makes a token cache: each host a shard of the files.
# The last commit is installed: commit your changes first.
set -euo pipefail

: "${TPU:?the name of the TPU}" "${ZONE:?its zone}"
here=(--zone="$ZONE")
python=.venv/bin/python

on() { # WORKER COMMAND
  gcloud compute tpus tpu-vm ssh "$TPU" "${here[@]}" --worker="$1" --command="$2"
}

task=${1:?create, state, install, start, prepare, watch, stop or delete}
shift
flags=''
if (($#)); then
  printf -v flags ' %q' "$@"
fi

case $task in
  create)
    gcloud compute tpus queued-resources create "$TPU" "${here[@]}" \
      --node-id="$TPU" --accelerator-type="${TYPE:?such as v5litepod-256}" \
      --runtime-version="${VERSION:?such as v2-alpha-tpuv5-lite}" "$@"
    ;;
  state)
    gcloud compute tpus queued-resources describe "$TPU" "${here[@]}" \
      --format='value(state.state)'
    ;;
  install)
    code=$(mktemp -d)
    git archive --format=tar.gz --output="$code/treeline.tar.gz" HEAD
    gcloud compute tpus tpu-vm scp "$code/treeline.tar.gz" "$TPU": \
      "${here[@]}" --worker=all
    rm -r "$code"
    # uv brings a newer Python than the image has.
    on all "mkdir -p treeline && tar -xzf treeline.tar.gz -C treeline \
      && cd treeline && python3 -m pip install --user --quiet uv \
      && python3 -m uv venv --clear --quiet --python=3.12 .venv \
      && python3 -m uv pip install --quiet --python=.venv \
        -c constraints.txt -e '.[tpu,gcs]'"
    ;;
  start)
    on all "cd treeline && PYTHON=$python nohup examples/launch/until_done.sh \
      --coordinator=auto$flags > train.log 2>&1 < /dev/null &"
    ;;
  prepare)
    on all "cd treeline && export TPU_WORKER_ID=\$(curl -sSf \
      -H 'Metadata-Flavor: Google' http://metadata.google.internal/\
computeMetadata/v1/instance/attributes/agent-worker-number) \
      && $python -m input_pipeline.prepare \
        --shard=\$TPU_WORKER_ID/${HOSTS:?how many hosts the TPU has}$flags"
    ;;
  watch)
    on 0 'tail -n 20 -F treeline/train.log'
    ;;
  stop)
    on all "pkill -TERM -f '[u]ntil_done.sh' || true"
    ;;
  delete)
    gcloud compute tpus queued-resources delete "$TPU" "${here[@]}" --force --quiet
    ;;
  *)
    echo "No task $task: see the head of $0." >&2
    exit 1
    ;;
esac
