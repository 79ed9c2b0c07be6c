import { once } from 'node:events'
import { request as overHttp } from 'node:http'
import { request as overHttps } from 'node:https'
import { text } from 'node:stream/consumers'

export interface HttpAnswer {
  readonly status: number
  readonly body: string
}

export interface HttpRequestOptions {
  method: 'PUT' | 'DELETE'
  headers: Readonly<Record<string, string>>
  body?: string | undefined
  signal: AbortSignal
}

/**
 * Sends a request and reads the answer. Not `fetch`: the WebAssembly of its parser takes 150 ms of a core at the first
 * call (Node 20), just when a starting node has its first request to serve.
 */
export async function httpRequest(url: URL, { body, ...options }: HttpRequestOptions): Promise<HttpAnswer> {
  const sent = (url.protocol === 'https:' ? overHttps : overHttp)(url, options)
  sent.end(body)
  const [response] = await once(sent, 'response', { signal: options.signal })
  return { status: response.statusCode, body: await text(response) }
}
