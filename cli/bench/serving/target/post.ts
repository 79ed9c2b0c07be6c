import { type IncomingMessage, Agent as PlainAgent, request as plainRequest } from 'node:http'
import { Agent as SecureAgent, request as secureRequest } from 'node:https'
import { RequestFailed } from './answer.ts'

/** Posts JSON and hands out the answer as it comes. */
export interface Poster {
  /** `onBytes` gets the body of an answer with status 200. @throws RequestFailed */
  post(path: string, body: object, onBytes: (bytes: Buffer) => void): Promise<void>
  close(): void
}

export interface PosterOptions {
  /** Without the path. */
  readonly baseUrl: string
  readonly key: string | undefined
  /** Longest time without any byte, in ms. */
  readonly silenceMs: number
}

/**
 * By node:http: fetch() has limits of its own for how long a server may be silent, which an overloaded one exceeds.
 */
export function createPoster({ baseUrl, key, silenceMs }: PosterOptions): Poster {
  const secure = new URL(baseUrl).protocol === 'https:'
  const options = { keepAlive: true, maxSockets: Number.POSITIVE_INFINITY }
  const agent = secure ? new SecureAgent(options) : new PlainAgent(options)
  const send = secure ? secureRequest : plainRequest
  const credentials = key === undefined ? {} : { authorization: `Bearer ${key}`, 'x-api-key': key }
  return {
    post: (path, body, onBytes) =>
      new Promise((resolve, reject) => {
        const bytes = Buffer.from(JSON.stringify(body))
        const headers = {
          ...{ 'content-type': 'application/json', 'content-length': bytes.length },
          ...{ accept: 'text/event-stream', 'anthropic-version': '2023-06-01', ...credentials },
        }
        const failed = (error: NodeJS.ErrnoException) => reject(lost(error))
        const request = send(`${baseUrl}${path}`, { method: 'POST', agent, headers }, (response) => {
          response.on('error', failed)
          if (response.statusCode !== 200) void refusalOf(response).then(reject, failed)
          else response.on('data', onBytes).on('end', resolve)
        })
        request.setTimeout(silenceMs, () =>
          request.destroy(new RequestFailed('timeout', `no byte for ${silenceMs / 1000} s`)),
        )
        request.on('error', failed)
        request.end(bytes)
      }),
    close: () => agent.destroy(),
  }
}

function lost(error: NodeJS.ErrnoException): RequestFailed {
  return error instanceof RequestFailed
    ? error
    : new RequestFailed(error.code ?? 'connection_lost', error.message)
}

const MAX_MESSAGE = 300

async function refusalOf(response: IncomingMessage): Promise<RequestFailed> {
  const chunks: Buffer[] = []
  for await (const chunk of response) chunks.push(chunk)
  const text = Buffer.concat(chunks).toString()
  const status = `http_${response.statusCode}`
  try {
    return failureIn(JSON.parse(text)) ?? new RequestFailed(status, text.slice(0, MAX_MESSAGE))
  } catch {
    return new RequestFailed(status, text.slice(0, MAX_MESSAGE))
  }
}

/** The error in a body or an event as OpenAI's, Anthropic's and vLLM's servers have it; undefined if there is none. */
export function failureIn(value: unknown): RequestFailed | undefined {
  if (typeof value !== 'object' || value === null || !('error' in value) || !value.error) return undefined
  const { error } = value
  if (typeof error === 'string') return new RequestFailed('error', error.slice(0, MAX_MESSAGE))
  const text = (name: string): string | undefined => {
    const field = (error as Record<string, unknown>)[name]
    if (typeof field === 'number') return `http_${field}`
    return typeof field === 'string' && field !== '' ? field.slice(0, MAX_MESSAGE) : undefined
  }
  return new RequestFailed(text('code') ?? text('type') ?? 'error', text('message') ?? '')
}
