#!/usr/bin/env bash
# `millrace component start producers` of this repository's cluster.
exec "$(dirname "$(readlink -f "$0")")/../demo" component start producers "$@"
