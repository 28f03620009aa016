#!/usr/bin/env bash
# flan: one workload on a v5p-128 slice of a GKE cluster.
# Needs git, docker and xpk (pip install xpk), signed in to the project.
set -euo pipefail

context="$(mktemp -d)"
trap 'rm -rf "$context"' EXIT
git archive COMMIT | tar -x -C "$context"
printf '%s\n' \
  'FROM python:3.12-slim' \
  'COPY . /flan' \
  'RUN ["pip", "install", "--no-cache-dir", "--constraint", "/flan/constraints.txt", "/flan[tpu]"]' > "$context/Dockerfile"
docker build --tag us-docker.pkg.dev/p/flan/flan:COMMIT "$context"
docker push us-docker.pkg.dev/p/flan/flan:COMMIT

xpk workload create \
  --cluster=pods \
  --workload=flan \
  --project=p \
  --zone=us-central1-a \
  --tpu-type=v5p-128 \
  --num-slices=1 \
  --docker-image=us-docker.pkg.dev/p/flan/flan:COMMIT \
  --max-restarts=20 \
  --restart-on-exit-codes=143 \
  --termination-grace-period-seconds=120 \
  --command='flan train --gin_file=gin/runs/flan_137b.gin $'"'"'--gin.MODEL_DIR=\'"'"'gs://bucket/flan\'"'"''"'"' --gin.INITIAL_CHECKPOINT_PATH=gs://bucket/lm --multihost'
