import { AparError } from '../shared/errors.ts'
import { endpoint } from './endpoint.ts'
import { readErrorBody } from './explain.ts'

/**
 * Names of the models that the edge at `baseUrl` serves now.
 * @throws AparError with the edge's error, or `gpu_node_lost` when the answer is not in apar's format; TypeError
 *   when the connection fails; a DOMException `TimeoutError` when there was no answer for 10 s.
 */
export async function listModels(baseUrl: string, apiKey: string): Promise<string[]> {
  const response = await fetch(endpoint(baseUrl, '/v1/models'), {
    headers: { authorization: `Bearer ${apiKey}` },
    signal: AbortSignal.timeout(10_000),
  })
  const body: unknown = await response.json().catch(() => undefined)
  const names = response.ok ? namesIn(body) : undefined
  if (names) return names
  throw (
    readErrorBody(body) ??
    new AparError('gpu_node_lost', `${baseUrl} answered ${response.status}, not in apar's format`)
  )
}

function namesIn(body: unknown): string[] | undefined {
  if (typeof body !== 'object' || body === null || !('data' in body)) return undefined
  const { data } = body
  return Array.isArray(data) && data.every(isModel) ? data.map(({ id }) => id) : undefined
}

function isModel(value: unknown): value is { id: string } {
  return typeof value === 'object' && value !== null && 'id' in value && typeof value.id === 'string'
}
