import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { isKnownAndMissing, resolveModel } from '../cli/models/resolve.ts'
import type { Checkpoint } from '../gpu-node/checkpoint/checkpoint.ts'
import type { DType } from '../gpu-node/engine/engine-config.ts'
import { PromptEncoder } from '../gpu-node/text/prompt-encoder.ts'
import { type Agreement, agreement as compare } from './engine/agreement.ts'
import { engineLogits } from './engine/logits.ts'
import { mixedTexts } from './engine/mixed-texts.ts'
import { type ModelName, randomLlama, randomPrompt } from './engine/random-llama.ts'
import { negativeLogLikelihood, openRealModel } from './engine/real-model.ts'
import { HOW_TO_BUILD, Peer, peerIsBuilt } from './peer/peer.ts'
import { type BenchCase, type BenchOptions, type BenchResult, commit, machine, SampleFile } from './report.ts'

const THREADS = 2
/** With weights that mean something, from a file that both read. */
const REAL_MODEL = 'smollm2-135m-instruct'

/**
 * Lengths in tokens: also longer than a KV block and than the tiles of both sides, and long enough for far
 * positions to matter.
 */
const PATHS = [1, 17, 100, 300]

/**
 * Largest allowed difference of a logit; a random model's logits have a root mean square of about 1. In f32 both
 * sides compute the same sums in a different order: relative errors of about 1e-7 per sum, over a few layers. In
 * bf16 both round the inputs of matrix products to 8 bits (2^-9 of a value). Keys and values are rounded as well,
 * on llama.cpp's side to f16. This gives errors of 0.5 % that add up at random over the layers, with outliers of
 * about five times that among a million logits.
 */
const TOLERANCE = { f32: 1e-4, bf16: 0.1 } as const
type Checked = keyof typeof TOLERANCE

const CHECKS: { model: ModelName; dtypes: Checked[]; quick: boolean }[] = [
  { model: 'GQA', dtypes: ['f32', 'bf16'], quick: true },
  { model: '15M', dtypes: ['f32', 'bf16'], quick: true },
  { model: '110M', dtypes: ['f32', 'bf16'], quick: false },
  { model: '1.1B', dtypes: ['bf16'], quick: false },
]

/**
 * Compares the engine's logits with llama.cpp's, for the same weights and token paths.
 * Within the tolerance the most likely token can differ only in a near tie.
 * @throws Error when a difference exceeds the tolerance.
 */
export async function agreement({ quick }: BenchOptions): Promise<BenchResult> {
  if (!peerIsBuilt()) throw new Error(`the peer to compare with is not built; to build it: ${HOW_TO_BUILD}`)
  const file = new SampleFile('agreement')
  const peer = new Peer(THREADS)
  const results: BenchCase[] = []
  const failed: string[] = []
  try {
    for (const { model, dtypes } of CHECKS.filter((check) => check.quick || !quick)) {
      for (const dtype of dtypes) {
        await peer.load(model, dtype)
        const found: Agreement[] = []
        for (const [seed, length] of PATHS.entries()) {
          const path = [...randomPrompt(length, seed)]
          const one = compare(
            ourLogits(model, dtype, path),
            await theirLogits(peer, path),
            randomLlama(model).shape.vocabSize,
          )
          file.add({ bench: 'agreement', model, dtype, length, ...one })
          found.push(one)
        }
        const rows = cases(`${model} ${dtype}`, found, TOLERANCE[dtype])
        results.push(...rows)
        console.error(`agreement: ${rows.map(({ case: name, value }) => `${name} ${value}`).join('; ')}`)
        if (found.some((one) => one.maxDifference > TOLERANCE[dtype])) failed.push(`${model} ${dtype}`)
      }
    }
    results.push(...(await realModel(peer, file)))
  } finally {
    await peer.close()
  }
  if (failed.length > 0) throw new Error(`the two disagree: ${failed.join(', ')}`)
  return { bench: 'agreement', commit: commit(), machine: machine(), samples: file.path, cases: results }
}

