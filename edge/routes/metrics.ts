import type { Context } from 'hono'
import type { AppEnv } from '../app-env.ts'
import { fleetOf, type NodeStatus } from '../nodes/fleet.ts'

/** Prometheus' text format, version 0.0.4. */
const TYPE = 'text/plain; version=0.0.4; charset=utf-8'

interface Gauge {
  readonly name: string
  readonly help: string
  readonly samples: readonly Sample[]
}
type Sample = readonly [labels: Readonly<Record<string, string>>, value: number]

const STATES = ['serving', 'draining', 'suspended'] as const

/** Of each gpu node, from its last heartbeat. */
const OF_NODES = [
  ['requests_running', 'Requests that the node runs.', ({ load }: Beat) => load.running],
  ['requests_waiting', 'Requests that wait at the node.', ({ load }: Beat) => load.waiting],
  ['free_blocks', 'Free KV blocks of the node.', ({ load }: Beat) => load.free_blocks],
  ['blocks', 'KV blocks of the node.', ({ capacity }: Beat) => capacity.blocks],
  ['branches', 'Branches that the node decodes at the same time.', ({ capacity }: Beat) => capacity.branches],
] as const
type Beat = NonNullable<NodeStatus['member']>['heartbeat']

/**
 * `GET /metrics`: what the fleet knows of the gpu nodes. Requests are not counted here, because a Worker has many
 * isolates, which do not know of each other (docs/adr/0055).
 */
export async function metrics(c: Context<AppEnv>): Promise<Response> {
  return c.body(
    gaugesOf(await fleetOf(c.env).nodes())
      .map(textOf)
      .join(''),
    200,
    { 'content-type': TYPE },
  )
}

function gaugesOf(nodes: readonly NodeStatus[]): Gauge[] {
  const states = nodes.map(stateOf)
  const alive = nodes.flatMap(({ id, member, leaseMs }) =>
    member && leaseMs > 0 ? [{ id, heartbeat: member.heartbeat }] : [],
  )
  const served = alive.flatMap(({ heartbeat }) => heartbeat.models.map(({ id }) => id))
  return [
    {
      name: 'gpu_nodes',
      help: 'Gpu nodes by state.',
      samples: STATES.map((state) => [{ state }, states.filter((each) => each === state).length]),
    },
    {
      name: 'model_gpu_nodes',
      help: 'Gpu nodes that serve a model.',
      samples: [...new Set(served)].sort().map((model_name) => {
        return [{ model_name }, served.filter((each) => each === model_name).length]
      }),
    },
    ...OF_NODES.map(([name, help, value]) => ({
      name: `gpu_node_${name}`,
      help,
      samples: alive.map(({ id, heartbeat }): Sample => [{ node: id }, value(heartbeat)]),
    })),
  ]
}

function stateOf({ member, suspension }: NodeStatus): (typeof STATES)[number] {
  if (suspension) return 'suspended'
  return member?.heartbeat.draining ? 'draining' : 'serving'
}

function textOf({ name, help, samples }: Gauge): string {
  const lines = samples.map(([labels, value]) => {
    const shown = Object.entries(labels).map(([label, text]) => `${label}="${escaped(text)}"`)
    return `apar_edge_${name}{${shown.join()}} ${value}\n`
  })
  return `# HELP apar_edge_${name} ${help}\n# TYPE apar_edge_${name} gauge\n${lines.join('')}`
}

function escaped(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')
}
