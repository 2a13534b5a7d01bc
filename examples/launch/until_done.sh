#!/bin/bash
# Trains on this host until the run is done, from its newest checkpoint each
# time: `until_done.sh --workdir=W --coordinator=auto ...` on every host.
#
# Starts again where another start helps: 75, another process died or hangs;
# 128 and more, this one was killed. Ends with 0, done or asked to stop; 1, a
# mistake that every start would meet; 130, Ctrl-C. SIGTERM saves and ends.
set -u

child=0
stopping=0
trap 'stopping=1; kill -TERM "$child"' TERM

for start in {1..100}; do
  "${PYTHON:-python}" -m train "$@" &
  child=$!
  wait "$child"
  status=$?
  if ((stopping)); then # the trap ended the first wait
    wait "$child"
    exit $?
  fi
  case $status in
    0 | 1 | 130) exit "$status" ;;
  esac
  echo "Start $start ended with status $status: again in ${PAUSE:=10} s." >&2
  sleep "$PAUSE" &
  child=$!
  wait "$child"
  if ((stopping)); then
    exit "$status"
  fi
done
exit "$status"
