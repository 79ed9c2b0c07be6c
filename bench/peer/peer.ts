import { existsSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { CpuDType } from '../engine/cases.ts'
import { type ModelName, modelFolder, randomLlama } from '../engine/random-llama.ts'
import { LineProcess, type Rate } from './line-process.ts'
import { writeLlamaGguf } from './llama-gguf.ts'

export const PEER_DRIVER = 'bench/peer/build/release/apar_peer'
const BINDING = 'bench/peer/node_modules/node-llama-cpp'
export const HOW_TO_BUILD = 'node bench/peer/setup.mjs'

/** Size of the KV cache in tokens: the largest case has 2,000 shared tokens and 32 branches. */
const CELLS = 4096
const SEQUENCES = 32

/** llama.cpp's formats with the same width as ours. */
const FORMAT: Record<CpuDType, string> = { f32: 'F32', bf16: 'BF16', int8: 'Q8_0', int4: 'Q4_0' }

export function peerIsBuilt(): boolean {
  return existsSync(PEER_DRIVER) && existsSync(BINDING)
}

/** llama.cpp in its own process, with one model at a time. */
export class Peer {
  readonly #process: LineProcess

  constructor(threads: number) {
    this.#process = new LineProcess(PEER_DRIVER, [String(threads)])
  }

  /** Loads a model. The KV cache is f16, llama.cpp's default, except with f32 weights. */
  async load(model: ModelName, dtype: CpuDType): Promise<void> {
    const file = await peerModel(this.#process, model, dtype)
    await this.#process.ask('load', file, CELLS, SEQUENCES, dtype === 'f32' ? 'f32' : 'f16')
  }

  /** Loads a GGUF file as it is. */
  async loadFile(file: string): Promise<void> {
    await this.#process.ask('load', file, CELLS, 1, 'f16')
  }

  /** Time to the first token of a new prompt. */
  prefill(prompt: Int32Array): Promise<Rate> {
    return this.#process.ask('prefill', ...prompt)
  }

  /** `rows` sequences decode `each` tokens over one shared prompt; the prompt's prefill is not counted. */
  decode(prompt: Int32Array, rows: number, each: number): Promise<Rate> {
    return this.#process.ask('decode', rows, each, ...prompt)
  }

  /** Writes the logits, f32 [path.length, vocabSize], to a file. */
  async logits(file: string, path: readonly number[]): Promise<void> {
    await this.#process.ask('logits', file, ...path)
  }

  /** The tokens of each text, none added and none read from the text of a special token. */
  async tokenize(texts: readonly string[]): Promise<number[][]> {
    const folder = mkdtempSync(join(tmpdir(), 'apar-tokenize-'))
    try {
      const [from, to] = [join(folder, 'texts'), join(folder, 'ids')]
      writeFileSync(from, texts.map((text) => `${text}\0`).join(''))
      await this.#process.ask('tokenize', from, to)
      const lines = readFileSync(to, 'utf8').split('\n').slice(0, -1)
      return lines.map((line) => line.split(' ').slice(0, -1).map(Number))
    } finally {
      rmSync(folder, { recursive: true })
    }
  }

  close(): Promise<void> {
    return this.#process.close()
  }
}

/** node-llama-cpp's `evaluate()` in its own process. */
export class PeerBinding {
  readonly #process = new LineProcess(process.execPath, ['bench/peer/evaluate.mjs'])

  async load(model: ModelName, dtype: CpuDType, threads: number): Promise<void> {
    const driver = new LineProcess(PEER_DRIVER, [String(threads)])
    const file = await peerModel(driver, model, dtype)
    await driver.close()
    await this.#process.ask('load', file, threads)
  }

  decode(prompt: Int32Array, each: number): Promise<Rate> {
    return this.#process.ask('decode', each, ...prompt)
  }

  close(): Promise<void> {
    return this.#process.close()
  }
}

/** The GGUF file of a random model, written once per machine; llama.cpp itself quantises it. */
async function peerModel(driver: LineProcess, model: ModelName, dtype: CpuDType): Promise<string> {
  const file = join(modelFolder(model), `${FORMAT[dtype]}.gguf`)
  const checkpoint = randomLlama(model)
  if (existsSync(file)) return file
  const partial = `${file}.${process.pid}`
  try {
    if (dtype === 'f32' || dtype === 'bf16')
      writeLlamaGguf(partial, checkpoint, dtype === 'f32' ? 'F32' : 'BF16')
    else
      await driver.ask(
        'quantize',
        await peerModel(driver, model, 'bf16'),
        partial,
        FORMAT[dtype].toLowerCase(),
      )
    renameSync(partial, file)
  } finally {
    rmSync(partial, { force: true })
  }
  return file
}
