#!/bin/bash
# Prepares a token cache or a dataset on several nodes of a SLURM cluster:
#
#   sbatch --array=0-15 examples/launch/prepare_array.sh --out=/shared/c4_t5 \
#     --config=configs/t5.py:base --config.data.tokenizer=t5.model \
#     --config.data.source='json:/shared/c4/en/c4-train.*.json.gz'
#
# Tasks may start in any order, and one after another. To run some of 16 again:
#
#   SHARDS=16 sbatch --array=3,7 examples/launch/prepare_array.sh ...
#SBATCH --job-name=prepare
#SBATCH --array=0-15
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=32
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%A_%a.log
set -eu

shards=${SHARDS:-$SLURM_ARRAY_TASK_COUNT}
exec python -m input_pipeline.prepare \
  --jobs="${SLURM_CPUS_PER_TASK:-0}" --shard="$SLURM_ARRAY_TASK_ID/$shards" "$@"