/**
 * The same GGUF file in both: logits, and perplexity of 20 KB of text. llama.cpp multiplies the file's 4 bit weights with
 * activations of 8 bits; we widen them to bf16, and round activations to that. So the logits differ by the rounding.
 */
async function realModel(peer: Peer, file: SampleFile): Promise<BenchCase[]> {
  if (isKnownAndMissing(REAL_MODEL)) {
    console.error(`agreement: ${REAL_MODEL} is not compared: it is not here (apar model pull ${REAL_MODEL})`)
    return []
  }
  const { path } = resolveModel(REAL_MODEL)
  const { checkpoint, windows } = openRealModel(path)
  await peer.loadFile(path)
  const tokens = await sameTokens(peer, checkpoint)
  const found: Agreement[] = []
  const loss = { ours: 0, theirs: 0, tokens: 0 }
  for (const window of windows) {
    const ours = engineLogits({ ...checkpoint, dtype: 'bf16', path: window })
    const theirs = await theirLogits(peer, [...window])
    found.push(compare(ours, theirs, checkpoint.shape.vocabSize))
    loss.ours += negativeLogLikelihood(ours, window)
    loss.theirs += negativeLogLikelihood(theirs, window)
    loss.tokens += window.length - 1
  }
  const perplexity = (sum: number) => Math.exp(sum / loss.tokens)
  const [ours, theirs] = [perplexity(loss.ours), perplexity(loss.theirs)]
  file.add({ bench: 'agreement', model: REAL_MODEL, ...loss, ours, theirs })
  const name = `perplexity of ${loss.tokens} tokens of text`
  const row = { unit: 'x', better: 'lower', goal: 1.005 } as const
  return [
    tokens,
    ...cases(`${REAL_MODEL} bf16`, found, null),
    { ...row, case: `${REAL_MODEL} bf16: ${name}`, value: ours / theirs, peer: theirs },
  ]
}

/** @throws Error with a text whose tokens differ. */
async function sameTokens(peer: Peer, { text }: Checkpoint): Promise<BenchCase> {
  const texts = mixedTexts()
  const theirs = await peer.tokenize(texts)
  const encoder = new PromptEncoder(text)
  const differing = texts.filter((each, index) => {
    const ours = each === '' ? [] : [...encoder.encodeRaw(each, Number.MAX_SAFE_INTEGER)]
    return ours.join() !== theirs[index]?.join()
  })
  if (differing.length > 0)
    throw new Error(
      `${differing.length} texts have other tokens in llama.cpp: ${JSON.stringify(differing[0])}`,
    )
  const what = `${REAL_MODEL}: mixed texts with llama.cpp's tokens`
  return { case: what, value: texts.length, unit: 'texts', better: 'higher', goal: 200 }
}

function ourLogits(model: ModelName, dtype: DType, path: number[]): Float32Array {
  const { shape, weights } = randomLlama(model)
  return engineLogits({ shape, weights, dtype, path })
}

async function theirLogits(peer: Peer, path: number[]): Promise<Float32Array> {
  const folder = mkdtempSync(join(tmpdir(), 'apar-logits-'))
  try {
    const file = join(folder, 'logits')
    await peer.logits(file, path)
    const bytes = readFileSync(file)
    return new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength))
  } finally {
    rmSync(folder, { recursive: true })
  }
}

function cases(name: string, found: readonly Agreement[], tolerance: number | null): BenchCase[] {
  const rows = found.reduce((total, one) => total + one.rows, 0)
  const sameTop = found.reduce((total, one) => total + one.sameTop, 0)
  const most = Math.max(...found.map((one) => one.maxDifference))
  const rms = Math.max(...found.map((one) => one.relativeRms))
  const row = (what: string, value: number, unit: string): BenchCase => ({
    ...{ case: `${name}: ${what}`, value: Number(value.toPrecision(3)), unit, better: 'lower', goal: null },
  })
  return [
    { ...row('largest difference', most, 'logits'), goal: tolerance },
    row('root mean square of the differences', rms, 'of the logits'),
    { ...row('same most likely token', sameTop / rows, 'share'), better: 'higher' },
  ]
}
