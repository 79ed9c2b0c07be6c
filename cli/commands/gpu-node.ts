import { type Command, Option } from 'commander'
import {
  type Device,
  type DType,
  type KvCacheDType,
  POLICIES,
  type Policy,
} from '../../gpu-node/engine/engine-config.ts'
import { startGpuNode } from '../../gpu-node/main.ts'
import type { ReasoningChoice } from '../../gpu-node/reasoning/reasoning-format.ts'
import type { ToolFormatName } from '../../gpu-node/tools/tool-format.ts'
import type { Speculation } from '../../shared/protocol/speculation.ts'
import { UserError } from '../explain.ts'
import { EDGE_OF_PARENT, edgeOfParent, reportToParent } from '../local/gpu-node-process.ts'
import { presentDefault } from '../models/default-model.ts'
import { resolveModel } from '../models/resolve.ts'
import { adapterOf, servedName } from '../models/served-name.ts'
import {
  adapterOption,
  chatTemplateOption,
  decimal,
  deviceOption,
  devices,
  dtypeOption,
  integer,
  kvCacheDtypeOption,
  medusaOption,
  modelOption,
  nameOption,
  port,
  reasoningFormatOption,
  speculationOption,
  toolFormatOption,
  url,
} from '../options.ts'
import { shutdownRequested } from '../shutdown.ts'
import { limitOption } from './node-limits.ts'

interface GpuNodeFlags {
  model?: string
  adapter?: string
  medusa?: string
  name?: string
  chatTemplate?: string
  toolFormat?: ToolFormatName
  reasoningFormat?: ReasoningChoice
  edge?: string
  edgeOfParent?: boolean
  host: string
  port: number
  advertise?: string
  dialIn?: boolean
  device?: Device
  devices?: number[]
  threads?: number
  dtype?: DType
  kvCacheDtype?: KvCacheDType
  speculation?: Speculation
  blocks?: number
  kvCacheMemoryBytes?: number
  memoryFraction?: number
  watermark?: number
  maxBranches?: number
  maxStepTokens?: number
  maxRequests?: number
  policy?: Policy
  tokenDeadlineMs?: number
  firstTokenDeadlineMs?: number
  prefixCache: boolean
  allowReplay?: true
  drainSeconds?: number
}

/** Within the 30 s that Kubernetes and systemd give a process by default. */
const DRAIN_SECONDS = 25

export function registerGpuNode(program: Command): void {
  program
    .command('gpu-node')
    .description('runs one gpu node; the secret it shares with the edge is in NODE_SECRET')
    .addOption(modelOption())
    .addOption(adapterOption())
    .addOption(medusaOption())
    .addOption(nameOption())
    .addOption(chatTemplateOption())
    .addOption(toolFormatOption())
    .addOption(reasoningFormatOption())
    .option('--edge <url>', 'edge to register with', url('http:', 'https:'))
    .addOption(new Option(EDGE_OF_PARENT).hideHelp())
    .option('--host <address>', 'where to listen', '127.0.0.1')
    .option('--port <port>', '0 takes any free one', port, 0)
    .option(
      '--advertise <url>',
      'ws:// or wss:// address at which the edge reaches this node',
      url('ws:', 'wss:'),
    )
    .addOption(
      new Option(
        '--dial-in',
        'opens one socket to the edge instead of listening for it: for a node behind NAT',
      ).env('APAR_DIAL_IN'),
    )
    .addOption(deviceOption())
    .option(
      '--devices <list>',
      'CUDA devices for tensor parallelism, for example 0,1 (default: one device)',
      devices,
    )
    .option('--threads <n>', 'threads of the CPU backend (default: physical cores)', integer(1, 256))
    .addOption(dtypeOption())
    .addOption(kvCacheDtypeOption())
    .addOption(speculationOption())
    .addOption(limitOption('blocks'))
    .addOption(limitOption('kv-cache-memory-bytes'))
    .option(
      '--memory-fraction <share>',
      'share of the free memory for weights, workspace and KV cache (default 0.9; on a CPU at least 256MiB stay free)',
      decimal(0.01, 1),
    )
    .addOption(limitOption('watermark'))
    .addOption(limitOption('max-branches'))
    .addOption(limitOption('max-step-tokens'))
    .addOption(limitOption('max-requests'))
    .addOption(
      new Option(
        '--policy <policy>',
        'when branches may fork: eager (default), capped (not in a full batch), serial (never), or deadline (unless it makes another answer late)',
      ).choices(POLICIES),
    )
    .option(
      '--token-deadline-ms <ms>',
      'of --policy deadline: the most that each token of an answer should take, in the mean',
      decimal(0.01, 1e6),
    )
    .option(
      '--first-token-deadline-ms <ms>',
      'of --policy deadline: requests that have waited longer come behind those that have not',
      decimal(0.01, 1e6),
    )
    .option(
      '--no-prefix-cache',
      'computes every prompt anew, so that response times reveal nothing about prompts of other users',
    )
    .option(
      '--allow-replay',
      'requests to this node may say what the model answers: for apar bench serving --replay, never for users',
    )
    .option(
      '--drain-seconds <n>',
      'on SIGTERM, how long running answers may continue here before they move to other nodes (default 25)',
      integer(0, 86_400),
    )
    .action(runGpuNode)
}

