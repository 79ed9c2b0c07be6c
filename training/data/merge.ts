import { createHash } from 'node:crypto'
import { createReadStream, statSync } from 'node:fs'
import { cp, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { AparError } from '../../shared/errors.ts'
import type { BuildReport } from './build.ts'
import { EXPORTS, SPLITS, TEXT_FILES, type TextFile } from './pipeline/batch.ts'
import { BuildFolder, REPORT_FORMAT } from './pipeline/build-folder.ts'
import { addCounts } from './pipeline/counts.ts'
import { OutputFiles } from './pipeline/output-files.ts'
import { ARRAY, isLines } from './pipeline/text-outputs.ts'

/**
 * Joins the parts that builds with `shard` have made of one input, in any order. Shards of tokens are copied as they are.
 * @throws AparError when a part is missing, is there twice, or was built with other options or another model.
 */
export async function mergeBuilds(parts: readonly string[], out: string): Promise<BuildReport> {
  const read = await Promise.all(parts.map(async (path) => ({ path, report: await readReport(path) })))
  read.sort((a, b) => a.report.shard.index - b.report.shard.index)
  const [first] = read
  if (!first) throw new AparError('invalid_request', 'give the parts of a build')
  for (const [index, { path, report }] of read.entries()) {
    const { count } = first.report.shard
    if (report.shard.index !== index || report.shard.count !== count)
      throw new AparError(
        'invalid_request',
        `${path} is part ${report.shard.index + 1} of ${report.shard.count}, not ${index + 1} of ${count}`,
      )
    if (
      !isDeepStrictEqual(optionsOf(report), optionsOf(first.report)) ||
      (await modelDigest(path)) !== (await modelDigest(first.path))
    )
      throw new AparError(
        'invalid_request',
        `${path} was built from other input, with other options or another model than ${first.path}`,
      )
  }
  if (read.length !== first.report.shard.count)
    throw new AparError(
      'invalid_request',
      `part ${read.length + 1} of ${first.report.shard.count} is missing`,
    )

  const folder = new BuildFolder(out)
  await folder.prepare()
  await folder.begin()
  await cp(join(first.path, 'model'), join(folder.path, 'model'), { recursive: true })
  const outputs = new OutputFiles(folder.path)
  const report: BuildReport = structuredClone(first.report)
  report.shard = { index: 0, count: 1 }
  try {
    for (const name of TEXT_FILES) {
      const paths = read.map(({ path }) => join(path, name))
      await joinTexts(outputs, name, paths)
    }
    for (const { report: more } of read.slice(1)) addCounts(report, countsOf(more))
    for (const split of SPLITS) {
      const meta = report.shards[split]
      meta.shards = []
      for (const [index, part] of read.entries()) {
        const { shards, kinds, examples, longest_example, longest_path } = part.report.shards[split]
        for (const shard of shards) {
          const name = String(meta.shards.length).padStart(5, '0')
          for (const ending of ['tokens', 'learned', 'segments', 'examples'])
            await copyInto(
              outputs,
              join(split, `${name}.${ending}`),
              join(part.path, split, `${shard.name}.${ending}`),
            )
          meta.shards.push({ ...shard, name })
        }
        if (index === 0) continue
        meta.examples += examples
        for (const kind of ['structured', 'serial', 'unstructured'] as const) meta.kinds[kind] += kinds[kind]
        meta.longest_example = Math.max(meta.longest_example, longest_example)
        meta.longest_path = Math.max(meta.longest_path, longest_path)
      }
      await outputs.append(join(split, 'meta.json'), Buffer.from(`${JSON.stringify(meta, null, 2)}\n`))
    }
    await outputs.flush()
  } finally {
    await outputs.close()
  }
  await folder.finish(report)
  return report
}

async function readReport(path: string): Promise<BuildReport> {
  try {
    const report: BuildReport = JSON.parse(await readFile(join(path, 'report.json'), 'utf8'))
    if (report.format !== REPORT_FORMAT) throw new Error('it has another format')
    return report
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new AparError('invalid_request', `${path} is no build: ${reason}`, { cause })
  }
}

/** What must be the same in all parts. */
function optionsOf({ profile, seed, testShare, context, inputs, version }: BuildReport) {
  return { profile, seed, testShare, context, inputs, version }
}

/** Faults of whole files were seen by every part. */
function countsOf(report: BuildReport) {
  const { conversations, structured, unstructured, leftOut, refused, branches, depths, heldOut } = report
  const { byte_order_mark: _marks, empty_file: _empty, ...faults } = report.faults
  const { turnsCut, serialTooLong } = report
  return {
    ...{ conversations, structured, unstructured, leftOut, refused, faults, branches, depths, heldOut },
    ...{ turnsCut, serialTooLong },
  }
}

async function modelDigest(path: string): Promise<string> {
  const hash = createHash('sha256')
  for (const name of ['tokenizer.json', 'tokenizer_config.json', 'config.json', 'base.json'])
    hash.update(await readFile(join(path, 'model', name)))
  return hash.digest('hex')
}

async function copyInto(
  outputs: OutputFiles,
  name: string,
  from: string,
  range: { start?: number; end?: number } = {},
): Promise<void> {
  for await (const chunk of createReadStream(from, range)) await outputs.append(name, chunk)
}

/** Arrays are joined without reading their elements. */
async function joinTexts(outputs: OutputFiles, name: TextFile, parts: readonly string[]): Promise<void> {
  for (const path of parts) {
    const bytes = statSync(path, { throwIfNoEntry: false })?.size
    // Those of --jsonl.
    if (bytes === undefined && EXPORTS.has(name)) continue
    if (isLines(name)) await copyInto(outputs, name, path)
    else if (bytes !== undefined && bytes > ARRAY.empty.length) {
      const begin = (await outputs.length(name)) === 0 ? ARRAY.open : ARRAY.separator
      await outputs.append(name, Buffer.from(begin))
      await copyInto(outputs, name, path, { start: ARRAY.open.length, end: bytes - ARRAY.close.length - 1 })
    }
  }
  if (isLines(name)) return
  await outputs.append(name, Buffer.from((await outputs.length(name)) > 0 ? ARRAY.close : ARRAY.empty))
}
