import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { Agent, request as httpRequest, type IncomingMessage } from 'node:http'
import { newApiKey, newNodeSecret } from '../../cli/keys.ts'
import { startLocalEdge } from '../../cli/local/edge.ts'
import { packageRoot } from '../../gpu-node/package-root.ts'

/** An edge in workerd and a gpu node with a model, each in its own process. */
export interface Service {
  readonly url: string
  /** As many as were asked for, without limits that could refuse a request. */
  readonly keys: readonly string[]
  /** Tokens of all answers since the start, by the node's own count. */
  generatedTokens(): Promise<number>
  close(): Promise<void>
}

const LIMITS = { requests_per_minute: 1_000_000, concurrent_streams: 10_000 }

/** `nodeArgs`: of `apar gpu-node`. */
export async function startService(
  keys: number,
  modelDir: string,
  nodeArgs: string[] = [],
): Promise<Service> {
  const nodeSecret = newNodeSecret()
  const made = Array.from({ length: keys }, (_, index) => newApiKey(`bench-${index}`, 1))
  const apiKeys = made.map(({ record }) => ({ ...record, limits: LIMITS }))
  const edge = await startLocalEdge({ host: '127.0.0.1', port: 0, apiKeys, nodeSecret })
  const args = ['gpu-node', '--edge', edge.url, '--model', modelDir, '--name', 'bench', ...nodeArgs]
  const child = spawn(process.execPath, [`${packageRoot}/dist/apar.js`, ...args], {
    env: { ...process.env, NODE_SECRET: nodeSecret },
    // Output is ignored: the node logs every request.
    stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
  })
  const exited = once(child, 'exit')
  const close = async () => {
    child.kill('SIGKILL')
    await exited
    await edge.close()
  }
  const ended = exited.then(() => {
    throw new Error('the gpu node ended')
  })
  ended.catch(() => {})
  const [{ url }] = await Promise.race([once(child, 'message'), ended])
  const metricsUrl = `${String(url).replace('ws', 'http')}/metrics`
  return {
    url: edge.url,
    keys: made.map(({ key }) => key),
    generatedTokens: async () => {
      const response = await fetch(metricsUrl, { headers: { authorization: `Bearer ${nodeSecret}` } })
      const value = /^apar_generation_tokens_total\S* (\S+)$/m.exec(await response.text())?.[1]
      if (value === undefined) throw new Error('the node reports no apar_generation_tokens_total')
      return Number(value)
    },
    close,
  }
}

const agent = new Agent({ keepAlive: true, maxSockets: Number.POSITIVE_INFINITY })

/** When the texts of a streamed answer came, in ms of `performance.now()`. */
export interface Answer {
  readonly begunAt: number
  readonly firstAt: number
  readonly lastAt: number
  readonly promptTokens: number
  readonly tokens: number
}

/** A serial chat completion, streamed. `signal` cancels it. @throws Error when it is refused or cut. */
export async function ask(
  { url }: Service,
  key: string,
  content: string,
  maxTokens: number,
  signal?: AbortSignal,
): Promise<Answer> {
  const body = JSON.stringify({
    model: 'bench',
    messages: [{ role: 'user', content }],
    max_tokens: maxTokens,
    stream: true,
    stream_options: { include_usage: true },
    temperature: 0,
    apar: { enabled: false },
  })
  const begunAt = performance.now()
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    const headers = { authorization: `Bearer ${key}`, 'content-type': 'application/json' }
    const options = { agent, method: 'POST', headers, ...(signal && { signal }) }
    httpRequest(`${url}/v1/chat/completions`, options, resolve).on('error', reject).end(body)
  })
  let [firstAt, lastAt] = [Number.NaN, Number.NaN]
  let text = ''
  for await (const chunk of response.setEncoding('utf8')) {
    text += chunk
    if (!/"content":"[^"]/.test(chunk)) continue
    lastAt = performance.now()
    if (Number.isNaN(firstAt)) firstAt = lastAt
  }
  const tokens = Number(/"completion_tokens":(\d+)/.exec(text)?.[1])
  const promptTokens = Number(/"prompt_tokens":(\d+)/.exec(text)?.[1])
  if (response.statusCode !== 200 || Number.isNaN(tokens))
    throw new Error(`${url} answered ${response.statusCode}: ${text.slice(-300)}`)
  return { begunAt, firstAt, lastAt, promptTokens, tokens }
}
