import type { Context } from 'hono'
import type { GenerateRequest } from '../../../shared/protocol/request.ts'
import type { AppEnv } from '../../app-env.ts'
import { sha256, toHex } from '../../keys/credentials.ts'

/**
 * For each request of an authorized call what keeps it at one gpu node with others whose prompts begin alike, so that
 * they share its KV: those with the same prompt cache key of the same caller, and the choices of one prompt.
 */
export async function affinitiesOf(
  c: Context<AppEnv>,
  requests: readonly GenerateRequest[],
): Promise<readonly (string | undefined)[]> {
  const key = c.get('promptCacheKey')
  if (key) {
    const text = JSON.stringify([c.get('principal').id, key])
    const affinity = toHex(new Uint8Array(await sha256(text)))
    return requests.map(() => affinity)
  }
  // Choices of one prompt have the same list.
  const names = new Map<unknown, string>()
  return requests.map(({ messages }) => {
    if (requests.filter((other) => other.messages === messages).length === 1) return undefined
    const name = names.get(messages) ?? crypto.randomUUID()
    names.set(messages, name)
    return name
  })
}
