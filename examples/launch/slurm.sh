#!/bin/bash
# Trains on several nodes of a SLURM cluster, one process on each, which uses
# all GPUs of its node. In Treeline's folder, with its environment active:
#
#   sbatch --nodes=8 examples/launch/slurm.sh --workdir=/shared/run \
#     --config=configs/llama.py:7b --config.sharding.rules=fsdp \
#     --config.sharding.mesh.data=1 --config.sharding.mesh.fsdp=-1
#
# The workdir must be on a disk that all nodes see. Before the time limit all
# processes save, and the job is queued again; it goes on from there.
#SBATCH --job-name=treeline
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --exclusive
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@600
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -u

again=0
# SIGTERM goes to the processes that srun started, not to this script.
trap 'again=1; scancel --signal=TERM "$SLURM_JOB_ID"' USR1

for start in {1..20}; do
  # When a process dies, the others name it and end by themselves.
  srun --kill-on-bad-exit=0 --label python -m train --coordinator=auto "$@" &
  wait $!
  status=$?
  if ((again)); then # the trap ended the first wait
    wait $!
    exec scontrol requeue "$SLURM_JOB_ID"
  fi
  case $status in
    0 | 1 | 130) exit "$status" ;;
  esac
  echo "Start $start ended with status $status: again in ${PAUSE:=10} s." >&2
  sleep "$PAUSE"
  if ((again)); then
    exec scontrol requeue "$SLURM_JOB_ID"
  fi
done
exit "$status"
