#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Every scenario with curl; see tests/clients/test_clients.py. An answer follows the line that names its scenario.
set -euo pipefail
url=$1 model=$2

ask() {
  curl --silent --show-error --no-buffer --max-time 300 --write-out '\n%{http_code}\n' \
    --header 'Content-Type: application/json' --data @- "$url/v1/chat/completions" <<JSON
{"model": "$model", "messages": [{"role": "user", "content": "What is the capital of France?"}],
 "temperature": ${2:-0}, "max_tokens": ${3:-16}$1}
JSON
}

echo "# chat" && ask ''
echo "# stream" && ask ', "stream": true, "stream_options": {"include_usage": true}'
echo "# logprobs" && ask ', "logprobs": true, "top_logprobs": 2'
echo "# n" && ask ', "n": 2'
echo "# error" && ask '' -1
# `head` leaves after the first line of the stream, and with it curl.
{ ask ', "stream": true, "ignore_eos": true' 0 4000 || true; } | head -n 1 >/dev/null
echo "# cancel"
cat >/dev/null
