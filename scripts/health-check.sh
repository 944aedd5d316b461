#!/usr/bin/env bash
# `millrace health` of this repository's cluster.
exec "$(dirname "$(readlink -f "$0")")/../demo" health "$@"
