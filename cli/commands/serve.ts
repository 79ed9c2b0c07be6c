import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Command } from 'commander'
import { packageRoot } from '../../gpu-node/package-root.ts'
import type { ReasoningChoice } from '../../gpu-node/reasoning/reasoning-format.ts'
import type { ToolFormatName } from '../../gpu-node/tools/tool-format.ts'
import { UserError } from '../explain.ts'
import { print } from '../json.ts'
import { newNodeSecret } from '../keys.ts'
import { demoKey } from '../local/demo-key.ts'
import { claimLocalEdge } from '../local/edge.ts'
import { spawnGpuNode } from '../local/gpu-node-process.ts'
import { resolveDefault } from '../models/default-model.ts'
import { knownModels } from '../models/known.ts'
import { resolveOrPull } from '../models/pull.ts'
import { adapterOf, servedName } from '../models/served-name.ts'
import {
  adapterOption,
  chatTemplateOption,
  deviceOption,
  dtypeOption,
  integer,
  kvCacheDtypeOption,
  medusaOption,
  modelOption,
  nameOption,
  reasoningFormatOption,
  speculationOption,
  toolFormatOption,
} from '../options.ts'
import { saying } from '../progress.ts'
import { shutdownRequested } from '../shutdown.ts'
import { addEdgeOptions, addListenOptions, type EdgeFlags, edgeSettings } from './edge-options.ts'

interface ServeFlags extends EdgeFlags {
  model?: string
  adapter?: string
  medusa?: string
  name?: string
  chatTemplate?: string
  toolFormat?: ToolFormatName
  reasoningFormat?: ReasoningChoice
  device?: string
  dtype?: string
  kvCacheDtype?: string
  speculation?: string
  requestsPerMinute: number
  json?: true
}

const ERROR_DELIVERY_MS = 200
const EXAMPLE_PROMPT = 'Give me five tips for sleeping better.'

export function registerServe(program: Command): void {
  const command = program
    .command('serve')
    .description(
      'serves a model on this machine: one gpu node, and the edge in workerd; more nodes can register with the same NODE_SECRET',
    )
  addListenOptions(command)
    .addOption(modelOption())
    .addOption(adapterOption())
    .addOption(medusaOption())
    .addOption(nameOption())
    .addOption(chatTemplateOption())
    .addOption(toolFormatOption())
    .addOption(reasoningFormatOption())
    .addOption(deviceOption())
    .addOption(dtypeOption())
    .addOption(kvCacheDtypeOption())
    .addOption(speculationOption())
    .option('--json', 'prints address, key and model as JSON, in one line, instead of examples')
    .option('--requests-per-minute <n>', "the demo key's request-rate limit", integer(1, 1_000_000), 600)
  addEdgeOptions(command).action(serve)
}

async function serve(flags: ServeFlags): Promise<void> {
  const model = await (flags.model === undefined ? resolveDefault() : resolveOrPull(flags.model))
  const adapter = adapterOf(model, flags)
  const shutdown = shutdownRequested()
  const nodeSecret = process.env.NODE_SECRET || newNodeSecret()
  const { key, record } = demoKey(flags.requestsPerMinute, flags.state)
  const claimed = await claimLocalEdge({
    host: flags.host,
    port: flags.port,
    apiKeys: [record],
    nodeSecret,
    settings: edgeSettings(flags),
    addressHeader: flags.addressHeader,
    stateDir: flags.state,
  })
  const options = {
    '--drain-seconds': '0',
    '--model': model.path,
    '--adapter': adapter,
    '--medusa': flags.medusa,
    '--name': servedName(model, flags),
    '--chat-template': flags.chatTemplate,
    '--tool-format': flags.toolFormat,
    '--reasoning-format': flags.reasoningFormat,
    '--device': flags.device,
    '--dtype': flags.dtype,
    '--kv-cache-dtype': flags.kvCacheDtype,
    '--speculation': flags.speculation,
  }
  const args = Object.entries(options).flatMap(([option, value]) => (value ? [option, value] : []))
  // Both at the same time: the model loads while the edge starts.
  const node = spawnGpuNode({ args, nodeSecret })
  const edge = await claimed.start().catch(async (error) => {
    await node.close()
    throw error
  })
  try {
    node.edgeStarted(edge.url)
    const ready = await saying('loading the model', Promise.race([node.ready, shutdown]))
    if (!ready) return
    const { example = EXAMPLE_PROMPT } = knownModels().get(model.name ?? '') ?? {}
    const { url } = edge
    print(flags, { url, key, model: ready.model }, () => welcome(url, key, ready.model, example))
    const died = node.exited.then(async (how) => {
      // Time for the edge to send errors to clients with running requests.
      await sleep(ERROR_DELIVERY_MS)
      throw new UserError('gpu_node_ended', `the gpu node ended (${how})`)
    })
    const edgeDied = edge.failed.then(() => {
      throw new UserError('edge_failed', 'the edge ended: a workerd process has exited')
    })
    await Promise.race([shutdown, died, edgeDied])
  } finally {
    await node.close()
    await edge.close()
  }
}

/** Not installed from npm: the command is not on the PATH then, and the package has no `ws` for the example. */
const IN_CLONE = existsSync(join(packageRoot, 'cli/main.ts'))

function welcome(url: string, key: string, model: string, content: string): string {
  const messages = [{ role: 'user', content }]
  const body = JSON.stringify({ model, stream: true, messages })
  const frame = JSON.stringify({ type: 'generate', model, messages })
  const socket = [
    `const s = new (require("ws"))("${url.replace(/^http/, 'ws')}/v1/stream", {headers: {authorization: "Bearer ${key}"}})`,
    `s.on("open", () => s.send(JSON.stringify(${frame})))`,
    's.on("message", (event) => console.log(String(event)))',
  ]
  return `
apar serves ${model} at ${url}

  page       ${url}/#key=${key}
  key        ${key}
  curl       curl -N ${url}/v1/chat/completions -H 'authorization: Bearer ${key}' -H 'content-type: application/json' -d '${body}'
${IN_CLONE ? `  websocket  node -e '${socket.join('; ')}'\n` : ''}  chat       ${IN_CLONE ? 'node dist/apar.js' : 'npx apar'} chat --url ${url} --key ${key}

Ctrl-C ends it.`
}
