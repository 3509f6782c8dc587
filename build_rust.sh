#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Rebuilds the frontend in place after an edit below rust/ (editable installs). Needs cargo and python3.
exec python3 "$(dirname "$0")/tools/build_rust.py" "$@"
