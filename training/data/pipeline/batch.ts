import type { Profile } from '../extract/profile.ts'
import type { EncodedSplit } from '../shards/encoded.ts'
import type { Counts } from './counts.ts'

/** What decides about a build's output, besides its input and its model. */
export interface BuildPlan {
  profile: Profile
  /** Of the choice of held-out groups. */
  seed: number
  testShare: number
  /** Ids of the test set, for the profile `reference`: its files are written by reference-files.ts. */
  heldOut?: ReadonlySet<string>
  /** Most tokens of a path. */
  context: number
  /** Which turns may be structured. */
  turns: 'first' | 'all'
  jsonl: boolean
  /** A fault of a record is an error. */
  strict: boolean
}

/** A record of the input, in order. */
export interface RecordPlace {
  /** Number of the record in the whole input. */
  source: number
  file: string
  line: number
  /** The record's own id, or one made of its place. */
  id: string
  /** What is wrong with the record itself. */
  fault: 'invalid_utf8' | 'duplicate_id' | undefined
  offset: number
  length: number
}

/** Records that are processed together. */
export interface Batch {
  bytes: Uint8Array<ArrayBuffer>
  records: RecordPlace[]
}

export const TEXT_FILES = [
  'apar.json',
  'apar_flatten.json',
  'unstructured.json',
  'apar_testset.json',
  'examples.jsonl',
  'refused.jsonl',
  'train.jsonl',
  'test.jsonl',
] as const
export type TextFile = (typeof TEXT_FILES)[number]

/** Only with --jsonl. */
export const EXPORTS: ReadonlySet<TextFile> = new Set<TextFile>(['train.jsonl', 'test.jsonl'])

export const SPLITS = ['train', 'test'] as const
export type Split = (typeof SPLITS)[number]

/** What comes of a batch, to be appended to the build's files. */
export interface BatchResult {
  files: Partial<Record<TextFile, Uint8Array<ArrayBuffer>>>
  splits: Record<Split, EncodedSplit>
  counts: Counts
}
