import type { Command } from 'commander'
import { UserError } from '../../explain.ts'
import { resolveOrPull } from '../../models/pull.ts'
import { adapterOf } from '../../models/served-name.ts'
import { Replay } from '../../replay/replay.ts'
import { MODES, PLAIN } from './modes.ts'
import { missing, openTarget } from './open-target.ts'
import { addLoadOptions, addReportOptions, addTargetOptions, type ServingFlags } from './options.ts'
import { jsonLines } from './output/json-lines.ts'
import { NO_OUTPUT, type Output } from './output/output.ts'
import { referenceFiles } from './output/reference.ts'
import type { TimeLine } from './report/batch-plot.ts'
import { headOf, settingsOf } from './report/head.ts'
import { publish } from './report/publish.ts'
import { type CellSummary, summariseCell } from './report/summary.ts'
import { runServing, type ServingPlan } from './run-serving.ts'
import { checkSwept, type NodeLimits, pointsOf } from './sweep.ts'
import { RequestFailed } from './target/answer.ts'
import { openWorkload, type Workload } from './workload/workload.ts'

/** Adds `apar bench serving`. */
export function registerServing(bench: Command): void {
  const command = bench
    .command('serving')
    .description('measures a server under load: latency, throughput, goodput')
    .argument('[node-options...]', 'after --: of the gpu node that is started here, as for apar gpu-node')
  addReportOptions(addTargetOptions(addLoadOptions(command))).action(serving)
}

async function serving(nodeArguments: string[], flags: ServingFlags): Promise<void> {
  checkFormat(flags)
  if (flags.sweep) checkSwept(flags.sweep, nodeArguments)
  const asked = await openWorkload({
    ...{ dataset: flags.dataset, data: flags.data ?? process.env.APAR_EVAL_DATA, arrivals: flags.arrivals },
    ...{ limit: flags.prompts, inputTokens: flags.inputTokens, outputTokens: flags.outputTokens },
    seed: flags.seed,
  })
  const workload = flags.replay === undefined ? asked : await replayed(asked, flags.replay, flags)
  const level = { ttft_ms: flags.sloTtft ?? null, tpot_ms: flags.sloTpot ?? null }
  const summaries: CellSummary[] = []
  const timeLines: TimeLine[] = []
  const requests = workload.size
  let out: Output | undefined
  let measured = { model: flags.model ?? '', where: '' }
  try {
    for (const limits of pointsOf(flags.sweep ?? new Map())) {
      const opened = await openTarget(flags, { requests, nodeArguments, limits })
      try {
        if (!out) {
          measured = { model: opened.model, where: opened.where }
          out = outputOf(flags, opened.model)
          const { title } = headOf(opened, workload, flags)
          out.run({ title, ...settingsOf(opened, workload, flags) })
        }
        const { target, model, metrics } = opened
        const written = out
        const cells = await runServing({
          ...{ target, model, workload, metrics, ...planOf(flags, limits) },
          onSample: (cell, round, sample) => written.sample(cell, round, sample),
          onRound: (cell, round, { began, load: { samples }, readings }) => {
            timeLines.push({ ...cell, round, readings })
            written.round(cell, round, { began, samples, readings })
          },
        }).catch(asUserError)
        const ofNode = cells.map((cell) => summariseCell(cell, level))
        for (const summary of ofNode) out.summary(summary)
        summaries.push(...ofNode)
      } finally {
        await opened.close()
      }
    }
    const report = { cells: summaries, timeLines }
    await publish(headOf(measured, workload, flags), settingsOf(measured, workload, flags), report, flags)
    if (summaries.every(({ completed }) => completed === 0))
      throw new UserError('not_measured', 'no request was completed')
  } finally {
    out?.close()
  }
}

function planOf(flags: ServingFlags, limits: NodeLimits) {
  const { modes = [PLAIN], rates = [null], concurrency: concurrencies = [null], rounds } = flags
  return {
    ...{ modes, rates, concurrencies, rounds, burstiness: flags.burstiness, maxTokens: flags.maxTokens },
    ...{ fixedLengths: flags.ignoreEos, temperature: flags.temperature, seed: flags.seed },
    ...(flags.sweep && { limits }),
    trace: flags.format === 'reference',
    warmUp: flags.warmUp && modes.length * rates.length * concurrencies.length * rounds > 1,
    log: (line: string) => console.error(`apar: ${line}`),
  } satisfies Partial<ServingPlan>
}

/** The reference has an engine log, and the time of each step. */
function checkFormat({ format, out, url, nodeMetrics }: ServingFlags): void {
  if (format !== 'reference') return
  if (out === undefined) missing('--out, a folder for --format reference,')
  if (url !== undefined && nodeMetrics === undefined)
    missing('--node-metrics of a server of apar, for the engine log of --format reference,')
}

function outputOf({ format, out, dataset, arrivals }: ServingFlags, model: string): Output {
  if (out === undefined) return NO_OUTPUT
  if (format === 'jsonl') return jsonLines(out)
  return referenceFiles(out, { model, prompts: dataset ?? arrivals ?? '' })
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

/** Requests that fail are counted; where the first one does, nothing can be measured. */
function asUserError(error: unknown): never {
  if (error instanceof RequestFailed)
    throw new UserError('not_measured', `the first request failed: ${error.message} (${error.code})`)
  throw error
}