async function runGpuNode(flags: GpuNodeFlags): Promise<void> {
  const nodeSecret = process.env.NODE_SECRET
  if (!nodeSecret)
    throw new UserError(
      'missing_option',
      'NODE_SECRET is not set: it must hold the secret shared with the edge',
    )
  if (flags.dialIn && !flags.edge)
    throw new UserError('missing_option', '--dial-in needs --edge: the edge to dial')
  const parentsEdge = flags.edgeOfParent ? edgeOfParent() : undefined
  const model = flags.model === undefined ? presentDefault() : resolveModel(flags.model)
  // Before loading: the parent may end while the model loads.
  const shutdown = shutdownRequested()
  const node = await startGpuNode({
    modelDir: model.path,
    adapter: adapterOf(model, flags),
    medusa: flags.medusa,
    modelName: servedName(model, flags),
    chatTemplate: flags.chatTemplate,
    toolFormat: flags.toolFormat,
    reasoningFormat: flags.reasoningFormat,
    host: flags.host,
    port: flags.port,
    edgeUrl: flags.edge ?? parentsEdge,
    nodeSecret,
    metricsSecret: process.env.METRICS_SECRET || undefined,
    advertiseUrl: flags.advertise,
    dialIn: flags.dialIn,
    device: flags.device,
    devices: flags.devices,
    threads: flags.threads,
    dtype: flags.dtype,
    kvCacheDtype: flags.kvCacheDtype,
    speculation: flags.speculation,
    numBlocks: flags.blocks,
    kvCacheBytes: flags.kvCacheMemoryBytes,
    memoryFraction: flags.memoryFraction,
    watermark: flags.watermark,
    maxBranches: flags.maxBranches,
    maxStepTokens: flags.maxStepTokens,
    maxRequests: flags.maxRequests,
    policy: flags.policy,
    tokenDeadlineMs: flags.tokenDeadlineMs,
    firstTokenDeadlineMs: flags.firstTokenDeadlineMs,
    prefixCache: flags.prefixCache,
    allowReplay: flags.allowReplay,
  })
  const died = node.failed.then((reason) => {
    throw new UserError('engine_died', `the engine died: ${reason}`)
  })
  try {
    const registered = node.registered.then(() => true)
    if (!(await Promise.race([registered, shutdown, died]))) return
    reportToParent({ type: 'ready', model: node.model, url: node.url })
    await Promise.race([shutdown, died])
    await Promise.race([node.drain((flags.drainSeconds ?? DRAIN_SECONDS) * 1000), died])
  } finally {
    await node.close()
    // The IPC channel would keep the process alive.
    if (process.connected) process.disconnect()
  }
}
