import { newApiKey, newNodeSecret } from '../../cli/keys.ts'
import { startLocalEdge } from '../../cli/local/edge.ts'
import type { ApiKeyRecord } from '../../shared/api-keys.ts'
import { startFakeNode } from '../edge-node/fake-node.ts'

const HEARTBEAT_MS = 1_000

/** The script of a short answer, for the fake node. */
const ANSWER = [
  { type: 'accepted', version: 1, model: 'demo', joints: 'kept', created: 1_700_000_000 },
  { type: 'delta', branch: 0, text: 'Hello' },
  { type: 'branch_end', branch: 0, reason: 'stop' },
  {
    type: 'done',
    reason: 'stop',
    usage: {
      prompt_tokens: 5,
      cached_prompt_tokens: 0,
      completion_tokens: 7,
      total_tokens: 12,
      branches: [],
    },
  },
]

export interface ScriptedEdge {
  readonly url: string
  /** Returns the status, and the code of an error: `503 overloaded`. */
  ask(method: string, path: string, key: string, json?: unknown): Promise<string>
  /** A chat completion of the fake node. */
  chat(key: string, more?: object): Promise<string>
  close(): Promise<void>
}

export const ADMIN_KEY = 'admin-key-of-the-tests'

/** The edge as people run it, with a fake gpu node that heartbeats with a changing load. */
export async function startScriptedEdge(stateDir: string, apiKeys: ApiKeyRecord[]): Promise<ScriptedEdge> {
  const nodeSecret = newNodeSecret()
  const settings = { ADMIN_KEY, LOG_LEVEL: 'silent' }
  const edge = await startLocalEdge({ host: '127.0.0.1', port: 0, apiKeys, nodeSecret, settings, stateDir })
  const node = await startFakeNode(nodeSecret)
  const ask = async (method: string, path: string, key: string, json?: unknown) => {
    const body = json === undefined ? null : JSON.stringify(json)
    const headers = { authorization: `Bearer ${key}`, 'content-type': 'application/json' }
    const response = await fetch(edge.url + path, { method, headers, body })
    const text = await response.text()
    const code = response.ok ? '' : ` ${(JSON.parse(text) as { error?: { code: string } }).error?.code}`
    return `${response.status}${code}`
  }
  const heartbeat = () =>
    ask('PUT', '/internal/v1/nodes/a', nodeSecret, {
      url: node.url,
      models: [{ id: 'demo', created: 1_700_000_000, context_tokens: 512 }],
      capacity: { branches: 8, blocks: 100 },
      load: { running: 0, waiting: 0, free_blocks: Math.floor(Math.random() * 100) },
    })
  await heartbeat()
  const heartbeats = setInterval(() => void heartbeat().catch(() => {}), HEARTBEAT_MS)
  return {
    url: edge.url,
    ask,
    chat: (key, more = {}) => {
      const messages = [{ role: 'user', content: JSON.stringify(ANSWER) }]
      return ask('POST', '/v1/chat/completions', key, { model: 'demo', messages, ...more })
    },
    close: async () => {
      clearInterval(heartbeats)
      await edge.close()
      node.close()
    },
  }
}

/** A key without limits. */
export function freeKey(): ReturnType<typeof newApiKey> {
  const { key, record } = newApiKey('free', 1)
  return { key, record: { ...record, limits: {} } }
}
