import { z } from 'zod'
import { readErrorBody } from '../client/explain.ts'
import { type ChangeKeyRequest, KeyPolicy } from '../shared/api-keys.ts'
import { UserError } from './explain.ts'

/** A key in the edge's answers; `key`, with the secret, is present only after create and rotate. */
const KeyAnswer = KeyPolicy.extend({
  id: z.string(),
  created_at: z.number(),
  expires_at: z.number().nullable(),
  revoked_at: z.number().nullable(),
  key: z.string().optional(),
})
export type KeyAnswer = z.infer<typeof KeyAnswer>

const KeyPage = z.object({ data: z.array(KeyAnswer), has_more: z.boolean() })

export type NewKeySettings = Omit<ChangeKeyRequest, 'expires_at'> & { id?: string; expires_at?: number }

/** Client of the edge's `/admin/v1/keys`. Its methods throw the edge's AparError, or a UserError. */
export class KeyAdmin {
  readonly #base: URL
  readonly #adminKey: string

  constructor(baseUrl: string, adminKey: string) {
    this.#base = new URL('/admin/v1/keys', baseUrl)
    this.#adminKey = adminKey
  }

  create(settings: NewKeySettings): Promise<KeyAnswer> {
    return this.#call('POST', '', KeyAnswer, settings)
  }

  async list(): Promise<KeyAnswer[]> {
    const keys: KeyAnswer[] = []
    for (let more = true; more; ) {
      const after = encodeURIComponent(keys.at(-1)?.id ?? '')
      const page = await this.#call('GET', `?after=${after}&limit=1000`, KeyPage)
      keys.push(...page.data)
      more = page.has_more
    }
    return keys
  }

  rotate(id: string, graceSeconds: number): Promise<KeyAnswer> {
    return this.#call('POST', `/${id}/rotate`, KeyAnswer, { grace_seconds: graceSeconds })
  }

  revoke(id: string): Promise<KeyAnswer> {
    return this.#call('DELETE', `/${id}`, KeyAnswer)
  }

  async #call<T>(method: string, path: string, schema: z.ZodType<T>, body?: object): Promise<T> {
    const response = await fetch(`${this.#base}${path}`, {
      method,
      headers: { authorization: `Bearer ${this.#adminKey}`, 'content-type': 'application/json' },
      body: body ? JSON.stringify(body) : null,
    }).catch(() => {
      throw new UserError('edge_unreachable', `nothing answers at ${this.#base.origin}`)
    })
    const answer: unknown = await response.json().catch(() => undefined)
    const parsed = schema.safeParse(answer)
    if (response.ok && parsed.success) return parsed.data
    const other = new UserError(
      'edge_unreachable',
      `the answer of ${this.#base.origin} is not in apar's format`,
    )
    throw readErrorBody(answer) ?? other
  }
}
