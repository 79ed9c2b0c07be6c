import { DEFAULT_MODEL } from '../cli/models/default-model.ts'
import { isKnownAndMissing } from '../cli/models/resolve.ts'
import type { TokensBySource } from '../gpu-node/engine/engine.ts'
import { emulateCuda, sameOnBoth } from './emulated/both.ts'
import { type Job, randomJob, tunedJob } from './emulated/jobs.ts'
import { type BenchCase, type BenchOptions, type BenchResult, commit, machine, SampleFile } from './report.ts'

/** Of which the default model's answers fork soon. */
const QUESTIONS = ['Name three benefits of walking.', 'Give me 5 tips for learning Spanish.']
const DEMO_QUESTIONS = ['How do I use tar?', 'How do I use grep?']

/**
 * No measure of speed: whole models on the CUDA kernels, run by the emulator, with forks, preemptions and drafts, must
 * say the same tokens as on the CPU, in f32.
 * @throws Error when they do not, or when nothing forked, was preempted or was drafted
 */
export async function emulated({ quick }: BenchOptions): Promise<BenchResult> {
  emulateCuda(process.cwd())
  const file = new SampleFile('emulated')
  const cases: BenchCase[] = []
  for await (const job of jobs(quick)) cases.push(...(await casesOf(job, file)))
  return { bench: 'emulated', commit: commit(), machine: machine(), samples: file.path, cases }
}

async function* jobs(quick: boolean): AsyncGenerator<Job> {
  yield tunedJob('demo', DEMO_QUESTIONS, 60)
  if (isKnownAndMissing(DEFAULT_MODEL))
    console.error(`emulated: ${DEFAULT_MODEL} is left out: apar model pull ${DEFAULT_MODEL}`)
  else yield tunedJob(DEFAULT_MODEL, quick ? QUESTIONS.slice(0, 1) : QUESTIONS, 48)
  if (!quick) yield randomJob('1.1B', 40)
}

async function casesOf(job: Job, file: SampleFile): Promise<BenchCase[]> {
  const { cpu, cuda } = await sameOnBoth(job)
  const { forks, preemptions, acceptedTokens, draftedTokens, steps, generatedTokens } = cuda.stats
  file.add({ bench: 'emulated', model: job.name, cpu: cpu.stats, cuda: cuda.stats, seconds: cuda.seconds })
  const total = ({ medusa, ngram }: TokensBySource) => medusa + ngram
  const drafted = total(draftedTokens)
  if (forks === 0 || preemptions === 0 || drafted === 0)
    throw new Error(`${job.name}: ${forks} forks, ${preemptions} preemptions, ${drafted} drafted tokens`)
  console.error(`emulated: ${job.name} done in ${Math.round(cuda.seconds)} s`)
  const row = { unit: 'tokens', better: 'higher', goal: null } as const
  return [
    { ...row, case: `${job.name}, f32: tokens as on the CPU`, value: generatedTokens },
    { ...row, case: `${job.name}: forks`, value: forks, unit: 'forks' },
    { ...row, case: `${job.name}: preemptions`, value: preemptions, unit: 'branches' },
    { ...row, case: `${job.name}: drafted`, value: drafted },
    { ...row, case: `${job.name}: accepted of them`, value: total(acceptedTokens) },
    { ...row, case: `${job.name}: steps`, value: steps, unit: 'steps', better: 'lower' },
  ]
}
