#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs a test in Python: python_test.sh FILE.
exec python3 -B "$1"
