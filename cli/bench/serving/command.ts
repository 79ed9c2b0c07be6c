import { closeSync, openSync, writeSync } from 'node:fs'
import { availableParallelism, cpus } from 'node:os'
import type { Command } from 'commander'
import { firstModel } from '../../chat/models.ts'
import { UserError } from '../../explain.ts'
import { resolveOrPull } from '../../models/pull.ts'
import { adapterOf } from '../../models/served-name.ts'
import { Replay } from '../../replay/replay.ts'
import type { MetricsSource } from './load/node-metrics.ts'
import { startLocalServer } from './local-server.ts'
import { MODES, PLAIN } from './modes.ts'
import { addLoadOptions, addReportOptions, addTargetOptions, type ServingFlags, SOCKET } from './options.ts'
import { publish, VERSION } from './report/publish.ts'
import { summariseCell } from './report/summary.ts'
import type { ReportHead } from './report/tables.ts'
import { MAX_TOKENS, runServing } from './run-serving.ts'
import { RequestFailed } from './target/answer.ts'
import { httpTarget } from './target/http-target.ts'
import { nodeTarget } from './target/node-target.ts'
import { ROUTES } from './target/routes.ts'
import { socketTarget } from './target/socket-target.ts'
import type { Target } from './target/target.ts'
import { openWorkload, type Workload } from './workload/workload.ts'

/** Adds `apar bench serving`. */
export function registerServing(bench: Command): void {
  const command = bench
    .command('serving')
    .description('measures a server under load: latency, throughput, goodput')
    .argument('[node-options...]', 'after --: of the gpu node that is started here, as for apar gpu-node')
  addReportOptions(addTargetOptions(addLoadOptions(command))).action(serving)
}

/** What is measured, and where its metrics are. */
interface Opened {
  readonly target: Target
  readonly model: string
  readonly where: string
  readonly metrics: MetricsSource | undefined
  close(): Promise<void>
}

async function serving(nodeArguments: string[], flags: ServingFlags): Promise<void> {
  const asked = await openWorkload({
    ...{ dataset: flags.dataset, data: flags.data ?? process.env.APAR_EVAL_DATA, arrivals: flags.arrivals },
    ...{ limit: flags.prompts, inputTokens: flags.inputTokens, outputTokens: flags.outputTokens },
    seed: flags.seed,
  })
  const workload = flags.replay === undefined ? asked : await replayed(asked, flags.replay, flags)
  const modes = flags.modes ?? [PLAIN]
  const rates = flags.rates ?? [null]
  const concurrencies = flags.concurrency ?? [null]
  const opened = await open(flags, workload, nodeArguments)
  const { target, model, metrics } = opened
  const head = headOf(opened, workload, flags)
  const out = flags.out === undefined ? undefined : openSync(flags.out, 'w')
  const write = (line: object) => out !== undefined && writeSync(out, `${JSON.stringify(line)}\n`)
  try {
    write({ type: 'run', version: VERSION, title: head.title, ...settingsOf(opened, workload, flags) })
    const cells = await runServing({
      ...{ target, model, workload, modes, rates, concurrencies, metrics },
      ...{ burstiness: flags.burstiness, rounds: flags.rounds, maxTokens: flags.maxTokens },
      ...{ fixedLengths: flags.ignoreEos, temperature: flags.temperature, seed: flags.seed },
      warmUp: flags.warmUp && modes.length * rates.length * concurrencies.length * flags.rounds > 1,
      onSample: (cell, round, sample) => write({ type: 'request', ...cell, round, ...sample }),
      log: (line) => console.error(`apar: ${line}`),
    }).catch(asUserError)
    const level = { ttft_ms: flags.sloTtft ?? null, tpot_ms: flags.sloTpot ?? null }
    const summaries = cells.map((cell) => summariseCell(cell, level))
    for (const summary of summaries) write({ type: 'summary', ...summary })
    await publish(head, settingsOf(opened, workload, flags), summaries, flags)
  } finally {
    if (out !== undefined) closeSync(out)
    await opened.close()
  }
}

