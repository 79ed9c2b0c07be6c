/**
 * What an answer was computed with: `fp_<checkpoint>-<numeric type>-<KV cache type>-<device>`. Clients treat it as one
 * opaque text that changes with anything that could change a greedy text. A stream may move between devices, which
 * only round differently, but never to other weights, another arithmetic or numeric type (docs/adr/0026).
 */
export interface Fingerprint {
  /** Hex digits: weights, tokenizer, chat template and defaults of the checkpoint; `.` and the arithmetic's version. */
  readonly checkpoint: string
  readonly dtype: string
  readonly kv_cache_dtype: string
  /** Hex digits: device and version. */
  readonly device: string
}

/** The parts that all nodes of one stream have in common. */
const COMPARED = ['checkpoint', 'dtype', 'kv_cache_dtype'] as const
export type FingerprintPart = (typeof COMPARED)[number]

/** Longest text of a fingerprint. */
export const MAX_FINGERPRINT_CHARS = 64

export function formatFingerprint({ checkpoint, dtype, kv_cache_dtype, device }: Fingerprint): string {
  return `fp_${[checkpoint, dtype, kv_cache_dtype, device].join('-')}`
}

/** undefined for the fingerprint of an older node, which says nothing about the weights. */
export function parseFingerprint(text: string | undefined): Fingerprint | undefined {
  const [checkpoint, dtype, kv_cache_dtype, device, ...more] = text?.replace(/^fp_/, '').split('-') ?? []
  if (!checkpoint || !dtype || !kv_cache_dtype || !device || more.length > 0) return undefined
  return { checkpoint, dtype, kv_cache_dtype, device }
}

/** The compared parts in which these fingerprints differ, as far as they are known. */
export function differences(fingerprints: readonly (string | undefined)[]): FingerprintPart[] {
  const known = fingerprints.map(parseFingerprint).filter((parsed) => parsed !== undefined)
  return COMPARED.filter((part) => new Set(known.map((parsed) => parsed[part])).size > 1)
}
