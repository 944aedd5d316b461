#!/usr/bin/env bash
# `millrace topics setup` of this repository's cluster.
exec "$(dirname "$(readlink -f "$0")")/../demo" topics setup "$@"
