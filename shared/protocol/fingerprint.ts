/**
 * What an answer was computed with: `fp_<checkpoint>-<numeric type>-<KV cache type>-<device>`, and behind it `.<grammar>`
 * where the answer must match something. Clients treat it as one opaque text that changes with anything that could change
 * a greedy text. A stream may move between devices, which only round differently, but never to other weights, another
 * arithmetic, numeric type or grammar (docs/adr/0026).
 */
export interface Fingerprint {
  /** Hex digits: weights, tokenizer, chat template and defaults of the checkpoint; `.` and the arithmetic's version. */
  readonly checkpoint: string
  readonly dtype: string
  readonly kv_cache_dtype: string
  /** Hex digits: device and version. */
  readonly device: string
  /** Hex digits: what makes grammars of formats, and masks of grammars. */
  readonly grammar?: string | undefined
}

/** The parts that all nodes of one stream have in common. */
const COMPARED = ['checkpoint', 'dtype', 'kv_cache_dtype', 'grammar'] as const
export type FingerprintPart = (typeof COMPARED)[number]

/** Longest text of a fingerprint. */
export const MAX_FINGERPRINT_CHARS = 64

export function formatFingerprint(of: Fingerprint): string {
  const { checkpoint, dtype, kv_cache_dtype, device, grammar } = of
  // Within the part that older versions do not compare.
  const last = grammar === undefined ? device : `${device}.${grammar}`
  return `fp_${[checkpoint, dtype, kv_cache_dtype, last].join('-')}`
}

/** undefined for the fingerprint of an older node, which says nothing about the weights. */
export function parseFingerprint(text: string | undefined): Fingerprint | undefined {
  const [checkpoint, dtype, kv_cache_dtype, last, ...more] = text?.replace(/^fp_/, '').split('-') ?? []
  if (!checkpoint || !dtype || !kv_cache_dtype || !last || more.length > 0) return undefined
  const [device = '', grammar] = last.split('.')
  return { checkpoint, dtype, kv_cache_dtype, device, ...(grammar !== undefined && { grammar }) }
}

/** The compared parts in which these fingerprints differ, as far as they are known. */
export function differences(fingerprints: readonly (string | undefined)[]): FingerprintPart[] {
  const known = fingerprints.map(parseFingerprint).filter((parsed) => parsed !== undefined)
  return COMPARED.filter((part) => new Set(known.flatMap((parsed) => parsed[part] ?? [])).size > 1)
}
