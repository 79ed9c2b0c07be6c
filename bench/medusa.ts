import { DEFAULT_MODEL } from '../cli/models/default-model.ts'
import { resolveModel } from '../cli/models/resolve.ts'
import { adapterOf } from '../cli/models/served-name.ts'
import { openRunner } from '../gpu-node/open-runner.ts'
import type { Runner } from '../gpu-node/requests/runner.ts'
import { type Speculation, type SpeculationUsage, sumSpeculation } from '../shared/protocol/speculation.ts'
import type { Prompt } from '../training/data/prompts/read-prompts.ts'
import { type AskOptions, ask, MODES, type Mode } from './apar/ask.ts'
import { defaultPrompts, readAll } from './apar/prompts.ts'
import { inTurn, speedUp, type Way } from './medusa/in-turn.ts'
import { type BenchCase, type BenchOptions, type BenchResult, commit, machine, SampleFile } from './report.ts'

/** Their answers repeat much of what they were given. */
const COPYING = ['bench/medusa/copy-prompts.jsonl']
/** Penalties of the model forbid to copy. */
const COPYING_REPETITION = { repetition_penalty: 1, dry_multiplier: 0 }
const STREAMS = [1, 4, 16, 64]
const QUICK_EVERY = 8
const REPETITIONS = 3
const MAX_TOKENS = 320
/** Of one stream among many. */
const SHORT_TOKENS = 96
/** Prompts of a load with few streams. */
const LEAST_PROMPTS = 8
const NEVER_SLOWER = 0.98

/**
 * What drafts are worth: greedy answers with them against the same answers without, wall-clock, in turn on one engine.
 * Fails when an answer changes.
 */
export async function medusa({ quick, flags }: BenchOptions): Promise<BenchResult> {
  const name = flags.model ?? DEFAULT_MODEL
  const model = resolveModel(name)
  const file = new SampleFile('medusa')
  const { dtype, device, medusa: folder } = flags
  const repetitions = flags.repetitions ?? (quick ? 1 : REPETITIONS)
  const some = <T>(all: readonly T[], every: number) => all.filter((_, index) => index % every === 0)
  const prompts = await readAll(flags.prompts ?? defaultPrompts(name))
  const copying = some(await readAll(COPYING), quick ? 4 : 1)
  const asked = some(prompts, quick ? QUICK_EVERY : 2)
  const runner = await openRunner(model.path, {
    dtype,
    device,
    adapter: adapterOf(model, flags),
    medusa: folder,
  })
  const cases: BenchCase[] = []
  const compare = async (
    title: string,
    ways: readonly Way[],
    goals: Readonly<Record<string, number | null>>,
  ) => {
    const times = await inTurn(ways, repetitions)
    file.add({ bench: 'medusa', model: name, case: title, ms: Object.fromEntries(times) })
    const base = ways[0]?.name ?? ''
    for (const { name: way, drafts } of ways) {
      const row = { unit: 'x', better: 'higher' } as const
      if (way !== base)
        cases.push({
          ...row,
          case: `${title}: ${way} against ${base}`,
          ...speedUp(times, way, base),
          goal: goals[way] ?? null,
        })
      const share = acceptedShare(drafts())
      if (share !== undefined)
        cases.push({
          ...row,
          case: `${title}: ${way}: accepted, of drafted tokens`,
          value: share,
          unit: 'share',
          goal: null,
        })
    }
    console.error(`medusa: ${title} done`)
  }
  try {
    const one = (mode: Mode, speculation: Speculation, of: readonly Prompt[]) =>
      way(runner, of, { mode, speculation, maxTokens: MAX_TOKENS }, 1)
    const copies = (speculation: Speculation) => {
      const options = { mode: 'serial', speculation, maxTokens: MAX_TOKENS } as const
      return way(runner, copying, { ...options, repetition: COPYING_REPETITION }, 1)
    }
    await compare('copying', [copies('off'), copies('ngram')], { 'serial, ngram': 1.5 })
    const { forking, others } = await sorted(runner, asked)
    for (const { title, of, goals } of [
      { title: 'forking answers', of: forking, goals: { apar: 2, drafts: 3 } },
      { title: 'other answers', of: others, goals: { apar: NEVER_SLOWER, drafts: NEVER_SLOWER } },
    ]) {
      if (of.length === 0) continue
      const ways = MODES.toReversed().flatMap((mode) => [one(mode, 'off', of), one(mode, 'auto', of)])
      await compare(`${title} (${of.length})`, ways, {
        'serial, auto': NEVER_SLOWER,
        'parallel, no drafts': goals.apar,
        'parallel, auto': goals.drafts,
      })
    }
    for (const streams of STREAMS) {
      const load = Array.from(
        { length: Math.max(LEAST_PROMPTS, streams) },
        (_, index) => prompts[index % prompts.length],
      ).filter((prompt) => prompt !== undefined)
      const many = (speculation: Speculation) =>
        way(runner, load, { mode: 'parallel', speculation, maxTokens: SHORT_TOKENS }, streams)
      await compare(`${streams} streams`, [many('off'), many('auto')], { 'parallel, auto': NEVER_SLOWER })
    }
  } finally {
    await runner.close()
  }
  return { bench: 'medusa', commit: commit(), machine: machine(), samples: file.path, cases }
}

/** By whether the answer forks. */
async function sorted(runner: Runner, prompts: readonly Prompt[]) {
  const forking: Prompt[] = []
  const others: Prompt[] = []
  for (const prompt of prompts) {
    const { branches } = await ask(runner, prompt, { mode: 'parallel', maxTokens: MAX_TOKENS })
    const group = branches.length > 1 ? forking : others
    group.push(prompt)
  }
  return { forking, others }
}

/** The tasks of one way: all prompts, so many at a time. */
function way(
  runner: Runner,
  prompts: readonly Prompt[],
  { mode, speculation, maxTokens, repetition }: AskOptions & { readonly speculation: Speculation },
  streams: number,
): Way {
  const usages: (SpeculationUsage | undefined)[] = []
  return {
    name: `${mode}, ${speculation === 'off' ? 'no drafts' : speculation}`,
    texts: mode,
    drafts: () => sumSpeculation(usages),
    run: async () => {
      const texts: string[] = []
      const waiting = prompts.entries()
      const work = async () => {
        for (const [index, prompt] of waiting) {
          const { text, speculation: usage } = await ask(runner, prompt, {
            ...{ mode, speculation, maxTokens, repetition },
          })
          texts[index] = text
          usages.push(usage)
        }
      }
      await Promise.all(Array.from({ length: streams }, work))
      return texts
    },
  }
}

function acceptedShare(usage: SpeculationUsage | undefined): number | undefined {
  return usage && Number((usage.accepted / usage.drafted).toPrecision(4))
}
