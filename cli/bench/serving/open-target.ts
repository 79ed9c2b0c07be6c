import { firstModel } from '../../chat/models.ts'
import { UserError } from '../../explain.ts'
import type { MetricsSource } from './load/node-metrics.ts'
import { startLocalServer } from './local-server.ts'
import { type ServingFlags, SOCKET } from './options.ts'
import { argumentsOf, type NodeLimits } from './sweep.ts'
import { httpTarget } from './target/http-target.ts'
import { nodeTarget } from './target/node-target.ts'
import { ROUTES } from './target/routes.ts'
import { socketTarget } from './target/socket-target.ts'
import type { Target } from './target/target.ts'

/** What is measured, and where its metrics are. */
export interface Opened {
  readonly target: Target
  readonly model: string
  readonly where: string
  readonly metrics: MetricsSource | undefined
  close(): Promise<void>
}

export interface OpenOptions {
  /** Requests that the server must be able to hold. */
  readonly requests: number
  /** Of a gpu node that is started here. */
  readonly nodeArguments: readonly string[]
  readonly limits: NodeLimits
}

/** The server of `--url`, or one that is started for this run. @throws UserError */
export async function openTarget(
  flags: ServingFlags,
  { requests, nodeArguments, limits }: OpenOptions,
): Promise<Opened> {
  if (flags.api === SOCKET && flags.body !== undefined)
    throw new UserError('invalid_option', `--body: not with --api ${SOCKET}`)
  if (flags.url !== undefined) return await openUrl(flags, flags.url, nodeArguments)
  const { model = missing('--model, or --url'), adapter, medusa, replay } = flags
  const args = [...(replay === undefined ? [] : ['--allow-replay']), ...nodeArguments, ...argumentsOf(limits)]
  const server = await startLocalServer({ model, adapter, medusa, requests, nodeArguments: args })
  const target = replay === undefined ? targetAt(server.url, server.key, flags) : nodeTarget(server.node)
  const where = ['local', ...nodeArguments].join(' ')
  const close = async () => {
    target.close()
    await server.close()
  }
  return { target, model: server.model, where, metrics: server.metrics, close }
}

async function openUrl(flags: ServingFlags, url: string, nodeArguments: readonly string[]): Promise<Opened> {
  const own = (['adapter', 'medusa', 'sweep'] as const).find((name) => flags[name] !== undefined)
  if (own !== undefined || nodeArguments.length > 0)
    throw new UserError(
      'invalid_option',
      `${own ? `--${own}` : nodeArguments[0]}: with --url, the server decides that`,
    )
  const address = url.replace(/\/+$/, '').replace(/\/v1$/, '')
  const key = flags.key ?? process.env.APAR_API_KEY
  const model = flags.model ?? (await firstModel(address, key ?? ''))
  const secret = process.env.METRICS_SECRET || process.env.NODE_SECRET || undefined
  const metrics = flags.nodeMetrics === undefined ? undefined : { url: flags.nodeMetrics, secret }
  const target = targetAt(address, key, flags)
  return { target, model, where: address, metrics, close: async () => target.close() }
}

function targetAt(baseUrl: string, key: string | undefined, { api, body, timeout }: ServingFlags): Target {
  if (api !== SOCKET) return httpTarget(ROUTES[api], { baseUrl, key, silenceMs: 1000 * timeout }, body)
  return socketTarget({ baseUrl, key: key ?? missing('an API key: --key, or APAR_API_KEY') })
}

export function missing(what: string): never {
  throw new UserError('missing_option', `${what} is needed`)
}
