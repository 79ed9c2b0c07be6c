import type { Context } from 'hono'

/** The worker runs; says nothing about gpu nodes, so that a probe costs no Durable Object. */
export function health(c: Context): Response {
  return c.json({ status: 'ok' })
}
