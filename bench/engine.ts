import { setTimeout } from 'node:timers/promises'
import { CASES, type EngineCase } from './engine/cases.ts'
import { floorRate, measureBandwidth, stepBytes } from './engine/floor.ts'
import { openOurs, openOursInNode } from './engine/ours.ts'
import { randomLlama } from './engine/random-llama.ts'
import { keptBesideNeighbour, type Side } from './engine/side.ts'
import { type Sample, summarise } from './engine/summary.ts'
import { openTheirs, openTheirsInNode } from './engine/theirs.ts'
import { HOW_TO_BUILD, peerIsBuilt } from './peer/peer.ts'
import { type BenchCase, type BenchOptions, type BenchResult, commit, machine, SampleFile } from './report.ts'

const THREADS = 2
const REPETITIONS = 5
const QUICK_REPETITIONS = 2
/** Idle threads of the side that ran before keep spinning for a while. */
const SETTLE_MS = 50

/**
 * Compares the engine with llama.cpp: the same random Llama weights and number of threads, each side in its own
 * process with its model loaded, in alternating runs. The floor of a case is the bytes that a step has to read
 * over the bandwidth measured in the same repetition.
 */
export async function engine({ quick }: BenchOptions): Promise<BenchResult> {
  const withPeer = peerIsBuilt()
  if (!withPeer) console.error(`engine: no peer to compare with; to build it: ${HOW_TO_BUILD}`)
  const file = new SampleFile('engine')
  const results: BenchCase[] = []
  for (const tests of groups(CASES.filter((test) => test.quick || !quick))) {
    const sides = await openSides(tests[0], withPeer)
    try {
      for (const test of tests) {
        const samples = await compare(test, sides, quick ? QUICK_REPETITIONS : REPETITIONS)
        for (const sample of samples) file.add(sample)
        const rows = summarise(test, samples)
        results.push(...rows)
        console.error(`engine: ${rows.map(describe).join('; ')}`)
      }
    } finally {
      for (const side of sides) await side.close()
    }
  }
  return { bench: 'engine', commit: commit(), machine: machine(), samples: file.path, cases: results }
}

/** Groups cases with the same model and dtype, so that each side loads a model once. */
function groups(cases: readonly EngineCase[]): [EngineCase, ...EngineCase[]][] {
  const found = new Map<string, [EngineCase, ...EngineCase[]]>()
  for (const test of cases) {
    const key = [test.model, test.dtype, test.kind === 'node'].join()
    const group = found.get(key)
    if (group) group.push(test)
    else found.set(key, [test])
  }
  return [...found.values()]
}

/** The engine, and the peer when it is built. */
async function openSides({ model, dtype, kind }: EngineCase, withPeer: boolean): Promise<Side[]> {
  const checkpoint = randomLlama(model)
  const inNode = kind === 'node'
  const ours = await (inNode ? openOursInNode : openOurs)(checkpoint, dtype, THREADS)
  return withPeer ? [ours, await (inNode ? openTheirsInNode : openTheirs)(model, dtype, THREADS)] : [ours]
}

/** Alternating runs of both sides; the first run of each is not counted. */
async function compare(test: EngineCase, sides: readonly Side[], repetitions: number): Promise<Sample[]> {
  const { shape } = randomLlama(test.model)
  const isShare = test.kind === 'neighbour'
  const measure = (side: Side, seed: number) =>
    isShare ? keptBesideNeighbour(side, test, seed) : side.rate(test, seed)
  for (const side of sides) await side.rate(test, 0)
  const samples: Sample[] = []
  for (let repetition = 0; repetition < repetitions; repetition++) {
    const figures = new Map<Side, number>()
    let bandwidth = Number.NaN
    // The second side may profit from warmer caches, so the order alternates.
    for (const side of repetition % 2 === 0 ? sides : sides.toReversed()) {
      await setTimeout(SETTLE_MS)
      figures.set(side, await measure(side, repetition + 1))
      // Right after our run: on a shared host the bandwidth changes by a third within seconds.
      if (side === sides[0]) bandwidth = measureBandwidth(stepBytes(test, shape), THREADS)
    }
    const [ours = Number.NaN, theirs] = sides.map((side) => figures.get(side))
    samples.push({
      ...{ bench: 'engine', case: test.name, repetition, ours },
      ...(theirs !== undefined && { theirs }),
      ...(!isShare && { bandwidth, floor: floorRate(test, shape, bandwidth) }),
    })
  }
  return samples
}

function describe({ case: name, value, unit, goal, peer, floor }: BenchCase): string {
  const beside = [
    ...(goal === null ? [] : [`goal ${goal}`]),
    ...(floor === undefined ? [] : [`floor ${floor}`]),
    ...(peer === undefined ? [] : [`peer ${peer}`]),
  ]
  return `${name}: ${value} ${unit} (${beside.join(', ')})`
}
