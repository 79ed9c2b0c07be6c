#!/bin/sh
# A streamed answer by curl alone: APAR_API_KEY=apar_… sh curl.sh "How do I use tar?"
# Each line is `data: ` and a chunk of OpenAI's API; "branch_deltas" adds the branch of each text: {"event": "delta", "branch": 2}.
url=${APAR_URL:-http://127.0.0.1:8787}
prompt=$(printf %s "${1:-How do I use tar?}" | sed 's/[\\"]/\\&/g')
exec curl -sS --fail-with-body -N "$url/v1/chat/completions" \
  -H "authorization: Bearer $APAR_API_KEY" -H 'content-type: application/json' --data-binary @- <<JSON
{
  "model": "${APAR_MODEL:-demo}",
  "messages": [{ "role": "user", "content": "$prompt" }],
  "max_tokens": 300,
  "stream": true,
  "apar": { "branch_deltas": true }
}
JSON
