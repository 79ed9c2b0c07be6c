/** Valid inputs of every boundary; the fuzzer mutates them. All requests ask for very short answers. */

const messages = [{ role: 'user', content: 'How do I use tar?' }]

const request = { model: 'demo', messages, max_tokens: 4 }

const fullRequest = {
  ...request,
  messages: [
    { role: 'system', content: 'Be brief.' },
    { role: 'user', content: 'Grüße, 世界 👋' },
    { role: 'assistant', content: '' },
    ...messages,
  ],
  temperature: 0.5,
  top_p: 0.9,
  top_k: 40,
  min_p: 0.05,
  repetition_penalty: 1.1,
  frequency_penalty: 0.5,
  presence_penalty: -0.5,
  logit_bias: { 5: 1.5, 70: -100 },
  logprobs: 2,
  seed: 7,
  stop: ['\n\n', 'END'],
  branching: { enabled: true, max_branches: 3, max_depth: 2, max_branch_tokens: 3 },
  speculation: 'ngram',
}

const controlFrames = [
  { type: 'cancel' },
  { type: 'cancel_branch', branch: 1 },
  { type: 'ack', seq: 0 },
  { type: 'ack', seq: Number.MAX_SAFE_INTEGER },
]

export const CLIENT_FRAMES = [
  { type: 'generate', ...request },
  { type: 'generate', ...fullRequest },
  ...controlFrames,
]

/** A stream whose root forks: engine rows [kind, branch, a, b], and the events that clients receive. */
export const NODE_BATCHES = [
  {
    rows: [],
    events: [
      {
        type: 'accepted',
        seq: 0,
        version: 1,
        stream: 'fuzzed',
        model: 'demo',
        joints: 'kept',
        created: 1_700_000_000,
      },
    ],
  },
  {
    rows: [1, 0, 300, 0, 1, 0, 4, 0, 2, 0, 1, 12, 1, 1, 5, 0, 1, 1, 301, 0],
    events: [
      { type: 'delta', seq: 1, branch: 0, text: 'Here' },
      { type: 'fork', seq: 2, branch: 1, parent: 0, at: 4 },
      { type: 'delta', seq: 3, branch: 1, text: ' is' },
    ],
  },
  { rows: [3, 1, 1, 0], events: [{ type: 'branch_end', seq: 4, branch: 1, reason: 'stop' }] },
]

export const NODE_FRAMES = [
  { type: 'start', stream: 'fuzzed', request },
  { type: 'start', stream: 'fuzzed', request: fullRequest },
  { type: 'start', stream: 'moved', request: { ...request, seed: 1 }, log: NODE_BATCHES },
  { type: 'attach', stream: 'fuzzed', after: -1 },
  ...controlFrames,
]

export const CHAT_BODIES = [
  { ...request, stream: false },
  {
    ...request,
    messages: [{ role: 'user', content: [{ type: 'text', text: 'What is a shell?' }] }],
    stream: true,
    stream_options: { include_usage: true },
    n: 2,
    stop: 'END',
    seed: 3,
    temperature: 0,
    logprobs: true,
    top_logprobs: 2,
    max_completion_tokens: 3,
    user: 'somebody',
    response_format: { type: 'text' },
    apar: { enabled: true, max_branches: 2, top_k: 5, branch_deltas: true, speculation: 'off' },
  },
]

export const COMPLETION_BODIES = [
  { model: 'demo', prompt: 'A shell is', max_tokens: 3 },
  { model: 'demo', prompt: ['One', 'Two'], max_tokens: 2, n: 2, logprobs: 1, stream: true, echo: false },
]

export const RESPONSES_BODIES = [
  { model: 'demo', input: 'What is a shell?', max_output_tokens: 3 },
  {
    model: 'demo',
    input: [
      { type: 'message', role: 'developer', content: 'Be brief.' },
      { role: 'user', content: [{ type: 'input_text', text: 'What is a shell?' }] },
    ],
    instructions: 'Answer in one line.',
    max_output_tokens: 3,
    temperature: 0,
    stream: true,
    store: false,
    text: { format: { type: 'text' } },
    metadata: { ticket: '7' },
    apar: { max_branches: 2 },
  },
]

export const MESSAGES_BODIES = [
  { model: 'demo', messages, max_tokens: 3 },
  {
    model: 'demo',
    system: [{ type: 'text', text: 'Be brief.', cache_control: { type: 'ephemeral' } }],
    messages: [{ role: 'user', content: [{ type: 'text', text: 'What is a shell?' }] }],
    max_tokens: 3,
    temperature: 0.5,
    top_p: 0.9,
    top_k: 5,
    stop_sequences: ['END'],
    stream: true,
    thinking: { type: 'disabled' },
    apar: { enabled: false },
  },
]

export const MULTIPLEXED_FRAMES = [
  ...CLIENT_FRAMES.map((frame) => ({ ...frame, id: 'a' })),
  { type: 'generate', ...request, id: 'b' },
  { type: 'resume', id: 'c', stream: '0'.repeat(64), after: 3 },
]

/** Heartbeats for a model that no test requests: an accepted one must not attract requests. */
export const HEARTBEATS = [
  {
    url: 'ws://127.0.0.1:9',
    models: [{ id: 'fuzzed', created: 1_700_000_000, context_tokens: 512 }],
    draining: false,
    capacity: { branches: 8, blocks: 100 },
    load: { running: 1, waiting: 0, free_blocks: 50 },
  },
]

export const KEY_BODIES = [
  {
    id: 'fuzzed',
    scopes: ['generate', 'models'],
    models: ['demo'],
    limits: { requests_per_minute: 10, concurrent_streams: 1, tokens_per_day: 100 },
    expires_at: 2_000_000_000,
  },
  { limits: {} },
  { grace_seconds: 10 },
]

const [{ url: _, ...dialInHeartbeat } = {}] = HEARTBEATS

export const FROM_DIALLED_IN = [
  { type: 'heartbeat', heartbeat: dialInHeartbeat },
  { type: 'step', frames: [[0, JSON.stringify(NODE_BATCHES[0])]] },
  {
    type: 'step',
    frames: [
      [0, '{}'],
      [1, 'text'],
      [Number.MAX_SAFE_INTEGER, 1012],
      [1, 1000],
    ],
  },
]

export const TO_DIALLED_IN = [
  { type: 'open', channel: 0 },
  { type: 'open', channel: Number.MAX_SAFE_INTEGER },
  ...NODE_FRAMES.map((frame) => ({ type: 'frame', channel: 0, text: JSON.stringify(frame) })),
  { type: 'close', channel: 0 },
  { type: 'lease', heartbeat_ms: 5_000, lease_ms: 15_000 },
]
