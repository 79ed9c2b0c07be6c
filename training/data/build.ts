import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { ArrayFile } from './array-file.ts'
import { tokenizerConfig } from './chat.ts'
import { type Conversation, readJsonl } from './conversation.ts'
import { type Example, type ExtractReport, writeExamples } from './examples.ts'
import { CHILD, FORK } from './rows.ts'
import { rowSequence, type Sequence, turnsSequence } from './shards/sequence.ts'
import { type ShardMeta, ShardWriter } from './shards/writer.ts'
import { type Encoder, loadEncoder } from './tokenizer/encode.ts'
import { trainTokenizer } from './tokenizer/train.ts'

export interface BuildOptions {
  conversations: AsyncIterable<Conversation> | Iterable<Conversation>
  /** Output folder; created when missing. */
  out: string
  /** Seed for the choice of held-out groups; default 1. */
  seed?: number
  /** Share of groups held out for the test set, 0 to 1; default 0.12. */
  testShare?: number
  /** Maximum row length in tokens; a conversation with a longer row is left out of the shards. Default 512. */
  maxTokens?: number
  /** Path of an existing tokenizer.json; without it one is trained on the training split. */
  tokenizer?: string
  /** Vocabulary size of a trained tokenizer; default 4096. */
  vocabSize?: number
  /** Also write train.jsonl and test.jsonl with `input_ids` and `labels` (for TRL, axolotl). */
  jsonl?: boolean
  onProgress?: (progress: BuildProgress) => void
}

export interface BuildProgress {
  stage: 'extract' | 'tokenizer' | 'shards'
  /** Conversations done in this stage. */
  done: number
}

export interface BuildReport extends ExtractReport {
  /** Conversations left out of the shards because a row is longer than maxTokens. */
  tooLong: number
  vocabSize: number
  shards: { train: ShardMeta; test: ShardMeta; serial: ShardMeta }
}

/** A serial row may be longer than maxTokens by this factor, because it contains all details. */
const SERIAL_LENGTH_FACTOR = 2

/**
 * Builds training data from conversations: apar.json, apar_flatten.json, unstructured.json, apar_testset.json,
 * tokenizer.json and token shards in `out/train`, `out/test` and `out/serial` (the training answers in serial
 * form, for decoding without forks). Data is streamed; the same input and seed give the same files, in the order
 * of the input.
 * @throws AparError when a source, the tokenizer or spm_train is unusable.
 */
export async function buildData(options: BuildOptions): Promise<BuildReport> {
  const { out, seed = 1, maxTokens = 512, onProgress } = options
  await mkdir(out, { recursive: true })
  const extracted = await writeExamples({
    conversations: options.conversations,
    folder: out,
    seed,
    ...(options.testShare === undefined ? {} : { testShare: options.testShare }),
    onConversation: (done) => onProgress?.({ stage: 'extract', done }),
  })

  onProgress?.({ stage: 'tokenizer', done: 0 })
  const examplesFile = join(out, 'examples.jsonl')
  const tokenizerJson =
    options.tokenizer === undefined
      ? await trainTokenizer({
          texts: trainingTexts(examplesFile),
          added: [FORK, CHILD],
          ...(options.vocabSize === undefined ? {} : { vocabSize: options.vocabSize }),
        })
      : await readFile(options.tokenizer, 'utf8')
  await writeFile(join(out, 'tokenizer.json'), tokenizerJson)
  await writeFile(join(out, 'tokenizer_config.json'), tokenizerConfig(maxTokens))
  const encoder = loadEncoder(tokenizerJson, options.tokenizer)
  const sharded = await writeShards(examplesFile, encoder, { ...options, maxTokens })
  return { ...extracted, ...sharded, vocabSize: encoder.vocabSize }
}

async function writeShards(file: string, encoder: Encoder, options: BuildOptions & { maxTokens: number }) {
  const { bos, eos, fork, child, vocabSize } = encoder
  const open = (split: 'train' | 'test' | 'serial') =>
    ShardWriter.open({ folder: join(options.out, split), vocabSize, special: { bos, eos, fork, child } })
  const shards = { train: await open('train'), test: await open('test'), serial: await open('serial') }
  const exports = options.jsonl
    ? {
        train: new ArrayFile(join(options.out, 'train.jsonl'), 'lines'),
        test: new ArrayFile(join(options.out, 'test.jsonl'), 'lines'),
      }
    : undefined
  let done = 0
  let tooLong = 0
  for await (const example of readExamples(file)) {
    options.onProgress?.({ stage: 'shards', done: ++done })
    const sequences = sequencesOf(example, encoder)
    if (sequences.some(({ ids }) => ids.length > options.maxTokens)) {
      tooLong += 1
      continue
    }
    await shards[example.split].add(sequences)
    if (example.split === 'train' && example.flat) {
      const serial = rowSequence(example.flat, encoder)
      if (serial.ids.length <= options.maxTokens * SERIAL_LENGTH_FACTOR) await shards.serial.add([serial])
    }
    for (const { ids, labels } of exports ? sequences : []) {
      await exports?.[example.split].add({ input_ids: ids, labels })
    }
  }
  await exports?.train.close()
  await exports?.test.close()
  const closed = {
    train: await shards.train.close(),
    test: await shards.test.close(),
    serial: await shards.serial.close(),
  }
  return { tooLong, shards: closed }
}

function sequencesOf(example: Example, encoder: Encoder): Sequence[] {
  if (example.rows) return example.rows.map((row) => rowSequence(row, encoder))
  return [turnsSequence(example.turns ?? [], encoder)]
}

/** Not validated: this build has just written examples.jsonl itself. */
async function* readExamples(file: string): AsyncGenerator<Example> {
  for await (const { value } of readJsonl(file)) yield value as Example
}

/** Texts to train the tokenizer on: prompts and answers of the training split, each once. */
async function* trainingTexts(file: string): AsyncGenerator<string> {
  for await (const { split, rows, turns } of readExamples(file)) {
    if (split === 'test') continue
    for (const turn of turns ?? []) yield `USER: ${turn.prompt}\nASSISTANT:\n${turn.response}`
    for (const [index, row] of (rows ?? []).entries()) {
      const own = row.target.slice(index === 0 ? 0 : row.target.lastIndexOf(CHILD) + CHILD.length)
      yield `${index === 0 ? `USER: ${row.input}\nASSISTANT:\n` : ''}${own.replaceAll(FORK, '')}`
    }
  }
}