async function open(flags: ServingFlags, workload: Workload, nodeArguments: string[]): Promise<Opened> {
  if (flags.url === undefined) {
    const { model = missing('--model, or --url'), adapter, medusa, replay } = flags
    const args = replay === undefined ? nodeArguments : ['--allow-replay', ...nodeArguments]
    const requests = workload.size
    const server = await startLocalServer({ model, adapter, medusa, requests, nodeArguments: args })
    const target = replay === undefined ? targetAt(server.url, server.key, flags) : nodeTarget(server.node)
    const where = ['local', ...nodeArguments].join(' ')
    return { target, model: server.model, where, metrics: server.metrics, close: () => server.close() }
  }
  const own = (['adapter', 'medusa'] as const).find((name) => flags[name] !== undefined)
  if (own !== undefined || nodeArguments.length > 0)
    throw new UserError(
      'invalid_option',
      `${own ? `--${own}` : nodeArguments[0]}: with --url, the server decides that`,
    )
  const address = flags.url.replace(/\/+$/, '').replace(/\/v1$/, '')
  const key = flags.key ?? process.env.APAR_API_KEY
  const model = flags.model ?? (await firstModel(address, key ?? ''))
  const secret = process.env.METRICS_SECRET || process.env.NODE_SECRET || undefined
  const metrics = flags.nodeMetrics === undefined ? undefined : { url: flags.nodeMetrics, secret }
  const target = targetAt(address, key, flags)
  return { target, model, where: address, metrics, close: async () => target.close() }
}

function targetAt(baseUrl: string, key: string | undefined, { api, body, timeout }: ServingFlags): Target {
  if (api !== SOCKET) return httpTarget(ROUTES[api], { baseUrl, key, silenceMs: 1000 * timeout }, body)
  if (body !== undefined) throw new UserError('invalid_option', `--body: not with --api ${SOCKET}`)
  return socketTarget({ baseUrl, key: key ?? missing('an API key: --key, or APAR_API_KEY') })
}

/** The questions with a published answer, and these answers. */
async function replayed(workload: Workload, file: string, flags: ServingFlags): Promise<Workload> {
  if (workload.isRandom) throw new UserError('invalid_option', '--replay: --dataset must have questions')
  const drafting = flags.modes?.find((mode) => MODES[mode].speculation !== 'off')
  if (drafting !== undefined)
    throw new UserError('invalid_option', `--modes: a replay drafts nothing, also not with ${drafting}`)
  const { path, ...model } = await resolveOrPull(flags.model ?? missing('--model'))
  const replay = await Replay.open(file, { path, adapter: adapterOf(model, flags) })
  const prompts = replay
    .answered(workload.prompts(0, () => 1))
    .map((prompt) => ({ ...prompt, forced: replay.forced(prompt.id) }))
  return {
    ...{ name: `${workload.name}, answers of ${replay.name}`, size: prompts.length, isRandom: false },
    recorded: workload.recorded?.slice(0, prompts.length),
    prompts: () => prompts,
  }
}

function missing(what: string): never {
  throw new UserError('missing_option', `${what} is needed`)
}

/** Requests that fail are counted; where the first one does, nothing can be measured. */
function asUserError(error: unknown): never {
  if (error instanceof RequestFailed)
    throw new UserError('not_measured', `the first request failed: ${error.message} (${error.code})`)
  throw error
}

function apiOf({ replay, api }: ServingFlags): string {
  return replay === undefined ? api : 'gpu node'
}

/** What the figures depend on. */
function settingsOf({ model, where }: Opened, workload: Workload, flags: ServingFlags): object {
  return {
    ...{ model, where, api: apiOf(flags), workload: workload.name, prompts: workload.size },
    ...{ input_tokens: workload.isRandom && !flags.arrivals ? flags.inputTokens : null },
    ...{
      output_tokens: flags.outputTokens ?? null,
      max_tokens: flags.maxTokens ?? (flags.replay === undefined ? MAX_TOKENS : null),
    },
    ...{ burstiness: flags.burstiness, rounds: flags.rounds },
    ...{ temperature: flags.temperature, seed: flags.seed },
    date: new Date().toISOString(),
    client: `${cpus()[0]?.model.trim() ?? 'unknown CPU'}, ${availableParallelism()} threads, Node ${process.versions.node}`,
  }
}

function headOf({ model, where }: Opened, workload: Workload, flags: ServingFlags): ReportHead {
  const arrivals = workload.recorded
    ? 'recorded arrivals'
    : flags.rates
      ? `burstiness ${flags.burstiness}`
      : 'all at once'
  const level = [
    ...(flags.sloTtft === undefined ? [] : [`TTFT ≤ ${flags.sloTtft} ms`]),
    ...(flags.sloTpot === undefined ? [] : [`time per token ≤ ${flags.sloTpot} ms`]),
  ]
  return {
    title: `${workload.name} · ${model} · ${apiOf(flags)}`,
    facts: [
      `${where}; ${workload.size} prompts, ${arrivals}, seed ${flags.seed}, temperature ${flags.temperature}`,
      ...(level.length === 0 ? [] : [`good: ${level.join(', ')}`]),
    ],
  }
}
