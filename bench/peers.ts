import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { packageRoot } from '../gpu-node/package-root.ts'
import { readAll } from './apar/prompts.ts'
import { environmentFolder, type PeerName } from './peer/python/folders.mjs'
import { checkpointPath, huggingFaceFolder, openVinoFolder } from './peers/checkpoint.ts'
import { openOpenVino } from './peers/openvino.ts'
import { openOurs } from './peers/ours.ts'
import { requestsOf } from './peers/requests.ts'
import {
  type Asked,
  checkSameWork,
  PEER_DTYPES,
  type PeerDType,
  type Run,
  type Side,
  type SideName,
} from './peers/side.ts'
import { agreement, outputRate, summarise, type Turn } from './peers/summary.ts'
import { openVllm } from './peers/vllm.ts'
import { type BenchCase, type BenchOptions, type BenchResult, commit, machine, SampleFile } from './report.ts'

const MODEL = 'smollm2-135m-instruct'
const STREAMS = [1, 16, 32]
const REPETITIONS = 5
const THREADS = 2
const SETTLE_MS = 1000
const QUESTIONS = { file: 'bench/apar/prompts.jsonl', count: 8, tokens: 48 }
const HOW_TO_INSTALL = 'node bench/peer/python/setup.mjs'

/**
 * The whole server against vLLM's, and against OpenVINO GenAI in process: the same weights, separate requests without
 * branches, drafts or prefix cache, one side at a time in turns.
 */
export async function peers({ quick, flags }: BenchOptions): Promise<BenchResult> {
  const { model = MODEL } = flags
  const dtypes = PEER_DTYPES.filter((each) => (flags.dtype ?? each) === each)
  if (dtypes.length === 0)
    throw new Error(`--dtype: ${PEER_DTYPES.join(' or ')}, in which the peers compute too`)
  const path = checkpointPath(model)
  const file = new SampleFile('peers')
  const prefix = flags.model === undefined ? '' : `${model} `
  const cases: BenchCase[] = []
  for (const dtype of dtypes) {
    const title = prefix + dtype
    const sides: Side[] = []
    try {
      for await (const side of openSides(path, dtype)) sides.push(side)
      cases.push(...(await agreements(title, sides, quick, file)))
      for (const streams of STREAMS) {
        const repetitions = quick ? 1 : (flags.repetitions ?? REPETITIONS)
        const turns = await inTurns({ title, streams, repetitions, quick }, sides, file)
        cases.push(
          ...summarise(`${title}, ${streams} ${streams === 1 ? 'stream' : 'streams'}`, streams, turns),
        )
      }
    } finally {
      for (const side of sides) await side.close()
    }
  }
  return { bench: 'peers', commit: commit(), machine: machine(), samples: file.path, cases }
}

/** Ours, and the peers that are installed. */
async function* openSides(model: string, dtype: PeerDType): AsyncGenerator<Side> {
  yield await openOurs(model, dtype, THREADS)
  if (isInstalled('vllm')) yield await openVllm(await huggingFaceFolder(model, dtype), THREADS)
  if (isInstalled('openvino')) yield await openOpenVino(await openVinoFolder(model, dtype), THREADS)
}

function isInstalled(peer: PeerName): boolean {
  const isHere = existsSync(join(environmentFolder(peer, packageRoot), 'bin/python'))
  if (!isHere) console.error(`peers: ${peer} is skipped: it is not installed (${HOW_TO_INSTALL})`)
  return isHere
}

/** How many greedy answers to questions are the same, one at a time. */
async function agreements(
  title: string,
  sides: readonly Side[],
  quick: boolean,
  file: SampleFile,
): Promise<BenchCase[]> {
  const prompts = await readAll([QUESTIONS.file])
  const asked = prompts.slice(0, quick ? 2 : QUESTIONS.count).map(({ messages }) => ({
    ...{ prompt: messages.at(-1)?.content ?? '', tokens: QUESTIONS.tokens },
  }))
  const runs = new Map<SideName, Run>()
  for (const side of sides) {
    const run = await side.run(asked, 1)
    runs.set(side.name, run)
    file.add({ bench: 'peers', model: title, side: side.name, questions: asked, ...run })
  }
  checkSameWork(asked, runs)
  const [[, ours] = [], ...others] = runs
  return ours ? others.map(([peer, theirs]) => agreement(title, ours, peer, theirs)) : []
}

interface Load {
  /** Model and data type. */
  readonly title: string
  readonly streams: number
  readonly repetitions: number
  readonly quick: boolean
}

/** The first turn is not counted: it compiles what depends on the number of rows, and fills caches. */
async function inTurns(load: Load, sides: readonly Side[], file: SampleFile): Promise<Turn[]> {
  const { title, streams, repetitions, quick } = load
  const turns: Turn[] = []
  for (let repetition = 0; repetition <= repetitions; repetition++) {
    const requests: Asked[] = requestsOf(streams, repetition, quick)
    const turn = new Map<SideName, Run>()
    for (const side of repetition % 2 === 0 ? sides : sides.toReversed()) {
      await sleep(SETTLE_MS)
      const run = await side.run(requests, streams)
      turn.set(side.name, run)
      file.add({
        bench: 'peers',
        model: title,
        streams,
        repetition,
        counted: repetition > 0,
        side: side.name,
        ...run,
      })
    }
    checkSameWork(requests, turn)
    if (repetition > 0) turns.push(turn)
    const rates = [...turn].map(([name, run]) => `${name} ${outputRate(run).toPrecision(4)}`)
    console.error(
      `peers: ${title}, ${streams} streams, turn ${repetition} of ${repetitions}: ${rates.join(', ')} tok/s`,
    )
  }
  return turns
}
