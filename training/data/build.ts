import { createHash } from 'node:crypto'
import { statSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { AparError } from '../../shared/errors.ts'
import type { Conversation } from './conversation.ts'
import { PROFILES, type Profile } from './extract/profile.ts'
import { readBaseModel } from './model/base-model.ts'
import type { ForkTokens } from './model/fork-tokens.ts'
import { type ModelText, readModelText } from './model/model-text.ts'
import { newModel } from './model/new-model.ts'
import { writeModel } from './model/write-model.ts'
import { type BuildPlan, EXPORTS, SPLITS, TEXT_FILES, type TextFile } from './pipeline/batch.ts'
import { BatchReader, type InputFile, type InputShard } from './pipeline/batches.ts'
import { BuildFolder, MODEL_FOLDER, RAW_FILE, REPORT_FORMAT } from './pipeline/build-folder.ts'
import { addCounts, type Counts, noCounts } from './pipeline/counts.ts'
import { OutputFiles } from './pipeline/output-files.ts'
import { processed } from './pipeline/pool.ts'
import { TEST_SHARE } from './pipeline/processor.ts'
import { REFERENCE_FILES, writeReferenceFiles } from './pipeline/reference-files.ts'
import { ARRAY, isLines } from './pipeline/text-outputs.ts'
import { emptyMeta, type ShardMeta, ShardWriter } from './shards/writer.ts'
import { type NewTokenizer, newTokenizer } from './tokenizer/new-tokenizer.ts'

export interface BuildOptions {
  /** Files of conversations in any shape that input/conversations.ts reads. */
  files?: readonly string[]
  /** Conversations that the program makes itself; `key` identifies them. They are written to OUT/raw.jsonl. */
  generated?: { key: string; conversations: AsyncIterable<Conversation> | Iterable<Conversation> }
  /** Output folder; a build that is there is replaced when the new one is whole. */
  out: string
  profile?: Profile
  /** Seed for the choice of held-out groups; default 1. */
  seed?: number
  /** Share of groups held out for the test set, 0 to 1; default 0.12. */
  testShare?: number
  /** Most tokens of a path, from 16; default: the model's context. */
  context?: number
  /** Which turns may be structured; default the first only. */
  turns?: BuildPlan['turns']
  /** A model's folder or GGUF file, perhaps with an adapter's folder, or a new model with a tokenizer of its own. */
  model: { path: string; adapter?: string; forkTokens?: ForkTokens; chatTemplate?: string } | NewTokenizer
  /** Also write train.jsonl and test.jsonl with `input_ids` and `labels` (for TRL, axolotl). */
  jsonl?: boolean
  /** A fault of a record is an error instead of a count. */
  strict?: boolean
  /** A part of the input: see merge.ts. */
  shard?: InputShard
  /** Worker threads; 0: none. Default 2. The output does not depend on it. */
  threads?: number
  /** Time between check-points in ms; default 5,000. */
  checkpointMs?: number
  onProgress?: (progress: BuildProgress) => void
}

export interface BuildProgress {
  stage: 'model' | 'conversations'
  /** Conversations done. */
  done: number
  /** Of `done`, those that an earlier run did, which this one goes on from. */
  resumed: number
}

/** Contents of report.json. */
export interface BuildReport extends Counts {
  format: typeof REPORT_FORMAT
  version: 1
  profile: Profile
  seed: number
  testShare: number
  /** Tokens. */
  context: number
  shard: InputShard
  inputs: { name: string; bytes: number }[]
  vocabSize: number
  shards: Record<'train' | 'test', ShardMeta>
}

/** What state.json keeps of a build that is not whole yet. */
interface Progress {
  /** Number of the next record. */
  next: number
  counts: Counts
  shards: Record<'train' | 'test', ShardMeta>
  lengths: Record<string, number>
}

/** Version of what is written: another one does not go on from a build that was cut. */
const VERSION = 1
/** Of a new model. */
const DEFAULT_CONTEXT = 2048
const CHECKPOINT_MS = 5_000

/**
 * Builds training data (docs/adr/0041). Input is streamed; the same input and options give the same files whatever the
 * number of threads, in one run or in several that were cut.
 * @throws AparError, StartupError when the input or the model is unusable; an earlier build in `out` is whole then.
 */
export async function buildData(options: BuildOptions): Promise<BuildReport> {
  const { shard = { index: 0, count: 1 }, onProgress } = options
  const folder = new BuildFolder(options.out)
  await folder.prepare(options.files)
  const given = (options.files ?? []).map((path) => ({ path, name: path }))
  const key = keyOf(options, given)
  const state = await folder.resume<Progress>(key)
  const raw: InputFile = { path: join(folder.path, RAW_FILE), name: RAW_FILE }
  if (options.generated && !state) await writeRaw(raw.path, options.generated.conversations)
  const files = options.generated ? [raw, ...given] : given

  onProgress?.({ stage: 'model', done: 0, resumed: 0 })
  const modelFolder = join(folder.path, MODEL_FOLDER)
  const model = state ? readModelText(modelFolder) : await makeModel(options, files, modelFolder)
  const plan = planOf(options, model)
  if (plan.profile.name === 'reference') {
    if (shard.count > 1)
      throw new AparError(
        'invalid_request',
        'the profile reference shuffles the whole input: it cannot be built in parts',
      )
    plan.heldOut = await writeReferenceFiles(files, folder.path, plan.testShare)
  }
  const progress = state ?? {
    ...{ next: 0, counts: noCounts(), lengths: {} },
    shards: { train: emptyMeta(model), test: emptyMeta(model) },
  }
  const reader = new BatchReader({ files, shard, from: progress.next, strict: plan.strict })
  const outputs = new OutputFiles(folder.path, progress.lengths)
  const writers = SPLITS.map((split) => new ShardWriter(outputs, split, progress.shards[split]))
  try {
    const save = async () =>
      folder.save(key, { ...progress, lengths: await outputs.flush() } satisfies Progress)
    if (!state) await save()
    let saved = Date.now()
    const resumed = progress.counts.conversations
    const batches = processed(reader.read(), { plan, modelFolder }, options.threads ?? 2)
    for await (const { batch, result } of batches) {
      for (const [name, bytes] of Object.entries(result.files))
        await appendText(outputs, name as TextFile, bytes)
      for (const [index, split] of SPLITS.entries()) await writers[index]?.add(result.splits[split])
      addCounts(progress.counts, result.counts)
      progress.next = batch.next
      onProgress?.({ stage: 'conversations', done: progress.counts.conversations, resumed })
      if (Date.now() - saved < (options.checkpointMs ?? CHECKPOINT_MS)) continue
      await save()
      saved = Date.now()
    }
    if (reader.records === 0) throw new AparError('invalid_request', `no conversations in ${names(files)}`)
    await closeTexts(outputs, plan)
    for (const writer of writers) await writer.close()
    await outputs.flush()
  } finally {
    await outputs.close()
  }
  const report: BuildReport = {
    ...{ format: REPORT_FORMAT, version: VERSION },
    profile: plan.profile,
    seed: plan.seed,
    testShare: plan.testShare,
    context: plan.context,
    shard,
    inputs: files.map(({ path, name }) => ({ name, bytes: statSync(path).size })),
    vocabSize: model.vocabSize,
    ...progress.counts,
    faults: { ...reader.faults, ...progress.counts.faults },
    shards: progress.shards,
  }
  await folder.finish(report)
  return report
}

function names(files: readonly InputFile[]): string {
  return files.length === 0 ? 'no files' : files.map(({ name }) => name).join(', ')
}

function planOf(options: BuildOptions, model: ModelText): BuildPlan {
  return {
    profile: options.profile ?? PROFILES.default,
    seed: options.seed ?? 1,
    testShare: options.testShare ?? TEST_SHARE,
    context: options.context ?? model.contextTokens,
    turns: options.turns ?? 'first',
    jsonl: options.jsonl ?? false,
    strict: options.strict ?? false,
  }
}

async function makeModel(
  { model, seed, testShare, context }: BuildOptions,
  files: readonly InputFile[],
  folder: string,
): Promise<ModelText> {
  if ('path' in model) {
    return writeModel(
      readBaseModel(model.path, model.chatTemplate, model.adapter),
      model.forkTokens ?? 'own',
      folder,
    )
  }
  const { json, name } = await newTokenizer(model, files, {
    seed: seed ?? 1,
    testShare: testShare ?? TEST_SHARE,
  })
  return writeModel(newModel(json, name, context ?? DEFAULT_CONTEXT), 'own', folder)
}

async function appendText(outputs: OutputFiles, name: TextFile, bytes: Uint8Array): Promise<void> {
  if (isLines(name) || (await outputs.length(name)) > 0) return outputs.append(name, bytes)
  // The first element has no separator before it.
  await outputs.append(name, Buffer.concat([Buffer.from(ARRAY.open), bytes.subarray(ARRAY.separator.length)]))
}

/** Ends the arrays, and makes the files that nothing was written to. */
async function closeTexts(outputs: OutputFiles, plan: BuildPlan): Promise<void> {
  const written: readonly string[] = plan.heldOut ? REFERENCE_FILES : []
  for (const name of TEXT_FILES) {
    if (written.includes(name) || (EXPORTS.has(name) && !plan.jsonl)) continue
    if (isLines(name)) await outputs.append(name, Buffer.alloc(0))
    else await outputs.append(name, Buffer.from((await outputs.length(name)) > 0 ? ARRAY.close : ARRAY.empty))
  }
}

async function writeRaw(
  path: string,
  conversations: NonNullable<BuildOptions['generated']>['conversations'],
) {
  async function* lines() {
    for await (const conversation of conversations) yield `${JSON.stringify(conversation)}\n`
  }
  await writeFile(path, lines())
}

/** Identifies everything that decides about the output. */
function keyOf(options: BuildOptions, files: readonly InputFile[]): string {
  const { profile, seed, testShare, context, turns, jsonl, strict, shard, generated } = options
  const { model } = options
  const modelFile = 'path' in model ? model.path : model.file
  const parts = {
    version: VERSION,
    options: { profile, seed, testShare, context, turns, jsonl, strict, shard, model: options.model },
    generated: generated?.key,
    files: files.map(({ path }) => identityOf(path)),
    model: modelFile === undefined ? null : identityOf(modelFile),
  }
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex')
}

/** @throws AparError when there is no such file. */
function identityOf(path: string) {
  const stat = statSync(path, { throwIfNoEntry: false })
  if (!stat) throw new AparError('invalid_request', `${path} does not exist`)
  return { path: resolve(path), bytes: stat.size, changed: stat.mtimeMs }
}
