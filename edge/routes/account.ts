import type { Context } from 'hono'
import { parse } from '../../shared/parse.ts'
import type { AppEnv } from '../app-env.ts'
import { macOf } from '../keys/key-check.ts'
import { limitsOf, TICKET_MS } from '../keys/key-limits.ts'
import { formatTicket } from '../keys/tickets.ts'
import { DayRange, usageBody } from '../keys/usage.ts'

/** `POST /v1/tickets`: a ticket with which a page can open one stream, without having the key. */
export async function createTicket(c: Context<AppEnv>): Promise<Response> {
  const principal = c.get('principal')
  const mac = await macOf(c.env)
  const random = await limitsOf(c.env, principal.id).createTicket(principal)
  const expires_at = Math.floor((Date.now() + TICKET_MS) / 1000)
  return c.json({ object: 'ticket', ticket: await formatTicket(mac, principal.id, random), expires_at }, 201)
}

/** `GET /v1/usage`: the usage of the caller's own key. */
export async function getUsage(c: Context<AppEnv>): Promise<Response> {
  const { first, last } = parse(DayRange, c.req.query())
  const { id, limits } = c.get('principal')
  return c.json(usageBody(limits, await limitsOf(c.env, id).usage(limits, first, last)))
}
