#!/usr/bin/env bash
# plan.sh KIND DIR ENDPOINT: writes DIR/plan.yaml for a row of the matrix.
set -euo pipefail
kind=$1 dir=$2 endpoint=$3
{
  printf 'version: 1\nname: matrix\n'
  case $kind in
    source) printf 'source:\n%s\ntargets:\n  out: { file: { path: out/ } }\n' "$endpoint" ;;
    redis) printf 'source: { url: "sqlite:rows.sqlite" }\ntargets:\n  out:\n    redis:\n%s\n' "$endpoint" ;;
    search) printf 'source: { url: "sqlite:rows.sqlite" }\nstores: [DE]\ntargets:\n  out:\n    elasticsearch:\n%s\n' "$endpoint" ;;
  esac
  printf 'resources:\n  - name: page\n    to: out\n'
  if [ "$kind" = search ]; then
    printf '    type: page\n    from: { table: page, cursor: [id], key: key, value: data, store: store }\n'
  else
    printf '    from: { table: page, cursor: [id], key: key, value: data }\n'
  fi
} >"$dir/plan.yaml"
