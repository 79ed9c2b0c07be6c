import type { Command } from 'commander'
import { UserError } from '../explain.ts'
import { type JsonFlag, print } from '../json.ts'
import { startLocalEdge } from '../local/edge.ts'
import { shutdownRequested } from '../shutdown.ts'
import { addEdgeOptions, addListenOptions, type EdgeFlags, edgeSettings } from './edge-options.ts'

/** Variables of the Worker that are taken as they are; docs/operations.md says what they mean. */
const PASSED_ON = [
  'NODE_HOSTS',
  'ROUTING_POLICY',
  'JWT_SECRET',
  'JWT_JWKS_URL',
  'JWT_ISSUER',
  'JWT_AUDIENCE',
  'JWT_LIMITS',
  'MAX_SOCKETS_PER_ADDRESS',
  'LOG_LEVEL',
]

export function registerEdge(program: Command): void {
  const command = program
    .command('edge')
    .description('runs an edge in workerd, without a gpu node: for a fleet without Cloudflare')
  addEdgeOptions(addListenOptions(command))
    .option('--json', 'prints the address as JSON, in one line')
    .addHelpText('after', HELP)
    .action(edge)
}

const HELP = `
Variables: NODE_SECRET, which the gpu nodes have, too; APAR_ADMIN_KEY for apar keys; METRICS_SECRET; and those of the
Worker (docs/operations.md): ${PASSED_ON.join(', ')}.`

async function edge(flags: EdgeFlags & JsonFlag): Promise<void> {
  const { NODE_SECRET: nodeSecret, APAR_ADMIN_KEY: adminKey } = process.env
  if (!nodeSecret)
    throw new UserError('missing_option', 'NODE_SECRET is not set: it must hold the secret of the gpu nodes')
  if (!adminKey)
    throw new UserError('missing_option', 'APAR_ADMIN_KEY is not set: without it nobody can make API keys')
  const shutdown = shutdownRequested()
  const passedOn = PASSED_ON.flatMap((name) => {
    const value = process.env[name]
    return value ? [[name, value] as const] : []
  })
  const running = await startLocalEdge({
    ...{ host: flags.host, port: flags.port, apiKeys: [], nodeSecret },
    settings: { ...Object.fromEntries(passedOn), ...edgeSettings(flags) },
    ...{ addressHeader: flags.addressHeader, stateDir: flags.state },
  })
  try {
    const { url } = running
    print(flags, { url }, () => `the edge listens at ${url}`)
    const died = running.failed.then(() => {
      throw new UserError('edge_failed', 'the edge ended: its workerd process has exited')
    })
    await Promise.race([shutdown, died])
  } finally {
    await running.close()
  }
}
